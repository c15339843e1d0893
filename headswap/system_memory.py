"""How much memory this process may have, a container's share counted, and how it is given back to the system.

Knows nothing of what the memory is wanted for.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath

UNKNOWN = 8 * 10**9  # bytes of a machine that does not say
MEMINFO = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
# Where a version of control groups lies, and what its files are called: the limit, what is used, and of that the pages
# of files that would be dropped for whoever wants memory.
UNIFIED = ("memory.max", "memory.current", "inactive_file")
LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def total() -> int:
    """Bytes that this process may have at most: the machine's memory, or the least that a container around it may have.

    Windows says neither, and is taken for a machine of eight gigabytes.
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = UNKNOWN
    return min([physical, *(limit for limit, _ in _bounds())])


def available() -> int:
    """Bytes that it could have now without anybody being killed for it; ``total`` where nobody says."""
    free = [total()]
    with suppress(OSError, ValueError, StopIteration, IndexError):
        line = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        free.append(1024 * int(line.split()[1]))
    free += [limit - used for limit, used in _bounds()]
    return max(0, min(free))


def trim() -> None:
    """Give back what was freed and is kept for whoever asks next; with glibc alone, elsewhere little is kept.

    A process that has computed in several threads holds more than it uses. It takes some hundredths of a second.
    """
    trimming = _trimming()
    if trimming is not None:
        trimming(0)


@cache
def _trimming() -> ctypes._CFuncPtr | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None


def _bounds() -> Iterator[tuple[int, int]]:
    """The limit of each control group around this process that has one, and what is used of it, in bytes."""
    with suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                for home in (CGROUPS, CGROUPS / "unified"):
                    yield from _bounds_in(home, path, *UNIFIED)
            elif "memory" in controllers.split(","):
                yield from _bounds_in(CGROUPS / "memory", path, *LEGACY)


def _bounds_in(home: Path, path: str, limit: str, used: str, droppable: str) -> Iterator[tuple[int, int]]:
    """Of a group and of all around it. In a container the path may be the host's; then its own group is the root."""
    inside = PurePosixPath(path.lstrip("/"))
    for group in (home / inside, *(home / above for above in inside.parents)):
        with suppress(OSError, ValueError):  # "max" is no number, and no limit
            most = int((group / limit).read_text())
            yield most, _used(group, used, droppable)


def _used(group: Path, used: str, droppable: str) -> int:
    with suppress(OSError, ValueError):
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int((group / used).read_text()) - int(stat.get(droppable, 0))
    return 0
