"""Computes per-image statistics and hashes (brightness, sharpness, perceptual hash) and groups near-duplicate images.

Knows nothing of classes or files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms.v2 import functional as pictures

MAX_HASH_DISTANCE = 10  # of 64 bits; the hashes of different photographs hardly ever differ in so few
MIN_THUMBNAIL_CORRELATION = 0.95  # simple images, such as shoes on white, have similar hashes without being copies
_THUMBNAIL_SIDE = 24  # pixels
_MAX_NEIGHBOURS = 64  # of one image; further copies of it are linked through one another
_CHUNK_ROWS = 512  # images that are compared with all others at once

# The Laplacian, whose variance is lower for images out of focus: Pech-Pacheco et al., "Diatom autofocusing in
# brightfield microscopy: a comparative study" (2000).
_LAPLACIAN_KERNEL = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])


@dataclass(frozen=True, eq=False)
class ImageStats:
    """Statistics of one image, measured when it is loaded."""

    size: tuple[int, int]  # width and height in pixels of the image in the file
    brightness: float  # mean grey level, 0 to 255
    contrast: float  # standard deviation of the grey levels
    sharpness: float  # standard deviation of the grey levels' Laplacian
    perceptual_hash: npt.NDArray[np.bool_]  # [64]
    thumbnail: npt.NDArray[np.uint8]  # [3 * 24 * 24]
    file_digest: bytes  # hash of the file
    pixel_digest: bytes  # hash of the decoded pixels, equal for files in different lossless formats


def measure_image(pixels: Tensor, size: tuple[int, int], digest: bytes) -> ImageStats:
    """Measure an image.

    Args:
        pixels: uint8 ``[3, H, W]`` with H and W of at least 3.
        size: width and height of the image in the file.
        digest: the file's hash.
    """
    grey = pictures.rgb_to_grayscale(pixels)
    levels = grey.float()
    thumbnail = pictures.resize(pixels, [_THUMBNAIL_SIDE, _THUMBNAIL_SIDE], antialias=True)
    return ImageStats(
        size,
        levels.mean().item(),
        levels.std().item(),
        conv2d(levels[None], _LAPLACIAN_KERNEL).std().item(),
        imagehash.phash(Image.fromarray(grey[0].numpy())).hash.flatten(),
        thumbnail.numpy().reshape(-1),
        digest,
        hashlib.blake2b(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes(), digest_size=16).digest(),
    )


def group_duplicates(stats: Sequence[ImageStats], group_keys: Sequence[object] = ()) -> list[int]:
    """Number each image's group of copies: the connected components of the graph of copies.

    Copies are equal files, and images that were resized, compressed again, made brighter or cropped by a few percent:
    their perceptual hashes (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) differ
    in at most ``MAX_HASH_DISTANCE`` bits, and their thumbnails correlate.

    Args:
        stats: of the images.
        group_keys: for each image a key or None; images with the same key are grouped as well.

    Returns:
        For each image the number of its group.
    """
    if not stats:
        return []
    from scipy.sparse import coo_array  # imported here, because it takes 0.2 s
    from scipy.sparse.csgraph import connected_components

    first_files: dict[bytes, int] = {}
    first_keys: dict[object, int] = {}
    pairs = [(i, first_files.setdefault(each.file_digest, i)) for i, each in enumerate(stats)]
    pairs += [(i, first_keys.setdefault(key, i)) for i, key in enumerate(group_keys) if key is not None]
    distinct = sorted(first_files.values())
    pairs += [(distinct[a], distinct[b]) for a, b in _find_duplicate_pairs([stats[i] for i in distinct])]
    rows, columns = np.array(pairs).T
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(stats),) * 2)
    groups: list[int] = connected_components(graph, directed=False)[1].tolist()
    return groups


def _find_duplicate_pairs(stats: Sequence[ImageStats]) -> list[tuple[int, int]]:
    """The pairs of indices of images whose hashes and thumbnails agree."""
    if len(stats) < 2:
        return []
    signs = torch.from_numpy(np.stack([each.perceptual_hash for each in stats])).float() * 2 - 1
    min_product = signs.shape[1] - 2 * MAX_HASH_DISTANCE  # the inner product of signs that differ in so many bits
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(stats), _CHUNK_ROWS):
        is_near = torch.triu(signs[start : start + _CHUNK_ROWS] @ signs.T >= min_product, diagonal=start + 1)
        is_near &= is_near.cumsum(1) <= _MAX_NEIGHBOURS
        rows, right = is_near.nonzero(as_tuple=True)
        left = rows + start
        is_copy = _thumbnail_correlation(stats, left.tolist(), right.tolist()) >= MIN_THUMBNAIL_CORRELATION
        pairs += zip(left[is_copy].tolist(), right[is_copy].tolist(), strict=True)
    return pairs


def _thumbnail_correlation(stats: Sequence[ImageStats], left: Sequence[int], right: Sequence[int]) -> Tensor:
    """The Pearson correlation of the thumbnails of each pair, float ``[len(left)]``."""
    correlations = [torch.empty(0)]
    for start in range(0, len(left), _CHUNK_ROWS):
        a, b = (_standardize_thumbnails(stats, side[start : start + _CHUNK_ROWS]) for side in (left, right))
        correlations.append((a * b).sum(1))
    return torch.cat(correlations)


def _standardize_thumbnails(stats: Sequence[ImageStats], indices: Sequence[int]) -> Tensor:
    """The thumbnails of some images with mean 0 and norm 1, float ``[len(indices), 3 * 24 * 24]``."""
    values = torch.from_numpy(np.stack([stats[i].thumbnail for i in indices])).float()
    return torch.nn.functional.normalize(values - values.mean(1, keepdim=True))
