// Sends the data- attributes of the button that is clicked. Rows are redrawn by each update, so the element listens.
element.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-do]");
  if (button) trigger("submit", { ...button.dataset });
});
