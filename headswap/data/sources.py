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

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import MEGABYTE, get_limits
from headswap.common.text import sanitize
from headswap.data.formats import is_image_header

EXPECTED_LAYOUT = "one sub-folder per class, such as roses/a.jpg and tulips/b.jpg"
ARCHIVE_EXTENSIONS = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")

TABLE_EXTENSIONS = (".csv", ".tsv")  # files that may say what the pictures show
SYMLINK_REASON = "is a link to a folder, which is not followed; give the folder that it leads to, or copy it here"

# fmt: off
# How the names of pictures end that can be read: the one list of the project.
IMAGE_EXTENSIONS = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif",
        ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
    }
)
HEIC_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})  # those of them that take more than Pillow
# Never read, but the reader says what to do.
_UNSUPPORTED_IMAGE_EXTENSIONS = frozenset(
    {
        ".svg", ".svgz", ".pdf", ".eps", ".ps", ".ai", ".psd", ".psb", ".cr2", ".cr3", ".nef", ".arw", ".dng",
        ".orf", ".pef", ".raf", ".rw2",
    }
)
# fmt: on
_JUNK_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "icon\\r"})
_SPREADSHEET_EXTENSIONS = frozenset({".xls", ".xlsx", ".xlsm", ".ods", ".numbers"})
_ABSOLUTE_PATH = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
_CHUNK_BYTES = MEGABYTE
SNIFF_BYTES = 1024  # bytes that tell what a file is


class ByteCounter:
    """Counts bytes while they are written, because what a header promises may be a lie."""

    def __init__(self, max_bytes: int, error_message: str) -> None:
        """Up to ``most`` bytes; ``refusal`` says what happens beyond, and what to do."""
        self.num_bytes = 0
        self._max_bytes, self._error_message = max_bytes, error_message

    def add(self, size: int) -> None:
        """Add so many bytes. Raises ``InputError`` when all together are too many."""
        self.num_bytes += size
        if self.num_bytes > self._max_bytes:
            raise InputError(self._error_message)


CopyFunction = Callable[[Path, ByteCounter], None]
StartReader = Callable[[], bytes]  # the first bytes of a file, or none where it cannot be read


@dataclass(frozen=True)
class SourceFile:
    """A file that the source lists: its name, and how its bytes are put elsewhere or why they are not."""

    name: str
    parts: tuple[str, ...]
    copy_to: CopyFunction | None
    problem: str = ""
    burst: str = ""  # the series of a camera that it comes from
    path: Path | None = None  # where it lies, if it is a file of the person's own folder

    @classmethod
    def from_name(
        cls,
        name: str,
        copy_to: CopyFunction | None,
        problem: str = "",
        burst: str = "",
        read_start: StartReader = lambda: b"",
    ) -> SourceFile:
        """The file under the name that a stranger gave it, with that name made harmless or a problem.

        ``peek`` is asked where the name does not say that it is a picture.
        """
        if is_unsafe_path(name):
            problem = "has a name that leads outside its folder; pack the folder again"
        return cls._from_parts(re.split(r"[/\\]", name), copy_to, problem, burst, read_start)

    @classmethod
    def from_path(cls, path: Path, parts: Sequence[str], problem: str = "") -> SourceFile:
        """A file of the person's own folder, under the names that the disk gives it: they lead nowhere else."""
        fetch = None if problem else partial(link_or_copy, path)
        return replace(cls._from_parts(parts, fetch, problem, "", partial(read_file_start, path)), path=path)

    @classmethod
    def _from_parts(
        cls, raw_parts: Iterable[str], copy_to: CopyFunction | None, problem: str, burst: str, read_start: StartReader
    ) -> SourceFile:
        most = get_limits()
        # Composed, because a Mac writes an accented letter as two characters and a table names it as one.
        parts = tuple(sanitize(unicodedata.normalize("NFC", part)) for part in raw_parts if part not in ("", "."))
        if len(parts) > most.depth or any(len(part) > most.name for part in parts):
            problem = problem or f"has a name of more than {most.depth} folders or {most.name} characters; rename it"
            parts = tuple(part[: most.name] for part in parts[: most.depth])
        elif not problem and not _is_junk(parts):
            problem = _explain_rejection(parts, read_start)
        return cls("/".join(parts), parts, copy_to, problem, burst)

    @property
    def is_table_candidate(self) -> bool:
        """Whether it may say what pictures show, by its name."""
        return self.copy_to is not None and self.name.lower().endswith(TABLE_EXTENSIONS)

    @property
    def is_junk(self) -> bool:
        """Hidden, or left there by an operating system: of no interest to anybody."""
        return _is_junk(self.parts)


def _is_junk(parts: Sequence[str]) -> bool:
    named = [part for part in parts if part != ".."]
    return not named or any(part.startswith(".") or part.lower() in _JUNK_NAMES for part in named)


def is_unsafe_path(name: str) -> bool:
    """Whether a name is none of a file inside its own folder: absolute, of another drive, or upwards."""
    return bool(_ABSOLUTE_PATH.match(name)) or ".." in re.split(r"[/\\]", name)


def _explain_rejection(parts: Sequence[str], read_start: StartReader) -> str:
    """Why a file is none; nothing where it may be one, by its name or by its first bytes."""
    ending = os.path.splitext(parts[-1])[1].lower() if parts else ""
    if (
        ending in IMAGE_EXTENSIONS
        or ending in _UNSUPPORTED_IMAGE_EXTENSIONS
        or (ending not in TABLE_EXTENSIONS and is_image_header(read_start()))
    ):
        return ""
    if ending in ARCHIVE_EXTENSIONS:
        return "is an archive inside; unpack it first"
    return "is a spreadsheet; save it as CSV" if ending in _SPREADSHEET_EXTENSIONS else "is not a picture"


def read_file_start(path: Path) -> bytes:
    """The first bytes of a regular file; none where it is something else or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would be waited for
            return b""
        with open(path, "rb") as stream:
            return stream.read(SNIFF_BYTES)
    except OSError:
        return b""


def walk_folder(root: Path, root_name: str) -> Iterator[SourceFile]:
    """The files below a folder, in no order; a folder that is a link or may not be read comes with a problem.

    ``name`` is what to call ``root`` itself.
    """
    unlisted: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unlisted.append):
        inside = Path(os.path.relpath(folder, root)).parts
        for sub in folders:
            if os.path.islink(os.path.join(folder, sub)):
                yield SourceFile.from_path(Path(folder, sub), (*inside, sub), SYMLINK_REASON)
        folders[:] = sorted(sub for sub in folders if not sub.startswith("."))
        for file in files:
            yield SourceFile.from_path(Path(folder, file), (*inside, file))
    for error in unlisted:
        closed = (root_name, *Path(os.path.relpath(error.filename, root)).parts)
        yield SourceFile.from_path(
            Path(error.filename), closed, "is a folder that may not be read; change its permissions"
        )


def list_image_files(folder: Path) -> tuple[list[Path], list[SourceFile]]:
    """The files of a folder that ``load_images`` would read, in order, and those that are no pictures."""
    found = sorted((item for item in walk_folder(folder, folder.name) if not item.is_junk), key=lambda item: item.parts)
    return [item.path for item in found if not item.problem], [item for item in found if item.problem]


def link_or_copy(path: Path, target: Path, counter: ByteCounter) -> None:
    """A hard link where the disk allows, because it costs nothing and stays when the source goes.

    Raises ``PictureError`` for what is no regular file or too large, and ``OSError`` where the disk says no.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageReadError(path.name, "is not a regular file; give the picture itself")
    try:
        # A link to a link would be as short-lived as the first.
        os.link(os.path.realpath(path), target)
    except OSError:
        with open(path, "rb") as stream:
            copy_stream(stream, target, counter)


def link_or_copy_counted(path: Path, target: Path, counter: ByteCounter) -> None:
    """The same for a file that is not the person's own but was written for us, so its bytes count."""
    counter.add(path.stat().st_size)
    link_or_copy(path, target, ByteCounter(get_limits().file_bytes, f"{target.name} is too large."))


def copy_stream(stream: BinaryIO, target: Path, *counters: ByteCounter) -> None:
    """Write what a stream gives, counted by all meters. Raises ``PictureError`` if it is more than one picture has."""
    size, most = 0, get_limits().file_bytes
    with open(target, "wb") as kept:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > most:
                raise ImageReadError(target.name, f"is larger than {most // MEGABYTE} MB; save it smaller")
            for meter in counters:
                meter.add(len(chunk))
            kept.write(chunk)
