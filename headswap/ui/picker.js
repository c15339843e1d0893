// A folder keeps its class names: Gradio's own upload drops them, so each file is sent alone beside its relative name.
const area = element.querySelector(".hs-drop");
const says = element.querySelector(".hs-drop-says");
const folder = element.querySelector("input[webkitdirectory]");
const archive = element.querySelector("input[accept]");
const AT_ONCE = 4;
const MOST = 20000;
let busy = false;

// A name that nobody can guess: whoever knows an upload's path can fetch it. (crypto.randomUUID needs https.)
function randomName(name) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const ending = /\.[A-Za-z0-9]{1,5}$/.exec(name);
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("") + (ending ? ending[0] : "");
}

async function send(found) {
  const chosen = found.filter(({ name }) => !/(^|\/)(\.|__MACOSX|Thumbs\.db$|desktop\.ini$)/.test(name));
  if (busy) return;
  if (!chosen.length || chosen.length > MOST) {
    says.textContent = chosen.length
      ? `${chosen.length} files are more than the ${MOST} that are read at once.`
      : "There is no file in it.";
    return;
  }
  busy = true;
  area.classList.add("hs-busy");
  const sent = [];
  let next = 0;
  try {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (next < chosen.length) {
          const { name, file } = chosen[next++];
          const { path } = await upload(new File([file], randomName(file.name), { type: file.type }));
          sent.push({ name, path });
          says.textContent = `Sending ${sent.length} of ${chosen.length}`;
        }
      })
    );
    says.textContent = `Reading ${sent.length === 1 ? chosen[0].name : sent.length + " files"}`;
    trigger("submit", { files: sent });
  } catch (error) {
    says.textContent = `Sending stopped: ${error.message || error}. What was there before is kept; try again.`;
  } finally {
    busy = false;
    area.classList.remove("hs-busy");
  }
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ name: entry.fullPath.replace(/^\/+/, ""), file });
    return found;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const inner of some) await walk(inner, found);
  }
}

function chosenIn(input) {
  const found = Array.from(input.files, (file) => ({ name: file.webkitRelativePath || file.name, file }));
  input.value = "";
  send(found);
}

element.querySelector(".hs-choose-folder").addEventListener("click", () => folder.click());
element.querySelector(".hs-choose-zip").addEventListener("click", () => archive.click());
folder.addEventListener("change", () => chosenIn(folder));
archive.addEventListener("change", () => chosenIn(archive));
area.addEventListener("dragover", (event) => {
  event.preventDefault();
  area.classList.add("hs-over");
});
area.addEventListener("dragleave", () => area.classList.remove("hs-over"));
area.addEventListener("drop", async (event) => {
  event.preventDefault();
  area.classList.remove("hs-over");
  const entries = Array.from(event.dataTransfer.items, (item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  send(found);
});
watch("told", () => {
  says.textContent = "";
});
