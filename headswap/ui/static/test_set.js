// A folder or an archive to judge the model by. Gradio's own upload drops the names of folders, so each file is sent
// alone beside its relative name, under a name that nobody can guess.
const says = element.querySelector(".hs-set-says");
const LITTER = /(^|\/)(\.|__MACOSX|Thumbs\.db$|desktop\.ini$)/;
const AT_ONCE = 4;
let busy = false;

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

async function send(chosen) {
  const found = chosen.filter((file) => !LITTER.test(file.webkitRelativePath || file.name));
  if (busy) return;
  if (!found.length) return (says.textContent = "There is no file in it.");
  if (found.length > props.most) return (says.textContent = `More than ${props.most} files are not read at once.`);
  busy = true;
  const files = [];
  const waiting = found.entries();
  let done = 0;
  async function sendNext() {
    for (const [index, file] of waiting) {
      const name = file.webkitRelativePath || file.name;
      const ending = /\.[A-Za-z0-9]{1,5}$/.exec(name);
      const { path } = await upload(new File([file], random() + (ending ? ending[0] : ""), { type: file.type }));
      files[index] = { name, path };
      done += 1;
      if (done % 20 === 0) says.textContent = `Sending ${done} of ${found.length}`;
    }
  }
  try {
    says.textContent = "Sending";
    await Promise.all(Array.from({ length: AT_ONCE }, sendNext));
    says.textContent = "";
    trigger("submit", { files });
  } catch (error) {
    says.textContent = `Sending stopped: ${error.message || error}. Try again.`;
  } finally {
    busy = false;
  }
}

for (const kind of ["folder", "archive"]) {
  const input = element.querySelector(`input.hs-set-${kind}`);
  element.querySelector(`button.hs-set-${kind}`).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const chosen = Array.from(input.files);
    input.value = ""; // so that the same can be chosen again
    send(chosen);
  });
}
