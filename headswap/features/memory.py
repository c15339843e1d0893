"""Allocates tensors within a memory budget of the process, else in float16, else in a memory-mapped temporary file.

Knows nothing of networks.
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

MAX_ABS_FOR_FLOAT16 = 1e4  # of a sample; float16 ends at 65,504, and the values of other images may be larger


class MemoryBudget:
    """A number of bytes that all jobs of the process share. Thread-safe.

    Attributes:
        reserved: bytes in use.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Nothing is reserved yet.

        Args:
            limit: in bytes; by default ``compute_default_limit()``, which is called when it is first needed.
        """
        self.reserved: int = 0
        self._limit = limit
        # Reentrant, because a garbage collection inside try_reserve may release bytes.
        self._lock = threading.RLock()

    @property
    def limit(self) -> int:
        """The budget in bytes."""
        if self._limit is None:
            self._limit = compute_default_limit()
        return self._limit

    def try_reserve(self, num_bytes: int) -> bool:
        """Reserve bytes; returns whether the budget sufficed."""
        with self._lock:
            if self.reserved + num_bytes > self.limit:
                return False
            self.reserved += num_bytes
            return True

    def release(self, num_bytes: int) -> None:
        """Return reserved bytes to the budget."""
        with self._lock:
            self.reserved -= num_bytes


def compute_default_limit() -> int:
    """Compute the default budget in bytes.

    ``HEADSWAP_MEMORY`` in megabytes; by default an eighth of the memory of the machine, or of the container, between
    half and four GB, and no more than half of what is free now.

    Raises:
        InputError: if ``HEADSWAP_MEMORY`` is no number.
    """
    setting = os.environ.get("HEADSWAP_MEMORY", "")
    if setting:
        try:
            return int(setting) * 10**6
        except ValueError as error:
            raise InputError(
                f"HEADSWAP_MEMORY is '{setting}', which is no whole number of megabytes. Set it to one, such as 2000, "
                "or to nothing."
            ) from error
    share = min(max(system_memory.get_total_memory() // 8, 500_000_000), 4_000_000_000)
    return min(share, system_memory.get_available_memory() // 2)


MEMORY_BUDGET = MemoryBudget()


class Buffer:
    """A tensor ``[num_samples, ...]`` in memory, in memory as float16, or in a file as float16, as the budget allows.

    Its bytes return to the budget when the buffer is deleted.

    Attributes:
        tensor: uninitialized.
        storage: "memory", "half" or "file".
    """

    tensor: Tensor
    storage: str

    def __init__(self, num_samples: int, sample: Tensor, budget: MemoryBudget | None = None) -> None:
        """Allocate.

        Args:
            num_samples: number of tensors.
            sample: one of them; its values decide whether float16 can hold them.
            budget: by default ``MEMORY_BUDGET``.

        Raises:
            InputError: if neither memory nor the disk has room for them, or ``HEADSWAP_MEMORY`` is no number.
        """
        budget = budget or MEMORY_BUDGET
        shape, size = (num_samples, *sample.shape), num_samples * sample.numel()
        fits_float16 = sample.dtype == torch.float32 and sample.abs().max() < MAX_ABS_FOR_FLOAT16
        half = torch.float16 if fits_float16 else sample.dtype
        for self.storage, dtype in (("memory", sample.dtype), ("half", half)):
            num_bytes = size * dtype.itemsize
            if budget.try_reserve(num_bytes):
                weakref.finalize(self, budget.release, num_bytes)
                self.tensor = torch.empty(shape, dtype=dtype)
                return
        self.storage = "file"
        self.tensor = _allocate_in_file(size, half).reshape(shape)


def _allocate_in_file(numel: int, dtype: torch.dtype) -> Tensor:
    length = max(1, numel * dtype.itemsize)
    try:
        # A file without a name, or on Windows one that is deleted with its last handle, which the mapping holds: it is
        # deleted with the tensor or with the process, however that ends.
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
    """Reserve disk space now; on a full disk the process would otherwise be killed when it writes to the mapping."""
    if not hasattr(os, "posix_fallocate"):  # Windows and macOS
        return
    try:
        os.posix_fallocate(file_descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # the file system cannot preallocate
            raise
