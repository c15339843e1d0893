"""Classify images with model.onnx: `python predict.py photo.jpg ...` (needs onnxruntime, pillow and numpy).

Without images it checks itself: the golden images must get the answers that the model gave when it was exported.
"""

import json
import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime would report home, and reads this when it is imported

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
USUAL = (255, 1023, 4095, 16383, 65535)  # the brightest values of 8 to 16 bits
APART = 16  # grey levels of 255 by which another decoder or resize may differ on average
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["headswap"])


def eight_bits(samples, usual=USUAL):
    """Deep samples as 0 to 255: white is the smallest usual maximum that holds them, else they reach to their own."""
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(high - low):
        raise ValueError("it holds values that are no numbers")
    if low >= 0 and high <= usual[-1]:
        low, high = 0, next(top for top in usual if high <= top)
    scale = 255 / max(high - low, 1e-6)
    return np.floor(samples * np.float64(scale) + (0.5 - low * scale)).astype(np.uint8)


def lower_bytes(file):
    """Colours of 16 bits: Pillow gives the upper 8 of each, and this the lower 8; None where there are fewer bits."""
    picture = Image.open(file)
    for i, tile in enumerate(picture.tile):
        kind, *options = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        kind, _, order = str(kind).rpartition(";16")
        if kind not in ("RGB", "RGBX", "RGBA", "LA") or order not in ("B", "L", "N"):
            return None
        swapped = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[order]
        # Grey and alpha, which Pillow opens as RGBA, are read as if they were RGBA of 8 bits: both bytes of both.
        picture.info["both"], other = (True, "RGBA") if kind == "LA" else (False, f"{kind};16{swapped}")
        picture.tile[i] = tile._replace(args=(other, *options) if options else other)
    return picture


def opened(file):
    """A picture upright, in 8 bits, and on white where it is transparent."""
    lower, picture = lower_bytes(file), ImageOps.exif_transpose(Image.open(file))
    if picture.mode.startswith(("I", "F")):
        picture = Image.fromarray(eight_bits(np.asarray(picture), (1, *USUAL) if picture.mode == "F" else USUAL))
    elif lower:
        high, low = np.asarray(picture), np.asarray(ImageOps.exif_transpose(lower))
        if lower.info["both"]:
            high, low = low[..., (0, 0, 0, 2)], low[..., (1, 1, 1, 3)]
        samples = high[..., :3] * np.uint16(256) + low[..., :3]
        picture = Image.fromarray(np.concatenate([eight_bits(samples), high[..., 3:]], axis=-1))
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def square(file):
    """A picture as the network was trained to see it: uint8 [size, size, 3]."""
    picture = opened(file)
    size, resize, how = about["size"], about["resize"], Image.Resampling[about["interpolation"].upper()]
    short = min(picture.size)
    picture = picture.resize([resize * side // short for side in picture.size], how)
    if about["crop"] == "fit":
        return np.asarray(picture.resize((size, size), how))
    left, top = (round((side - size) / 2) for side in picture.size)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def probabilities(squares):
    """float32 [N, classes] of uint8 [N, size, size, 3]."""
    return session.run(["probabilities"], {"pixels": np.stack(squares)})[0]


def predict(file):
    """The classes with their probabilities, the likeliest first."""
    row = probabilities([square(file)])[0]
    return sorted(zip(about["classes"], row.tolist(), strict=True), key=lambda pair: -pair[1])


def check():
    """Compare with the answers of the model that was exported; raises AssertionError where they differ."""
    golden = json.loads((HERE / "golden" / "golden.json").read_text("utf-8"))
    wanted = np.array([image["probabilities"] for image in golden["images"]])
    pixels = [np.asarray(Image.open(HERE / "golden" / image["pixels"])) for image in golden["images"]]
    originals = [square(HERE / "golden" / image["original"]) for image in golden["images"]]
    exact = np.abs(probabilities(pixels) - wanted).max()
    decoded = probabilities(originals)
    assert exact <= golden["agreement"], f"The answers differ by {exact:.1g}; this is not the model that was exported."
    apart = np.abs(np.stack(originals).astype(float) - pixels).mean((1, 2, 3)).max()
    assert apart <= APART, f"An original image differs from its pixels by {apart:.0f} of 255; it is decoded otherwise."
    assert (decoded.argmax(1) == wanted.argmax(1)).all(), "An original image gets another label than it should."
    return f"As exported: largest difference {exact:.0e} on exact pixels, {abs(decoded - wanted).max():.0e} on files."


if __name__ == "__main__":
    if not sys.argv[1:]:
        print(check())
    for name in sys.argv[1:]:
        try:
            print(name, *(f"{label} {share:.1%}" for label, share in predict(name)[:3]), sep="\t")
        except (OSError, ValueError) as error:
            sys.exit(f"{name} cannot be read as a picture: {error}")
