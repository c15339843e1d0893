// Sends one set of files at a time: its progress in words and as a bar, and Stop. Names may hold anything, so texts are
// set as textContent.
const status = element.querySelector(".hs-drop-status");
const bar = element.querySelector("progress");
const stopButton = element.querySelector(".hs-stop");
const addCheckbox = element.querySelector(".hs-add");
const READING = {};
let currentTask = null; // an object for each set that is being sent, READING while the server reads, null otherwise
let lastStatusTime = 0; // a screen reader should not hear of every file

function setStatus(text) {
  status.textContent = text;
  lastStatusTime = performance.now();
}

function setTask(task, text) {
  currentTask = task;
  bar.removeAttribute("value");
  bar.hidden = stopButton.hidden = !currentTask;
  setStatus(text);
  return task;
}

function isFree() {
  if (currentTask) setStatus("Wait until this is done, or press Stop.");
  return !currentTask;
}

// `source` yields [index, {name, file, burst}] and may still be growing; with a label, they are images of that class.
async function sendFiles(source, total, label) {
  const task = setTask({}, "Sending");
  const isCurrent = () => currentTask === task;
  const onProgress = (count) => {
    bar.max = total();
    bar.value = count;
    if (performance.now() - lastStatusTime > 1000) setStatus(`Sending ${count} of ${total()}`);
  };
  try {
    const files = await uploadAll(source, { prepare: shrinkImage, isCurrent, onProgress });
    if (!isCurrent()) return;
    if (!files.length) return setTask(null, "");
    setTask(READING, `Reading ${files.length === 1 ? files[0].name : files.length + " files"}`);
    trigger("submit", { files, label, add: Boolean(label) || (Boolean(props.loaded) && addCheckbox.checked) });
  } catch (error) {
    if (!isCurrent()) return;
    setTask(null, `Sending stopped: ${error.message || error}. What was there before is kept; try again.`);
  }
}

stopButton.addEventListener("click", () => {
  if (currentTask !== READING) return setTask(null, "Stopped. What was there before is kept.");
  setTask(null, "Stopping");
  trigger("stop");
});
watch("progress", () => {
  const isSending = currentTask && currentTask !== READING;
  if (props.progress && !isSending) {
    if (currentTask) setStatus(props.progress);
    else setTask(READING, props.progress);
  }
});
watch("finished", () => {
  if (!currentTask || currentTask === READING) setTask(null, "");
});
