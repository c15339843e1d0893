"""A file that is there whole or not at all, whenever the program may be killed. Knows nothing of what is in it."""

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

STALE_TEMP_SECONDS = 3600.0  # seconds after which nobody writes a file any more


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file beside ``path``, which takes its place when the block ends well; until then the old one stands.

    Its bytes are on the disc before its name changes, so that not even a power cut leaves half of it.

    Raises:
        InputError: if it cannot be written there.
    """
    path = Path(path)
    if not path.name or "\0" in str(path):
        raise InputError(f"'{sanitize(str(path))}' is no name for a file. Choose another one.")
    beside = path.with_name(f".{path.name[:40]}.{uuid4().hex[:12]}.partial")  # no longer than a name may be
    _remove_stale_temp_files(path)
    try:
        with beside.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _fsync_directory(path.parent)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{sanitize(str(path))} cannot be written: {why}. Choose another place.") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def atomic_write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write these bytes, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def _remove_stale_temp_files(path: Path) -> None:
    """Remove what a writing of this file left that was killed; a younger one may still be going on."""
    for left in path.parent.glob(f".{escape(path.name[:40])}.*.partial"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_TEMP_SECONDS:
                left.unlink()


def _fsync_directory(folder: Path) -> None:
    """Let the new name reach the disc as well, where it can be asked to: the file is there already. Windows does it by
    itself and opens no folder."""
    if os.name == "posix":
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
