"""Where a network is run, and in what precision. Knows nothing of networks."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

ZEROGPU_ENV = "SPACES_ZERO_GPU"  # where this is set torch claims a GPU that is lent to single calls only
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # a container's share of the machine: microseconds of each so many


def count_cpus() -> int:
    """How many cores this process may use; a container's share counts, of which the machine says nothing."""
    try:
        mine = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        mine = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        share, period = CGROUP_CPU_MAX.read_text().split()
        mine = min(mine, max(1, round(int(share) / int(period))))
    return mine


def use_all_cpus() -> None:
    """As many threads as there are cores; more of them wait for each other."""
    torch.set_num_threads(count_cpus())


def select_device() -> torch.device:
    """An accelerator where there is one, else the processor."""
    if os.environ.get(ZEROGPU_ENV):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast(device: torch.device) -> AbstractContextManager:
    """Mixed precision for a step, where the hardware multiplies bfloat16.

    Never on a processor: one without such units takes eight times as long.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
