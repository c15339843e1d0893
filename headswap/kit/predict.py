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
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["headswap"])


def square(file):
    """A picture as the network was trained to see it: uint8 [size, size, 3]."""
    picture = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
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
    assert (decoded.argmax(1) == wanted.argmax(1)).all(), "An original image gets another label than it should."
    return f"As exported: largest difference {exact:.0e} on exact pixels, {abs(decoded - wanted).max():.0e} on files."


if __name__ == "__main__":
    if not sys.argv[1:]:
        print(check())
    for name in sys.argv[1:]:
        try:
            print(name, *(f"{label} {share:.1%}" for label, share in predict(name)[:3]), sep="\t")
        except OSError as error:
            sys.exit(f"{name} cannot be read as a picture: {error}")
