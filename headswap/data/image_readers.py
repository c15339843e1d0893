"""Pillow readers, one function a format, hardened against headers that would exhaust memory or time.

Each ``open_*`` takes a stream at its beginning and a name for error messages, and reads the header only. Pillow's
classes are called by hand and not through ``Image.open``, which warns about large images (an error under
``python -W error``, and silencing warnings is not thread-safe) and unpacks the many images of a phone's MPO file, whose
first one is a plain JPEG. Knows nothing of files and of formats that are refused.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from headswap.common.errors import ImageReadError
from headswap.common.extras import MissingExtraError, needs_extra
from headswap.common.limits import MEGABYTE, get_limits
from headswap.data import bit_depth
from headswap.data.tiff_entries import ORIENTATION_TAG, TIFF_TYPE_BYTES, iter_tiff_entries

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

Reader: TypeAlias = Callable[[BinaryIO, str], ImageFile]

_MAX_JPEG_SCANS = 100  # libtiff's own limit; an empty scan takes 0.1 s of 100 megapixels
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_MAX_HEADER_BYTES = MEGABYTE  # Pillow's time is quadratic in a comment's length: 0.2 s for 1 MB, 17 s for 8 MB
_MAX_RLE_BYTES = 8 * MEGABYTE  # Pillow unpacks a BMP's run-length encoding in Python, half a second per megabyte
_MAX_TEXT_BYTES = 16 * MEGABYTE  # of a PNM whose samples are text; each takes eight bytes while it is parsed
_MAX_TILES = 2**20  # strips or tiles of a TIFF; Pillow takes about 350 bytes for each
_TILE_TAGS, _TILE_SIZE_TAGS = frozenset({273, 279, 324, 325}), (322, 323)


class _JpegWithoutExif(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Leave EXIF alone: its tags may all point to the same megabytes, and Pillow would copy them for each."""


def open_jpeg(stream: BinaryIO, name: str) -> ImageFile:
    """A JPEG; a progressive one has a limited number of scans."""
    image = _JpegWithoutExif(stream)
    if "progressive" in image.info and _count_scans(stream.read()) > _MAX_JPEG_SCANS:
        raise ImageReadError(name, f"is a JPEG of more than {_MAX_JPEG_SCANS} scans; save it again")
    return image


def _count_scans(data: bytes) -> int:
    """The number of scans in a JPEG, at most one more than allowed, given what follows its first scan header."""
    count, position = 1, 0
    while count <= _MAX_JPEG_SCANS and (marker := _JPEG_MARKER.search(data, position)):
        kind, position = data[marker.start() + 1], marker.end()
        if kind == 0xD9:
            break
        count += kind == 0xDA
        position += int.from_bytes(data[position : position + 2], "big")
    return count


def open_gif(stream: BinaryIO, name: str) -> ImageFile:
    """A GIF whose header is of limited length."""
    GifImageFile(io.BytesIO(stream.read(_MAX_HEADER_BYTES)))
    stream.seek(0)
    return GifImageFile(stream)


def open_webp(stream: BinaryIO, name: str) -> ImageFile:
    """A WebP."""
    return WebPImageFile(stream)


def open_bmp(stream: BinaryIO, name: str) -> ImageFile:
    """A BMP; one with run-length encoding has a limited size."""
    image = BmpImageFile(stream)
    if image.tile[0].codec_name == "bmp_rle" and _get_stream_size(stream) > _MAX_RLE_BYTES:
        raise ImageReadError(name, f"is a packed BMP of more than {_MAX_RLE_BYTES // MEGABYTE} MB; save it as PNG")
    return image


def _get_stream_size(stream: BinaryIO) -> int:
    """The stream's total size in bytes; its position stays."""
    position = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(position)
    return size


# PNG and TIFF, with all 16 bits of a sample


class _SixteenBitImage(ImageFile):
    """An image with 16 bits a colour sample, scaled to 8 by ``bit_depth``; Pillow alone would drop the lower byte."""

    low_byte_image: ImageFile | None = None  # the same image, decoded to the lower byte of each sample

    def load(self) -> PixelAccess | None:
        low_byte_image, self.low_byte_image = self.low_byte_image, None
        access = super().load()
        if low_byte_image is None:
            return access
        low_byte_image.load()
        bit_depth.merge_16_bit_colors(self, low_byte_image)
        return super().load()


class _SixteenBitPng(_SixteenBitImage, PngImageFile):
    """A PNG with all bits of its samples."""


class _SixteenBitTiff(_SixteenBitImage, TiffImageFile):
    """A TIFF with all bits of its samples."""


def open_png(stream: BinaryIO, name: str) -> ImageFile:
    """A PNG."""
    return _open_sixteen_bit(_SixteenBitPng, PngImageFile, stream)


def _open_sixteen_bit(
    image_class: type[_SixteenBitImage], low_byte_class: type[ImageFile], stream: BinaryIO
) -> ImageFile:
    image = image_class(stream)
    if bit_depth.has_16_bit_rawmode(image):
        stream.seek(0)
        image.low_byte_image = low_byte_class(stream)
        bit_depth.decode_low_bytes(image.low_byte_image)
    return image


def open_tiff(stream: BinaryIO, name: str) -> ImageFile:
    """A TIFF whose directory promises no more than an image needs."""
    size = _get_stream_size(stream)
    entries = list(iter_tiff_entries(stream))
    tile_size = [max((value for tag, _, _, value in entries if tag == side), default=1) for side in _TILE_SIZE_TAGS]
    # Overlapping tags would be copied one by one, and a tile is unpacked whole, however small the image.
    if (
        sum(TIFF_TYPE_BYTES.get(kind, 0) * count for _, kind, count, _ in entries) > size
        or max((count for tag, _, count, _ in entries if tag in _TILE_TAGS), default=0) > _MAX_TILES
        or math.prod(tile_size) > get_limits().pixels
    ):
        raise ValueError("The directory promises more than a picture needs.")
    stream.seek(0)
    try:
        return _open_sixteen_bit(_SixteenBitTiff, TiffImageFile, stream)
    except SyntaxError as error:  # what Pillow raises for samples that none of its modes holds
        kind = "is a TIFF of a kind that is not read, such as colours as floats or more than four bands"
        raise ImageReadError(name, f"{kind}; save it as a PNG, which may have 16 bits") from error


# PNM


class _Pnm(ImageFile):
    """A portable bitmap, greymap or pixmap, whose samples Pillow would scale one by one in Python.

    As with Pillow, a greymap of more than 8 bits has mode I and values up to 65535, and a pixmap has 8 bits.
    """

    format = "PPM"

    def _open(self) -> None:
        assert self.fp is not None
        # A limited part, because Pillow skips a comment byte by byte.
        header = PpmImageFile(io.BytesIO(self.fp.read(_MAX_HEADER_BYTES)))
        self._size, self._mode, [tile] = header.size, header.mode, header.tile
        self._data_offset, self._is_text = tile.offset, tile.codec_name == "ppm_plain"
        self._max_value = tile.args[1] if isinstance(tile.args, tuple) and self.mode != "1" else 1
        self.tile = [tile] if tile.codec_name == "raw" else []

    def load(self) -> PixelAccess | None:
        if self._im is None and not self.tile:
            self._im = self._decode().im
        return super().load()

    def _decode(self) -> Image.Image:
        assert self.fp is not None
        self.fp.seek(self._data_offset)
        content = self.fp.read() if self._is_text else self.fp.read(self._num_samples * self._sample_dtype.itemsize)
        samples = self._parse_text(content) if self._is_text else self._parse_binary(content)
        top, dtype = (65535, np.int32) if self.mode == "I" else (255, np.uint8)
        levels = np.rint(np.arange(self._max_value + 1) * (top / self._max_value)).astype(dtype)
        if self.mode == "1":
            levels = levels[::-1]  # in a bitmap 1 is black
        bands = (3,) if self.mode == "RGB" else ()
        # A sample above the header's maximum is an IndexError.
        return Image.fromarray(levels[samples].reshape(self.height, self.width, *bands)).convert(self.mode)

    @property
    def _num_samples(self) -> int:
        return self.width * self.height * (3 if self.mode == "RGB" else 1)

    @property
    def _sample_dtype(self) -> np.dtype[Any]:
        return np.dtype(">u2" if self._max_value > 255 else "u1")

    def _parse_binary(self, content: bytes) -> npt.NDArray[Any]:
        samples: npt.NDArray[Any] = np.frombuffer(content, self._sample_dtype, self._num_samples)
        return samples

    def _parse_text(self, content: bytes) -> npt.NDArray[Any]:
        text = re.sub(rb"#[^\r\n]*", b" ", content)
        if self.mode == "1":  # digits of a bitmap need no space between them
            digits: npt.NDArray[np.uint8] = np.frombuffer(b"".join(text.split()), np.uint8, self._num_samples)
            return np.subtract(digits, ord("0"), dtype=np.uint8)
        if not re.fullmatch(rb"[0-9\s]*", text):
            raise ValueError("There is something else than numbers.")
        samples: npt.NDArray[Any] = np.fromstring(text, np.int64, self._num_samples, sep=" ")
        if len(samples) < self._num_samples:
            raise ValueError("There are fewer numbers than samples.")
        return samples


def open_pnm(stream: BinaryIO, name: str) -> ImageFile:
    """A PBM, PGM or PPM; one whose samples are text has a limited size."""
    if stream.read(2) in (b"P1", b"P2", b"P3") and _get_stream_size(stream) > _MAX_TEXT_BYTES:
        raise ImageReadError(name, f"is text of more than {_MAX_TEXT_BYTES // MEGABYTE} MB; save it as PNG")
    stream.seek(0)
    return _Pnm(stream)


# AVIF and HEIC, by private parts of Pillow and pi-heif


class _Avif(AvifImageFile):
    """An AVIF without its EXIF, whose tags may all point to the same megabytes; its orientation is stored beside it."""

    def _open(self) -> None:
        assert self.fp is not None
        with _detect_library_change():
            from PIL import _avif

            self._decoder = _avif.AvifDecoder(self.fp.read(), "auto", 1)
            info: tuple[Any, ...] = self._decoder.get_info()
        if len(info) != 7:
            raise _LibraryChangedError
        self._size, self.n_frames, self._mode, _, _, orientation, _ = info
        self.info["exif"] = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, ORIENTATION_TAG, 3, 1, orientation)
        self.seek(0)


def open_avif(stream: BinaryIO, name: str) -> ImageFile:
    """An AVIF."""
    if not features.check("avif"):
        raise ImageReadError(name, "is an AVIF picture, which this Pillow does not read; export it as JPEG")
    try:
        return _Avif(stream)
    except _LibraryChangedError as error:
        raise _unsupported_version_error(name, "an AVIF picture", "Pillow", "pillow>=12,<13") from error


class _Heic(ImageFile):
    """A HEIC, turned upright by libheif.

    Not by pi-heif's own class: that one reads the metadata, too, where a damaged name ends the process and EXIF's tags
    may all point to the same megabytes.
    """

    format = "HEIF"

    def _open(self) -> None:
        with needs_extra("heic", "HEIC"):
            from _pi_heif import load_file

        assert self.fp is not None
        threads, to_8_bits, blue_first, dense, to_16_bits, decoder, unbounded = 1, True, False, True, False, "", False
        options = (threads, to_8_bits, blue_first, dense, to_16_bits, decoder, unbounded)
        with _detect_library_change():
            images = [image for image in load_file(self.fp.read(), *options) if image is not None]
            self._primary = next(image for image in images if image.primary)
            self._size, self._mode = self._primary.size_mode
        if not {"data", "stride"} <= set(dir(self._primary)):
            raise _LibraryChangedError
        self.tile = []

    def load(self) -> PixelAccess | None:
        if self._im is None:
            data = self._primary.data
            self._size, _ = self._primary.size_mode  # the header's may have been wrong
            self.load_prepare()
            self.frombytes(data, "raw", (self.mode, self._primary.stride))
        return super().load()


def open_heic(stream: BinaryIO, name: str) -> ImageFile:
    """A HEIC, for which the extra "heic" must be installed."""
    try:
        return _Heic(stream)
    except MissingExtraError as error:
        raise ImageReadError(name, f"is a HEIC photograph; HEIC needs {error.command}, or export it as JPEG") from error
    except _LibraryChangedError as error:
        raise _unsupported_version_error(name, "a HEIC photograph", "pi-heif", "pi-heif>=1.4,<1.5") from error


class _LibraryChangedError(Exception):
    """A private part of a library differs from what this module was written for."""


@contextmanager
def _detect_library_change() -> Iterator[None]:
    """Raise ``_LibraryChangedError`` for errors that a changed interface raises and a damaged file never does."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise _LibraryChangedError from error


def _unsupported_version_error(name: str, what: str, library: str, requirement: str) -> ImageReadError:
    installed = version(library)
    reason = (
        f'is {what}, which {library} {installed} reads in another way than is known here; pip install "{requirement}"'
    )
    return ImageReadError(name, f"{reason}, or export it as JPEG")
