"""What can be told of a picture without a network: its size, its light, how sharp it is and what it resembles.

Knows nothing of classes or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms.v2 import functional as pictures

MAX_HASH_DISTANCE = 10  # of 64: perceptual hashes of copies differ in fewer, those of different photographs hardly ever
MIN_THUMBNAIL_CORRELATION = (
    0.95  # of thumbnails: simple pictures, such as shoes on white, have like hashes and are not the same
)
_THUMBNAIL_SIDE = 24  # pixels a side
_MAX_NEIGHBOURS = 64  # of one picture that are looked at; they hang together through one another
_CHUNK_ROWS = 512  # compared at once

# The second derivative in all directions; its variance falls when a picture is out of focus (Pech-Pacheco 2000).
_LAPLACIAN_KERNEL = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])


@dataclass(frozen=True, eq=False)
class ImageStats:
    """What was measured of one picture, once, when it was loaded."""

    size: tuple[int, int]  # of the file's picture: width and height in pixels
    brightness: float  # mean of its greys, 0 to 255
    contrast: float  # their standard deviation
    sharpness: float  # standard deviation of the Laplacian of its greys
    perceptual_hash: np.ndarray  # perceptual hash: bool [64]
    thumbnail: np.ndarray  # uint8 [3 * 24 * 24]
    file_digest: bytes  # of the file: equal for equal files
    pixel_digest: bytes  # of the decoded pixels: equal for files that hold the same picture


def measure_image(pixels: Tensor, size: tuple[int, int], digest: bytes) -> ImageStats:
    """The traits of a picture: uint8 ``[3, H, W]`` with sides of three and more, and its file's size and digest."""
    grey = pictures.rgb_to_grayscale(pixels)
    light = grey.float()
    thumbnail = pictures.resize(pixels, [_THUMBNAIL_SIDE, _THUMBNAIL_SIDE], antialias=True)
    return ImageStats(
        size,
        light.mean().item(),
        light.std().item(),
        conv2d(light[None], _LAPLACIAN_KERNEL).std().item(),
        imagehash.phash(Image.fromarray(grey[0].numpy())).hash.flatten(),
        thumbnail.numpy().reshape(-1),
        digest,
        hashlib.blake2b(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes(), digest_size=16).digest(),
    )


def group_duplicates(stats: Sequence[ImageStats], group_keys: Sequence[object] = ()) -> list[int]:
    """A number for each picture, the same for those that are copies of one another, however indirectly.

    Copies are equal files, and pictures that were resized, compressed again, made brighter or cut at the edges by
    a few percent: their perceptual hashes (Zauner 2010) and their thumbnails agree.

    Args:
        traits: of the pictures.
        together: what else holds pictures together: those with an equal entry, unless it is None.
    """
    from scipy.sparse import coo_array  # here, because SciPy takes a fifth of a second of every program's start
    from scipy.sparse.csgraph import connected_components

    first: dict[object, int] = {}
    pairs = [(i, first.setdefault(("file", trait.file_digest), i)) for i, trait in enumerate(stats)]
    pairs += [(i, first.setdefault(("group", key), i)) for i, key in enumerate(group_keys) if key is not None]
    different = sorted({i for key, i in first.items() if key[0] == "file"})
    pairs += [(different[a], different[b]) for a, b in _find_duplicate_pairs([stats[i] for i in different])]
    if not stats:
        return []
    rows, columns = np.array(pairs).T
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(stats),) * 2)
    return connected_components(links, directed=False)[1].tolist()


def _find_duplicate_pairs(stats: Sequence[ImageStats]) -> list[tuple[int, int]]:
    """The pairs of pictures whose fingerprints and thumbnails agree."""
    if len(stats) < 2:
        return []
    signs = torch.from_numpy(np.stack([trait.perceptual_hash for trait in stats])).float() * 2 - 1
    agreeing = signs.shape[1] - 2 * MAX_HASH_DISTANCE  # the inner product of hashes that differ in so many bits
    pairs = []
    for start in range(0, len(stats), _CHUNK_ROWS):
        near = torch.triu(signs[start : start + _CHUNK_ROWS] @ signs.T >= agreeing, diagonal=start + 1)
        near &= near.cumsum(1) <= _MAX_NEIGHBOURS
        left, right = near.nonzero(as_tuple=True)
        same = _thumbnail_correlation(stats, (left + start).tolist(), right.tolist()) >= MIN_THUMBNAIL_CORRELATION
        pairs += zip((left + start)[same].tolist(), right[same].tolist(), strict=True)
    return pairs


def _thumbnail_correlation(stats: Sequence[ImageStats], left: Sequence[int], right: Sequence[int]) -> Tensor:
    """Of the thumbnails of each pair: 1 for the same picture, whatever its light."""
    found = [torch.empty(0)]
    for start in range(0, len(left), _CHUNK_ROWS):
        of_left, of_right = (
            _standardize_thumbnails(stats, side[start : start + _CHUNK_ROWS]) for side in (left, right)
        )
        found.append((of_left * of_right).sum(1))
    return torch.cat(found)


def _standardize_thumbnails(stats: Sequence[ImageStats], indices: Sequence[int]) -> Tensor:
    values = torch.from_numpy(np.stack([stats[i].thumbnail for i in indices])).float()
    return torch.nn.functional.normalize(values - values.mean(1, keepdim=True))
