"""One picture file becomes pixels: quickly, and safely whatever the file turns out to be.

Knows nothing of folders, classes or networks; how a network wants its pixels (crop, normalisation) is not its
business.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.data import bit_depth
from headswap.data.formats import ORIENTATION_TAG, iter_tiff_entries, open_image, open_image_bytes, open_regular_file
from headswap.data.picture_inputs import ImageInput, convert_image_input, get_input_name

MAX_ASPECT_RATIO = 4

INTERPOLATIONS: Mapping[str, Image.Resampling] = MappingProxyType(
    {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
)

# What EXIF calls orientation n, and what puts such a picture upright.
_EXIF_TRANSPOSES: Mapping[int, Image.Transpose] = MappingProxyType(
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
_SWAPPING_ORIENTATIONS = range(5, 9)

# No less than this many times the size wanted remains when a JPEG is decoded smaller or a picture averaged.
_REDUCING_GAP = 2


def read_pixels(source: ImageInput, side: int = 256, interpolation: str = "bicubic") -> torch.Tensor:
    """The whole picture, upright and in colour, with its shorter side resized to exactly ``side`` pixels.

    The longer side follows the aspect ratio; beyond 4 times ``side`` its ends are cut off evenly. Transparent
    parts become white, samples of more than 8 bits are scaled to 8 (``depth.eight_bits``), of an animation the first
    frame counts.
    Large pictures are decoded at a fraction of their size where the format can and averaged down before the
    last resize, which for 12 megapixels is five times quicker than torchvision's ``Resize`` of the full
    picture. The pixels are the same as its own until a picture is four times ``side``; beyond, a drawn
    photograph lies 0.1 to 0.5 grey levels of 255 from it on average.

    Args:
        source: path of a JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF, TIFF or PNM file within ``limits()``, 64 MB and 100
            megapixels by default; or such a file's bytes or stream, a PIL image, an array or a tensor, as
            ``inputs.understood`` says.
        side: length of the shorter side in pixels.
        interpolation: one of ``INTERPOLATIONS``.

    Returns:
        uint8 tensor ``[3, H, W]`` with ``min(H, W) == side``.

    Raises:
        PictureError: an ``InputError`` that says why the picture cannot be read and what to do.
        TypeError: for what is no picture at all.
        ValueError: for an unknown interpolation or a side below 1.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"There is no interpolation '{interpolation}', only {' and '.join(INTERPOLATIONS)}.")
    if side < 1:
        raise ValueError(f"The shorter side is at least one pixel long, not {side}.")
    with _open_image_source(source) as image:
        # A copy, because a JPEG not yet decoded would be told to come smaller, and the caller's stays.
        return _decode_resized(image.copy() if image is source else image, side, INTERPOLATIONS[interpolation])


def read_image_size(source: ImageInput) -> tuple[int, int]:
    """The picture's width and height in pixels as it is shown, upright: read from its header, nothing decoded.

    Args:
        source: as for ``read_pixels``.

    Raises:
        PictureError: as ``read_pixels`` does, except for damage beyond the header.
    """
    with _open_image_source(source) as image:
        width, height = image.size
        # Pillow and libheif say a TIFF's and a HEIC's size upright.
        turned = image.format not in ("TIFF", "HEIF") and _read_orientation(image) in _SWAPPING_ORIENTATIONS
        return (height, width) if turned else (width, height)


def has_16_bit_colors(source: ImageInput) -> bool:
    """Whether its colours have 16 bits, of which other readers than ``read_pixels`` keep the upper 8.

    Raises:
        PictureError: as ``size_of`` does.
    """
    with _open_image_source(source) as image:
        return getattr(image, "low_byte_image", None) is not None


def encode_jpeg(pixels: torch.Tensor, quality: int = 80) -> bytes:
    """Pixels uint8 ``[3, H, W]`` as a JPEG file that holds nothing but the picture."""
    stream = io.BytesIO()
    to_pil_image(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@contextmanager
def _open_image_source(source: ImageInput) -> Iterator[Image.Image]:
    """The picture with its header read, and whatever goes wrong with it told as ``PictureError``."""
    name, given = get_input_name(source), convert_image_input(source)
    try:
        if isinstance(given, Image.Image):
            yield _check_pixel_count(given, name)
        else:
            with open_regular_file(given) if isinstance(given, Path) else open_image_bytes(given, name) as stream:
                yield _check_pixel_count(open_image(stream, name), name)
    except InputError:
        raise
    except bit_depth.NonFinitePixelsError as error:
        raise ImageReadError(name, bit_depth.NON_FINITE_REASON) from error
    except MemoryError as error:
        raise ImageReadError(name, "needs more memory than there is; save it smaller") from error
    # Pillow raises whatever its parsers happen to stumble over: OSError, ValueError, SyntaxError,
    # struct.error and more.
    except Exception as error:
        raise ImageReadError(name, "is damaged or cut short; save or download it again") from error


def _check_pixel_count(image: Image.Image, name: str) -> Image.Image:
    if min(image.size) < 1:
        raise ImageReadError(name, "has no pixels; save or download it again")
    if image.width * image.height > get_limits().pixels:
        size, most = f"{image.width} x {image.height}", get_limits().megapixels
        raise ImageReadError(name, f"has {size} pixels, more than {most} million; save it smaller")
    return image


def _decode_resized(image: Image.Image, side: int, resampling: Image.Resampling) -> torch.Tensor:
    width = image.width
    size, box = _resize_geometry(*image.size, side)
    drafted = image.draft(None, (_REDUCING_GAP * size[0], _REDUCING_GAP * size[1]))
    image.load()
    orientation = _read_orientation(image)
    if drafted is None:
        size, box = _resize_geometry(*image.size, side)  # a HEIC's header may have had it wrong
    else:
        shrink = drafted[1][2] / width
        box = tuple(edge * shrink for edge in box)
    image = _convert_to_rgb(image).resize(size, resampling, box=box, reducing_gap=_REDUCING_GAP)
    if orientation in _EXIF_TRANSPOSES:
        image = image.transpose(_EXIF_TRANSPOSES[orientation])
    return pil_to_tensor(image)


def _resize_geometry(width: int, height: int, side: int) -> tuple[tuple[int, int], tuple[float, ...]]:
    """The size to resize to, and the box (left, top, right, bottom) of the picture that is resized."""
    short = min(width, height)
    kept_width, kept_height = min(width, MAX_ASPECT_RATIO * short), min(height, MAX_ASPECT_RATIO * short)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    size = (side * kept_width // short, side * kept_height // short)
    return size, (left, top, left + kept_width, top + kept_height)


def _read_orientation(image: Image.Image) -> int:
    """EXIF's orientation; upright where its data are broken, which is no reason to refuse a picture."""
    try:
        entries = iter_tiff_entries(io.BytesIO(_read_exif(image)))
        return next((value for tag, _, _, value in entries if tag == ORIENTATION_TAG), 1)
    except Exception:
        return 1


def _read_exif(image: Image.Image) -> bytes:
    exif = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:
        exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    if exif is None and isinstance(image, PngImageFile):
        exif = _read_trailing_png_exif(image.fp)
    return (exif or b"").removeprefix(b"Exif\0\0")


def _read_trailing_png_exif(stream: BinaryIO) -> bytes:
    """A PNG's EXIF where it follows the pixels, which need not be decoded for it."""
    place = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, os.SEEK_CUR)
        return b""
    finally:
        stream.seek(place)


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(bit_depth.scale_to_uint8(np.asarray(image)))
    if image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode == "LAB":
        return _convert_lab_to_rgb(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _convert_lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # which not every Pillow has

    return ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
