"""Lists the files of a folder or upload, rejects unsafe or non-image ones, and links or copies their bytes.

Rejects names that lead outside, links, pipes, more bytes than the limits allow, and files that are no images by their
extension or first bytes. Knows nothing of what becomes of a file: decodes none, gives none a class and chooses no path
for it.
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
from typing import IO

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import MEGABYTE, get_limits
from headswap.common.text import sanitize
from headswap.data.formats import is_image_header

EXPECTED_LAYOUT = "one sub-folder per class, such as roses/a.jpg and tulips/b.jpg"
ARCHIVE_EXTENSIONS = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst")

TABLE_EXTENSIONS = (".csv", ".tsv")  # of files that may be label tables
SYMLINK_REASON = "is a link to a folder, which is not followed; give the folder that it leads to, or copy it here"

# fmt: off
# Extensions of image files that can be read: the only list of the project.
IMAGE_EXTENSIONS = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif",
        ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm",
    }
)
HEIC_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})  # need pi_heif besides Pillow
# Not readable, but let through, because decoding them says what to do.
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
SNIFF_BYTES = 1024  # from the start of a file, for its format


class ByteCounter:
    """Counts bytes while they are written, because the size in an archive's header may be false.

    Attributes:
        num_bytes: the bytes so far.
    """

    def __init__(self, max_bytes: int, error_message: str) -> None:
        """Allow up to ``max_bytes`` bytes; more raise ``InputError`` with ``error_message``."""
        self.num_bytes: int = 0
        self._max_bytes, self._error_message = max_bytes, error_message

    def add(self, size: int) -> None:
        """Add ``size`` bytes.

        Raises:
            InputError: if the sum exceeds the maximum.
        """
        self.num_bytes += size
        if self.num_bytes > self._max_bytes:
            raise InputError(self._error_message)


CopyFunction = Callable[[Path, ByteCounter], None]  # writes a file's bytes to a path, and counts them
StartReader = Callable[[], bytes]  # gives the first bytes of a file; none if it cannot be read


@dataclass(frozen=True)
class SourceFile:
    """A file that a source lists.

    Attributes:
        name: its path in the source, sanitized.
        parts: the folders and the file name in ``name``.
        copy_to: writes its bytes to a path; None if it has a problem.
        problem: why it cannot be used; "" if it may be.
        burst: the camera burst that it comes from; "" for none.
        path: where it lies, if it is in the user's own folder.
    """

    name: str
    parts: tuple[str, ...]
    copy_to: CopyFunction | None
    problem: str = ""
    burst: str = ""
    path: Path | None = None

    @classmethod
    def from_name(
        cls,
        name: str,
        copy_to: CopyFunction | None,
        problem: str = "",
        burst: str = "",
        read_start: StartReader = lambda: b"",
    ) -> SourceFile:
        """Make a file from an untrusted name: sanitize it, or note why it is rejected.

        Args:
            name: its path in the source, with slashes or backslashes.
            copy_to: writes its bytes to a path; None if it has a problem.
            problem: why it cannot be used.
            burst: the camera burst that it comes from.
            read_start: gives its first bytes; called if the name does not say that it is an image.
        """
        if is_unsafe_path(name):
            problem = "has a name that leads outside its folder; pack the folder again"
        return cls._from_parts(re.split(r"[/\\]", name), copy_to, problem, burst, read_start)

    @classmethod
    def from_path(cls, path: Path, parts: Sequence[str], problem: str = "") -> SourceFile:
        """Make a file of the user's own folder; the parts are names on the disk, which lead nowhere else."""
        copy_to = None if problem else partial(link_or_copy, path)
        return replace(cls._from_parts(parts, copy_to, problem, "", partial(read_file_start, path)), path=path)

    @classmethod
    def _from_parts(
        cls, raw_parts: Iterable[str], copy_to: CopyFunction | None, problem: str, burst: str, read_start: StartReader
    ) -> SourceFile:
        limits = get_limits()
        # NFC, because macOS writes an accented letter as two characters and a table as one.
        parts = tuple(sanitize(unicodedata.normalize("NFC", part)) for part in raw_parts if part not in ("", "."))
        if len(parts) > limits.depth or any(len(part) > limits.name for part in parts):
            problem = (
                problem or f"has a name of more than {limits.depth} folders or {limits.name} characters; rename it"
            )
            parts = tuple(part[: limits.name] for part in parts[: limits.depth])
        elif not problem and not _is_junk(parts):
            problem = _explain_rejection(parts, read_start)
        return cls("/".join(parts), parts, copy_to, problem, burst)

    def write_to(self, path: Path, counter: ByteCounter) -> None:
        """Write its bytes to a path, and count those that need room.

        Raises:
            ImageReadError: if it has a problem, is not regular or too large.
            InputError: if the counter exceeds its maximum.
            OSError: if it cannot be read or written.
        """
        if self.copy_to is None:
            raise ImageReadError(self.name, self.problem)
        self.copy_to(path, counter)

    @property
    def is_table_candidate(self) -> bool:
        """Whether it may be a label table, by its name."""
        return self.copy_to is not None and self.name.lower().endswith(TABLE_EXTENSIONS)

    @property
    def is_junk(self) -> bool:
        """Whether it is hidden or was left by an operating system, and is skipped without mention."""
        return _is_junk(self.parts)


def _is_junk(parts: Sequence[str]) -> bool:
    names = [part for part in parts if part != ".."]
    return not names or any(name.startswith(".") or name.lower() in _JUNK_NAMES for name in names)


def is_unsafe_path(name: str) -> bool:
    """Whether a name leads outside its folder: an absolute path, one of another drive, or one with ``..``."""
    return bool(_ABSOLUTE_PATH.match(name)) or ".." in re.split(r"[/\\]", name)


def _explain_rejection(parts: Sequence[str], read_start: StartReader) -> str:
    """Why a file is no image; "" where it may be one by its extension or its first bytes."""
    extension = os.path.splitext(parts[-1])[1].lower() if parts else ""
    if (
        extension in IMAGE_EXTENSIONS
        or extension in _UNSUPPORTED_IMAGE_EXTENSIONS
        or (extension not in TABLE_EXTENSIONS and is_image_header(read_start()))
    ):
        return ""
    if extension in ARCHIVE_EXTENSIONS:
        return "is an archive inside; unpack it first"
    return "is a spreadsheet; save it as CSV" if extension in _SPREADSHEET_EXTENSIONS else "is not a picture"


def read_file_start(path: Path) -> bytes:
    """Read the first bytes of a regular file; none if it is something else or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would block
            return b""
        with open(path, "rb") as stream:
            return stream.read(SNIFF_BYTES)
    except OSError:
        return b""


def walk_folder(root: Path, root_name: str) -> Iterator[SourceFile]:
    """Yield the files below a folder in no particular order.

    A folder that is a link or may not be read is yielded as a file with a problem.

    Args:
        root: the folder.
        root_name: what messages call it.
    """
    errors: list[OSError] = []
    for folder, subfolders, files in os.walk(root, onerror=errors.append):
        parts = Path(os.path.relpath(folder, root)).parts
        for name in subfolders:
            if os.path.islink(os.path.join(folder, name)):
                yield SourceFile.from_path(Path(folder, name), (*parts, name), SYMLINK_REASON)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            yield SourceFile.from_path(Path(folder, name), (*parts, name))
    for error in errors:
        parts = (root_name, *Path(os.path.relpath(error.filename, root)).parts)
        yield SourceFile.from_path(
            Path(error.filename), parts, "is a folder that may not be read; change its permissions"
        )


def list_image_files(folder: Path) -> tuple[list[Path], list[SourceFile]]:
    """List the image files of a folder as ``load_images`` reads them.

    Returns:
        The sorted paths of the images, and the files that are not used.
    """
    files = sorted((file for file in walk_folder(folder, folder.name) if not file.is_junk), key=lambda file: file.parts)
    return [file.path for file in files if file.path and not file.problem], [file for file in files if file.problem]


def link_or_copy(path: Path, target: Path, *counters: ByteCounter) -> None:
    """Make a hard link, which costs nothing and outlives the source; where the disk allows none, copy.

    A link's size is neither limited nor counted.

    Raises:
        ImageReadError: if the file is not regular, or is copied and too large.
        InputError: if a counter exceeds its maximum.
        OSError: if the disk refuses.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageReadError(path.name, "is not a regular file; give the picture itself")
    try:
        # Of the file itself, because a hard link to a symbolic one would break with it.
        os.link(os.path.realpath(path), target)
    except OSError:
        with open(path, "rb") as stream:
            copy_stream(stream, target, *counters)


def link_or_copy_counted(path: Path, target: Path, counter: ByteCounter) -> None:
    """Like ``link_or_copy`` for a file that was written for us: its bytes count before they are linked or copied."""
    counter.add(path.stat().st_size)
    link_or_copy(path, target)


def copy_stream(stream: IO[bytes], target: Path, *counters: ByteCounter) -> None:
    """Write a stream to a file, and add its bytes to all counters.

    Raises:
        ImageReadError: if it is larger than an image file may be.
        InputError: if a counter exceeds its maximum.
    """
    size, max_size = 0, get_limits().file_bytes
    with open(target, "wb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > max_size:
                raise ImageReadError(target.name, f"is larger than {max_size // MEGABYTE} MB; save it smaller")
            for counter in counters:
                counter.add(len(chunk))
            file.write(chunk)
