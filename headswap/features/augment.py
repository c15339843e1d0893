"""The views of images: the centre, its mirror image and random crops, decoded ahead of whoever computes.

Knows nothing of networks but how they want their pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as pictures

from headswap.data.dataset import LabelledImages
from headswap.networks.preprocess import Preprocess

MIN_CROP_SCALE = 0.6  # of the picture's shorter side
NUM_DECODING_THREADS = 2  # threads
NUM_PREFETCHED_IMAGES = 8  # images that are decoded while others are computed


def iterate_views(images: LabelledImages, preprocess: Preprocess, num_views: int, seed: int) -> Iterator[Tensor]:
    """For each image in turn uint8 ``[views, 3, size, size]``.

    Args:
        views: 1 is the weights' own crop alone, 2 adds its mirror image, more add random crops.
        seed: of the random crops; an image's crops depend on it and on the image's place alone.
    """

    def one(i: int) -> Tensor:
        pixels = images.pixels(i, preprocess.resize, preprocess.interpolation)
        return make_views(pixels, preprocess, num_views, torch.Generator().manual_seed(seed * 1_000_003 + i))

    waiting: deque = deque()
    pool = ThreadPoolExecutor(NUM_DECODING_THREADS, thread_name_prefix="decoding")
    try:
        for i in range(len(images)):
            waiting.append(pool.submit(one, i))
            if len(waiting) > NUM_PREFETCHED_IMAGES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def make_views(pixels: Tensor, preprocess: Preprocess, num_views: int, generator: torch.Generator) -> Tensor:
    """The views of one image uint8 ``[3, H, W]``: uint8 ``[views, 3, size, size]``."""
    size = [preprocess.size, preprocess.size]
    centre = preprocess.crop_to_square(pixels)
    crops = [_random_crop(pixels, size, preprocess.interpolation, generator) for _ in range(num_views - 2)]
    return torch.stack([centre, pictures.horizontal_flip(centre), *crops][:num_views])


def _random_crop(pixels: Tensor, size: list[int], interpolation: str, generator: torch.Generator) -> Tensor:
    """A square of 0.6 to 1 times the shorter side from anywhere in the picture, every second one mirrored."""
    scale, down, right, mirror = torch.rand(4, generator=generator).tolist()
    height, width = pixels.shape[1:]
    side = round(min(height, width) * (MIN_CROP_SCALE + (1 - MIN_CROP_SCALE) * scale))
    top, left = round((height - side) * down), round((width - side) * right)
    crop = pictures.resized_crop(pixels, top, left, side, side, size, InterpolationMode(interpolation), True)
    return pictures.horizontal_flip(crop) if mirror < 0.5 else crop
