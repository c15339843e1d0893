// Predicts new images that are pasted while this step is shown.
const MAX_PASTED = 50;

document.addEventListener("paste", async (event) => {
  const images = Array.from(event.clipboardData?.files ?? []).filter(({ type }) => type.startsWith("image/"));
  if (!element.offsetParent || !images.length) return;
  event.preventDefault();
  const named = images.slice(0, MAX_PASTED).map((file) => ({ name: file.name || "pasted", file }));
  trigger("submit", { files: await uploadAll(named.entries()) });
});
