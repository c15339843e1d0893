"""What a folder, a zip or an upload lists, and how the bytes of each file are fetched: safely, whatever it is.

Names that lead outside, links, pipes, bombs and false promises of size end here. Knows nothing of what becomes
of a file: it decodes none, gives none a class and chooses no place for it.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from headswap.errors import InputError
from headswap.pixels import MAX_FILE_BYTES, PictureError, harmless

MAX_BYTES = 2 * 1024**3  # written to disk: what is unpacked or copied; a hard link costs nothing
EXPECTED = "one sub-folder per class, such as roses/a.jpg and tulips/b.jpg"

_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_EXPLAINED = (".heic", ".heif")  # not read, but the reader says what to do
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_CHUNK = 1024**2


class Meter:
    """Counts bytes while they are written, because what a header promises may be a lie."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bytes = 0

    def count(self, size: int) -> None:
        """Add so many bytes. Raises ``InputError`` when all together exceed ``MAX_BYTES``."""
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise InputError(
                f"{self._label} holds more than {MAX_BYTES / 1024**3:.3g} GB that would have to be unpacked "
                "or copied; make the pictures smaller (1000 pixels are plenty) or take fewer."
            )


Fetch = Callable[[Path, Meter], None]


@dataclass(frozen=True)
class Found:
    """A file that the source lists: its name, and how its bytes are put elsewhere or why they are not."""

    name: str
    parts: tuple[str, ...]
    fetch: Fetch | None
    problem: str = ""

    @classmethod
    def named(cls, name: str, fetch: Fetch | None, problem: str = "") -> Found:
        """The file under the name that a stranger gave it, with that name made harmless or a problem."""
        parts = tuple(harmless(part) for part in re.split(r"[/\\]", name) if part not in ("", "."))
        if re.match(r"[/\\]|[A-Za-z]:[/\\]", name) or ".." in parts:
            problem = "has a name that leads outside; zip the folder again"
        elif not problem and not _ends_like_a_picture(parts):
            zipped = name.lower().endswith(".zip")
            problem = "is a zip inside; unpack it first" if zipped else "is not a picture, by its name"
        return cls("/".join(parts), parts, fetch, problem)

    @property
    def litter(self) -> bool:
        """Hidden, or left there by an operating system: of no interest to anybody."""
        named = [part for part in self.parts if part != ".."]
        return not named or any(part.startswith(".") or part.lower() in _LITTER for part in named)


def _ends_like_a_picture(parts: Sequence[str]) -> bool:
    return bool(parts) and os.path.splitext(parts[-1])[1].lower() in _ENDINGS + _EXPLAINED


def walk(root: Path, name: str) -> Iterator[Found]:
    """The files below a folder, in no order; a folder that is a link or may not be read comes with a problem.

    ``name`` is what to call ``root`` itself.
    """
    unlisted: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unlisted.append):
        inside = os.path.relpath(folder, root)
        for sub in folders:
            if os.path.islink(os.path.join(folder, sub)):
                problem = "is a link to a folder, which is not followed"
                yield Found.named(os.path.join(inside, sub), None, problem)
        folders[:] = sorted(sub for sub in folders if not sub.startswith("."))
        for file in files:
            yield Found.named(os.path.join(inside, file), partial(link_or_copy, Path(folder, file)))
    for error in unlisted:
        closed = os.path.join(name, os.path.relpath(error.filename, root))
        yield Found.named(closed, None, "is a folder that may not be read; change its permissions")


def opened_zip(path: Path, label: str) -> zipfile.ZipFile:
    """The zip, its directory read. Raises ``InputError`` if it is none, is damaged or may not be read."""
    neither = f"{label} is neither a folder nor a zip; give one that holds {EXPECTED}."
    if not path.is_file():  # a named pipe would be waited for
        raise InputError(neither)
    try:
        return zipfile.ZipFile(path)
    except PermissionError as error:
        raise InputError(f"{label} may not be read; change its permissions.") from error
    # A damaged zip raises BadZipFile, but also struct.error, ValueError, NotImplementedError and others.
    except Exception as error:
        damaged = f"{label} is not a zip or is damaged; make or download it again."
        raise InputError(damaged if Path(label).suffix.lower() == ".zip" else neither) from error


def members(archive: zipfile.ZipFile, label: str) -> Iterator[Found]:
    """The files in a zip. Raises ``InputError`` if one of them is encrypted."""
    for member in archive.infolist():
        if member.filename.endswith(("/", "\\")):
            continue
        if member.flag_bits & 0x1:
            raise InputError(f"{label} is encrypted; unpack it and zip it again without a password.")
        problem = ""
        if stat.S_ISLNK(member.external_attr >> 16):
            problem = "is a link, which is not followed"
        # The other methods unpack without a bound on what one read gives.
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is packed by an unusual method; zip it again"
        yield Found.named(member.filename, partial(_unpack, archive, member), problem)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, meter: Meter) -> None:
    try:
        with archive.open(member) as stream:
            _copy(stream, target, meter)
    except (InputError, OSError):
        raise
    # A damaged member raises BadZipFile, but also zlib.error, struct.error, EOFError and others.
    except Exception as error:
        raise PictureError(member.filename, "is damaged inside the zip; zip it again") from error


def link_or_copy(path: Path, target: Path, meter: Meter) -> None:
    """A hard link where the disk allows, because it costs nothing and stays when the source goes.

    Raises ``PictureError`` for what is no regular file or too large, and ``OSError`` where the disk says no.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(path.name, "is not a regular file; give the picture itself")
    try:
        # A link to a link would be as short-lived as the first.
        os.link(os.path.realpath(path), target)
    except OSError:
        with open(path, "rb") as stream:
            _copy(stream, target, meter)


def _copy(stream: BinaryIO, target: Path, meter: Meter) -> None:
    size = 0
    with open(target, "wb") as kept:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                most = MAX_FILE_BYTES // 1024**2
                raise PictureError(target.name, f"is larger than {most} MB; save it smaller")
            meter.count(len(chunk))
            kept.write(chunk)
