"""The outputs of frozen stages, computed once for each image and view, and kept.

A frozen stage gives the same output for the same picture for ever, so training only ever runs what learns. Knows
nothing of losses, of heads or of how long anything is trained.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as pictures

from headswap.backbones import Preprocess
from headswap.images import LabelledImages
from headswap.model import Classifier

BATCH = 4  # small batches stay in the processor's cache (13 ms an image; 21 in batches of 16), and Stop is heard soon
MEMORY = 1_000_000_000  # bytes of activations that are kept in memory; more are kept in a file
SMALLEST_CROP = 0.6  # of the picture's shorter side


class Activations:
    """What arrives at the boundaries of a model whose earlier parts stand still.

    Attributes:
        outputs: boundary (how many parts of ``model.sequence`` an image has passed) to a tensor ``[N, views, ...]``;
            complete once ``fill`` is through.
        targets: int64 ``[N]``, or with several labels an image float ``[N, classes]``.
    """

    def __init__(
        self, model: Classifier, images: LabelledImages, boundaries: Iterable[int], views: int = 1, seed: int = 0
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: whose parts before the last boundary stand still.
            images: N of them.
            boundaries: each a number of parts of ``model.sequence``; 0 keeps the normalised pixels.
            views: 1 is the weights' own centre crop alone, 2 adds its mirror image, more add random crops.
            seed: of the random crops.
        """
        self.targets = images.targets
        self.outputs: dict[int, Tensor] = {}
        self._model, self._images, self._views, self._seed = model, images, views, seed
        self._boundaries = sorted(set(boundaries))

    @property
    def total(self) -> int:
        """How many views of images there are to compute."""
        return len(self._images) * self._views

    def bytes_per_image(self, boundary: int) -> int:
        """What is kept for each image at a boundary, all its views together."""
        kept = self.outputs[boundary]
        return kept[0].numel() * kept.element_size()

    def fill(self) -> Iterator[int]:
        """Run the images through the frozen parts; yields after each batch how many views are through."""
        preprocess, flat = self._model.preprocess, {}
        was_training = self._model.training
        self._model.eval()
        try:
            for first, squares in _batches(self._images, preprocess, self._views, self._seed):
                with torch.no_grad():
                    x = preprocess.normalise(squares)
                    for passed, boundary in zip([0, *self._boundaries], self._boundaries, strict=False):
                        x = self._model.run(x, passed, boundary)
                        if boundary not in flat:
                            flat[boundary] = _room_for(self.total, x[0], share=len(self._boundaries))
                        flat[boundary][first : first + len(x)] = x
                yield first + len(squares)
        finally:
            self._model.train(was_training)
        self.outputs = {at: kept.unflatten(0, (len(self._images), self._views)) for at, kept in flat.items()}


def _batches(images: LabelledImages, preprocess: Preprocess, views: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Index of the first square, and uint8 squares ``[n, 3, size, size]``; the views of an image follow each other."""
    first, waiting = 0, []
    for i in range(len(images)):
        pixels = images.pixels(i, preprocess.resize, preprocess.interpolation)
        waiting += _views(pixels, preprocess, views, torch.Generator().manual_seed(seed * 1_000_003 + i))
        while len(waiting) >= BATCH or (waiting and i == len(images) - 1):
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            yield first, torch.stack(batch)
            first += len(batch)


def _views(pixels: Tensor, preprocess: Preprocess, views: int, generator: torch.Generator) -> Sequence[Tensor]:
    size = [preprocess.size, preprocess.size]
    centre = preprocess.square(pixels)
    crops = [_random_crop(pixels, size, preprocess.interpolation, generator) for _ in range(views - 2)]
    return [centre, pictures.horizontal_flip(centre), *crops][:views]


def _random_crop(pixels: Tensor, size: list[int], interpolation: str, generator: torch.Generator) -> Tensor:
    """A square of 0.6 to 1 times the shorter side from anywhere in the picture, every second one mirrored."""
    scale, down, right, mirror = torch.rand(4, generator=generator).tolist()
    height, width = pixels.shape[1:]
    side = round(min(height, width) * (SMALLEST_CROP + (1 - SMALLEST_CROP) * scale))
    top, left = round((height - side) * down), round((width - side) * right)
    crop = pictures.resized_crop(pixels, top, left, side, side, size, InterpolationMode(interpolation), True)
    return pictures.horizontal_flip(crop) if mirror < 0.5 else crop


def _room_for(count: int, one: Tensor, share: int) -> Tensor:
    """An empty tensor ``[count, ...]`` for outputs like ``one``; in a nameless file where memory would be short."""
    shape = (count, *one.shape)
    size = count * one.numel()
    if size * one.element_size() * share <= MEMORY:
        return torch.empty(shape, dtype=one.dtype)
    handle, name = tempfile.mkstemp(prefix="headswap-")
    os.ftruncate(handle, size * one.element_size())
    os.close(handle)
    kept = torch.from_file(name, shared=True, size=size, dtype=one.dtype).reshape(shape)
    with suppress(PermissionError):  # Windows keeps the name of a file that is in use
        os.unlink(name)
    return kept
