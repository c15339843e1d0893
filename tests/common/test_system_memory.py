"""What this process may have is what the machine, or the container around it, has; what it no longer uses goes back."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from headswap.common import system_memory

GB = 10**9
UNLIMITED = 9223372036854771712  # what the older control groups say where there is no limit


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 GB, 32 of them free, with no control groups; gives a function that writes one of its files."""
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GB // 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    for name, path in (("MEMINFO", "meminfo"), ("CGROUP_MEMBERSHIP", "cgroup"), ("CGROUP_ROOT", "groups")):
        monkeypatch.setattr(system_memory, name, tmp_path / path)

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("meminfo", f"MemTotal: {64 * GB // 1024} kB\nMemAvailable:   {32 * GB // 1024} kB\n")
    return write


def test_without_a_container_it_is_the_machines(machine):
    assert (system_memory.get_total_memory(), system_memory.get_available_memory()) == (64 * GB, 32 * GB)


def test_a_container_of_the_unified_kind_bounds_it(machine):
    machine("cgroup", "0::/a/b\n")
    machine("groups/a/b/memory.max", f"{2 * GB}\n")
    machine("groups/a/b/memory.current", f"{GB + 7}\n")
    machine("groups/a/b/memory.stat", "anon 5\ninactive_file 7\n")
    assert (system_memory.get_total_memory(), system_memory.get_available_memory()) == (2 * GB, GB)


def test_a_container_of_the_older_kind_bounds_it(machine):
    machine("cgroup", "5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n")
    machine("groups/memory/a/b/memory.limit_in_bytes", f"{3 * GB}\n")
    machine("groups/memory/a/b/memory.usage_in_bytes", f"{GB}\n")
    assert (system_memory.get_total_memory(), system_memory.get_available_memory()) == (3 * GB, 2 * GB)


@pytest.mark.parametrize("unlimited", ["max", str(UNLIMITED)])
def test_the_tightest_group_around_it_counts(machine, unlimited):
    machine("cgroup", "0::/a/b\n")
    machine("groups/a/b/memory.max", unlimited)
    machine("groups/a/memory.max", f"{4 * GB}\n")
    machine("groups/a/memory.current", f"{3 * GB}\n")
    assert (system_memory.get_total_memory(), system_memory.get_available_memory()) == (4 * GB, GB)


def test_inside_a_container_that_shows_its_own_group_as_the_root_the_root_counts(machine):
    machine("cgroup", "4:memory:/docker/0123\n0::/docker/0123\n")
    machine("groups/memory/memory.limit_in_bytes", f"{GB}\n")
    assert (system_memory.get_total_memory(), system_memory.get_available_memory()) == (GB, GB)


def test_a_group_that_is_full_leaves_nothing(machine):
    machine("cgroup", "0::/a\n")
    machine("groups/a/memory.max", "1000")
    machine("groups/a/memory.current", "2000")
    assert system_memory.get_available_memory() == 0


@pytest.mark.parametrize("nonsense", ["", "0", "0::", "x:y", "0::/../../..", "\n\n"])
def test_groups_that_say_nothing_sensible_are_passed_over(machine, nonsense):
    machine("cgroup", nonsense)
    machine("groups/memory.max", "much")
    assert (system_memory.get_total_memory(), system_memory.get_available_memory()) == (64 * GB, 32 * GB)


def test_a_machine_that_does_not_say_how_much_it_has_is_taken_for_one_of_eight_gigabytes(machine, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    machine("meminfo", "nothing of the kind")
    assert system_memory.get_total_memory() == system_memory.get_available_memory() == 8 * GB


GIVES_BACK = """
import ctypes
from headswap.common import system_memory
def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(65536) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 65536)
for block in blocks[:-1]:  # the last one holds the top of the heap
    libc.free(block)
held = resident()
system_memory.release_freed_memory()
print(held - resident())
"""


@pytest.mark.subprocess
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone keeps what is freed")
def test_what_was_freed_goes_back_to_the_system():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", GIVES_BACK], cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100_000_000


SHARES = """
import re, threading
from headswap.common import system_memory
import ctypes
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
system_memory.limit_malloc_arenas()
over, ready = threading.Event(), threading.Barrier(9)
def work():
    kept = libc.malloc(1000)
    ready.wait()
    over.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
ready.wait()
file = ctypes.c_void_p(libc.fopen(b"heaps.xml", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
over.set()
print(len(re.findall("<heap nr", open("heaps.xml").read())))
"""


@pytest.mark.subprocess
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has a heap for each thread")
def test_threads_share_a_few_heaps(tmp_path):
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", SHARES], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == "" and int(done.stdout) <= system_memory.MAX_ARENAS


def test_where_the_c_library_is_another_one_nothing_happens(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    system_memory._glibc_function.cache_clear()
    try:
        assert system_memory._glibc_function("malloc_trim") is None
        system_memory.release_freed_memory()
        system_memory.limit_malloc_arenas()
    finally:
        system_memory._glibc_function.cache_clear()
