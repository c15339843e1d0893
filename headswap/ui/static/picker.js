// How images come in: chosen, dropped, pasted or photographed. Gradio's own upload drops the names of folders, so each
// file is sent alone beside its relative name.
const area = element.querySelector(".hs-picker");
const field = element.querySelector(".hs-class-name");
const input = (name) => element.querySelector(`input.hs-${name}-input`);
const LITTER = /(^|\/)(\.|__MACOSX|Thumbs\.db$|desktop\.ini$)/;
const WHOLE = /\/|\.(zip|tar|gz|tgz|csv|tsv|headswap)$/i; // brings its classes along

field.addEventListener("input", () => {
  const name = field.value.trim();
  element.querySelector(".hs-add-images").textContent = name ? `Add images to ${name}` : "Add images";
});

function className() {
  const name = field.value.trim();
  if (!name) {
    say("Type the name of a class first, then add its images.");
    field.focus();
  }
  return name;
}

function offer(files) {
  if (!isFree()) return;
  const found = files.filter(({ name }) => !LITTER.test(name));
  if (!found.length) return say("There is no file in it.");
  if (found.length > props.most) return say(`More than ${props.most} files are not read at once. Take fewer.`);
  const whole = found.some(({ name }) => WHOLE.test(name));
  const label = whole ? "" : className();
  if (whole || label) send(found.entries(), () => found.length, label);
}

async function walk(entry, found) {
  if (LITTER.test(entry.name) || found.length > props.most) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ name: entry.fullPath.replace(/^\/+/, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await walk(inner, found);
  }
}

async function drop({ items, files }) {
  if (!isFree()) return;
  const entries = Array.from(items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = entries.length ? [] : named(files);
  const mine = show({}, "Looking what is in it");
  try {
    for (const entry of entries) await walk(entry, found);
  } catch (error) {
    if (now === mine) show(null, `It could not be opened: ${error.message || error}`);
  }
  if (now !== mine) return;
  show(null, "");
  offer(found);
}

function named(files) {
  return Array.from(files, (file) => ({ name: file.webkitRelativePath || file.name, file }));
}

function onPress(button, act) {
  element.querySelector(`.hs-${button}`).addEventListener("click", act);
}

for (const kind of ["folder", "files", "images", "capture"]) {
  input(kind).addEventListener("change", ({ target }) => {
    const files = named(target.files);
    target.value = ""; // so that the same can be chosen again
    offer(files);
  });
}
onPress("choose-folder", () => input("folder").click());
onPress("choose-files", () => input("files").click());
onPress("add-images", () => className() && input("images").click());
onPress("open-camera", () => {
  if (canFilm) return panel.hidden ? openCamera() : closeCamera();
  if (className()) input("capture").click();
});
if (!canFilm) {
  opener.removeAttribute("aria-expanded");
  element.querySelector(".hs-no-film").hidden = false;
}

area.addEventListener("dragover", (event) => {
  event.preventDefault();
  area.classList.add("hs-over");
});
area.addEventListener("dragleave", (event) => {
  if (!area.contains(event.relatedTarget)) area.classList.remove("hs-over");
});
area.addEventListener("drop", (event) => {
  event.preventDefault();
  area.classList.remove("hs-over");
  drop(event.dataTransfer);
});
document.addEventListener("paste", (event) => {
  const { files, types } = event.clipboardData;
  const images = named(files).filter(({ file }) => file.type.startsWith("image/"));
  const writing = event.target.matches?.("input, textarea, [contenteditable]") && types.includes("text/plain");
  if (!element.offsetParent || !images.length || writing) return;
  event.preventDefault();
  offer(images);
});

function showAdding() {
  adding.closest("label").hidden = !props.loaded;
}
watch("loaded", showAdding);
showAdding();

// Captured, so that it is heard on the picker's own element as well as on the document.
document.addEventListener(
  "headswap-class",
  ({ detail }) => {
    field.value = String(detail?.name ?? "").slice(0, field.maxLength);
    field.scrollIntoView({ block: "center" });
    field.focus({ preventScroll: true });
  },
  true
);
