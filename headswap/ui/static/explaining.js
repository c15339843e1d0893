// Shows the notes beside all controls, or hides them. Of the tab and not of the browser: the next pupil begins anew.
const KEY = "headswap-explains";
const button = element.querySelector("button");

function explain(on) {
  document.documentElement.classList.toggle("hs-explains", on);
  button.setAttribute("aria-checked", String(on));
  sessionStorage.setItem(KEY, String(on));
}

button.addEventListener("click", () => explain(button.getAttribute("aria-checked") !== "true"));
explain(sessionStorage.getItem(KEY) === "true");
