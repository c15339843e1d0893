// A photograph becomes as small as the networks look at it. What cannot be decoded here travels as it is, and so does
// what a canvas cannot hold: it has 8 bits, and of 16 it would keep the upper ones, black where a microscope has 12.
const SIDE = 512; // of the longer side, in pixels
const LEAST = 256; // of the shorter side: a panorama must not become a thread
const SMALL = 100_000; // bytes that are not worth the work
const QUALITY = 0.9;
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

// By its first bytes, whatever its name says: JPEG, WebP, and PNG, BMP and AVIF whose headers say so. A GIF would lose
// its frames, and some browsers show a TIFF or a HEIC of any depth.
async function surelyHas8Bits(file) {
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

async function shrunk(file) {
  if (!shrinking.checked || !canvasIsTrue || file.size <= SMALL) return file;
  let bitmap;
  try {
    if (!(await surelyHas8Bits(file))) return file;
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
