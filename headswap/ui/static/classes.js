// Sends the data- attributes of the button that is clicked. Rows are redrawn by each update, so the element listens.
const CONFIRM_MS = 4000;

element.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-do]");
  if (!button) return;
  const { do: action, label, images, sure } = button.dataset;
  if (sure && button.textContent !== sure) return askTwice(button, sure);
  if (action === "rename") return rename(button, label);
  if (action === "add") return document.dispatchEvent(new CustomEvent("headswap-class", { detail: { name: label } }));
  trigger("submit", { do: action, label, images: images?.split(" ") });
});

function askTwice(button, sure) {
  const text = button.textContent;
  button.textContent = sure;
  setTimeout(() => (button.textContent = text), CONFIRM_MS);
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
  // Later, because an update that redraws the rows takes the focus away while it runs.
  field.addEventListener("blur", () => setTimeout(() => end(field.value.trim())));
  title.hidden = true;
  title.after(field);
  field.select();
}
