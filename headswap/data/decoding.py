"""Decodes one image into a uint8 RGB tensor, upright and resized; also reads its size and encodes JPEG.

Safe for untrusted files. Knows nothing of folders, classes or networks, nor of a network's crop and normalization.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.data import bit_depth
from headswap.data.formats import open_image, open_image_bytes, open_regular_file
from headswap.data.picture_inputs import ImageInput, convert_image_input, get_input_name
from headswap.data.tiff_entries import ORIENTATION_TAG, iter_tiff_entries

MAX_ASPECT_RATIO = 4

INTERPOLATIONS: Mapping[str, Image.Resampling] = MappingProxyType(
    {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
)

# What turns an image of each EXIF orientation upright. Not PIL.ImageOps.exif_transpose, which parses all of the EXIF,
# and that may be hostile.
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

# A JPEG that is decoded at a fraction of its size, or an image that is box-averaged, keeps this many times the target.
_REDUCING_GAP = 2


def read_pixels(source: ImageInput, side: int = 256, interpolation: str = "bicubic") -> torch.Tensor:
    """Decode a whole image, upright and in RGB, with its shorter side resized to ``side`` pixels.

    The longer side follows the aspect ratio; beyond 4 times ``side`` it is cropped to its centre. Transparent parts
    become white, samples of more than 8 bits are scaled to 8 (``bit_depth.scale_to_uint8``), and of an animation the
    first frame is read.

    Large images are decoded at a fraction of their size where the format allows it and box-averaged before the last
    resize, which for 12 megapixels is five times faster than torchvision's ``Resize`` of the full image. The pixels
    equal torchvision's for images up to four times ``side``; beyond, a drawn photograph differs by 0.1 to 0.5 grey
    levels of 255 on average.

    Args:
        source: path of a JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF, TIFF or PNM file within ``get_limits()``, 64 MB and
            100 megapixels by default; or such a file's bytes or stream, a PIL image, an array or a tensor, as
            ``convert_image_input`` takes it.
        side: length of the shorter side in pixels.
        interpolation: one of ``INTERPOLATIONS``.

    Returns:
        uint8 tensor ``[3, H, W]`` with ``min(H, W) == side``.

    Raises:
        ImageReadError: an ``InputError`` that says why the image cannot be read and what to do.
        TypeError: if the source is of a type that is no image.
        ValueError: for an unknown interpolation or a side below 1.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"There is no interpolation '{interpolation}', only {' and '.join(INTERPOLATIONS)}.")
    if side < 1:
        raise ValueError(f"The shorter side is at least one pixel long, not {side}.")
    with _open_image_source(source) as image:
        # A copy, because draft() would change how a caller's JPEG that is not decoded yet is decoded.
        return _decode_resized(image.copy() if image is source else image, side, INTERPOLATIONS[interpolation])


def read_image_size(source: ImageInput) -> tuple[int, int]:
    """Read the width and height in pixels of an upright image from its header.

    Args:
        source: as for ``read_pixels``.

    Raises:
        ImageReadError: as ``read_pixels`` does, except for damage beyond the header.
        TypeError: if the source is of a type that is no image.
    """
    with _open_image_source(source) as image:
        width, height = image.size
        # Pillow and libheif give the upright size of a TIFF and a HEIC.
        is_swapped = image.format not in ("TIFF", "HEIF") and _read_orientation(image) in _SWAPPING_ORIENTATIONS
        return (height, width) if is_swapped else (width, height)


def has_16_bit_colors(source: ImageInput) -> bool:
    """Whether an image's colours have 16 bits a sample, of which readers other than ``read_pixels`` keep the upper 8.

    Args:
        source: as for ``read_pixels``.

    Raises:
        ImageReadError: as ``read_image_size`` does.
        TypeError: if the source is of a type that is no image.
    """
    with _open_image_source(source) as image:
        return getattr(image, "low_byte_image", None) is not None


def encode_jpeg(pixels: torch.Tensor, quality: int = 80) -> bytes:
    """Encode uint8 ``[3, H, W]`` as a JPEG file without metadata."""
    stream = io.BytesIO()
    to_pil_image(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@contextmanager
def _open_image_source(source: ImageInput) -> Iterator[Image.Image]:
    """Open an image and read its header; errors here and in the block become ``ImageReadError``."""
    name, converted = get_input_name(source), convert_image_input(source)
    try:
        if isinstance(converted, Image.Image):
            yield _check_pixel_count(converted, name)
        else:
            with (
                open_regular_file(converted) if isinstance(converted, Path) else open_image_bytes(converted, name)
            ) as stream:
                yield _check_pixel_count(open_image(stream, name), name)
    except InputError:
        raise
    except bit_depth.NonFinitePixelsError as error:
        raise ImageReadError(name, bit_depth.NON_FINITE_REASON) from error
    except MemoryError as error:
        raise ImageReadError(name, "needs more memory than there is; save it smaller") from error
    # For damaged files Pillow raises OSError, ValueError, SyntaxError, struct.error and more.
    except Exception as error:
        raise ImageReadError(name, "is damaged or cut short; save or download it again") from error


def _check_pixel_count(image: Image.Image, name: str) -> Image.Image:
    if min(image.size) < 1:
        raise ImageReadError(name, "has no pixels; save or download it again")
    if image.width * image.height > get_limits().pixels:
        size, max_megapixels = f"{image.width} x {image.height}", get_limits().megapixels
        raise ImageReadError(name, f"has {size} pixels, more than {max_megapixels} million; save it smaller")
    return image


def _decode_resized(image: Image.Image, side: int, resampling: Image.Resampling) -> torch.Tensor:
    """Decode an open image to uint8 ``[3, H, W]``, upright and resized."""
    width = image.width
    size, box = _resize_geometry(*image.size, side)
    drafted = image.draft(None, (_REDUCING_GAP * size[0], _REDUCING_GAP * size[1]))
    image.load()
    orientation = _read_orientation(image)
    if drafted is None:
        size, box = _resize_geometry(*image.size, side)  # a HEIC's header may be wrong
    else:
        scale = drafted[1][2] / width
        left, top, right, bottom = box
        box = (left * scale, top * scale, right * scale, bottom * scale)
    image = _convert_to_rgb(image).resize(size, resampling, box=box, reducing_gap=_REDUCING_GAP)
    if orientation in _EXIF_TRANSPOSES:
        image = image.transpose(_EXIF_TRANSPOSES[orientation])
    pixels: torch.Tensor = pil_to_tensor(image)
    return pixels


def _resize_geometry(width: int, height: int, side: int) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """The size (width, height) to resize to, and the box (left, top, right, bottom) of the image that is resized."""
    short = min(width, height)
    kept_width, kept_height = min(width, MAX_ASPECT_RATIO * short), min(height, MAX_ASPECT_RATIO * short)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    size = (side * kept_width // short, side * kept_height // short)
    return size, (left, top, left + kept_width, top + kept_height)


def _read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) if the EXIF data are damaged, which is no reason to refuse an image."""
    try:
        entries = iter_tiff_entries(io.BytesIO(_read_exif(image)))
        return next((value for tag, _, _, value in entries if tag == ORIENTATION_TAG), 1)
    except Exception:
        return 1


def _read_exif(image: Image.Image) -> bytes:
    """The EXIF data of an open image, empty if there are none."""
    exif: bytes | None = image.info.get("exif")
    if exif is None and "Raw profile type exif" in image.info:
        exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    if exif is None and isinstance(image, PngImageFile) and image.fp is not None:
        exif = _read_trailing_png_exif(image.fp)
    return (exif or b"").removeprefix(b"Exif\0\0")


def _read_trailing_png_exif(stream: IO[bytes]) -> bytes:
    """The content of a PNG's eXIf chunk, which Pillow misses before decoding if it follows the pixels."""
    position = stream.tell()
    try:
        stream.seek(8)
        while len(header := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, os.SEEK_CUR)
        return b""
    finally:
        stream.seek(position)


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB, with transparent parts on white."""
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
    from PIL import ImageCms  # optional in a build of Pillow

    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert converted is not None  # it would be with inPlace=True
    return converted
