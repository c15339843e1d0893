// A press on a block asks for learning from there on. Blocks are drawn anew by each answer, so the listener sits above.
element.addEventListener("click", ({ target }) => {
  const block = target.closest("button[data-learning]");
  if (block && !block.disabled) trigger("submit", { learning: Number(block.dataset.learning) });
});
