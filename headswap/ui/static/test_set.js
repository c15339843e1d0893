// A folder or an archive of test images.
const status = element.querySelector(".hs-set-status");
let isBusy = false;

async function sendFiles(chosen) {
  const files = chosen.map((file) => ({ name: relativePath(file), file })).filter(({ name }) => !JUNK_FILES.test(name));
  if (isBusy) return;
  if (!files.length) return (status.textContent = "There is no file in it.");
  if (files.length > props.max_files) return (status.textContent = `More than ${props.max_files} files are not read at once.`);
  isBusy = true;
  const onProgress = (count) => {
    if (count % 20 === 0) status.textContent = `Sending ${count} of ${files.length}`;
  };
  try {
    status.textContent = "Sending";
    const uploaded = await uploadAll(files.entries(), { onProgress });
    status.textContent = "";
    trigger("submit", { files: uploaded });
  } catch (error) {
    status.textContent = `Sending stopped: ${error.message || error}. Try again.`;
  } finally {
    isBusy = false;
  }
}

for (const kind of ["folder", "archive"]) {
  const input = element.querySelector(`input.hs-set-${kind}`);
  element.querySelector(`button.hs-set-${kind}`).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const chosen = Array.from(input.files);
    input.value = ""; // so that the same can be chosen again
    sendFiles(chosen);
  });
}
