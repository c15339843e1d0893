"""Makes golden samples, images with a model's probabilities, and checks that an exported model reproduces them.

A golden sample holds its image twice: as the exact pixels that the network takes, for which probabilities must agree
within 1e-4, and as an original file, for which another decoder or resize may shift them, but not change a label. The
images are synthetic unless the user's own are given. One is always synthetic: 12-bit grayscale, as microscopes
give it, in a 16-bit PNG, which most decoders show as black or white. Knows nothing of the formats that models are
exported to.
"""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
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
NUM_SYNTHETIC_CANDIDATES = 12  # of which those with the clearest predictions are chosen
NUM_16_BIT_CANDIDATES = 3  # of which one is chosen
SYNTHETIC_IMAGE_SIZE = (360, 280)  # pixels
USER_IMAGE_SIDE = 360  # pixels to which the shorter side of a user's image is resized
PNG_SIGNATURE = b"\x89PNG"

PredictFn = Callable[[Tensor], Tensor]  # uint8 [N, size, size, 3] to probabilities [N, classes]


@renamed_attributes(squares="pixels", originals="original_files", files="to_files")
@dataclass(frozen=True, eq=False)
class GoldenSamples:
    """Images with the probabilities that a model gives to them.

    Attributes:
        pixels: uint8 ``[N, size, size, 3]``, as the network takes them; N is 5 as a rule.
        original_files: the same images as JPEG files, the last one as PNG, without metadata.
        probabilities: ``[N, classes]``.
        classes: the names of the classes.
    """

    pixels: Tensor
    original_files: tuple[bytes, ...]
    probabilities: Tensor
    classes: tuple[str, ...]

    def to_files(self) -> dict[str, bytes]:
        """The samples as files by their names.

        ``golden.json`` holds the probabilities; each image has a file of its pixels, ``1.png``, and its original,
        ``1.jpg`` or ``1-original.png``.
        """
        rows: list[dict[str, object]] = []
        files = {"golden.json": b""}  # the first one
        samples = zip(self.pixels, self.original_files, self.probabilities.tolist(), strict=True)
        for i, (pixels, original, probabilities) in enumerate(samples, 1):
            pixels_name = f"{i}.png"
            original_name = f"{i}-original.png" if original.startswith(PNG_SIGNATURE) else f"{i}.jpg"
            rounded = [float(f"{p:.7g}") for p in probabilities]
            rows.append({"pixels": pixels_name, "original": original_name, "probabilities": rounded})
            files |= {pixels_name: _encode_png(pixels.numpy()), original_name: original}
        content = {"classes": self.classes, "agreement": PARITY_TOLERANCE, "images": rows}
        return files | {"golden.json": json.dumps(content, indent=1, ensure_ascii=False).encode()}


@renamed_attributes(what="artifact_name", difference="max_difference", images="num_images")
@dataclass(frozen=True)
class ParityReport:
    """The result of a successful comparison of an exported model with the model.

    Attributes:
        artifact_name: what was compared, such as ``"The ONNX file"``.
        max_difference: the largest absolute difference of a probability.
        num_images: how many images were compared.
    """

    artifact_name: str
    max_difference: float
    num_images: int

    @property
    def sentence(self) -> str:
        """The result as a sentence for users."""
        loaded, images = f"{self.artifact_name} was loaded again", f"{self.num_images} images"
        if self.max_difference == 0:
            return f"{loaded}: no difference on {images}, to the last bit."
        return f"{loaded}: largest difference {self.max_difference:.0e} on {images}."


class ParityError(ValueError):
    """An exported model does not reproduce the model's probabilities."""


def make_golden_samples(model: Classifier, images: LabelledImages | None = None) -> GoldenSamples:
    """Make five golden samples: those with the clearest predictions of synthetic or given images, one of 16 bits.

    The model predicts on the CPU, because an accelerator may multiply with a mantissa of ten bits.

    Args:
        model: the model to be exported.
        images: candidates; by default synthetic ones.
    """
    if next(model.parameters()).device.type != "cpu":
        model = copy.deepcopy(model).cpu()
    originals = (
        _sample_user_images(images)
        if images
        else [_encode_jpeg(draw_synthetic_image(seed)) for seed in range(NUM_SYNTHETIC_CANDIDATES)]
    )
    num_8_bit = len(originals)
    originals += [
        _encode_png(to_12_bit_gray(draw_synthetic_image(seed)))
        for seed in range(NUM_SYNTHETIC_CANDIDATES, NUM_SYNTHETIC_CANDIDATES + NUM_16_BIT_CANDIDATES)
    ]
    preprocess = model.preprocess
    # Opened as images, so that they are decoded in full: inference code elsewhere may not use JPEG's reduced decoding.
    opened = [Image.open(io.BytesIO(original)) for original in originals]
    resized = (read_pixels(image, preprocess.resize, preprocess.interpolation) for image in opened)
    pixels = torch.stack([preprocess.crop_to_square(image) for image in resized])
    probabilities = model.predict_proba_cropped(pixels).clone()  # out of inference mode, so that it can be modified
    chosen = _rank_by_confidence(probabilities[:num_8_bit], model.multi_label)[: NUM_GOLDEN_SAMPLES - 1]
    chosen += [num_8_bit + i for i in _rank_by_confidence(probabilities[num_8_bit:], model.multi_label)[:1]]
    return GoldenSamples(
        pixels[chosen].movedim(1, -1).contiguous(),
        tuple(originals[i] for i in chosen),
        probabilities[chosen],
        model.classes,
    )


def check_parity(artifact_name: str, predict_fn: PredictFn, golden: GoldenSamples) -> ParityReport:
    """Compare an exported model with the model on its golden samples, as one batch and as a batch of one.

    Args:
        artifact_name: the subject of a sentence, such as ``"The ONNX file"``.
        predict_fn: the exported model: uint8 ``[N, size, size, 3]`` to probabilities ``[N, classes]``.
        golden: the samples.

    Raises:
        ParityError: if a probability differs by more than 1e-4, or the output has another shape.
    """
    batched, single = predict_fn(golden.pixels), predict_fn(golden.pixels[:1])
    if batched.shape != golden.probabilities.shape or single.shape != golden.probabilities[:1].shape:
        raise ParityError(f"{artifact_name} does not give one answer for each image.")
    distance = torch.cat([batched, single]) - torch.cat([golden.probabilities, golden.probabilities[:1]])
    difference = float(distance.abs().nan_to_num(torch.inf).max())
    if difference > PARITY_TOLERANCE:
        raise ParityError(
            f"{artifact_name} disagrees with the model by {difference:.1g} on {len(golden.pixels)} images."
        )
    return ParityReport(artifact_name, difference, len(golden.pixels))


def draw_synthetic_image(seed: int) -> Image.Image:
    """Draw random shapes on a color gradient; the same seed gives the same image."""
    rng = random.Random(seed)

    def random_color() -> tuple[int, ...]:
        return tuple(rng.randrange(256) for _ in range(3))

    width, height = SYNTHETIC_IMAGE_SIZE
    gradient = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize(SYNTHETIC_IMAGE_SIZE)
    image = Image.composite(
        Image.new("RGB", SYNTHETIC_IMAGE_SIZE, random_color()),
        Image.new("RGB", SYNTHETIC_IMAGE_SIZE, random_color()),
        gradient,
    )
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 6)):
        x, y, side = rng.randrange(width), rng.randrange(height), rng.randint(30, 160)
        box = (x - side, y - side * rng.uniform(0.4, 1), x + side, y + side * rng.uniform(0.4, 1))
        shape = rng.choice((draw.ellipse, draw.rectangle, draw.line))
        shape(box, random_color(), width=rng.randint(4, 20)) if shape == draw.line else shape(box, random_color())
    return image


def to_12_bit_gray(image: Image.Image) -> npt.NDArray[np.uint16]:
    """Convert an image to 12-bit grayscale, as the camera of a microscope gives it: uint16 ``[H, W]``, 0 to 4095."""
    gray = np.asarray(image.convert("L")).astype(np.uint16)
    return gray * 16 + gray // 16


def _sample_user_images(images: LabelledImages) -> list[bytes]:
    """Evenly spaced images, resized and encoded anew: without metadata such as place and time."""
    indices = sorted({len(images) * i // NUM_SYNTHETIC_CANDIDATES for i in range(NUM_SYNTHETIC_CANDIDATES)})
    return [_encode_jpeg(to_pil_image(read_pixels(images.paths[i], USER_IMAGE_SIDE))) for i in indices]


def _rank_by_confidence(probabilities: Tensor, multi_label: bool) -> list[int]:
    """All indices: first the clearest prediction of each class that is predicted, then the others by their clarity."""
    if multi_label:
        margin = (probabilities - 0.5).abs().amin(1)
    else:
        best, second = probabilities.topk(2, dim=1).values.T
        margin = best - second
    order, labels = margin.argsort(descending=True).tolist(), probabilities.argmax(1).tolist()
    firsts = [i for rank, i in enumerate(order) if labels[i] not in {labels[j] for j in order[:rank]}]
    return [*firsts, *(i for i in order if i not in firsts)]


def _encode_jpeg(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def _encode_png(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()
