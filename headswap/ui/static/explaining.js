// Shows or hides the notes beside all controls; stored by tab and not by browser, so that the next pupil starts afresh.
const KEY = "headswap-explains";
const button = element.querySelector("button");

function showNotes(on) {
  document.documentElement.classList.toggle("hs-explains", on);
  button.setAttribute("aria-checked", String(on));
  sessionStorage.setItem(KEY, String(on));
}

button.addEventListener("click", () => showNotes(button.getAttribute("aria-checked") !== "true"));
showNotes(sessionStorage.getItem(KEY) === "true");
