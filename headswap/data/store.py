"""The files of a data set on disc: a private folder, removed with its last user, and decoded pixels within a budget."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch

from headswap.common import system_memory
from headswap.common.errors import InputError
from headswap.data.decoding import read_pixels

STORE_BYTES = 512 * 1024**2


DEFAULT_SIDE = 256


DEFAULT_INTERPOLATION = "bicubic"


_SAFE_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


class ImageStore:
    """The kept files of one loading, removed when nobody refers to it, and what is decoded of them.

    Copied and pickled it stays the very same in its process; in another one, such as a ``DataLoader``'s worker, it is
    lent: it reads the same files and never removes them.
    """

    def __init__(self, max_decoded_bytes: int, borrowed_folder: Path | None = None) -> None:
        """A new store that keeps so many bytes decoded; or one that is ``lent`` the folder of another process."""
        self._is_borrowed = borrowed_folder is not None
        self.folder = borrowed_folder or Path(
            tempfile.mkdtemp(prefix="headswap-")
        )  # made for its owner alone: mode 0o700
        self.bytes_written = 0  # bytes that were written for it
        self._file_numbers = count()
        # Less where little is free; and the more others have decoded already, the less is left for this one.
        self._max_decoded_bytes = min(max_decoded_bytes, system_memory.get_available_memory() // 8)
        self._lock = threading.Lock()
        self._decoded_for = (DEFAULT_SIDE, DEFAULT_INTERPOLATION)
        self._decoded: dict[Path, torch.Tensor] = {}
        self._decoded_bytes = 0
        self._finalizer = weakref.finalize(
            self, _remove_folder, self.folder, NO_OWNER if self._is_borrowed else os.getpid()
        )
        if not self._is_borrowed:
            _open_stores[self.folder] = self

    def __reduce__(self) -> tuple[Callable[..., ImageStore], tuple[Path, int]]:
        return _rebuild_store, (self.folder, self._max_decoded_bytes)

    def allocate_path(self, name: str) -> Path:
        """Where a file of this name may lie: under a number, because a given name is never trusted as a path."""
        if self._is_borrowed:
            raise ValueError("These images came from another process, so nothing can be added to them here.")
        ending = os.path.splitext(name)[1].lower()
        return self.folder / f"{next(self._file_numbers):05d}{ending if _SAFE_SUFFIX.fullmatch(ending) else ''}"

    def pixels(self, path: Path, side: int, interpolation: str) -> torch.Tensor:
        """What ``read_pixels`` gives for this file, from memory where possible; ``ValueError`` after ``close()``."""
        asked = (side, interpolation)
        with self._lock:
            if not self._finalizer.alive:
                raise ValueError("These images have been closed; load them again.")
            if self._decoded_for == asked and path in self._decoded:
                return self._decoded[path]
        # Outside the lock, so that threads decode side by side; of one image decoded twice, one is dropped.
        try:
            pixels = read_pixels(path, side, interpolation)
        except InputError:
            if not self.folder.is_dir():
                raise ValueError("These images have been closed; load them again.") from None
            raise
        with self._lock:
            self._cache_decoded(asked, path, pixels)
        return pixels

    def _cache_decoded(self, decoded_for: tuple[int, str], path: Path, pixels: torch.Tensor) -> None:
        if self._decoded_for != decoded_for:
            self._decoded_for, self._decoded, self._decoded_bytes = decoded_for, {}, 0
        # A full store keeps what it has: epochs go round and round, where dropping the oldest always misses.
        if (
            path not in self._decoded
            and self._decoded_bytes + pixels.nbytes <= self._max_decoded_bytes
            and self._finalizer.alive
        ):
            self._decoded[path] = pixels
            self._decoded_bytes += pixels.nbytes

    def close(self) -> None:
        """Forget what is decoded and remove the folder. Closing twice does no harm."""
        with self._lock:
            self._decoded = {}
            self._finalizer()


NO_OWNER = 0  # the number of no process that runs Python


_open_stores: weakref.WeakValueDictionary[Path, ImageStore] = weakref.WeakValueDictionary()  # those of this process


def _rebuild_store(folder: Path, max_decoded_bytes: int) -> ImageStore:
    """The store of a folder again, where it is of this process or of the one that forked it, or else one that is lent
    the folder."""
    return _open_stores.get(folder) or ImageStore(max_decoded_bytes, folder)


def _remove_folder(folder: Path, owner: int) -> None:
    # A forked child that drops its copy must not take the files away from its parent.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
