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

UNKNOWN = 8 * 10**9  # bytes of a machine that does not say
MEMINFO = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
# Where a version of control groups lies, and what its files are called: the limit, what is used, and of that the pages
# of files that would be dropped for whoever wants memory.
UNIFIED = ("memory.max", "memory.current", "inactive_file")
LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
M_ARENA_MAX = -8  # as malloc.h has it
HEAPS = 2


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
    trimming = _glibc("malloc_trim")
    if trimming is not None:
        trimming(0)


def share_heaps() -> None:
    """Let all threads ask the same few heaps for memory, before most of them begin; with glibc alone.

    It would give every thread its own, up to eight for each core, and what one has freed serves no other: of the page
    after ten trainings that was a tenth of what it held.
    """
    setting = _glibc("mallopt")
    if setting is not None:
        setting(M_ARENA_MAX, HEAPS)


@cache
def _glibc(name: str) -> Callable[..., int] | None:
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None


def _bounds() -> Iterator[tuple[int, int]]:
    """The limit of each control group around this process that has one, and what is used of it, in bytes."""
    for _, controllers, path in _memberships():
        if not controllers:
            for home in (CGROUPS, CGROUPS / "unified"):
                yield from _bounds_in(home, path, *UNIFIED)
        elif "memory" in controllers.split(","):
            yield from _bounds_in(CGROUPS / "memory", path, *LEGACY)


def _memberships() -> list[list[str]]:
    try:
        rows = [line.split(":", 2) for line in MEMBERSHIP.read_text().splitlines()]
    except OSError:  # macOS and Windows
        return []
    return [row for row in rows if len(row) == 3]


def _bounds_in(home: Path, path: str, limit: str, used: str, droppable: str) -> Iterator[tuple[int, int]]:
    """Of a group and of all around it. In a container the path may be the host's; then its own group is the root."""
    inside = PurePosixPath(path.lstrip("/"))
    for group in dict.fromkeys((home / inside, *(home / above for above in inside.parents))):
        most = _number(group / limit)
        if most is not None:
            yield most, (_number(group / used) or 0) - _row(group / "memory.stat", droppable)


def _number(file: Path) -> int | None:
    """What a file says; None where there is none, or it says "max"."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _row(file: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        return int(dict(line.split() for line in file.read_text().splitlines()).get(name, 0))
    return 0
