// One thing at a time: how far it is in words and as a bar, and Stop. Names may hold anything, so texts are textContent.
const says = element.querySelector(".hs-drop-says");
const bar = element.querySelector("progress");
const stopper = element.querySelector(".hs-stop");
const adding = element.querySelector(".hs-add");
const AT_ONCE = 4;
const READING = {};
let now = null; // what is under way: something that is being sent, or READING, or nothing
let said = 0; // when; a screen reader should not hear of every file

function say(words) {
  says.textContent = words;
  said = performance.now();
}

function show(what, words) {
  now = what;
  bar.removeAttribute("value");
  bar.hidden = stopper.hidden = !now;
  say(words);
  return what;
}

function isFree() {
  if (now) say("Wait until this is done, or press Stop.");
  return !now;
}

// Nobody can guess it: whoever knows an upload's path can fetch it. (crypto.randomUUID needs https.)
function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

async function put(file, name) {
  const ending = /\.[A-Za-z0-9]{1,5}$/.exec(name);
  const small = await shrunk(file);
  return upload(new File([small], random() + (ending ? ending[0] : ""), { type: small.type }));
}

// `source` gives [index, {name, file, burst}] and may still be growing; with a label, they are images of that class.
async function send(source, total, label) {
  const mine = show({}, "Sending");
  const files = [];
  let done = 0;
  async function sendNext() {
    for await (const [index, { name, file, burst = "" }] of source) {
      if (now !== mine) return;
      const { path } = await put(file, name);
      if (now !== mine) return;
      files[index] = { name, path, burst };
      bar.max = total();
      bar.value = ++done;
      if (performance.now() - said > 1000) say(`Sending ${done} of ${total()}`);
    }
  }
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, sendNext));
    if (now !== mine) return;
    if (!done) return show(null, "");
    show(READING, `Reading ${done === 1 ? files[0].name : done + " files"}`);
    trigger("submit", { files, label, add: Boolean(label) || (Boolean(props.loaded) && adding.checked) });
  } catch (error) {
    if (now !== mine) return;
    show(null, `Sending stopped: ${error.message || error}. What was there before is kept; try again.`);
  }
}

stopper.addEventListener("click", () => {
  if (now !== READING) return show(null, "Stopped. What was there before is kept.");
  show(null, "Stopping");
  trigger("stop");
});
watch("says", () => {
  const sending = now && now !== READING;
  if (props.says && !sending) {
    if (now) say(props.says);
    else show(READING, props.says);
  }
});
watch("told", () => {
  if (!now || now === READING) show(null, "");
});
