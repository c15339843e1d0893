// New images that are pasted while this step is shown. Nobody can guess the name that each is sent under: whoever knows
// an upload's path can fetch it. (crypto.randomUUID needs https.)
const AT_MOST = 50;

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

document.addEventListener("paste", async (event) => {
  const images = Array.from(event.clipboardData?.files ?? []).filter(({ type }) => type.startsWith("image/"));
  if (!element.offsetParent || !images.length) return;
  event.preventDefault();
  const files = [];
  for (const image of images.slice(0, AT_MOST)) {
    const ending = /\.[A-Za-z0-9]{1,5}$/.exec(image.name);
    const { path } = await upload(new File([image], random() + (ending ? ending[0] : ""), { type: image.type }));
    files.push({ name: image.name || "pasted", path });
  }
  trigger("submit", { files });
});
