"""Which format a picture's file is in, and the reader for it: by its bytes, never by its name.

What a header can promise to exhaust memory or time ends here. Nothing is decoded, and what is decoded later knows
nothing of files.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
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
from headswap.common.limits import MEGABYTE, get_limits
from headswap.data import bit_depth

ORIENTATION_TAG = 0x0112

_FTYP_BRANDS: Mapping[bytes, str] = MappingProxyType(
    dict.fromkeys((b"avif", b"avis"), "AVIF")
    | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC")
)
_CONTAINER_BRANDS = frozenset({b"mif1", b"msf1"})  # of the container, whatever is in it

_CAMERA_RAW_REASON = "is a camera's raw file, not a picture; export it as JPEG"
# What people take for pictures: how it begins, how its name ends, and what to say of it.
_REFUSED_FORMATS = (
    (rb"%PDF-", {".pdf"}, "is a PDF document, not a picture; export its pictures as JPEG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", {".eps", ".ps", ".ai"}, "is a PostScript drawing, not a photograph; export it as PNG"),
    (rb"8BPS", {".psd", ".psb"}, "is a Photoshop document, not a picture; export it as JPEG"),
    (rb"(?i)<(!doctype )?html", {".html", ".htm"}, "is a web page, not a picture; download the picture itself"),
    (rb"<svg|<[?!].*<svg", {".svg", ".svgz"}, "is an SVG drawing, not a photograph; export it as PNG"),
    (
        rb"II\*\0.{4}CR|FUJIFILMCCD-RAW",
        {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".pef", ".raf", ".rw2"},
        _CAMERA_RAW_REASON,
    ),
)

_UNKNOWN_FORMAT_REASON = (
    "is not a JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF, TIFF or PNM picture; export it as one of these"
)
REFUSED_FORMAT_REASONS = frozenset(
    {_UNKNOWN_FORMAT_REASON, *(reason for _, _, reason in _REFUSED_FORMATS)}
)  # why a file is in no format of ours

_IS_FOLDER_REASON = "is a folder; give the pictures in it, one by one or as a list"

# libtiff's own bound; a scan that holds nothing takes 0.1 s of 100 megapixels.
_MAX_JPEG_SCANS = 100
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
# Pillow's time grows with the square of a comment: 1 MB takes 0.2 s, 8 MB 17 s.
_MAX_HEADER_BYTES = MEGABYTE
# Pillow unpacks a BMP's runs in Python, half a second for each megabyte.
_MAX_RLE_BYTES = 8 * MEGABYTE
# Numbers written as text, each of which takes eight bytes while it is read.
_MAX_TEXT_BYTES = 16 * MEGABYTE
# Strips or tiles of a TIFF, for each of which Pillow keeps about 350 bytes.
_MAX_TILES = 2**20
_TIFF_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TILE_TAGS, _TILE_SIZE_TAGS = frozenset({273, 279, 324, 325}), (322, 323)


def open_regular_file(path: Path) -> BinaryIO:
    """Opened without waiting for a named pipe, and looked at before it is read, for a device never ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ImageReadError(path.name, "does not exist; check the name") from error
    except PermissionError as error:
        if path.is_dir():  # which Windows says in this way
            raise ImageReadError(path.name, _IS_FOLDER_REASON) from error
        raise ImageReadError(path.name, "may not be read; change its permissions") from error
    except (OSError, ValueError) as error:
        raise ImageReadError(path.name, "cannot be opened; check its name and permissions") from error
    status = os.fstat(descriptor)
    reason = _explain_file_size(status.st_size)
    if stat.S_ISDIR(status.st_mode):
        reason = _IS_FOLDER_REASON
    elif not stat.S_ISREG(status.st_mode):
        reason = "is not a regular file; give the picture itself"
    if reason:
        os.close(descriptor)
        raise ImageReadError(path.name, reason)
    return os.fdopen(descriptor, "rb")


def open_image_bytes(content: bytes, name: str) -> BinaryIO:
    """The same of a file's content."""
    if reason := _explain_file_size(len(content)):
        raise ImageReadError(name, reason)
    return io.BytesIO(content)


def _explain_file_size(size: int) -> str:
    bounds = get_limits()
    if size == 0:
        return "is empty; save or download it again"
    return f"is larger than {bounds.file_megabytes} MB; save it smaller" if size > bounds.file_bytes else ""


def open_image(stream: BinaryIO, name: str) -> ImageFile:
    """The picture with its header read and nothing decoded, by one of our readers, whatever its name says."""
    start = stream.read(1024)
    stream.seek(0)
    ending = Path(name).suffix.lower()
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    known = _find_reader(start)
    for beginning, endings, reason in _REFUSED_FORMATS:
        # A raw file is a TIFF to look at, and what Pillow would find in it a thumbnail.
        open_to_doubt = known is None or (known is _open_tiff and reason is _CAMERA_RAW_REASON)
        if open_to_doubt and (ending in endings or re.match(beginning, text, re.DOTALL)):
            raise ImageReadError(name, reason)
    if known is None:
        raise ImageReadError(name, _UNKNOWN_FORMAT_REASON)
    return known(stream, name)


def is_image_header(start: bytes) -> bool:
    """Whether a file that begins so is in a format that ``opened`` reads; some tens of bytes are enough.

    A TIFF may still be a camera's raw file, and a file that only begins like a picture is refused by ``opened``.
    """
    return _find_reader(start) is not None


def _find_reader(start: bytes) -> Callable[[BinaryIO, str], ImageFile] | None:
    if start[4:8] == b"ftyp":
        return {"AVIF": _open_avif, "HEIC": _open_heic}.get(_read_brand(start))
    return next((reader for signature, reader in _READERS.items() if signature.match(start)), None)


def _read_brand(start: bytes) -> str:
    """AVIF, HEIC or neither: what the first brand says that names a way of compressing."""
    size = int.from_bytes(start[:4], "big")
    brands = [start[i : i + 4] for i in (8, *range(16, min(size, len(start)), 4))]
    says = next((_FTYP_BRANDS[brand] for brand in brands if brand in _FTYP_BRANDS), "")
    return says or ("HEIC" if _CONTAINER_BRANDS.intersection(brands) else "")


class _JpegWithoutExif(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Leave EXIF alone: its tags may all point to the same megabytes, each of which Pillow would copy."""


def _open_jpeg(stream: BinaryIO, name: str) -> ImageFile:
    image = _JpegWithoutExif(stream)
    if "progressive" in image.info and _count_scans(stream.read()) > _MAX_JPEG_SCANS:
        raise ImageReadError(name, f"is a JPEG of more than {_MAX_JPEG_SCANS} scans; save it again")
    return image


def _count_scans(data: bytes) -> int:
    """How many scans follow one another in the rest of a JPEG, from the data of the first one on."""
    count, place = 1, 0
    while count <= _MAX_JPEG_SCANS and (marker := _JPEG_MARKER.search(data, place)):
        kind, place = data[marker.start() + 1], marker.end()
        if kind == 0xD9:
            break
        count += kind == 0xDA
        place += int.from_bytes(data[place : place + 2], "big")
    return count


def _open_gif(stream: BinaryIO, name: str) -> ImageFile:
    GifImageFile(io.BytesIO(stream.read(_MAX_HEADER_BYTES)))
    stream.seek(0)
    return GifImageFile(stream)


def get_stream_size(stream: BinaryIO) -> int:
    """Bytes from the beginning of a file to its end, wherever in it one stands."""
    place = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(place)
    return size


class _SixteenBitMixin:
    """A picture whose colours may have 16 bits, of which Pillow keeps the upper 8: all of them count."""

    low_byte_image: ImageFile | None = None  # the same picture, which gives the lower 8

    def load(self) -> Image.core.PixelAccess | None:
        lower, self.low_byte_image = self.low_byte_image, None
        access = super().load()
        if lower is None:
            return access
        lower.load()
        bit_depth.merge_16_bit_colors(self, lower)
        return super().load()


class _SixteenBitPng(_SixteenBitMixin, PngImageFile):
    """A PNG with all bits of its samples."""


class _SixteenBitTiff(_SixteenBitMixin, TiffImageFile):
    """A TIFF with all bits of its samples."""


def _open_png(stream: BinaryIO, name: str) -> ImageFile:
    return _open_sixteen_bit(_SixteenBitPng, PngImageFile, stream)


def _open_sixteen_bit(image_class: type[ImageFile], low_byte_class: type[ImageFile], stream: BinaryIO) -> ImageFile:
    image = image_class(stream)
    if bit_depth.has_16_bit_rawmode(image):
        stream.seek(0)
        image.low_byte_image = low_byte_class(stream)
        bit_depth.decode_low_bytes(image.low_byte_image)
    return image


def _open_tiff(stream: BinaryIO, name: str) -> ImageFile:
    size = get_stream_size(stream)
    entries = list(iter_tiff_entries(stream))
    sides = [max((value for tag, _, _, value in entries if tag == side), default=1) for side in _TILE_SIZE_TAGS]
    # Tags that overlap would be copied one by one, and a tile is unpacked whole, however small the picture.
    if (
        sum(_TIFF_TYPE_BYTES.get(kind, 0) * count for _, kind, count, _ in entries) > size
        or max((count for tag, _, count, _ in entries if tag in _TILE_TAGS), default=0) > _MAX_TILES
        or math.prod(sides) > get_limits().pixels
    ):
        raise ValueError("The directory promises more than a picture needs.")
    stream.seek(0)
    try:
        return _open_sixteen_bit(_SixteenBitTiff, TiffImageFile, stream)
    except SyntaxError as error:  # Pillow's word for samples that none of its modes holds
        kind = "is a TIFF of a kind that is not read, such as colours as floats or more than four bands"
        raise ImageReadError(name, f"{kind}; save it as a PNG, which may have 16 bits") from error


def iter_tiff_entries(stream: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value of each entry in the first directory of a TIFF or of EXIF's data.

    The value is where the values lie if one entry cannot hold them.
    """
    head = stream.read(4)
    order, big = {b"II": "<", b"MM": ">"}[head[:2]], head[2] == 43

    def take(form: str) -> tuple[int, ...]:
        return struct.unpack(order + form, stream.read(struct.calcsize(order + form)))

    stream.seek(*take("4xQ" if big else "I"))
    (many,) = take("Q" if big else "H")
    if many > 0xFFFF:
        raise ValueError("There are more entries than tags.")
    for _ in range(many):
        tag, kind, count, held = take("HHQ8s" if big else "HHI4s")
        width = min(_TIFF_TYPE_BYTES.get(kind, 1), len(held)) if count == 1 else len(held)
        yield tag, kind, count, int.from_bytes(held[:width], "little" if order == "<" else "big")


class _Avif(AvifImageFile):
    """Without its EXIF, whose tags may all point to the same megabytes: what turns an AVIF is said beside it."""

    def _open(self) -> None:
        with _detect_library_change():
            from PIL import _avif

            self._decoder = _avif.AvifDecoder(self.fp.read(), "auto", 1)
            told = self._decoder.get_info()
        if len(told) != 7:
            raise _LibraryChangedError
        self._size, self.n_frames, self._mode, _, _, turned, _ = told
        self.info["exif"] = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, ORIENTATION_TAG, 3, 1, turned)
        self.seek(0)


def _open_avif(stream: BinaryIO, name: str) -> ImageFile:
    if not features.check("avif"):
        raise ImageReadError(name, "is an AVIF picture, which this Pillow does not read; export it as JPEG")
    try:
        return _Avif(stream)
    except _LibraryChangedError as error:
        raise _unsupported_version_error(name, "an AVIF picture", "Pillow", "pillow>=11.3,<13") from error


def _open_bmp(stream: BinaryIO, name: str) -> ImageFile:
    image = BmpImageFile(stream)
    if image.tile[0].codec_name == "bmp_rle" and get_stream_size(stream) > _MAX_RLE_BYTES:
        raise ImageReadError(name, f"is a packed BMP of more than {_MAX_RLE_BYTES // MEGABYTE} MB; save it as PNG")
    return image


class _Pnm(ImageFile):
    """A portable bitmap, greymap or pixmap, whose samples Pillow would scale one by one in Python.

    A greymap of more than 8 bits has mode I and reaches to 65535, as Pillow's own; a pixmap has 8 bits.
    """

    format = "PPM"

    def _open(self) -> None:
        # Pillow skips a comment byte by byte.
        head = PpmImageFile(io.BytesIO(self.fp.read(_MAX_HEADER_BYTES)))
        self._size, self._mode, [tile] = head.size, head.mode, head.tile
        self._data_offset, self._is_text = tile.offset, tile.codec_name == "ppm_plain"
        self._max_value = tile.args[1] if isinstance(tile.args, tuple) and self.mode != "1" else 1
        self.tile = [tile] if tile.codec_name == "raw" else []

    def load(self) -> Image.core.PixelAccess | None:
        if self._im is None and not self.tile:
            self.fp.seek(self._data_offset)
            samples = self._read_text_samples() if self._is_text else self._read_binary_samples()
            top, kind = (65535, np.int32) if self.mode == "I" else (255, np.uint8)
            levels = np.rint(np.arange(self._max_value + 1) * (top / self._max_value)).astype(kind)
            if self.mode == "1":
                levels = levels[::-1]  # where 1 is black
            bands = (3,) if self.mode == "RGB" else ()
            # A sample that is brighter than the brightest is an IndexError.
            picture = Image.fromarray(levels[samples].reshape(self.height, self.width, *bands))
            self._im = picture.convert(self.mode).im
        return super().load()

    @property
    def _num_samples(self) -> int:
        return self.width * self.height * (3 if self.mode == "RGB" else 1)

    def _read_binary_samples(self) -> np.ndarray:
        kind = np.dtype(">u2" if self._max_value > 255 else "u1")
        return np.frombuffer(self.fp.read(self._num_samples * kind.itemsize), kind, self._num_samples)

    def _read_text_samples(self) -> np.ndarray:
        text = re.sub(rb"#[^\r\n]*", b" ", self.fp.read())
        if self.mode == "1":  # which needs nothing between one and the next
            return np.frombuffer(b"".join(text.split()), "u1", self._num_samples) - np.uint8(ord("0"))
        if not re.fullmatch(rb"[0-9\s]*", text):
            raise ValueError("There is something else than numbers.")
        samples = np.fromstring(text, np.int64, self._num_samples, sep=" ")
        if len(samples) < self._num_samples:
            raise ValueError("There are fewer numbers than samples.")
        return samples


def _open_pnm(stream: BinaryIO, name: str) -> ImageFile:
    if stream.read(2) in (b"P1", b"P2", b"P3") and get_stream_size(stream) > _MAX_TEXT_BYTES:
        raise ImageReadError(name, f"is text of more than {_MAX_TEXT_BYTES // MEGABYTE} MB; save it as PNG")
    stream.seek(0)
    return _Pnm(stream)


class _Heic(ImageFile):
    """A HEIC photograph, which libheif turns upright as the file says.

    Not pi-heif's own class: that one reads the metadata, too, where a damaged name ends the process and EXIF's tags
    may all point to the same megabytes.
    """

    format = "HEIF"

    def _open(self) -> None:
        from _pi_heif import load_file

        threads, to_8_bits, blue_first, dense, to_16_bits, decoder, unbounded = 1, True, False, True, False, "", False
        options = (threads, to_8_bits, blue_first, dense, to_16_bits, decoder, unbounded)
        with _detect_library_change():
            pictures = [picture for picture in load_file(self.fp.read(), *options) if picture is not None]
            self._primary = next(picture for picture in pictures if picture.primary)
            self._size, self._mode = self._primary.size_mode
        if not {"data", "stride"} <= set(dir(self._primary)):
            raise _LibraryChangedError
        self.tile = []

    def load(self) -> Image.core.PixelAccess | None:
        if self._im is None:
            data = self._primary.data
            self._size, _ = self._primary.size_mode  # which the header may have had wrong
            self.load_prepare()
            self.frombytes(data, "raw", (self.mode, self._primary.stride))
        return super().load()


def _open_heic(stream: BinaryIO, name: str) -> ImageFile:
    try:
        return _Heic(stream)
    except ImportError as error:
        missing = "is a HEIC photograph, for which pi-heif is missing; pip install pi-heif, or export it as JPEG"
        raise ImageReadError(name, missing) from error
    except _LibraryChangedError as error:
        raise _unsupported_version_error(name, "a HEIC photograph", "pi-heif", "pi-heif>=1.4,<1.5") from error


class _LibraryChangedError(Exception):
    """A private part of a library is there in another way than this was written for."""


@contextmanager
def _detect_library_change() -> Iterator[None]:
    """Tells a part that has changed from a file that is damaged, of which these errors are never raised."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise _LibraryChangedError from error


def _unsupported_version_error(name: str, what: str, library: str, requirement: str) -> ImageReadError:
    has = version(library)
    reason = f'is {what}, which {library} {has} reads in another way than is known here; pip install "{requirement}"'
    return ImageReadError(name, f"{reason}, or export it as JPEG")


# Pillow's readers are called by hand and not through `Image.open`, which warns about large pictures (an error
# under `python -W error`, and silencing warnings is not thread-safe) and unpacks the many pictures of a
# phone's MPO file, whose first one is a plain JPEG.
_READERS: Mapping[re.Pattern[bytes], Callable[[BinaryIO, str], ImageFile]] = MappingProxyType(
    {
        re.compile(signature, re.DOTALL): reader
        for signature, reader in (
            (rb"\xff\xd8\xff", _open_jpeg),
            (rb"\x89PNG\r\n\x1a\n", _open_png),
            (rb"RIFF.{4}WEBP", lambda stream, name: WebPImageFile(stream)),
            (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", _open_bmp),
            (rb"GIF8[79]a", _open_gif),
            (rb"II\*\0|MM\0\*|II\+\0", _open_tiff),
            (rb"P[1-6](\s|#[^\r\n]*[\r\n])+[0-9]+(\s|#[^\r\n]*[\r\n])+[0-9]", _open_pnm),
        )
    }
)
