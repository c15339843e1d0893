// A press on a button sends what its data- attributes ask for. Rows are drawn anew by each answer, so the listener sits above.
const SURE_FOR = 4000;

element.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-do]");
  if (!button) return;
  const { do: asked, label, images, sure } = button.dataset;
  if (sure && button.textContent !== sure) return askTwice(button, sure);
  if (asked === "rename") return rename(button, label);
  if (asked === "add") return document.dispatchEvent(new CustomEvent("headswap-class", { detail: { name: label } }));
  trigger("submit", { do: asked, label, images: images?.split(" ") });
});

function askTwice(button, sure) {
  const words = button.textContent;
  button.textContent = sure;
  setTimeout(() => (button.textContent = words), SURE_FOR);
}

function rename(button, label) {
  const title = button.closest("li").querySelector(".hs-class b");
  const field = Object.assign(document.createElement("input"), { type: "text", value: label, maxLength: 300 });
  field.setAttribute("aria-label", "New name of the class");
  let done = false;
  const end = (name) => {
    if (done || !field.isConnected) return;
    done = true;
    title.hidden = false;
    field.remove();
    button.focus();
    if (name && name !== label) trigger("submit", { do: "rename", label, name });
  };
  field.addEventListener("keydown", ({ key }) => {
    if (key === "Enter") end(field.value.trim());
    if (key === "Escape") end("");
  });
  // Later, because an answer that draws the rows anew takes the focus away in the midst of it.
  field.addEventListener("blur", () => setTimeout(() => end(field.value.trim())));
  title.hidden = true;
  title.after(field);
  field.select();
}
