"""Detects an image file's format by its first bytes and opens it with the reader for that format, without decoding.

A file's name counts only for what to say of a format that is refused.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from PIL.ImageFile import ImageFile

from headswap.common.errors import ImageReadError
from headswap.common.limits import get_limits
from headswap.data import image_readers

_FTYP_BRANDS: Mapping[bytes, str] = MappingProxyType(
    dict.fromkeys((b"avif", b"avis"), "AVIF")
    | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC")
)
_CONTAINER_BRANDS = frozenset({b"mif1", b"msf1"})  # name the container, not the codec

_CAMERA_RAW_REASON = "is a camera's raw file, not a picture; export it as JPEG"
# Formats that are often mistaken for images: their first bytes, their extensions and the reason for refusing them.
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
REFUSED_FORMAT_REASONS = frozenset({_UNKNOWN_FORMAT_REASON, *(reason for _, _, reason in _REFUSED_FORMATS)})

_IS_FOLDER_REASON = "is a folder; give the pictures in it, one by one or as a list"


def open_regular_file(path: Path) -> BinaryIO:
    """Open an image file for reading.

    It is opened without blocking on a named pipe, and its kind and size are checked before it is read: a device never
    ends.

    Raises:
        ImageReadError: if it does not exist, may not be read, is no regular file, is empty or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ImageReadError(path.name, "does not exist; check the name") from error
    except PermissionError as error:
        if path.is_dir():  # Windows raises PermissionError for folders
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
    """A stream of an image file's content.

    Raises:
        ImageReadError: if it is empty or too large.
    """
    if reason := _explain_file_size(len(content)):
        raise ImageReadError(name, reason)
    return io.BytesIO(content)


def _explain_file_size(size: int) -> str:
    """Why a file of this size is refused, or ""."""
    limits = get_limits()
    if size == 0:
        return "is empty; save or download it again"
    return f"is larger than {limits.file_megabytes} MB; save it smaller" if size > limits.file_bytes else ""


def open_image(stream: BinaryIO, name: str) -> ImageFile:
    """Read an image's header with one of ``image_readers``; its pixels are decoded later, by ``load``.

    Args:
        stream: an image file at its beginning. It must stay open until the pixels are decoded.
        name: for error messages.

    Raises:
        ImageReadError: if the format is refused or unknown, or the header exceeds a reader's limits.
        Exception: whatever Pillow raises for a damaged header.
    """
    start = stream.read(1024)
    stream.seek(0)
    extension = Path(name).suffix.lower()
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    reader = _find_reader(start)
    for signature, extensions, reason in _REFUSED_FORMATS:
        # A raw file begins like a TIFF, and Pillow would find a thumbnail in it.
        may_be_refused = reader is None or (reader is image_readers.open_tiff and reason is _CAMERA_RAW_REASON)
        if may_be_refused and (extension in extensions or re.match(signature, text, re.DOTALL)):
            raise ImageReadError(name, reason)
    if reader is None:
        raise ImageReadError(name, _UNKNOWN_FORMAT_REASON)
    return reader(stream, name)


def is_image_header(start: bytes) -> bool:
    """Whether a file that begins with these bytes is in a format that ``open_image`` reads.

    Some tens of bytes are enough, except for a PNM with a comment before its size. A TIFF may still be a camera's raw
    file, and a damaged file is found only when it is opened.
    """
    return _find_reader(start) is not None


def _find_reader(start: bytes) -> image_readers.Reader | None:
    if start[4:8] == b"ftyp":
        return {"AVIF": image_readers.open_avif, "HEIC": image_readers.open_heic}.get(_read_codec(start))
    return next((reader for signature, reader in _READERS.items() if signature.match(start)), None)


def _read_codec(start: bytes) -> str:
    """The codec of an ISO base media file by the first brand in its header that names one: "AVIF", "HEIC" or ""."""
    size = int.from_bytes(start[:4], "big")
    brands = [start[i : i + 4] for i in (8, *range(16, min(size, len(start)), 4))]
    codec = next((_FTYP_BRANDS[brand] for brand in brands if brand in _FTYP_BRANDS), "")
    return codec or ("HEIC" if _CONTAINER_BRANDS.intersection(brands) else "")


_READERS: Mapping[re.Pattern[bytes], image_readers.Reader] = MappingProxyType(
    {
        re.compile(signature, re.DOTALL): reader
        for signature, reader in (
            (rb"\xff\xd8\xff", image_readers.open_jpeg),
            (rb"\x89PNG\r\n\x1a\n", image_readers.open_png),
            (rb"RIFF.{4}WEBP", image_readers.open_webp),
            (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", image_readers.open_bmp),
            (rb"GIF8[79]a", image_readers.open_gif),
            (rb"II\*\0|MM\0\*|II\+\0", image_readers.open_tiff),
            (rb"P[1-6](\s|#[^\r\n]*[\r\n])+[0-9]+(\s|#[^\r\n]*[\r\n])+[0-9]", image_readers.open_pnm),
        )
    }
)
