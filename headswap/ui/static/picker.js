// Accepts images that are chosen, dropped, pasted or photographed.
const area = element.querySelector(".hs-picker");
const field = element.querySelector(".hs-class-name");
const input = (name) => element.querySelector(`input.hs-${name}-input`);
const CARRIES_CLASSES = /\/|\.(zip|tar|gz|tgz|csv|tsv|headswap)$/i; // brings its classes along

field.addEventListener("input", () => {
  const name = field.value.trim();
  element.querySelector(".hs-add-images").textContent = name ? `Add images to ${name}` : "Add images";
});

function className() {
  const name = field.value.trim();
  if (!name) {
    setStatus("Type the name of a class first, then add its images.");
    field.focus();
  }
  return name;
}

function acceptFiles(files) {
  if (!isFree()) return;
  const found = files.filter(({ name }) => !JUNK_FILES.test(name));
  if (!found.length) return setStatus("There is no file in it.");
  if (found.length > props.max_files) return setStatus(`More than ${props.max_files} files are not read at once. Take fewer.`);
  const carriesClasses = found.some(({ name }) => CARRIES_CLASSES.test(name));
  const label = carriesClasses ? "" : className();
  if (carriesClasses || label) sendFiles(found.entries(), () => found.length, label);
}

async function listEntries(entry, found) {
  if (JUNK_FILES.test(entry.name) || found.length > props.max_files) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ name: entry.fullPath.replace(/^\/+/, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const inner of some) await listEntries(inner, found);
  }
}

async function drop({ items, files }) {
  if (!isFree()) return;
  const entries = Array.from(items, (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = entries.length ? [] : withRelativePaths(files);
  const task = setTask({}, "Looking what is in it");
  try {
    for (const entry of entries) await listEntries(entry, found);
  } catch (error) {
    if (currentTask === task) setTask(null, `It could not be opened: ${error.message || error}`);
  }
  if (currentTask !== task) return;
  setTask(null, "");
  acceptFiles(found);
}

function withRelativePaths(files) {
  return Array.from(files, (file) => ({ name: relativePath(file), file }));
}

function onClick(button, act) {
  element.querySelector(`.hs-${button}`).addEventListener("click", act);
}

for (const kind of ["folder", "files", "images", "capture"]) {
  input(kind).addEventListener("change", ({ target }) => {
    const files = withRelativePaths(target.files);
    target.value = ""; // so that the same can be chosen again
    acceptFiles(files);
  });
}
onClick("choose-folder", () => input("folder").click());
onClick("choose-files", () => input("files").click());
onClick("add-images", () => className() && input("images").click());
onClick("open-camera", () => {
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
  const images = withRelativePaths(files).filter(({ file }) => file.type.startsWith("image/"));
  const writing = event.target.matches?.("input, textarea, [contenteditable]") && types.includes("text/plain");
  if (!element.offsetParent || !images.length || writing) return;
  event.preventDefault();
  acceptFiles(images);
});

function showAddCheckbox() {
  addCheckbox.closest("label").hidden = !props.loaded;
}
watch("loaded", showAddCheckbox);
showAddCheckbox();

// In the capture phase, so that it also works on the picker's own element.
document.addEventListener(
  "headswap-class",
  ({ detail }) => {
    field.value = String(detail?.name ?? "").slice(0, field.maxLength);
    field.scrollIntoView({ block: "center" });
    field.focus({ preventScroll: true });
  },
  true
);
