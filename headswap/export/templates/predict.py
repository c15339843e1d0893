"""Classify images with model.onnx: `python predict.py photo.jpg ...` (needs onnxruntime, pillow and numpy).

Without images it checks itself: the model must reproduce the golden samples, images with the probabilities that it gave
to them when it was exported.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it on import

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent
MAX_VALUES = (255, 1023, 4095, 16383, 65535)  # of 8 to 16 bits
MAX_PIXEL_DIFFERENCE = 16  # mean difference, of 255, that another decoder or resize may make
session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
    str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"]
)
metadata: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map["headswap"])


def to_8_bits(pixels: NDArray[Any], max_values: tuple[int, ...] = MAX_VALUES) -> NDArray[np.uint8]:
    """Scale pixels of more than 8 bits to 0 to 255.

    White is the smallest common maximum that is not exceeded; if there is none, the range of the pixels is scaled.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(high - low):
        raise ValueError("it holds values that are no numbers")
    if low >= 0 and high <= max_values[-1]:
        low, high = 0, next(value for value in max_values if high <= value)
    scale = 255 / max(high - low, 1e-6)
    scaled: NDArray[np.uint8] = np.floor(pixels * np.float64(scale) + (0.5 - low * scale)).astype(np.uint8)
    return scaled


def open_lower_bytes(file: str | Path) -> Image.Image | None:
    """Open the lower 8 bits of colors of 16, of which Pillow gives the upper 8; None for other images."""
    image = Image.open(file)
    for i, tile in enumerate(image.tile):
        raw_mode, *options = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        mode, _, order = str(raw_mode).rpartition(";16")
        if mode not in ("RGB", "RGBX", "RGBA", "LA") or order not in ("B", "L", "N"):
            return None
        swapped = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
        # Pillow opens gray and alpha as RGBA; they are read as RGBA of 8 bits, which are the two bytes of each.
        image.info["both_bytes"], other = (True, "RGBA") if mode == "LA" else (False, f"{mode};16{swapped}")
        image.tile[i] = tile._replace(args=(other, *options) if options else other)
    return image


def open_image(file: str | Path) -> Image.Image:
    """Open an image upright, in 8 bits, and on white where it is transparent."""
    lower, image = open_lower_bytes(file), ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(to_8_bits(np.asarray(image), (1, *MAX_VALUES) if image.mode == "F" else MAX_VALUES))
    elif lower:
        high, low = np.asarray(image), np.asarray(ImageOps.exif_transpose(lower))
        if lower.info["both_bytes"]:
            high, low = low[..., (0, 0, 0, 2)], low[..., (1, 1, 1, 3)]
        pixels = high[..., :3] * np.uint16(256) + low[..., :3]
        image = Image.fromarray(np.concatenate([to_8_bits(pixels), high[..., 3:]], axis=-1))
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def preprocess(file: str | Path) -> NDArray[np.uint8]:
    """Resize and crop an image as in training: uint8 [size, size, 3]."""
    image = open_image(file)
    size, resize = metadata["size"], metadata["resize"]
    resampling = Image.Resampling[metadata["interpolation"].upper()]
    shorter = min(image.size)
    image = image.resize([resize * side // shorter for side in image.size], resampling)
    if metadata["crop"] == "fit":
        return np.asarray(image.resize((size, size), resampling))
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def predict_proba(pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Probabilities, float32 [N, classes], of N images, each uint8 [size, size, 3]."""
    return np.asarray(session.run(["probabilities"], {"pixels": np.stack(pixels)})[0], np.float32)


def predict(file: str | Path) -> list[tuple[str, float]]:
    """The classes with their probabilities, most likely first."""
    row = predict_proba([preprocess(file)])[0]
    return sorted(zip(metadata["classes"], row.tolist(), strict=True), key=lambda pair: -pair[1])


def check() -> str:
    """Compare with the golden samples; raises AssertionError if the predictions differ."""
    golden = json.loads((FOLDER / "golden" / "golden.json").read_text("utf-8"))
    expected = np.array([image["probabilities"] for image in golden["images"]])
    pixels = [np.asarray(Image.open(FOLDER / "golden" / image["pixels"])) for image in golden["images"]]
    originals = [preprocess(FOLDER / "golden" / image["original"]) for image in golden["images"]]
    exact = np.abs(predict_proba(pixels) - expected).max()
    decoded = predict_proba(originals)
    assert exact <= golden["agreement"], f"The answers differ by {exact:.1g}; this is not the model that was exported."
    apart = np.abs(np.stack(originals).astype(float) - pixels).mean((1, 2, 3)).max()
    assert apart <= MAX_PIXEL_DIFFERENCE, (
        f"An original image differs from its pixels by {apart:.0f} of 255; it is decoded otherwise."
    )
    assert (decoded.argmax(1) == expected.argmax(1)).all(), "An original image gets another label than it should."
    return f"As exported: largest difference {exact:.0e} on exact pixels, {abs(decoded - expected).max():.0e} on files."


def main() -> None:
    """Check itself, or print the three most likely classes of each file of the command line."""
    if not sys.argv[1:]:
        print(check())
    for name in sys.argv[1:]:
        try:
            print(name, *(f"{label} {probability:.1%}" for label, probability in predict(name)[:3]), sep="\t")
        except (OSError, ValueError) as error:
            sys.exit(f"{name} cannot be read as a picture: {error}")


if __name__ == "__main__":
    main()
