"""However a model's file was changed, loading it gives a model or one sentence; whenever saving is ended, one whole
file is there.

The changes are drawn by lot with seeds, and tried in a process of their own that has little memory and little time.
"""

import copy
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from bundles import (
    BOUNDED,
    DESCRIPTION_ENTRY,
    ROOT,
    WEIGHTS_ENTRY,
    in_new_process,
    joined,
    packed,
    redescribed,
    reweighed,
    same_answers,
    tiny_model,
    unpacked,
)
from drawings import NARROW, SHAPES, TWO, load_shapes, small_model

import headswap
from headswap import InputError
from headswap.common import atomic
from headswap.export import model_file

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by Linux")
POSIX = pytest.mark.skipif(os.name != "posix", reason="programs are killed otherwise there")

BATCH = 150  # changes that one process tries
MEGABYTES = 400  # beyond what a process has that has loaded a model already
SECONDS = 10  # for any of them, on a busy machine


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The file of a small model that has a past; not to be written to."""
    path = tmp_path_factory.mktemp("saved") / "shapes.headswap"
    images = load_shapes(path.parent / "shapes", each=4)
    model = tiny_model(images.classes, head="mlp", hidden_dims=(8,))
    headswap.fit(model, images, TWO)
    headswap.save(model, path)
    return path


# Changed


def bytes_flipped(chance, content):
    """Some bits, all over or near the end, where a zip says what it holds."""
    changed = bytearray(content)
    low = chance.choice((0, max(0, len(content) - 1500)))
    for _ in range(chance.choice((1, 1, 3, 20))):
        changed[chance.randrange(low, len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance, content):
    """Less of it, at the end or within."""
    begin, end = sorted(chance.randrange(len(content)) for _ in range(2))
    return chance.choice((content[:end], content[begin:], content[:begin] + content[end:]))


def added(chance, content):
    """More of it: noise, zeros or a piece of its own."""
    place, length = chance.randrange(len(content)), chance.randint(1, 5000)
    piece = chance.choice((chance.randbytes(length), bytes(length), content[-length:]))
    return content[:place] + piece + content[place:]


def swapped(chance, content):
    """Two pieces in each other's place."""
    length = chance.randint(1, min(2000, len(content) // 2))
    a, b = sorted(chance.randrange(len(content) - length) for _ in range(2))
    b = max(b, a + length)
    return (
        content[:a]
        + content[b : b + length]
        + content[a + length : b]
        + content[a : a + length]
        + content[b + length :]
    )


STRANGE = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**300,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "x" * 100_000,
    "\x00\n\u202e",
    "../../etc/passwd",
    "linear",
    "lda",
    "attention",
    "vit_h_14",
    "regnet_y_128gf",
    "timm/test_vit",
    [],
    {},
    [[[[]]]],
    [0] * 50_000,
    {"dtype": "F32"},
)


def places(value):
    """Every list and table in plain data with each of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def altered(chance, plain):
    """Some of its values replaced, doubled, exchanged or gone."""
    for _ in range(chance.choice((1, 1, 2, 5))):
        owner, key = chance.choice(list(places(plain)) or [({"": 0}, "")])
        another, other = chance.choice(list(places(plain)) or [({"": 0}, "")])
        how = chance.randrange(5)
        if how < 2:
            owner[key] = copy.deepcopy(chance.choice(STRANGE))
        elif how == 2:
            owner[key], another[other] = copy.deepcopy((another[other], owner[key]))
        elif how == 3 and isinstance(owner[key], int | float):
            owner[key] = owner[key] * chance.choice((-1, 0, 2, 0.5, 1e6))
        elif how == 4:
            owner.pop(key)
    return plain


def changed(chance, file, target):
    """One of all the ways: bytes as they come, or with right sums of what was changed within."""
    way = chance.choice((bytes_flipped, cut, added, swapped, "described", "described", "table", "table", "numbers"))
    if way == "described":
        redescribed(file, target, lambda said: altered(chance, said))
    elif way == "table":
        reweighed(file, target, lambda table, numbers: joined(altered(chance, table), numbers))
    elif way == "numbers":
        within = chance.choice((bytes_flipped, cut, added, swapped))
        reweighed(file, target, lambda table, numbers: joined(table, within(chance, numbers)))
    elif chance.random() < 0.3:  # one entry, with right check sums
        entries = unpacked(file)
        entry = chance.choice((DESCRIPTION_ENTRY, WEIGHTS_ENTRY))
        packed(target, entries | {entry: way(chance, entries[entry])})
    else:
        target.write_bytes(way(chance, file.read_bytes()))


def tried(path):
    """What became of it: "loaded", "told" if with a word of what is wrong, or "refused"; anything else is an error."""
    try:
        model, told = model_file.load_and_verify(path)
    except InputError as error:
        model, told = None, str(error)
    assert told.isprintable() and len(told) < 400 and (path.name in told or not told), told
    if model is None:
        return "refused"
    answers = model.predict_proba([torch.full((3, 40, 50), 90, dtype=torch.uint8)])
    assert answers.isfinite().all()
    return "told" if told else "loaded"


def attack(file, folder, first, last):
    """Change the file by the lots of these numbers, and count what became of it."""
    counted = {"loaded": 0, "told": 0, "refused": 0}
    for number in range(first, last):
        target = folder / f"{number}.headswap"
        changed(random.Random(number), file, target)
        began = time.perf_counter()
        try:
            counted[tried(target)] += 1
        except BaseException:
            print(f"It was number {number}.", file=sys.stderr)
            raise
        assert time.perf_counter() - began < SECONDS, number
        target.unlink()
    return counted


ATTACK = f"""{BOUNDED if sys.platform == "linux" else "def bound(megabytes): pass"}
import json, sys
from pathlib import Path
import headswap
from test_model_file_attacked import MEGABYTES, attack

file, folder, first, last = sys.argv[1:]
headswap.load(file).predict_proba([])
bound(MEGABYTES)
print(json.dumps(attack(Path(file), Path(folder), int(first), int(last))))
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("first", [0, *(pytest.param(i * BATCH, marks=pytest.mark.slow) for i in range(1, 7))])
def test_whatever_was_changed_it_is_a_model_or_one_sentence(first, file, tmp_path):
    counted = json.loads(in_new_process(ATTACK, file, tmp_path, first, first + BATCH, timeout=BATCH * SECONDS))
    assert counted["refused"] > BATCH / 2, "the changes change nothing"
    assert counted["told"] > 0, "the changes destroy everything, so they are no test of what is loaded"
    assert sum(counted.values()) == BATCH


# Killed

# Forks itself for each line that it reads, and lets the child save over a file.
SAVING = """
import os, sys, torch, headswap
from drawings import SHAPES, small_model

torch.set_num_threads(1)
path, network = sys.argv[1:]
model = small_model(sorted(SHAPES), backbone=network, seed=2)
headswap.save(model, path)
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        headswap.save(model, path)
        os.write(1, b"saved\\n")
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@contextmanager
def saving(path):
    """Gives what starts saving over a file, kills it after so many seconds, and says whether it was through."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers")))
    with subprocess.Popen(
        [sys.executable, "-c", SAVING, path, NARROW],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout.readline() == "ready\n"

        def kill(delay):
            print(file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            time.sleep(delay)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            return "saved\n" in list(iter(parent.stdout.readline, "ended\n"))

        yield kill


@pytest.mark.subprocess
@POSIX
@pytest.mark.parametrize("times", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_a_program_that_is_killed_while_it_saves_leaves_the_old_file_or_the_new_one(times, tmp_path):
    path, chance = tmp_path / "model.headswap", random.Random(times)
    old = small_model(sorted(SHAPES), backbone=NARROW, seed=1)
    new = small_model(sorted(SHAPES), backbone=NARROW, seed=2)
    headswap.save(old, path)
    content = path.read_bytes()
    found = []
    with saving(path) as kill:
        assert same_answers(new, headswap.load(path))
        began = time.perf_counter()
        whole = 0.0
        while not kill(whole):  # how long a whole saving takes
            whole += 0.1
        assert time.perf_counter() - began < 60
        for _ in range(times):
            path.write_bytes(content)
            saved = kill(chance.uniform(0, 1.1 * whole))
            there = headswap.load(path)
            found.append("old" if same_answers(old, there) else "new")
            assert found[-1] == "old" or same_answers(new, there)
            assert found[-1] == "new" or not saved, "what was said to be saved is not there"
    assert "old" in found and (times < 50 or "new" in found)


# Failed

FULL = OSError(errno.ENOSPC, "No space left on device")


class Full:
    """A file on a disc that has room for so many bytes more."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, content):
        self._room -= len(content)
        if self._room < 0:
            raise FULL
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


@pytest.fixture
def kept(tmp_path):
    """A file that is to survive, and its content; nothing may lie beside it in the end."""
    path = tmp_path / "folder" / "model.headswap"
    path.parent.mkdir()
    headswap.save(tiny_model(seed=1), path)
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("room", [0, 100, 5_000, 200_000, 400_000])
def test_a_full_disc_leaves_the_old_file(room, kept, monkeypatch):
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", *how, **told: full(opened(path, mode, *how, **told), mode))

    def full(file, mode):
        return Full(file, room) if "x" in mode else file

    with pytest.raises(InputError, match=r"model\.headswap cannot be written: No space left on device\. Choose"):
        headswap.save(tiny_model(seed=2), kept)


@pytest.mark.parametrize("called", ["fsync", "replace"])
def test_a_disc_that_fails_at_the_end_leaves_the_old_file(called, kept, monkeypatch):
    def failing(*_):
        raise FULL

    monkeypatch.setattr(atomic.os, called, failing)
    with pytest.raises(InputError, match="No space left on device"):
        headswap.save(tiny_model(seed=2), kept)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("where", ["_write_archive", "_read_model", "check_parity"])
def test_whatever_ends_saving_leaves_the_old_file(error, where, kept, monkeypatch):
    def ending(*_):
        raise error

    monkeypatch.setattr(model_file, where, ending)
    with pytest.raises(error):
        headswap.save(tiny_model(seed=2), kept)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator may write anywhere")
def test_a_folder_that_may_not_be_written_leaves_the_old_file(kept):
    kept.parent.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written: Permission denied"):
            headswap.save(tiny_model(seed=2), kept)
    finally:
        kept.parent.chmod(0o700)


def test_a_folder_that_refuses_leaves_the_old_file(kept, monkeypatch):
    opened = Path.open

    def refusing(path, mode="r", *how, **told):
        if "x" in mode:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, mode, *how, **told)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        headswap.save(tiny_model(seed=2), kept)


def test_a_folder_in_its_place_is_left_alone(tmp_path):
    (tmp_path / "model.headswap" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        headswap.save(tiny_model(), tmp_path / "model.headswap")
    assert [path.name for path in tmp_path.iterdir()] == ["model.headswap"]


def test_no_folder_is_made(tmp_path):
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        headswap.save(tiny_model(), tmp_path / "nowhere" / "model.headswap")
    assert not list(tmp_path.iterdir())
