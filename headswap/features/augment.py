"""Generates augmented views of each image (plain crop, horizontal flip, random crops), decoded ahead by threads.

Knows nothing of networks but their preprocessing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from headswap.data.dataset import LabelledImages
from headswap.networks.preprocess import Preprocess

MIN_CROP_SCALE = 0.6  # smallest side of a random crop, relative to the image's shorter side
NUM_DECODING_THREADS = 2
NUM_PREFETCHED_IMAGES = 8


def iterate_views(images: LabelledImages, preprocess: Preprocess, num_views: int, seed: int) -> Iterator[Tensor]:
    """Yield the views of each image in turn, uint8 ``[num_views, 3, size, size]``.

    Args:
        images: to decode.
        preprocess: of the network.
        num_views: 1 is the weights' own crop alone, 2 adds its mirror image, more add random crops.
        seed: of the random crops; an image's crops depend only on it and on the index of the image.
    """

    def load_views(i: int) -> Tensor:
        pixels = images.pixels(i, preprocess.resize, preprocess.interpolation)
        return make_views(pixels, preprocess, num_views, torch.Generator().manual_seed(seed * 1_000_003 + i))

    pending: deque[Future[Tensor]] = deque()
    pool = ThreadPoolExecutor(NUM_DECODING_THREADS, thread_name_prefix="decoding")
    try:
        for i in range(len(images)):
            pending.append(pool.submit(load_views, i))
            if len(pending) > NUM_PREFETCHED_IMAGES:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def make_views(pixels: Tensor, preprocess: Preprocess, num_views: int, generator: torch.Generator) -> Tensor:
    """Make the views of one image.

    Args:
        pixels: uint8 ``[3, H, W]``.
        preprocess: of the network.
        num_views: as for ``iterate_views``.
        generator: of the random crops.

    Returns:
        uint8 ``[num_views, 3, size, size]``.
    """
    plain = preprocess.crop_to_square(pixels)
    crops = [_random_crop(pixels, preprocess, generator) for _ in range(num_views - 2)]
    return torch.stack([plain, F.horizontal_flip(plain), *crops][:num_views])


def _random_crop(pixels: Tensor, preprocess: Preprocess, generator: torch.Generator) -> Tensor:
    """Crop a square of 0.6 to 1 times the shorter side at a random position, and flip every second one."""
    scale, down, right, mirror = torch.rand(4, generator=generator).tolist()
    height, width = pixels.shape[1:]
    side = round(min(height, width) * (MIN_CROP_SCALE + (1 - MIN_CROP_SCALE) * scale))
    top, left = round((height - side) * down), round((width - side) * right)
    size, interpolation = [preprocess.size, preprocess.size], InterpolationMode(preprocess.interpolation)
    crop: Tensor = F.resized_crop(pixels, top, left, side, side, size, interpolation, antialias=True)
    return F.horizontal_flip(crop) if mirror < 0.5 else crop
