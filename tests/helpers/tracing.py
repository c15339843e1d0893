"""A program watched by strace: whom it and its children speak to, what they look up and start, and where they write.

Python's own sockets and files can be watched from within; native code only from here. What is not seen: a socket that
somebody else hands over, and io_uring, which is refused. Knows no fixtures.
"""

import ipaddress
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

SPEAKING = ("connect", "bind", "sendto", "sendmsg", "sendmmsg")
OPENING = ("open", "openat", "openat2")
CHANGING = (
    *("creat", "truncate", "mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
)
CALLS = (*SPEAKING, *OPENING, *CHANGING, "execve", "chdir", "fchdir", "io_uring_setup")
_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<given>.*)\) += (?P<answer>.+)")
_PAUSED = re.compile(r"(?P<begun>(?P<pid>\d+) .*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)")
_STRING = re.compile(r'(?:(?P<folder>(?:AT_FDCWD|\d+)<[^>]*>), )?"(?P<name>(?:[^"\\]|\\.)*)"')
_BEHIND = re.compile(r"<([^>]*)>")
_HERE = re.compile(r"AT_FDCWD<([^>]*)>")
_OPENED = re.compile(r"\d+<([^>]*)>")  # with a `(deleted)` behind it, where it has no name any more
_ADDRESS = re.compile(r'inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_LOCAL_SOCKET = re.compile(r'sun_path=(@?)"((?:[^"\\]|\\.)*)"')
_WRITING = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND)\b")
_RESOLVER = 53
PROGRAMS = ("ldconfig",)  # by which Python finds a library


def unavailable(reason: str) -> NoReturn:
    """Without strace nothing is seen, unless somebody counts on it."""
    if os.environ.get("HEADSWAP_REQUIRE_STRACE"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def traced(
    program: Iterable[object], folder: Path, home: Path, temporary: Path, admitted: Sequence[Path | str] = ()
) -> tuple[int, str, list[str]]:
    """Run ``python`` with these arguments and see what leaves the machine or its place on it.

    Args:
        program: arguments of the interpreter.
        folder: the working folder; here files may be written.
        home: the user's home; here none may.
        temporary: where temporary files lie; here files may be written.
        admitted: other places for files, and other programs that may be started, by their names.

    Returns:
        The exit status, what was printed, and what was done that may not be done, a line each, none twice.
    """
    if shutil.which("strace") is None:
        unavailable("strace is not installed; it is what sees into native code, on Linux only")
    log = temporary.with_name("trace.txt")
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONPATH")}
    environment |= {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",  # an installation brings its own
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # a graphics driver keeps what it compiles where it likes
    }
    strace = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-e", f"trace={','.join(map(_if_known, CALLS))}"]
    done = subprocess.run(
        [*strace, "-e", "signal=none", "-o", log, sys.executable, *map(str, program)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode and not log.stat().st_size:
        unavailable(f"strace may not look here: {done.stdout.strip()}")
    lines = log.read_text(errors="replace").splitlines()
    named = [place for place in admitted if isinstance(place, Path)]
    places = [place.resolve() for place in (folder, temporary, *named, Path("/dev"), Path("/proc"))]
    return done.returncode, done.stdout, list(dict.fromkeys(_told(lines, places, {*PROGRAMS, *admitted})))


def _if_known(call: str) -> str:
    """Not every processor's Linux has every call under each of its names."""
    return f"?{call}"


def _told(lines: Iterable[str], places: list[Path], programs: set[Path | str]) -> Iterator[str]:
    """What no program of ours may do."""
    here: dict[str, str] = {}  # the working folder of each process, as its last call said
    last = "/"
    for pid, name, given, answer in _calls(lines):
        done = not answer.startswith("-")
        last = here.setdefault(pid, last)
        if seen := _HERE.search(given):
            here[pid] = seen[1]
        if name in SPEAKING:
            yield from _spoken(name, given, answer, places)
        elif name == "io_uring_setup" and done:
            yield "io_uring_setup, behind which nothing is seen"
        elif name == "execve" and done:
            yield from _started(given, programs)
        elif name == "chdir" and done:
            here[pid] = _whole(_STRING.match(given), here[pid])
        elif name == "fchdir" and done:
            here[pid] = _OPENED.match(given)[1]
        elif done:
            yield from _left(name, given, answer, here[pid], places)
        if name in OPENING and '"/etc/resolv.conf"' in given:
            yield "looks a name up: reads /etc/resolv.conf"


def _calls(lines: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    """Process, call, arguments and answer; a call that another process interrupts is told in two lines."""
    begun: dict[str, str] = {}
    for line in lines:
        if paused := _PAUSED.fullmatch(line):
            begun[paused["pid"]] = paused["begun"]
            continue
        if resumed := _RESUMED.fullmatch(line):
            line = begun.pop(resumed["pid"], "") + resumed["rest"]
        if call := _CALL.fullmatch(line):
            yield call["pid"], call["name"], call["given"], call["answer"]
    for line in begun.values():  # one that ended with its process
        if call := _CALL.fullmatch(f"{line}) = ?"):
            yield call["pid"], call["name"], call["given"], call["answer"]


def _spoken(name: str, given: str, answer: str, places: list[Path]) -> Iterator[str]:
    port = _PORT.search(given)
    for address in _ADDRESS.findall(given):
        with suppress(ValueError):
            if not ipaddress.ip_address(address).is_loopback:
                yield f"{name} to {address} port {port[1] if port else '?'}"
    if port and int(port[1]) == _RESOLVER and name != "bind":
        yield f"looks a name up: {name} to port {_RESOLVER}"
    if "hosts\\0" in given:  # what glibc asks its cache for
        yield "looks a name up: asks nscd"
    for abstract, path in _LOCAL_SOCKET.findall(given):
        # The cache of users and groups that glibc asks before it reads them; for hosts, see above.
        known = path.endswith("/nscd/socket") or any(Path(path).is_relative_to(place) for place in places)
        if not abstract and not known and not answer.startswith("-1 ENOENT"):
            yield f"{name} to another program on this machine, {path}"


def _started(given: str, programs: set[Path | str]) -> Iterator[str]:
    program = _STRING.match(given)["name"]
    if not Path(program).name.startswith("python") and Path(program).name not in programs:
        yield f"starts {program}"


def _left(name: str, given: str, answer: str, here: str, places: list[Path]) -> Iterator[str]:
    if name in OPENING:
        if not _WRITING.search(given):
            return
        opened = _OPENED.match(answer)
        paths = [opened[1]] if opened else []
    else:
        if name in ("symlink", "symlinkat"):  # where it points to is only text
            given = given.split('", ', 1)[1]
        paths = [_whole(place, here) for place in _STRING.finditer(given)]
    for path in map(Path, map(os.path.normpath, paths)):
        on_the_way = name.startswith("mkdir") and any(place.is_relative_to(path) for place in places)
        if not on_the_way and not any(path.is_relative_to(place) for place in places):
            yield f"{name} {path}"


def _whole(string: re.Match, here: str) -> str:
    folder = string["folder"]
    name = string["name"].encode("latin-1", "replace").decode("unicode_escape")
    return os.path.join(_BEHIND.search(folder)[1] if folder else here, name)
