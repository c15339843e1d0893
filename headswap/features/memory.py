"""Room for what is kept in mass: one budget of memory for the process, and files where it is spent.

Knows nothing of networks; a tensor is so many bytes here.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import threading
import weakref

import torch
from torch import Tensor

from headswap.common import system_memory
from headswap.common.errors import InputError

MAX_ABS_FOR_FLOAT16 = 1e4  # of a sample's values; half precision ends at 65,504, and the next image may reach further


class MemoryBudget:
    """Bytes that all jobs of the process share. Safe to use from several threads."""

    def __init__(self, limit: int | None = None) -> None:
        """Of ``limit`` bytes; by default of ``default_limit``, which is asked when the first are taken."""
        self.reserved = 0
        self._limit = limit
        # Bytes may come back from a garbage collection in the midst of taking some.
        self._lock = threading.RLock()

    @property
    def limit(self) -> int:
        """In bytes."""
        if self._limit is None:
            self._limit = compute_default_limit()
        return self._limit

    def try_reserve(self, num_bytes: int) -> bool:
        """Whether there was room for so many bytes; then they are taken."""
        with self._lock:
            if self.reserved + num_bytes > self.limit:
                return False
            self.reserved += num_bytes
            return True

    def release(self, num_bytes: int) -> None:
        """Somebody else may have so many bytes."""
        with self._lock:
            self.reserved -= num_bytes


def compute_default_limit() -> int:
    """``HEADSWAP_MEMORY`` in megabytes; by default an eighth of the memory that the machine, or the container, has,
    between half and four GB, and no more than half of what is free now.

    Raises:
        InputError: if ``HEADSWAP_MEMORY`` is no number.
    """
    wanted = os.environ.get("HEADSWAP_MEMORY", "")
    if wanted:
        try:
            return int(wanted) * 10**6
        except ValueError as error:
            raise InputError(
                f"HEADSWAP_MEMORY is '{wanted}', which is no whole number of megabytes. Set it to one, such as 2000, "
                "or to nothing."
            ) from error
    share = min(max(system_memory.get_total_memory() // 8, 500_000_000), 4_000_000_000)
    return min(share, system_memory.get_available_memory() // 2)


MEMORY_BUDGET = MemoryBudget()


class Buffer:
    """A tensor ``[count, ...]`` to be filled: in memory as long as the budget lasts, then in half precision, then in a
    file of half precision. Its bytes are given back when the room is let go of.

    Attributes:
        tensor: uninitialised.
        where: "memory", "half" or "file".
    """

    def __init__(self, num_samples: int, sample: Tensor, budget: MemoryBudget | None = None) -> None:
        """For ``count`` tensors like ``sample``, whose values tell whether half precision would hold them.

        Raises:
            InputError: if neither memory nor the disk has room for them, or ``HEADSWAP_MEMORY`` is no number.
        """
        budget = budget or MEMORY_BUDGET
        shape, size = (num_samples, *sample.shape), num_samples * sample.numel()
        narrow = sample.dtype == torch.float32 and sample.abs().max() < MAX_ABS_FOR_FLOAT16
        half = torch.float16 if narrow else sample.dtype
        for self.storage, dtype in (("memory", sample.dtype), ("half", half)):
            taken = size * dtype.itemsize
            if budget.try_reserve(taken):
                weakref.finalize(self, budget.release, taken)
                self.tensor = torch.empty(shape, dtype=dtype)
                return
        self.storage = "file"
        self.tensor = _allocate_in_file(size, half).reshape(shape)


def _allocate_in_file(numel: int, dtype: torch.dtype) -> Tensor:
    length = max(1, numel * dtype.itemsize)
    try:
        # A file without a name, or on Windows one that is deleted with its last handle, and the mapping holds a handle:
        # it goes away with the tensor or with the process, however that ends.
        with tempfile.TemporaryFile(prefix="headswap-") as file:
            file.truncate(length)
            _preallocate_file(file.fileno(), length)
            return torch.frombuffer(mmap.mmap(file.fileno(), length), dtype=dtype, count=numel)
    except OSError as error:
        raise InputError(
            f"Memory for what is kept is spent, and a temporary file of {length / 1e6:.0f} MB cannot be made "
            f"({error.strerror}). Make room on that disk, or give fewer images, or fewer views of each."
        ) from error


def _preallocate_file(file_descriptor: int, num_bytes: int) -> None:
    """A disk that is full says so now; otherwise the process would be killed when it writes to the mapping."""
    if not hasattr(os, "posix_fallocate"):  # Windows and macOS
        return
    try:
        os.posix_fallocate(file_descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # what some file systems cannot
            raise
