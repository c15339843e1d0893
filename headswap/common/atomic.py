"""Writes files atomically: to a temporary file, fsync, then ``os.replace``. Knows nothing of what is in them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from headswap.common.errors import InputError
from headswap.common.text import sanitize

STALE_TEMP_SECONDS = 3600.0  # age above which no process is assumed to be writing a temporary file any more


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    The content is flushed to disk before the rename, so that a power cut leaves the old or the new file. After an
    error, an existing file at ``path`` stays as it was.

    Yields:
        The temporary file, in the same folder, open for reading and writing in binary mode.

    Raises:
        InputError: if the file cannot be written.
    """
    path = Path(path)
    if not path.name or "\0" in str(path):
        raise InputError(f"'{sanitize(str(path))}' is no name for a file. Choose another one.")
    temporary = path.with_name(f".{path.name[:40]}.{uuid4().hex[:12]}.partial")  # within the file system's name limit
    _remove_stale_temp_files(path)
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync_directory(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{sanitize(str(path))} cannot be written: {reason}. Choose another place.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` with ``atomic_write``."""
    with atomic_write(path) as file:
        file.write(content)


def _remove_stale_temp_files(path: Path) -> None:
    """Remove temporary files of ``path`` that a killed process left; younger ones may still be in use."""
    for leftover in path.parent.glob(f".{escape(path.name[:40])}.*.partial"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > STALE_TEMP_SECONDS:
                leftover.unlink()


def _fsync_directory(folder: Path) -> None:
    """Flush the renamed directory entry to disk, where the system can; Windows cannot open a directory."""
    if os.name == "posix":
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
