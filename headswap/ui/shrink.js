// A photograph becomes as small as the networks look at it. What cannot be decoded here travels as it is.
const SIDE = 512; // of the longer side, in pixels
const LEAST = 256; // of the shorter side: a panorama must not become a thread
const SMALL = 100_000; // bytes that are not worth the work
const QUALITY = 0.9;
const SHRINKABLE = /^image\/(jpeg|png|webp|bmp|avif)$/; // a GIF would lose its frames
const shrinking = element.querySelector(".hs-shrink");

// Browsers that hide from trackers give noise instead of what was drawn: a picture from them would be ruined in silence.
const canvasIsTrue = (() => {
  const pen = canvas(8, 8).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "rgb(40, 120, 200)";
  pen.fillRect(0, 0, 8, 8);
  const near = (value, index) => Math.abs(value - [40, 120, 200, 255][index % 4]) < 9;
  return pen.getImageData(0, 0, 8, 8).data.every(near);
})();

function canvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

function jpeg(source, width, height) {
  const paper = canvas(Math.round(width), Math.round(height));
  const pen = paper.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white"; // where the picture is transparent
  pen.fillRect(0, 0, paper.width, paper.height);
  pen.drawImage(source, 0, 0, paper.width, paper.height);
  return new Promise((resolve) => paper.toBlob(resolve, "image/jpeg", QUALITY));
}

async function shrunk(file) {
  if (!shrinking.checked || !canvasIsTrue || file.size <= SMALL || !SHRINKABLE.test(file.type)) return file;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const { width, height } = bitmap;
    const short = Math.min(width, height);
    if (short <= LEAST) return file;
    const scale = Math.min(1, Math.max(SIDE / Math.max(width, height), LEAST / short));
    const small = await jpeg(bitmap, width * scale, height * scale);
    return small && small.size < file.size ? small : file;
  } catch {
    return file;
  } finally {
    bitmap?.close(); // a dozen megapixels are fifty megabytes, and nobody knows when they would be collected
  }
}
