// Uploads files one by one beside their relative names, as Gradio's own upload drops the names of folders. Joined in
// front of every script that uploads; knows no element of the page.
const MAX_PARALLEL_UPLOADS = 4;
const JUNK_FILES = /(^|\/)(\.|__MACOSX|Thumbs\.db$|desktop\.ini$)/;

// Nobody can guess it: whoever knows an upload's path can fetch it. (crypto.randomUUID needs https.)
function randomHex() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function relativePath(file) {
  return file.webkitRelativePath || file.name;
}

async function uploadUnderRandomName(file, name) {
  const extension = /\.[A-Za-z0-9]{1,5}$/.exec(name);
  const renamed = new File([file], randomHex() + (extension ? extension[0] : ""), { type: file.type });
  return (await upload(renamed)).path;
}

// Uploads what `source` yields, [index, {name, file, ...rest}]; it may still be growing.
//   prepare(file): the bytes to send in place of the file
//   isCurrent(): false once nobody waits for the result any more; then the rest is not uploaded
//   onProgress(count): called after each file with how many are uploaded
// Gives [{name, path, ...rest}] by index.
async function uploadAll(source, { prepare = (file) => file, isCurrent = () => true, onProgress = () => {} } = {}) {
  const uploaded = [];
  let count = 0;
  async function uploadNext() {
    for await (const [index, { name, file, ...rest }] of source) {
      if (!isCurrent()) return;
      const path = await uploadUnderRandomName(await prepare(file), name);
      if (!isCurrent()) return;
      uploaded[index] = { name, path, ...rest };
      onProgress(++count);
    }
  }
  await Promise.all(Array.from({ length: MAX_PARALLEL_UPLOADS }, uploadNext));
  return uploaded;
}
