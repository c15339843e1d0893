// Pictures for as long as a button is held. The camera's light never stays on where its picture is not seen.
const panel = element.querySelector(".hs-camera");
const video = panel.querySelector("video");
const shutter = panel.querySelector(".hs-shutter");
const counted = panel.querySelector(".hs-counted");
const opener = element.querySelector(".hs-open-camera");
const A_SECOND = 8;
const A_BURST = 100;
const REFUSALS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser, then press Camera again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program. Close that, then press Camera again.",
};
const canFilm = Boolean(navigator.mediaDevices?.getUserMedia) && canvasIsTrue;
let asked = null; // the latest wish for a camera: permission may come after the panel was closed
let stream = null;
let held = false;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function openCamera() {
  const mine = (asked = {});
  showPanel(true);
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    const given = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", ...size } });
    if (asked !== mine) return given.getTracks().forEach((track) => track.stop());
    stream = given;
    stream.getTracks().forEach((track) => track.addEventListener("ended", closeCamera));
    video.srcObject = stream;
    await video.play();
    shutter.disabled = false;
    shutter.focus();
  } catch (error) {
    if (asked !== mine) return;
    closeCamera();
    say(REFUSALS[error.name] ?? `The camera did not start: ${error.message || error}`);
  }
}

function closeCamera() {
  asked = null;
  held = false;
  stream?.getTracks().forEach((track) => track.stop());
  stream = video.srcObject = null;
  showPanel(false);
}

function showPanel(open) {
  panel.hidden = !open;
  shutter.disabled = true;
  counted.textContent = "";
  opener.setAttribute("aria-expanded", String(open));
}

async function hold() {
  if (held || !stream || !isFree()) return;
  const label = className();
  if (!label) return;
  const [burst, frames] = [random(), []];
  held = true;
  let open = true;
  async function* taken() {
    for (let index = 0; open || index < frames.length; ) {
      if (index < frames.length) yield [index, frames[index++]];
      else await pause(20);
    }
  }
  send(taken(), () => frames.length, label);
  const mine = now;
  try {
    do {
      const due = pause(1000 / A_SECOND);
      const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
      const file = await jpeg(video, video.videoWidth * scale, video.videoHeight * scale);
      const name = `camera-${burst.slice(0, 6)}-${String(frames.length + 1).padStart(3, "0")}.jpg`;
      if (file) frames.push({ name, file, burst });
      counted.textContent = frames.length === 1 ? "1 picture" : `${frames.length} pictures`;
      await due;
    } while (held && now === mine && frames.length < A_BURST);
  } finally {
    held = open = false;
  }
}

function release() {
  held = false;
}

shutter.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  shutter.setPointerCapture(event.pointerId);
  hold();
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) shutter.addEventListener(end, release);
shutter.addEventListener("contextmenu", (event) => event.preventDefault()); // what a long touch would open
for (const [kind, act] of [["keydown", hold], ["keyup", release]]) {
  shutter.addEventListener(kind, (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault(); // or the button would be clicked as well
    if (!event.repeat) act();
  });
}
shutter.addEventListener("click", (event) => {
  if (event.detail) return;
  hold(); // a screen reader presses without holding: one picture
  release();
});
panel.querySelector(".hs-close-camera").addEventListener("click", () => {
  closeCamera();
  opener.focus();
});
new ResizeObserver(() => {
  if (!panel.hidden && !panel.offsetParent) closeCamera(); // another step was chosen
}).observe(panel);
addEventListener("pagehide", closeCamera);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) closeCamera();
});
