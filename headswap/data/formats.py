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

from headswap.common.errors import PictureError
from headswap.common.limits import MEGABYTE, limits
from headswap.data import bit_depth

ORIENTATION_TAG = 0x0112

_BRANDS: Mapping[bytes, str] = MappingProxyType(
    dict.fromkeys((b"avif", b"avis"), "AVIF")
    | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC")
)
_ANY_BRANDS = frozenset({b"mif1", b"msf1"})  # of the container, whatever is in it

_RAW = "is a camera's raw file, not a picture; export it as JPEG"
# What people take for pictures: how it begins, how its name ends, and what to say of it.
_NO_PICTURES = (
    (rb"%PDF-", {".pdf"}, "is a PDF document, not a picture; export its pictures as JPEG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", {".eps", ".ps", ".ai"}, "is a PostScript drawing, not a photograph; export it as PNG"),
    (rb"8BPS", {".psd", ".psb"}, "is a Photoshop document, not a picture; export it as JPEG"),
    (rb"(?i)<(!doctype )?html", {".html", ".htm"}, "is a web page, not a picture; download the picture itself"),
    (rb"<svg|<[?!].*<svg", {".svg", ".svgz"}, "is an SVG drawing, not a photograph; export it as PNG"),
    (
        rb"II\*\0.{4}CR|FUJIFILMCCD-RAW",
        {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".pef", ".raf", ".rw2"},
        _RAW,
    ),
)

_UNKNOWN = "is not a JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF, TIFF or PNM picture; export it as one of these"
NO_PICTURE = frozenset({_UNKNOWN, *(reason for _, _, reason in _NO_PICTURES)})  # why a file is in no format of ours

_FOLDER = "is a folder; give the pictures in it, one by one or as a list"

# libtiff's own bound; a scan that holds nothing takes 0.1 s of 100 megapixels.
_MOST_SCANS = 100
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
# Pillow's time grows with the square of a comment: 1 MB takes 0.2 s, 8 MB 17 s.
_MOST_BEFORE_A_FRAME = MEGABYTE
# Pillow unpacks a BMP's runs in Python, half a second for each megabyte.
_MOST_RUNS = 8 * MEGABYTE
# Numbers written as text, each of which takes eight bytes while it is read.
_MOST_TEXT = 16 * MEGABYTE
# Strips or tiles of a TIFF, for each of which Pillow keeps about 350 bytes.
_MOST_TILES = 2**20
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TILES, _TILE_SIDES = frozenset({273, 279, 324, 325}), (322, 323)


def opened_file(path: Path) -> BinaryIO:
    """Opened without waiting for a named pipe, and looked at before it is read, for a device never ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise PictureError(path.name, "does not exist; check the name") from error
    except PermissionError as error:
        if path.is_dir():  # which Windows says in this way
            raise PictureError(path.name, _FOLDER) from error
        raise PictureError(path.name, "may not be read; change its permissions") from error
    except (OSError, ValueError) as error:
        raise PictureError(path.name, "cannot be opened; check its name and permissions") from error
    status = os.fstat(descriptor)
    reason = _wrong_size(status.st_size)
    if stat.S_ISDIR(status.st_mode):
        reason = _FOLDER
    elif not stat.S_ISREG(status.st_mode):
        reason = "is not a regular file; give the picture itself"
    if reason:
        os.close(descriptor)
        raise PictureError(path.name, reason)
    return os.fdopen(descriptor, "rb")


def opened_bytes(content: bytes, name: str) -> BinaryIO:
    """The same of a file's content."""
    if reason := _wrong_size(len(content)):
        raise PictureError(name, reason)
    return io.BytesIO(content)


def _wrong_size(size: int) -> str:
    bounds = limits()
    if size == 0:
        return "is empty; save or download it again"
    return f"is larger than {bounds.file_megabytes} MB; save it smaller" if size > bounds.file_bytes else ""


def opened(stream: BinaryIO, name: str) -> ImageFile:
    """The picture with its header read and nothing decoded, by one of our readers, whatever its name says."""
    start = stream.read(1024)
    stream.seek(0)
    ending = Path(name).suffix.lower()
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    known = _reader(start)
    for beginning, endings, reason in _NO_PICTURES:
        # A raw file is a TIFF to look at, and what Pillow would find in it a thumbnail.
        open_to_doubt = known is None or (known is _tiff and reason is _RAW)
        if open_to_doubt and (ending in endings or re.match(beginning, text, re.DOTALL)):
            raise PictureError(name, reason)
    if known is None:
        raise PictureError(name, _UNKNOWN)
    return known(stream, name)


def looks_like_picture(start: bytes) -> bool:
    """Whether a file that begins so is in a format that ``opened`` reads; some tens of bytes are enough.

    A TIFF may still be a camera's raw file, and a file that only begins like a picture is refused by ``opened``.
    """
    return _reader(start) is not None


def _reader(start: bytes) -> Callable[[BinaryIO, str], ImageFile] | None:
    if start[4:8] == b"ftyp":
        return {"AVIF": _avif, "HEIC": _heic}.get(_brand(start))
    return next((reader for signature, reader in _READERS.items() if signature.match(start)), None)


def _brand(start: bytes) -> str:
    """AVIF, HEIC or neither: what the first brand says that names a way of compressing."""
    size = int.from_bytes(start[:4], "big")
    brands = [start[i : i + 4] for i in (8, *range(16, min(size, len(start)), 4))]
    says = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "")
    return says or ("HEIC" if _ANY_BRANDS.intersection(brands) else "")


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Leave EXIF alone: its tags may all point to the same megabytes, each of which Pillow would copy."""


def _jpeg(stream: BinaryIO, name: str) -> ImageFile:
    image = _Jpeg(stream)
    if "progressive" in image.info and _scans(stream.read()) > _MOST_SCANS:
        raise PictureError(name, f"is a JPEG of more than {_MOST_SCANS} scans; save it again")
    return image


def _scans(data: bytes) -> int:
    """How many scans follow one another in the rest of a JPEG, from the data of the first one on."""
    count, place = 1, 0
    while count <= _MOST_SCANS and (marker := _MARKER.search(data, place)):
        kind, place = data[marker.start() + 1], marker.end()
        if kind == 0xD9:
            break
        count += kind == 0xDA
        place += int.from_bytes(data[place : place + 2], "big")
    return count


def _gif(stream: BinaryIO, name: str) -> ImageFile:
    GifImageFile(io.BytesIO(stream.read(_MOST_BEFORE_A_FRAME)))
    stream.seek(0)
    return GifImageFile(stream)


def size_of_stream(stream: BinaryIO) -> int:
    """Bytes from the beginning of a file to its end, wherever in it one stands."""
    place = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(place)
    return size


class _Deep:
    """A picture whose colours may have 16 bits, of which Pillow keeps the upper 8: all of them count."""

    lower: ImageFile | None = None  # the same picture, which gives the lower 8

    def load(self) -> Image.core.PixelAccess | None:
        lower, self.lower = self.lower, None
        access = super().load()
        if lower is None:
            return access
        lower.load()
        bit_depth.join(self, lower)
        return super().load()


class _Png(_Deep, PngImageFile):
    """A PNG with all bits of its samples."""


class _Tiff(_Deep, TiffImageFile):
    """A TIFF with all bits of its samples."""


def _png(stream: BinaryIO, name: str) -> ImageFile:
    return _opened_deep(_Png, PngImageFile, stream)


def _opened_deep(kind: type[ImageFile], plain: type[ImageFile], stream: BinaryIO) -> ImageFile:
    image = kind(stream)
    if bit_depth.has_lower_bytes(image):
        stream.seek(0)
        image.lower = plain(stream)
        bit_depth.give_lower_bytes(image.lower)
    return image


def _tiff(stream: BinaryIO, name: str) -> ImageFile:
    size = size_of_stream(stream)
    entries = list(directory(stream))
    sides = [max((value for tag, _, _, value in entries if tag == side), default=1) for side in _TILE_SIDES]
    # Tags that overlap would be copied one by one, and a tile is unpacked whole, however small the picture.
    if (
        sum(_TIFF_BYTES.get(kind, 0) * count for _, kind, count, _ in entries) > size
        or max((count for tag, _, count, _ in entries if tag in _TILES), default=0) > _MOST_TILES
        or math.prod(sides) > limits().pixels
    ):
        raise ValueError("The directory promises more than a picture needs.")
    stream.seek(0)
    try:
        return _opened_deep(_Tiff, TiffImageFile, stream)
    except SyntaxError as error:  # Pillow's word for samples that none of its modes holds
        kind = "is a TIFF of a kind that is not read, such as colours as floats or more than four bands"
        raise PictureError(name, f"{kind}; save it as a PNG, which may have 16 bits") from error


def directory(stream: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
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
        width = min(_TIFF_BYTES.get(kind, 1), len(held)) if count == 1 else len(held)
        yield tag, kind, count, int.from_bytes(held[:width], "little" if order == "<" else "big")


class _Avif(AvifImageFile):
    """Without its EXIF, whose tags may all point to the same megabytes: what turns an AVIF is said beside it."""

    def _open(self) -> None:
        with _as_we_know_it():
            from PIL import _avif

            self._decoder = _avif.AvifDecoder(self.fp.read(), "auto", 1)
            told = self._decoder.get_info()
        if len(told) != 7:
            raise _OtherwiseError
        self._size, self.n_frames, self._mode, _, _, turned, _ = told
        self.info["exif"] = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, ORIENTATION_TAG, 3, 1, turned)
        self.seek(0)


def _avif(stream: BinaryIO, name: str) -> ImageFile:
    if not features.check("avif"):
        raise PictureError(name, "is an AVIF picture, which this Pillow does not read; export it as JPEG")
    try:
        return _Avif(stream)
    except _OtherwiseError as error:
        raise _newer(name, "an AVIF picture", "Pillow", "pillow>=11.3,<13") from error


def _bmp(stream: BinaryIO, name: str) -> ImageFile:
    image = BmpImageFile(stream)
    if image.tile[0].codec_name == "bmp_rle" and size_of_stream(stream) > _MOST_RUNS:
        raise PictureError(name, f"is a packed BMP of more than {_MOST_RUNS // MEGABYTE} MB; save it as PNG")
    return image


class _Pnm(ImageFile):
    """A portable bitmap, greymap or pixmap, whose samples Pillow would scale one by one in Python.

    A greymap of more than 8 bits has mode I and reaches to 65535, as Pillow's own; a pixmap has 8 bits.
    """

    format = "PPM"

    def _open(self) -> None:
        # Pillow skips a comment byte by byte.
        head = PpmImageFile(io.BytesIO(self.fp.read(_MOST_BEFORE_A_FRAME)))
        self._size, self._mode, [tile] = head.size, head.mode, head.tile
        self._begins, self._plain = tile.offset, tile.codec_name == "ppm_plain"
        self._brightest = tile.args[1] if isinstance(tile.args, tuple) and self.mode != "1" else 1
        self.tile = [tile] if tile.codec_name == "raw" else []

    def load(self) -> Image.core.PixelAccess | None:
        if self._im is None and not self.tile:
            self.fp.seek(self._begins)
            samples = self._written() if self._plain else self._packed()
            top, kind = (65535, np.int32) if self.mode == "I" else (255, np.uint8)
            levels = np.rint(np.arange(self._brightest + 1) * (top / self._brightest)).astype(kind)
            if self.mode == "1":
                levels = levels[::-1]  # where 1 is black
            bands = (3,) if self.mode == "RGB" else ()
            # A sample that is brighter than the brightest is an IndexError.
            picture = Image.fromarray(levels[samples].reshape(self.height, self.width, *bands))
            self._im = picture.convert(self.mode).im
        return super().load()

    @property
    def _count(self) -> int:
        return self.width * self.height * (3 if self.mode == "RGB" else 1)

    def _packed(self) -> np.ndarray:
        kind = np.dtype(">u2" if self._brightest > 255 else "u1")
        return np.frombuffer(self.fp.read(self._count * kind.itemsize), kind, self._count)

    def _written(self) -> np.ndarray:
        text = re.sub(rb"#[^\r\n]*", b" ", self.fp.read())
        if self.mode == "1":  # which needs nothing between one and the next
            return np.frombuffer(b"".join(text.split()), "u1", self._count) - np.uint8(ord("0"))
        if not re.fullmatch(rb"[0-9\s]*", text):
            raise ValueError("There is something else than numbers.")
        samples = np.fromstring(text, np.int64, self._count, sep=" ")
        if len(samples) < self._count:
            raise ValueError("There are fewer numbers than samples.")
        return samples


def _pnm(stream: BinaryIO, name: str) -> ImageFile:
    if stream.read(2) in (b"P1", b"P2", b"P3") and size_of_stream(stream) > _MOST_TEXT:
        raise PictureError(name, f"is text of more than {_MOST_TEXT // MEGABYTE} MB; save it as PNG")
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
        with _as_we_know_it():
            pictures = [picture for picture in load_file(self.fp.read(), *options) if picture is not None]
            self._primary = next(picture for picture in pictures if picture.primary)
            self._size, self._mode = self._primary.size_mode
        if not {"data", "stride"} <= set(dir(self._primary)):
            raise _OtherwiseError
        self.tile = []

    def load(self) -> Image.core.PixelAccess | None:
        if self._im is None:
            data = self._primary.data
            self._size, _ = self._primary.size_mode  # which the header may have had wrong
            self.load_prepare()
            self.frombytes(data, "raw", (self.mode, self._primary.stride))
        return super().load()


def _heic(stream: BinaryIO, name: str) -> ImageFile:
    try:
        return _Heic(stream)
    except ImportError as error:
        missing = "is a HEIC photograph, for which pi-heif is missing; pip install pi-heif, or export it as JPEG"
        raise PictureError(name, missing) from error
    except _OtherwiseError as error:
        raise _newer(name, "a HEIC photograph", "pi-heif", "pi-heif>=1.4,<1.5") from error


class _OtherwiseError(Exception):
    """A private part of a library is there in another way than this was written for."""


@contextmanager
def _as_we_know_it() -> Iterator[None]:
    """Tells a part that has changed from a file that is damaged, of which these errors are never raised."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise _OtherwiseError from error


def _newer(name: str, what: str, library: str, wanted: str) -> PictureError:
    has = version(library)
    reason = f'is {what}, which {library} {has} reads in another way than is known here; pip install "{wanted}"'
    return PictureError(name, f"{reason}, or export it as JPEG")


# Pillow's readers are called by hand and not through `Image.open`, which warns about large pictures (an error
# under `python -W error`, and silencing warnings is not thread-safe) and unpacks the many pictures of a
# phone's MPO file, whose first one is a plain JPEG.
_READERS: Mapping[re.Pattern[bytes], Callable[[BinaryIO, str], ImageFile]] = MappingProxyType(
    {
        re.compile(signature, re.DOTALL): reader
        for signature, reader in (
            (rb"\xff\xd8\xff", _jpeg),
            (rb"\x89PNG\r\n\x1a\n", _png),
            (rb"RIFF.{4}WEBP", lambda stream, name: WebPImageFile(stream)),
            (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", _bmp),
            (rb"GIF8[79]a", _gif),
            (rb"II\*\0|MM\0\*|II\+\0", _tiff),
            (rb"P[1-6](\s|#[^\r\n]*[\r\n])+[0-9]+(\s|#[^\r\n]*[\r\n])+[0-9]", _pnm),
        )
    }
)
