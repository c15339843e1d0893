"""How much memory this process may have, a container's share counted, and how it is given back to the system.

Knows nothing of what the memory is wanted for.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath

DEFAULT_TOTAL_BYTES = 8 * 10**9  # bytes of a machine that does not say
MEMINFO = Path("/proc/meminfo")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
# Where a version of control groups lies, and what its files are called: the limit, what is used, and of that the pages
# of files that would be dropped for whoever wants memory.
CGROUP_V2_FILES = ("memory.max", "memory.current", "inactive_file")
CGROUP_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
M_ARENA_MAX = -8  # as malloc.h has it
MAX_ARENAS = 2


def get_total_memory() -> int:
    """Bytes that this process may have at most: the machine's memory, or the least that a container around it may have.

    Windows says neither, and is taken for a machine of eight gigabytes.
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = DEFAULT_TOTAL_BYTES
    return min([physical, *(limit for limit, _ in _cgroup_limits())])


def get_available_memory() -> int:
    """Bytes that it could have now without anybody being killed for it; ``total`` where nobody says."""
    free = [get_total_memory()]
    with suppress(OSError, ValueError, StopIteration, IndexError):
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        free.append(1024 * int(line.split()[1]))
    free += [limit - used for limit, used in _cgroup_limits()]
    return max(0, min(free))


def release_freed_memory() -> None:
    """Give back what was freed and is kept for whoever asks next; with glibc alone, elsewhere little is kept.

    A process that has computed in several threads holds more than it uses. It takes some hundredths of a second.
    """
    trimming = _glibc_function("malloc_trim")
    if trimming is not None:
        trimming(0)


def limit_malloc_arenas() -> None:
    """Let all threads ask the same few heaps for memory, before most of them begin; with glibc alone.

    It would give every thread its own, up to eight for each core, and what one has freed serves no other: of the page
    after ten trainings that was a tenth of what it held.
    """
    setting = _glibc_function("mallopt")
    if setting is not None:
        setting(M_ARENA_MAX, MAX_ARENAS)


@cache
def _glibc_function(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None


def _cgroup_limits() -> Iterator[tuple[int, int]]:
    """The limit of each control group around this process that has one, and what is used of it, in bytes."""
    for _, controllers, path in _read_cgroup_memberships():
        if not controllers:
            for home in (CGROUP_ROOT, CGROUP_ROOT / "unified"):
                yield from _cgroup_limits_in(home, path, *CGROUP_V2_FILES)
        elif "memory" in controllers.split(","):
            yield from _cgroup_limits_in(CGROUP_ROOT / "memory", path, *CGROUP_V1_FILES)


def _read_cgroup_memberships() -> list[list[str]]:
    try:
        rows = [line.split(":", 2) for line in CGROUP_MEMBERSHIP.read_text().splitlines()]
    except OSError:  # macOS and Windows
        return []
    return [row for row in rows if len(row) == 3]


def _cgroup_limits_in(root: Path, path: str, limit: str, used: str, reclaimable: str) -> Iterator[tuple[int, int]]:
    """Of a group and of all around it. In a container the path may be the host's; then its own group is the root."""
    inside = PurePosixPath(path.lstrip("/"))
    for group in dict.fromkeys((root / inside, *(root / above for above in inside.parents))):
        most = _read_int(group / limit)
        if most is not None:
            yield most, (_read_int(group / used) or 0) - _read_stat_field(group / "memory.stat", reclaimable)


def _read_int(file: Path) -> int | None:
    """What a file says; None where there is none, or it says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _read_stat_field(file: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        return int(dict(line.split() for line in file.read_text().splitlines()).get(name, 0))
    return 0
