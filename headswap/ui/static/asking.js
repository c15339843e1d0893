// A press on a button sends what its data- attributes ask for. Rows are drawn anew by each answer, so the listener sits above.
element.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-do]");
  if (button) trigger("submit", { ...button.dataset });
});
