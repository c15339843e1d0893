"""Five small images with the answers that a model gives to them: they travel with it and prove whatever it became.

Each is there twice: as the exact pixels that the network sees, where answers must agree to 1e-4, and as an original
file, where another decoder or another resize may move them a little, but not change a label. Drawn by default;
somebody's own images only if they are given. One is always drawn: the 12-bit grey of a microscope in a 16-bit file,
which most decoders show as black or white. Knows nothing of files and formats of models.
"""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from headswap.common.deprecation import renamed_attributes
from headswap.data.dataset import LabelledImages
from headswap.data.decoding import read_pixels
from headswap.networks.classifier import Classifier

NUM_GOLDEN_SAMPLES = 5
PARITY_TOLERANCE = 1e-4
NUM_SYNTHETIC_CANDIDATES = 12  # of which those are chosen that the model is surest about
NUM_16_BIT_CANDIDATES = 3  # drawn in 16 bits, of which one is chosen
SYNTHETIC_IMAGE_SIZE = (360, 280)  # of a drawn image in pixels
USER_IMAGE_SIDE = 360  # to which the shorter side of somebody's own image is brought

PredictFn = Callable[[Tensor], Tensor]  # uint8 [N, size, size, 3] to probabilities [N, classes]


@renamed_attributes(squares="pixels", originals="original_files", files="to_files")
@dataclass(frozen=True, eq=False)
class GoldenSamples:
    """The images and the answers to them."""

    pixels: Tensor  # uint8 [N, size, size, 3], mostly five of them
    original_files: tuple[bytes, ...]  # JPEG files and last a PNG, without anything but the picture
    probabilities: Tensor  # [N, classes]
    classes: tuple[str, ...]

    def to_files(self) -> dict[str, bytes]:
        """As files: ``golden.json`` with the answers, and for each image ``1.png``, its pixels, and its original, as a
        rule ``1.jpg``."""
        names = [f"{i}-original.png" if _is_png(file) else f"{i}.jpg" for i, file in enumerate(self.original_files, 1)]
        rows = [
            {"pixels": f"{i}.png", "original": name, "probabilities": [float(f"{p:.7g}") for p in row]}
            for i, (name, row) in enumerate(zip(names, self.probabilities.tolist(), strict=True), 1)
        ]
        told = {"classes": self.classes, "agreement": PARITY_TOLERANCE, "images": rows}
        files = {"golden.json": json.dumps(told, indent=1, ensure_ascii=False).encode()}
        for row, square, original in zip(rows, self.pixels, self.original_files, strict=True):
            files |= {row["pixels"]: _encode_array_png(square.numpy()), row["original"]: original}
        return files


@renamed_attributes(what="artifact_name", difference="max_difference", images="num_images")
@dataclass(frozen=True)
class ParityReport:
    """That what a model became answers as the model does."""

    artifact_name: str  # "The ONNX file"
    max_difference: float  # the largest of any probability, on the exact pixels
    num_images: int

    @property
    def sentence(self) -> str:
        """For whoever takes it along."""
        if self.max_difference == 0:
            return f"{self.artifact_name} was loaded again: no difference on {self.num_images} images, to the last bit."
        return f"{self.artifact_name} was loaded again: largest difference {self.max_difference:.0e} on {self.num_images} images."


class ParityError(ValueError):
    """What a model became answers otherwise than the model."""


def make_golden_samples(model: Classifier, images: LabelledImages | None = None) -> GoldenSamples:
    """Five images with the model's answers: of drawn ones, or of these, those that it is surest about, and one of 16
    bits.

    It answers on the processor, because an accelerator rounds to ten bits where it multiplies.
    """
    if next(model.parameters()).device.type != "cpu":
        model = copy.deepcopy(model).cpu()
    originals = (
        _sample_user_images(images)
        if images
        else [_encode_pil_jpeg(draw_synthetic_image(seed)) for seed in range(NUM_SYNTHETIC_CANDIDATES)]
    )
    count = len(originals)
    originals += [
        _encode_array_png(to_12_bit_gray(draw_synthetic_image(seed)))
        for seed in range(NUM_SYNTHETIC_CANDIDATES, NUM_SYNTHETIC_CANDIDATES + NUM_16_BIT_CANDIDATES)
    ]
    wanted = model.preprocess
    # As images, which are decoded in full: whoever runs what it became may not decode a JPEG smaller.
    pictures = [Image.open(io.BytesIO(original)) for original in originals]
    pixels = (read_pixels(picture, wanted.resize, wanted.interpolation) for picture in pictures)
    squares = torch.stack([wanted.crop_to_square(read) for read in pixels])
    probabilities = model.predict_proba_cropped(squares).clone()  # inference mode's own could not be written to
    chosen = _rank_by_confidence(probabilities[:count], model.multi_label)[: NUM_GOLDEN_SAMPLES - 1]
    chosen += [count + i for i in _rank_by_confidence(probabilities[count:], model.multi_label)[:1]]
    return GoldenSamples(
        squares[chosen].movedim(1, -1).contiguous(),
        tuple(originals[i] for i in chosen),
        probabilities[chosen],
        model.classes,
    )


def check_parity(artifact_name: str, predict_fn: PredictFn, golden: GoldenSamples) -> ParityReport:
    """Ask whatever a model became for the same images, all at once and one alone.

    Raises:
        Disagreement: if an answer differs by more than 1e-4, or there is another number of answers than images.
    """
    together, alone = predict_fn(golden.pixels), predict_fn(golden.pixels[:1])
    if together.shape != golden.probabilities.shape or alone.shape != golden.probabilities[:1].shape:
        raise ParityError(f"{artifact_name} does not give one answer for each image.")
    distance = torch.cat([together, alone]) - torch.cat([golden.probabilities, golden.probabilities[:1]])
    difference = float(distance.abs().nan_to_num(torch.inf).max())
    if difference > PARITY_TOLERANCE:
        raise ParityError(
            f"{artifact_name} disagrees with the model by {difference:.1g} on {len(golden.pixels)} images."
        )
    return ParityReport(artifact_name, difference, len(golden.pixels))


def draw_synthetic_image(seed: int) -> Image.Image:
    """A picture of a few shapes on a shaded ground, the same for the same seed."""
    chance = random.Random(seed)

    def colour() -> tuple[int, ...]:
        return tuple(chance.randrange(256) for _ in range(3))

    width, height = SYNTHETIC_IMAGE_SIZE
    ground = Image.linear_gradient("L").rotate(chance.choice((0, 90, 180, 270))).resize(SYNTHETIC_IMAGE_SIZE)
    picture = Image.composite(
        Image.new("RGB", SYNTHETIC_IMAGE_SIZE, colour()), Image.new("RGB", SYNTHETIC_IMAGE_SIZE, colour()), ground
    )
    pen = ImageDraw.Draw(picture)
    for _ in range(chance.randint(2, 6)):
        x, y, side = chance.randrange(width), chance.randrange(height), chance.randint(30, 160)
        box = (x - side, y - side * chance.uniform(0.4, 1), x + side, y + side * chance.uniform(0.4, 1))
        shape = chance.choice((pen.ellipse, pen.rectangle, pen.line))
        shape(box, colour(), width=chance.randint(4, 20)) if shape == pen.line else shape(box, colour())
    return picture


def to_12_bit_gray(image: Image.Image) -> np.ndarray:
    """A picture's grey in 12 bits, as a microscope's camera gives it: uint16 ``[H, W]``."""
    grey = np.asarray(image.convert("L")).astype(np.uint16)
    return grey * 16 + grey // 16  # from 0 to 4095


def _sample_user_images(images: LabelledImages) -> list[bytes]:
    """Some of each class, drawn smaller and written anew: without the place and time that a camera adds."""
    places = sorted({len(images) * i // NUM_SYNTHETIC_CANDIDATES for i in range(NUM_SYNTHETIC_CANDIDATES)})
    return [_encode_pil_jpeg(to_pil_image(read_pixels(images.paths[i], USER_IMAGE_SIDE))) for i in places]


def _rank_by_confidence(probabilities: Tensor, multi_label: bool) -> list[int]:
    """All places: first where the answer is clearest, and as many different answers as there are."""
    if multi_label:
        margin = (probabilities - 0.5).abs().amin(1)
    else:
        best, second = probabilities.topk(2, dim=1).values.T
        margin = best - second
    order, labels = margin.argsort(descending=True).tolist(), probabilities.argmax(1).tolist()
    firsts = [i for place, i in enumerate(order) if labels[i] not in {labels[j] for j in order[:place]}]
    return [*firsts, *(i for i in order if i not in firsts)]


def _encode_pil_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def _encode_array_png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def _is_png(content: bytes) -> bool:
    return content.startswith(b"\x89PNG")
