"""One picture file becomes pixels: quickly, and safely whatever the file turns out to be.

Knows nothing of folders, classes or networks; how a network wants its pixels (crop, normalisation) is not its
business.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import torch
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torchvision.transforms.v2.functional import pil_to_tensor

from headswap.errors import InputError

MAX_FILE_BYTES = 64 * 1024**2
MAX_PIXELS = 100_000_000
MAX_ASPECT = 4

INTERPOLATIONS: Mapping[str, Image.Resampling] = MappingProxyType(
    {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
)

# Pillow's readers are called by hand and not through `Image.open`, which warns about large pictures (an error
# under `python -W error`, and silencing warnings is not thread-safe) and unpacks the many pictures of a
# phone's MPO file, whose first one is a plain JPEG.
_READERS: Mapping[bytes, type[ImageFile]] = MappingProxyType(
    {
        b"\xff\xd8\xff": JpegImageFile,
        b"\x89PNG\r\n\x1a\n": PngImageFile,
        b"RIFF": WebPImageFile,
        b"BM": BmpImageFile,
        b"GIF8": GifImageFile,
        b"II*\0": TiffImageFile,
        b"MM\0*": TiffImageFile,
        b"II+\0": TiffImageFile,
        b"MM\0+": TiffImageFile,
    }
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_HEIC_ENDINGS = frozenset({".heic", ".heif"})

# What EXIF calls orientation n, and what puts such a picture upright.
_UPRIGHT: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_ORIENTATION_TAG = 0x0112

# No less than this many times the size wanted remains when a JPEG is decoded smaller or a picture averaged.
_REDUCING_GAP = 2

# The brightest values of 8 to 16 bits: a camera's or microscope's 12 bits often come in a 16-bit file.
_BIT_DEPTHS = (255, 1023, 4095, 16383, 65535)


class PictureError(InputError):
    """One picture that cannot be used: ``name`` says which, ``reason`` why and what to do about it."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = harmless(name)
        self.reason = reason
        super().__init__(f"{self.name}: {reason}.")


def read_pixels(
    source: str | os.PathLike[str] | Image.Image, side: int = 256, interpolation: str = "bicubic"
) -> torch.Tensor:
    """The whole picture, upright and in colour, with its shorter side resized to exactly ``side`` pixels.

    The longer side follows the aspect ratio; beyond 4 times ``side`` its ends are cut off evenly. Transparent
    parts become white, greyscale of more than 8 bits is scaled to 8, of an animation the first frame counts.
    Large pictures are decoded at a fraction of their size where the format can and averaged down before the
    last resize, which for 12 megapixels is five times quicker than torchvision's ``Resize`` of the full
    picture. The pixels are the same as its own until a picture is four times ``side``; beyond, a drawn
    photograph lies 0.1 to 0.5 grey levels of 255 from it on average.

    Args:
        source: path of a JPEG, PNG, WebP, BMP, GIF or TIFF file of at most 64 MB and 100 megapixels, or a PIL
            image.
        side: length of the shorter side in pixels.
        interpolation: one of ``INTERPOLATIONS``.

    Returns:
        uint8 tensor ``[3, H, W]`` with ``min(H, W) == side``.

    Raises:
        PictureError: an ``InputError`` that says why the picture cannot be read and what to do.
        ValueError: for an unknown interpolation or a side below 1.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"There is no interpolation '{interpolation}', only {' and '.join(INTERPOLATIONS)}.")
    if side < 1:
        raise ValueError(f"The shorter side is at least one pixel long, not {side}.")
    resampling = INTERPOLATIONS[interpolation]
    name = "The picture" if isinstance(source, Image.Image) else Path(source).name
    try:
        if isinstance(source, Image.Image):
            # A copy, because a JPEG not yet decoded would be told to come smaller, and the caller's stays.
            return _resized(_bounded(source, name).copy(), side, resampling)
        _check_file(Path(source))
        with open(source, "rb") as stream:
            return _resized(_bounded(_opened(stream, name), name), side, resampling)
    except PictureError:
        raise
    # Pillow raises whatever its parsers happen to stumble over: OSError, ValueError, SyntaxError,
    # struct.error and more.
    except Exception as error:
        raise PictureError(name, "is damaged or cut short; save or download it again") from error


def harmless(text: str) -> str:
    """The text with control characters, direction marks and undecodable bytes written out: ``\\x1b``."""
    joiners = "\u200c\u200d"  # parts of words in many scripts
    return "".join(c if c.isprintable() or c in joiners else c.encode("unicode_escape").decode("ascii") for c in text)


def _check_file(path: Path) -> None:
    """Look before opening: to open a named pipe waits for ever, to read a device never ends."""
    try:
        status = os.stat(path)
        readable = os.access(path, os.R_OK)
    except FileNotFoundError as error:
        raise PictureError(path.name, "does not exist; check the name") from error
    except (OSError, ValueError) as error:
        raise PictureError(path.name, "cannot be opened; check its name and permissions") from error
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(path.name, "is not a regular file; give the picture itself")
    if not readable:
        raise PictureError(path.name, "may not be read; change its permissions")
    if status.st_size == 0:
        raise PictureError(path.name, "is empty; save or download it again")
    if status.st_size > MAX_FILE_BYTES:
        raise PictureError(path.name, f"is larger than {MAX_FILE_BYTES // 1024**2} MB; save it smaller")


def _opened(stream: BinaryIO, name: str) -> ImageFile:
    """The picture with its header read and nothing decoded."""
    start = stream.read(16)
    for signature, reader in _READERS.items():
        if start.startswith(signature):
            stream.seek(0)
            return reader(stream)
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS or Path(name).suffix.lower() in _HEIC_ENDINGS:
        raise PictureError(name, "is a HEIC photograph, which is not read; export it as JPEG")
    raise PictureError(name, "is not a JPEG, PNG, WebP, BMP, GIF or TIFF picture; export it as one of these")


def _bounded(image: Image.Image, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        size, most = f"{image.width} x {image.height}", MAX_PIXELS // 10**6
        raise PictureError(name, f"has {size} pixels, more than {most} million; save it smaller")
    return image


def _resized(image: Image.Image, side: int, resampling: Image.Resampling) -> torch.Tensor:
    width = image.width
    size, box = _frame(*image.size, side)
    drafted = image.draft(None, (_REDUCING_GAP * size[0], _REDUCING_GAP * size[1]))
    image.load()
    orientation = _orientation(image)
    if drafted is not None:
        shrink = drafted[1][2] / width
        box = tuple(edge * shrink for edge in box)
    image = _in_colour(image).resize(size, resampling, box=box, reducing_gap=_REDUCING_GAP)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    return pil_to_tensor(image)


def _frame(width: int, height: int, side: int) -> tuple[tuple[int, int], tuple[float, ...]]:
    """The size to resize to, and the box (left, top, right, bottom) of the picture that is resized."""
    short = min(width, height)
    kept_width, kept_height = min(width, MAX_ASPECT * short), min(height, MAX_ASPECT * short)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    size = (side * kept_width // short, side * kept_height // short)
    return size, (left, top, left + kept_width, top + kept_height)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; upright where its data are broken, which is no reason to refuse a picture."""
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1


def _in_colour(image: Image.Image) -> Image.Image:
    """The picture in mode RGB."""
    if image.mode.startswith(("I", "F")):
        image = _in_eight_bits(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Deep greyscale in mode L: its range is the smallest usual one that holds it, else its own extremes."""
    usual = (1, *_BIT_DEPTHS) if image.mode == "F" else _BIT_DEPTHS
    image = image.convert("F")
    image.info.pop("transparency", None)  # a grey level of the old range
    low, high = image.getextrema()
    if not math.isfinite(high - low):
        raise ValueError("The picture holds values that are not numbers.")
    if low >= 0 and high <= usual[-1]:
        low, high = 0, next(top for top in usual if high <= top)
    scale = 255 / max(high - low, 1e-6)
    # `convert` cuts off the fraction, so a half is added to round.
    return image.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
