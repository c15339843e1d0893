"""What a folder or an upload lists, and how the bytes of each file are fetched: safely, whatever it is.

Names that lead outside, links, pipes and more bytes than may be written end here, and what is no picture: by its first
bytes, where its name does not say. Knows nothing of what becomes of a file: it decodes none, gives none a class and
chooses no place for it.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from headswap.common.errors import InputError, PictureError
from headswap.common.limits import MEGABYTE, limits
from headswap.common.text import harmless
from headswap.data.formats import looks_like_picture

EXPECTED = "one sub-folder per class, such as roses/a.jpg and tulips/b.jpg"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")

TABLES = (".csv", ".tsv")  # files that may say what the pictures show
LINKED = "is a link to a folder, which is not followed; give the folder that it leads to, or copy it here"

# fmt: off
# How the names of pictures end that can be read: the one list of the project.
ENDINGS = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif",
        ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
    }
)
HEIC = frozenset({".heic", ".heif", ".hif"})  # those of them that take more than Pillow
# Never read, but the reader says what to do.
_EXPLAINED = frozenset(
    {
        ".svg", ".svgz", ".pdf", ".eps", ".ps", ".ai", ".psd", ".psb", ".cr2", ".cr3", ".nef", ".arw", ".dng",
        ".orf", ".pef", ".raf", ".rw2",
    }
)
# fmt: on
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "icon\\r"})
_SPREADSHEETS = frozenset({".xls", ".xlsx", ".xlsm", ".ods", ".numbers"})
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_CHUNK = MEGABYTE
START = 1024  # bytes that tell what a file is


class Meter:
    """Counts bytes while they are written, because what a header promises may be a lie."""

    def __init__(self, most: int, refusal: str) -> None:
        """Up to ``most`` bytes; ``refusal`` says what happens beyond, and what to do."""
        self.bytes = 0
        self._most, self._refusal = most, refusal

    def count(self, size: int) -> None:
        """Add so many bytes. Raises ``InputError`` when all together are too many."""
        self.bytes += size
        if self.bytes > self._most:
            raise InputError(self._refusal)


Fetch = Callable[[Path, Meter], None]
Peek = Callable[[], bytes]  # the first bytes of a file, or none where it cannot be read


@dataclass(frozen=True)
class Found:
    """A file that the source lists: its name, and how its bytes are put elsewhere or why they are not."""

    name: str
    parts: tuple[str, ...]
    fetch: Fetch | None
    problem: str = ""
    burst: str = ""  # the series of a camera that it comes from
    path: Path | None = None  # where it lies, if it is a file of the person's own folder

    @classmethod
    def named(
        cls, name: str, fetch: Fetch | None, problem: str = "", burst: str = "", peek: Peek = lambda: b""
    ) -> Found:
        """The file under the name that a stranger gave it, with that name made harmless or a problem.

        ``peek`` is asked where the name does not say that it is a picture.
        """
        if leads_outside(name):
            problem = "has a name that leads outside its folder; pack the folder again"
        return cls._of(re.split(r"[/\\]", name), fetch, problem, burst, peek)

    @classmethod
    def at(cls, path: Path, parts: Sequence[str], problem: str = "") -> Found:
        """A file of the person's own folder, under the names that the disk gives it: they lead nowhere else."""
        fetch = None if problem else partial(link_or_copy, path)
        return replace(cls._of(parts, fetch, problem, "", partial(start_of, path)), path=path)

    @classmethod
    def _of(cls, names: Iterable[str], fetch: Fetch | None, problem: str, burst: str, peek: Peek) -> Found:
        most = limits()
        # Composed, because a Mac writes an accented letter as two characters and a table names it as one.
        parts = tuple(harmless(unicodedata.normalize("NFC", part)) for part in names if part not in ("", "."))
        if len(parts) > most.depth or any(len(part) > most.name for part in parts):
            problem = problem or f"has a name of more than {most.depth} folders or {most.name} characters; rename it"
            parts = tuple(part[: most.name] for part in parts[: most.depth])
        elif not problem and not _is_junk(parts):
            problem = _no_picture(parts, peek)
        return cls("/".join(parts), parts, fetch, problem, burst)

    @property
    def may_be_table(self) -> bool:
        """Whether it may say what pictures show, by its name."""
        return self.fetch is not None and self.name.lower().endswith(TABLES)

    @property
    def litter(self) -> bool:
        """Hidden, or left there by an operating system: of no interest to anybody."""
        return _is_junk(self.parts)


def _is_junk(parts: Sequence[str]) -> bool:
    named = [part for part in parts if part != ".."]
    return not named or any(part.startswith(".") or part.lower() in _LITTER for part in named)


def leads_outside(name: str) -> bool:
    """Whether a name is none of a file inside its own folder: absolute, of another drive, or upwards."""
    return bool(_OUTSIDE.match(name)) or ".." in re.split(r"[/\\]", name)


def _no_picture(parts: Sequence[str], peek: Peek) -> str:
    """Why a file is none; nothing where it may be one, by its name or by its first bytes."""
    ending = os.path.splitext(parts[-1])[1].lower() if parts else ""
    if ending in ENDINGS or ending in _EXPLAINED or (ending not in TABLES and looks_like_picture(peek())):
        return ""
    if ending in ARCHIVES:
        return "is an archive inside; unpack it first"
    return "is a spreadsheet; save it as CSV" if ending in _SPREADSHEETS else "is not a picture"


def start_of(path: Path) -> bytes:
    """The first bytes of a regular file; none where it is something else or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would be waited for
            return b""
        with open(path, "rb") as stream:
            return stream.read(START)
    except OSError:
        return b""


def walk(root: Path, name: str) -> Iterator[Found]:
    """The files below a folder, in no order; a folder that is a link or may not be read comes with a problem.

    ``name`` is what to call ``root`` itself.
    """
    unlisted: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unlisted.append):
        inside = Path(os.path.relpath(folder, root)).parts
        for sub in folders:
            if os.path.islink(os.path.join(folder, sub)):
                yield Found.at(Path(folder, sub), (*inside, sub), LINKED)
        folders[:] = sorted(sub for sub in folders if not sub.startswith("."))
        for file in files:
            yield Found.at(Path(folder, file), (*inside, file))
    for error in unlisted:
        closed = (name, *Path(os.path.relpath(error.filename, root)).parts)
        yield Found.at(Path(error.filename), closed, "is a folder that may not be read; change its permissions")


def pictures_in(folder: Path) -> tuple[list[Path], list[Found]]:
    """The files of a folder that ``load_images`` would read, in order, and those that are no pictures."""
    found = sorted((item for item in walk(folder, folder.name) if not item.litter), key=lambda item: item.parts)
    return [item.path for item in found if not item.problem], [item for item in found if item.problem]


def link_or_copy(path: Path, target: Path, meter: Meter) -> None:
    """A hard link where the disk allows, because it costs nothing and stays when the source goes.

    Raises ``PictureError`` for what is no regular file or too large, and ``OSError`` where the disk says no.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise PictureError(path.name, "is not a regular file; give the picture itself")
    try:
        # A link to a link would be as short-lived as the first.
        os.link(os.path.realpath(path), target)
    except OSError:
        with open(path, "rb") as stream:
            copy(stream, target, meter)


def adopt(path: Path, target: Path, meter: Meter) -> None:
    """The same for a file that is not the person's own but was written for us, so its bytes count."""
    meter.count(path.stat().st_size)
    link_or_copy(path, target, Meter(limits().file_bytes, f"{target.name} is too large."))


def copy(stream: BinaryIO, target: Path, *meters: Meter) -> None:
    """Write what a stream gives, counted by all meters. Raises ``PictureError`` if it is more than one picture has."""
    size, most = 0, limits().file_bytes
    with open(target, "wb") as kept:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise PictureError(target.name, f"is larger than {most // MEGABYTE} MB; save it smaller")
            for meter in meters:
                meter.count(len(chunk))
            kept.write(chunk)
