"""``ImageStore``: a private folder for a dataset's files, removed with its last user, and a cache of decoded pixels."""

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

STORE_BYTES = 512 * 1024**2  # default size of the cache of decoded pixels
DEFAULT_SIDE = 256  # pixels of the shorter side
DEFAULT_INTERPOLATION = "bicubic"

_NO_PROCESS = 0  # a process id that no Python process has
_SAFE_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


class ImageStore:
    """The files of one loading in a temporary folder, and decoded pixels of them within a budget of bytes.

    The folder is removed when nothing refers to the store any more. Copying and unpickling give the same store within
    its process; in another process, such as a ``DataLoader`` worker, they give one that borrows the folder: it reads
    the files and never removes them. Threads may use it at the same time.

    Attributes:
        folder: where the files lie, readable by its owner only.
        bytes_written: the sum of the bytes that loading wrote into it.
    """

    def __init__(self, max_decoded_bytes: int, borrowed_folder: Path | None = None) -> None:
        """Create a folder, or borrow the folder of another process.

        Args:
            max_decoded_bytes: the most bytes of decoded pixels to keep; an eighth of the free memory if that is less.
            borrowed_folder: the other process's.
        """
        self._is_borrowed = borrowed_folder is not None
        self.folder: Path = borrowed_folder or Path(tempfile.mkdtemp(prefix="headswap-"))  # mode 0o700
        self.bytes_written = 0
        self._file_numbers = count()
        # Depends on free memory, so that the caches of several stores together stay within the machine's memory.
        self._max_decoded_bytes = min(max_decoded_bytes, system_memory.get_available_memory() // 8)
        self._lock = threading.Lock()
        self._decoded_for = (DEFAULT_SIDE, DEFAULT_INTERPOLATION)
        self._decoded: dict[Path, torch.Tensor] = {}
        self._decoded_bytes = 0
        self._finalizer = weakref.finalize(
            self, _remove_folder, self.folder, _NO_PROCESS if self._is_borrowed else os.getpid()
        )
        if not self._is_borrowed:
            _open_stores[self.folder] = self

    def __reduce__(self) -> tuple[Callable[..., ImageStore], tuple[Path, int]]:
        return _rebuild_store, (self.folder, self._max_decoded_bytes)

    def allocate_path(self, name: str) -> Path:
        """A new path in the folder for a file of this name: a number with its extension, if that is a plain one.

        Raises:
            ValueError: if the folder is borrowed.
        """
        if self._is_borrowed:
            raise ValueError("These images came from another process, so nothing can be added to them here.")
        suffix = os.path.splitext(name)[1].lower()
        return self.folder / f"{next(self._file_numbers):05d}{suffix if _SAFE_SUFFIX.fullmatch(suffix) else ''}"

    def pixels(self, path: Path, side: int, interpolation: str) -> torch.Tensor:
        """The pixels of a file as ``read_pixels`` gives them, uint8 ``[3, H, W]``, from the cache if possible.

        Raises:
            InputError: if the file cannot be read.
            ValueError: after ``close()``, or for an unknown interpolation.
        """
        decoding = (side, interpolation)
        with self._lock:
            if not self._finalizer.alive:
                raise ValueError("These images have been closed; load them again.")
            if self._decoded_for == decoding and path in self._decoded:
                return self._decoded[path]
        # Outside the lock, so that threads decode in parallel; two may decode the same image.
        try:
            pixels = read_pixels(path, side, interpolation)
        except InputError:
            if not self.folder.is_dir():
                raise ValueError("These images have been closed; load them again.") from None
            raise
        with self._lock:
            self._cache_decoded(decoding, path, pixels)
        return pixels

    def _cache_decoded(self, decoded_for: tuple[int, str], path: Path, pixels: torch.Tensor) -> None:
        if self._decoded_for != decoded_for:
            self._decoded_for, self._decoded, self._decoded_bytes = decoded_for, {}, 0
        # A full cache evicts nothing: an epoch reads every image in turn, for which evicting the oldest always misses.
        if (
            path not in self._decoded
            and self._decoded_bytes + pixels.nbytes <= self._max_decoded_bytes
            and self._finalizer.alive
        ):
            self._decoded[path] = pixels
            self._decoded_bytes += pixels.nbytes

    def close(self) -> None:
        """Empty the cache and remove the folder, unless it is borrowed; a second call does nothing."""
        with self._lock:
            self._decoded = {}
            self._finalizer()


# By folder, those of this process and of the process that it was forked from.
_open_stores: weakref.WeakValueDictionary[Path, ImageStore] = weakref.WeakValueDictionary()


def _rebuild_store(folder: Path, max_decoded_bytes: int) -> ImageStore:
    """Unpickle: the open store of a folder, or else one that borrows the folder."""
    return _open_stores.get(folder) or ImageStore(max_decoded_bytes, folder)


def _remove_folder(folder: Path, owner: int) -> None:
    # A forked process that finalizes its copy must not remove its parent's files.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
