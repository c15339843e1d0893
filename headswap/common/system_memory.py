"""Reads total and available memory, cgroup limits included, and returns freed heap memory to the system.

Knows nothing of what the memory is used for.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath

DEFAULT_TOTAL_BYTES = 8 * 10**9  # assumed where the system does not tell
MEMINFO = Path("/proc/meminfo")
CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")
# Files of a control group: the limit, the usage, and the field of memory.stat with the file cache included in the usage
# that the kernel would drop under memory pressure.
CGROUP_V2_FILES = ("memory.max", "memory.current", "inactive_file")
CGROUP_V1_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
M_ARENA_MAX = -8  # the option's number in glibc's malloc.h
MAX_ARENAS = 2


def get_total_memory() -> int:
    """The bytes that this process may use at most: physical memory or the lowest limit of a surrounding cgroup.

    On Windows, where neither can be read, 8 GB are assumed.
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = DEFAULT_TOTAL_BYTES
    return min([physical, *(limit for limit, _ in _cgroup_limits())])


def get_available_memory() -> int:
    """The bytes that could be allocated now without swapping or an out-of-memory kill; the total if unknown."""
    free = [get_total_memory()]
    with suppress(OSError, ValueError, StopIteration, IndexError):
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        free.append(1024 * int(line.split()[1]))
    free += [limit - used for limit, used in _cgroup_limits()]
    return max(0, min(free))


def release_freed_memory() -> None:
    """Return freed heap memory to the system with ``malloc_trim``; does nothing without glibc.

    After work in several threads, glibc holds more free memory than other allocators do. A call takes some hundredths
    of a second.
    """
    malloc_trim = _glibc_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def limit_malloc_arenas() -> None:
    """Let all threads share two malloc arenas; call it before most threads start. Does nothing without glibc.

    By default glibc creates up to eight arenas per core, and memory freed in one serves no other: a tenth of the page's
    memory after ten trainings.
    """
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        mallopt(M_ARENA_MAX, MAX_ARENAS)


@cache
def _glibc_function(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
    return function


def _cgroup_limits() -> Iterator[tuple[int, int]]:
    """Limit and usage in bytes of each cgroup around this process that has a limit."""
    for _, controllers, path in _read_cgroup_memberships():
        if not controllers:
            for root in (CGROUP_ROOT, CGROUP_ROOT / "unified"):
                yield from _cgroup_limits_in(root, path, *CGROUP_V2_FILES)
        elif "memory" in controllers.split(","):
            yield from _cgroup_limits_in(CGROUP_ROOT / "memory", path, *CGROUP_V1_FILES)


def _read_cgroup_memberships() -> list[list[str]]:
    """Hierarchy, controllers and path of each cgroup of this process; no controllers for cgroup v2."""
    try:
        rows = [line.split(":", 2) for line in CGROUP_MEMBERSHIP.read_text().splitlines()]
    except OSError:  # macOS and Windows
        return []
    return [row for row in rows if len(row) == 3]


def _cgroup_limits_in(root: Path, path: str, limit: str, used: str, reclaimable: str) -> Iterator[tuple[int, int]]:
    """Limit and usage of a cgroup and its ancestors. In a container the path may be the host's and not exist here."""
    relative = PurePosixPath(path.lstrip("/"))
    for group in dict.fromkeys((root / relative, *(root / parent for parent in relative.parents))):
        max_bytes = _read_int(group / limit)
        if max_bytes is not None:
            yield max_bytes, (_read_int(group / used) or 0) - _read_stat_field(group / "memory.stat", reclaimable)


def _read_int(file: Path) -> int | None:
    """The number in a file; None without the file, or if it says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _read_stat_field(file: Path, name: str) -> int:
    """A field of a memory.stat file, 0 if it cannot be read."""
    with suppress(OSError, ValueError):
        return int(dict(line.split() for line in file.read_text().splitlines()).get(name, 0))
    return 0
