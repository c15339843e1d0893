"""Chooses the torch device, the number of CPU threads and the autocast context. Knows nothing of networks."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

ZEROGPU_ENV = "SPACES_ZERO_GPU"  # set on a Space whose GPU is available within single calls only, though torch shows it
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: CPU quota and period of a container, in microseconds


def count_cpus() -> int:
    """The number of CPU cores that this process may use, at least 1.

    The affinity of the process counts, and the CPU quota of a container (cgroup v2, at the root path only).
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = CGROUP_CPU_MAX.read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def use_all_cpus() -> None:
    """Give torch one thread per usable core; threads beyond the cores would wait for each other."""
    torch.set_num_threads(count_cpus())


def select_device() -> torch.device:
    """CUDA or MPS where one is available, else the CPU."""
    if os.environ.get(ZEROGPU_ENV):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """A ``torch.autocast`` context in bfloat16 on a GPU that supports it natively, else a null context.

    Never on a CPU: without bfloat16 units it takes eight times as long.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
