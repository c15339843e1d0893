// Sends how many stages learn from the block on that is clicked. Blocks are redrawn by each update, so the element
// listens.
element.addEventListener("click", ({ target }) => {
  const block = target.closest("button[data-learning]");
  if (block && !block.disabled) trigger("submit", { learning: Number(block.dataset.learning) });
});
