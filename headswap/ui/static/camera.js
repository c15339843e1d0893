// Takes pictures while a button is held. The camera never stays on while its picture is not visible.
const panel = element.querySelector(".hs-camera");
const video = panel.querySelector("video");
const shutter = panel.querySelector(".hs-shutter");
const frameCount = panel.querySelector(".hs-counted");
const opener = element.querySelector(".hs-open-camera");
const FRAMES_PER_SECOND = 8;
const MAX_BURST_FRAMES = 100;
const REFUSALS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser, then press Camera again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program. Close that, then press Camera again.",
};
const canFilm = Boolean(navigator.mediaDevices?.getUserMedia) && isCanvasExact;
let currentRequest = null; // permission may come after the panel was closed
let stream = null;
let isHeld = false;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function openCamera() {
  const request = (currentRequest = {});
  showPanel(true);
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    const granted = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", ...size } });
    if (currentRequest !== request) return granted.getTracks().forEach((track) => track.stop());
    stream = granted;
    stream.getTracks().forEach((track) => track.addEventListener("ended", closeCamera));
    video.srcObject = stream;
    await video.play();
    shutter.disabled = false;
    shutter.focus();
  } catch (error) {
    if (currentRequest !== request) return;
    closeCamera();
    setStatus(REFUSALS[error.name] ?? `The camera did not start: ${error.message || error}`);
  }
}

function closeCamera() {
  currentRequest = null;
  isHeld = false;
  stream?.getTracks().forEach((track) => track.stop());
  stream = video.srcObject = null;
  showPanel(false);
}

function showPanel(open) {
  panel.hidden = !open;
  shutter.disabled = true;
  frameCount.textContent = "";
  opener.setAttribute("aria-expanded", String(open));
}

async function hold() {
  if (isHeld || !stream || !isFree()) return;
  const label = className();
  if (!label) return;
  const [burst, frames] = [randomHex(), []];
  isHeld = true;
  let open = true;
  async function* yieldFrames() {
    for (let index = 0; open || index < frames.length; ) {
      if (index < frames.length) yield [index, frames[index++]];
      else await pause(20);
    }
  }
  sendFiles(yieldFrames(), () => frames.length, label);
  const task = currentTask;
  try {
    do {
      const due = pause(1000 / FRAMES_PER_SECOND);
      const scale = Math.min(1, MAX_SIDE / Math.max(video.videoWidth, video.videoHeight));
      const file = await encodeJpeg(video, video.videoWidth * scale, video.videoHeight * scale);
      const name = `camera-${burst.slice(0, 6)}-${String(frames.length + 1).padStart(3, "0")}.jpg`;
      if (file) frames.push({ name, file, burst });
      frameCount.textContent = frames.length === 1 ? "1 picture" : `${frames.length} pictures`;
      await due;
    } while (isHeld && currentTask === task && frames.length < MAX_BURST_FRAMES);
  } finally {
    isHeld = open = false;
  }
}

function release() {
  isHeld = false;
}

shutter.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  shutter.setPointerCapture(event.pointerId);
  hold();
});
for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) shutter.addEventListener(end, release);
shutter.addEventListener("contextmenu", (event) => event.preventDefault()); // opened by a long touch
for (const [kind, act] of [["keydown", hold], ["keyup", release]]) {
  shutter.addEventListener(kind, (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault(); // or the button would be clicked as well
    if (!event.repeat) act();
  });
}
shutter.addEventListener("click", (event) => {
  if (event.detail) return;
  hold(); // a screen reader clicks without holding: one picture
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
