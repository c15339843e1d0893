"""Pictures of more than 8 bits a sample, as microscopes, scanners and depth cameras give them, become 8 bits: one rule.

A 12-bit picture mostly comes in a 16-bit file that does not say so, so the range is guessed from the samples. The kit's
``predict.py`` and ``index.html`` and the ejected script say the same rule in their own words. Knows nothing of files.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

# The brightest values of 8 to 16 bits: a camera's or microscope's 12 bits often come in a 16-bit file.
BIT_DEPTH_MAXIMA = (255, 1023, 4095, 16383, 65535)

_CHUNK_SAMPLES = 2**20  # samples at a time, because they are eight times as large while they are scaled
_RAWMODE_16_BIT = re.compile(
    r"(RGBX?|RGBA);16[BLN]"
)  # of Pillow's raw modes, those that keep the upper byte of each sample
_RAWMODE_LA_16_BIT = "LA;16B"
_BOTH_BYTES_KEY = "both bytes"  # said in an image's info
_LOW_BYTE_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


NON_FINITE_REASON = "holds values that are no numbers, NaN or infinite; put numbers there"


class NonFinitePixelsError(ValueError):
    """Some samples are NaN or infinite."""


def scale_to_uint8(samples: np.ndarray) -> np.ndarray:
    """Samples of any range as uint8.

    Black is zero and white the smallest usual maximum that holds all samples: 255, 1023, 4095, 16383 or 65535, and 1
    for floats. Where no usual range holds them (negative ones, larger ones) it is from their least to their largest.

    Args:
        samples: integers or floats of any shape, at least one.

    Returns:
        uint8 of the same shape, rounded to the nearest.

    Raises:
        NotFinite: if one is NaN or infinite.
    """
    low, high = find_value_range(float(samples.min()), float(samples.max()), samples.dtype.kind == "f")
    flat, levels = samples.reshape(-1), np.empty(samples.size, np.uint8)
    for start in range(0, flat.size, _CHUNK_SAMPLES):
        levels[start : start + _CHUNK_SAMPLES] = _scale_range_to_uint8(flat[start : start + _CHUNK_SAMPLES], low, high)
    return levels.reshape(samples.shape)


def find_value_range(low: float, high: float, is_float: bool) -> tuple[float, float]:
    """What becomes black and white, of samples that reach from ``low`` to ``high``; ``fractions`` of floats."""
    if not math.isfinite(high - low):
        raise NonFinitePixelsError("The picture holds values that are not numbers.")
    usual = (1, *BIT_DEPTH_MAXIMA) if is_float else BIT_DEPTH_MAXIMA
    return (0, next(top for top in usual if high <= top)) if low >= 0 and high <= usual[-1] else (low, high)


def _scale_range_to_uint8(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 255 / max(high - low, 1e-6)
    return np.floor(samples * np.float64(scale) + (0.5 - low * scale)).astype(np.uint8)


# Colours of 16 bits, of which Pillow keeps the upper 8


def has_16_bit_rawmode(image: ImageFile) -> bool:
    """Whether the samples of a picture that is opened and not decoded yet have 16 bits that Pillow would cut to 8."""
    return bool(image.tile) and all(_low_byte_rawmode(_rawmode(tile.args)) for tile in image.tile)


def decode_low_bytes(image: ImageFile) -> None:
    """Let such a picture be decoded to the lower byte of each sample, where Pillow would give the upper one.

    Grey with transparency, which Pillow opens in mode RGBA and has no such raw mode for, is decoded to both bytes of
    both.
    """
    image.info[_BOTH_BYTES_KEY] = _rawmode(image.tile[0].args) == _RAWMODE_LA_16_BIT
    image.tile = [
        tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
        for tile in image.tile
        for other in [_low_byte_rawmode(_rawmode(tile.args))]
    ]


def _rawmode(args: object) -> object:
    return args[0] if isinstance(args, tuple) and args else args


def _low_byte_rawmode(rawmode: object) -> str:
    """The raw mode that gives the lower bytes; nothing for one that cuts nothing off."""
    if rawmode == _RAWMODE_LA_16_BIT:
        return "RGBA"
    sixteen = isinstance(rawmode, str) and _RAWMODE_16_BIT.fullmatch(rawmode)
    return rawmode[:-1] + _LOW_BYTE_ORDER[rawmode[-1]] if sixteen else ""


def merge_16_bit_colors(upper: Image.Image, lower: Image.Image) -> None:
    """Write the 8 bits that all 16 of each sample come to into the picture that has the upper ones.

    Args:
        upper: mode RGB or RGBA; changed in place. An alpha is a share of 65535, so its upper byte stays.
        lower: the same, decoded after ``give_lower_bytes``.
    """
    extremes = [(int(samples.min()), int(samples.max())) for _, samples, _ in _iter_row_chunks(upper, lower)]
    low, high = find_value_range(min(least for least, _ in extremes), max(most for _, most in extremes), is_float=False)
    for top, samples, alpha in _iter_row_chunks(upper, lower):
        bands = np.concatenate([_scale_range_to_uint8(samples, low, high), alpha], axis=-1)
        upper.paste(Image.fromarray(bands), (0, top))
    upper.info.pop("transparency", None)  # a colour of the old range


def _iter_row_chunks(upper: Image.Image, lower: Image.Image) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Some rows at a time: their top, the samples of their colours uint16 ``[rows, W, bands]``, and the alpha or
    nothing."""
    height = max(1, _CHUNK_SAMPLES // upper.width)
    for top in range(0, upper.height, height):
        box = (0, top, upper.width, min(top + height, upper.height))
        high, low = np.asarray(upper.crop(box)), np.asarray(lower.crop(box))
        if lower.info[_BOTH_BYTES_KEY]:
            high, low = low[..., (0, 0, 0, 2)], low[..., (1, 1, 1, 3)]
        samples = high[..., :3].astype(np.uint16) << 8 | low[..., :3]
        yield top, samples, high[..., 3:]
