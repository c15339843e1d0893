// Shrinks photographs to about the size that networks use. What cannot be decoded here is sent unchanged, and so is
// what a canvas cannot hold: it has 8 bits, and of 16 it would keep the upper ones, black for a 12-bit microscope image.
const MAX_SIDE = 512; // pixels of the longer side
const MIN_SHORT_SIDE = 256; // pixels of the shorter side, for panoramas
const MIN_BYTES = 100_000; // smaller files are sent unchanged
const QUALITY = 0.9;
const shrinkCheckbox = element.querySelector(".hs-shrink");

// Browsers that protect against fingerprinting return noise instead of what was drawn, which would ruin the image.
const isCanvasExact = (() => {
  const context = canvas(8, 8).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "rgb(40, 120, 200)";
  context.fillRect(0, 0, 8, 8);
  const near = (value, index) => Math.abs(value - [40, 120, 200, 255][index % 4]) < 9;
  return context.getImageData(0, 0, 8, 8).data.every(near);
})();

function canvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

function encodeJpeg(source, width, height) {
  const target = canvas(Math.round(width), Math.round(height));
  const context = target.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // behind transparent pixels
  context.fillRect(0, 0, target.width, target.height);
  context.drawImage(source, 0, 0, target.width, target.height);
  return new Promise((resolve) => target.toBlob(resolve, "image/jpeg", QUALITY));
}

// By its first bytes, whatever its name says: JPEG, WebP, and PNG, BMP and AVIF whose headers say so. A GIF would lose
// its frames, and some browsers show a TIFF or a HEIC of any depth.
async function isKnown8Bit(file) {
  const bytes = new Uint8Array(await file.slice(0, 4096).arrayBuffer());
  const text = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  if (text.startsWith("\xff\xd8\xff")) return true;
  if (text.startsWith("\x89PNG\r\n\x1a\n")) return bytes[24] <= 8;
  if (text.startsWith("RIFF") && text.startsWith("WEBP", 8)) return true;
  if (text.startsWith("BM")) return bytes[28] <= 24;
  if (!/^ftypavi[fs]/.test(text.slice(4))) return false;
  const depths = Array.from(text.matchAll(/av1C/g), ({ index }) => bytes[index + 6] & 0x40); // of the picture, its alpha
  return depths.length > 0 && !depths.some(Boolean);
}

async function shrinkImage(file) {
  if (!shrinkCheckbox.checked || !isCanvasExact || file.size <= MIN_BYTES) return file;
  let bitmap;
  try {
    if (!(await isKnown8Bit(file))) return file;
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const { width, height } = bitmap;
    const short = Math.min(width, height);
    if (short <= MIN_SHORT_SIDE) return file;
    const scale = Math.min(1, Math.max(MAX_SIDE / Math.max(width, height), MIN_SHORT_SIDE / short));
    const small = await encodeJpeg(bitmap, width * scale, height * scale);
    return small && small.size < file.size ? small : file;
  } catch {
    return file;
  } finally {
    bitmap?.close(); // a dozen megapixels take fifty megabytes until garbage collection
  }
}
