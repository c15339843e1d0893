"""Converts image samples of 16 bits, other integers or floats to uint8.

A 12-bit image, as of a microscope or a depth camera, mostly comes in a 16-bit file that does not say so, so the range
is inferred from the samples. ``predict.py``, ``index.html`` and the training script that are exported implement the
same rule again, because they must not import headswap. Knows nothing of files.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

BIT_DEPTH_MAXIMA = (255, 1023, 4095, 16383, 65535)  # the largest values of 8, 10, 12, 14 and 16 bits

_CHUNK_SAMPLES = 2**20  # scaled at a time, because float64 takes eight times the memory
_RAWMODE_16_BIT = re.compile(r"(RGBX?|RGBA);16[BLN]")  # Pillow's raw modes that keep the upper byte of each sample only
_RAWMODE_LA_16_BIT = "LA;16B"
_BOTH_BYTES_KEY = "both bytes"  # in an image's info: whether its bands are upper and lower bytes of grey and of alpha
_LOW_BYTE_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


NON_FINITE_REASON = "holds values that are no numbers, NaN or infinite; put numbers there"


class NonFinitePixelsError(ValueError):
    """Some samples are NaN or infinite."""


def scale_to_uint8(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale samples of any range to uint8.

    Black is 0 and white the smallest of 255, 1023, 4095, 16383 and 65535, and for floats also 1, that no sample
    exceeds. If there is none or a sample is negative, black is the smallest sample and white the largest.

    Args:
        samples: integers or floats of any shape, at least one.

    Returns:
        uint8 of the same shape, rounded to the nearest.

    Raises:
        NonFinitePixelsError: if a sample is NaN or infinite.
    """
    low, high = find_value_range(float(samples.min()), float(samples.max()), samples.dtype.kind == "f")
    flat, levels = samples.reshape(-1), np.empty(samples.size, np.uint8)
    for start in range(0, flat.size, _CHUNK_SAMPLES):
        levels[start : start + _CHUNK_SAMPLES] = _scale_range_to_uint8(flat[start : start + _CHUNK_SAMPLES], low, high)
    return levels.reshape(samples.shape)


def find_value_range(low: float, high: float, is_float: bool) -> tuple[float, float]:
    """The sample values that become black and white.

    Args:
        low: the smallest sample.
        high: the largest sample.
        is_float: whether the samples are floats, which may range from 0 to 1.

    Raises:
        NonFinitePixelsError: if either is NaN or infinite.
    """
    if not math.isfinite(high - low):
        raise NonFinitePixelsError("The picture holds values that are not numbers.")
    usual = (1, *BIT_DEPTH_MAXIMA) if is_float else BIT_DEPTH_MAXIMA
    return (0, next(top for top in usual if high <= top)) if low >= 0 and high <= usual[-1] else (low, high)


def _scale_range_to_uint8(samples: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    scale = 255 / max(high - low, 1e-6)
    levels: npt.NDArray[np.uint8] = np.floor(samples * np.float64(scale) + (0.5 - low * scale)).astype(np.uint8)
    return levels


# Colours of 16 bits, of which Pillow decodes the upper byte or the lower one


def has_16_bit_rawmode(image: ImageFile) -> bool:
    """Whether Pillow would drop the lower byte of each sample of an image that is opened and not decoded yet."""
    return bool(image.tile) and all(_low_byte_rawmode(_rawmode(tile.args)) for tile in image.tile)


def decode_low_bytes(image: ImageFile) -> None:
    """Change the raw modes of such an image, so that Pillow decodes the lower byte of each sample.

    Grey with alpha, for which Pillow has no such raw mode, is decoded as RGBA with both bytes of grey and of alpha.
    """
    image.info[_BOTH_BYTES_KEY] = _rawmode(image.tile[0].args) == _RAWMODE_LA_16_BIT
    image.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in image.tile
        for rawmode in [_low_byte_rawmode(_rawmode(tile.args))]
    ]


def _rawmode(args: object) -> object:
    return args[0] if isinstance(args, tuple) and args else args


def _low_byte_rawmode(rawmode: object) -> str:
    """The raw mode that decodes the lower bytes; "" for one that drops nothing."""
    if rawmode == _RAWMODE_LA_16_BIT:
        return "RGBA"
    if not (isinstance(rawmode, str) and _RAWMODE_16_BIT.fullmatch(rawmode)):
        return ""
    return rawmode[:-1] + _LOW_BYTE_ORDER[rawmode[-1]]


def merge_16_bit_colors(upper: Image.Image, lower: Image.Image) -> None:
    """Scale 16-bit samples to 8 bits, given the image twice: decoded to the upper and to the lower bytes.

    Args:
        upper: mode RGB or RGBA; changed in place. Its alpha ranges to 65535 in every file, so the upper byte stays.
        lower: the same image, decoded after ``decode_low_bytes``.
    """
    extremes = [(int(samples.min()), int(samples.max())) for _, samples, _ in _iter_row_chunks(upper, lower)]
    low, high = find_value_range(min(least for least, _ in extremes), max(most for _, most in extremes), is_float=False)
    for top, samples, alpha in _iter_row_chunks(upper, lower):
        bands = np.concatenate([_scale_range_to_uint8(samples, low, high), alpha], axis=-1)
        upper.paste(Image.fromarray(bands), (0, top))
    upper.info.pop("transparency", None)  # a colour in the range before scaling


def _iter_row_chunks(
    upper: Image.Image, lower: Image.Image
) -> Iterator[tuple[int, npt.NDArray[np.uint16], npt.NDArray[np.uint8]]]:
    """Top row, colour samples uint16 ``[rows, W, 3]`` and alpha uint8 ``[rows, W, 0 or 1]`` of some rows at a time."""
    height = max(1, _CHUNK_SAMPLES // upper.width)
    for top in range(0, upper.height, height):
        box = (0, top, upper.width, min(top + height, upper.height))
        high, low = np.asarray(upper.crop(box)), np.asarray(lower.crop(box))
        if lower.info[_BOTH_BYTES_KEY]:
            high, low = low[..., (0, 0, 0, 2)], low[..., (1, 1, 1, 3)]
        samples = high[..., :3].astype(np.uint16) << 8 | low[..., :3]
        yield top, samples, high[..., 3:]
