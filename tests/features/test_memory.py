"""What is kept has one budget; beyond it half precision, then a file that nobody has to remove."""

import errno
import gc
import os
import runpy
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
import torch

from headswap import InputError
from headswap.common import system_memory
from headswap.features import memory
from headswap.features.memory import Buffer, MemoryBudget, compute_default_limit

SAMPLE = torch.linspace(-3, 3, 100)  # 400 bytes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


# The budget


def test_rooms_share_a_budget_until_it_is_spent():
    budget = MemoryBudget(1000)
    first, second = Buffer(1, SAMPLE, budget), Buffer(1, SAMPLE, budget)
    assert (first.storage, second.storage, budget.reserved) == ("memory", "memory", 800)
    third, fourth = Buffer(1, SAMPLE, budget), Buffer(1, SAMPLE, budget)
    assert (third.storage, fourth.storage, budget.reserved) == ("half", "file", 1000)


def test_a_room_may_take_the_last_byte():
    assert Buffer(2, SAMPLE, MemoryBudget(800)).storage == "memory"
    assert Buffer(2, SAMPLE, MemoryBudget(799)).storage == "half"


def test_what_a_room_took_is_given_back_when_it_is_let_go_of(folder):
    budget = MemoryBudget(1000)
    rooms = [Buffer(1, SAMPLE, budget) for _ in range(4)]
    for left, taken in ((3, 600), (2, 200), (1, 0), (0, 0)):
        rooms.pop(0)
        gc.collect()
        assert (len(rooms), budget.reserved) == (left, taken)


def test_a_room_that_cannot_be_made_takes_nothing(monkeypatch):
    budget = MemoryBudget(1000)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: 1 / 0)
    with suppress(ZeroDivisionError):
        Buffer(1, SAMPLE, budget)
    gc.collect()
    assert budget.reserved == 0


def test_all_rooms_of_the_process_share_one_budget(monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_BUDGET", MemoryBudget(500))
    rooms = [Buffer(1, SAMPLE), Buffer(1, SAMPLE)]
    assert [room.storage for room in rooms] == ["memory", "file"]


def test_threads_never_take_more_than_there_is_and_all_of_it_comes_back():
    budget, most = MemoryBudget(1000), []

    def work():
        for _ in range(300):
            if budget.try_reserve(400):
                most.append(budget.reserved)
                budget.release(400)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most and max(most) <= 1000
    assert budget.reserved == 0


def test_a_budget_may_get_bytes_back_while_it_is_asked():
    """As when a garbage collection in the midst of asking lets go of a room."""

    class Collecting(MemoryBudget):
        @property
        def limit(self):
            self.release(400)
            return 1000

    budget = Collecting(1000)
    budget.reserved = 400
    thread = threading.Thread(target=budget.try_reserve, args=(100,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


# HEADSWAP_MEMORY


def test_the_limit_can_be_set_in_megabytes(monkeypatch):
    monkeypatch.setenv("HEADSWAP_MEMORY", "12")
    assert compute_default_limit() == MemoryBudget().limit == 12_000_000


def test_no_memory_at_all_may_be_wanted(monkeypatch, folder):
    monkeypatch.setenv("HEADSWAP_MEMORY", "0")
    assert Buffer(1, SAMPLE, MemoryBudget()).storage == "file"


@pytest.mark.parametrize("total, limit", [(1, 500), (16, 2000), (64, 4000)])
def test_by_default_it_is_an_eighth_of_what_there_is_between_half_and_four_gb(monkeypatch, total, limit):
    monkeypatch.delenv("HEADSWAP_MEMORY", raising=False)
    monkeypatch.setattr(system_memory, "get_total_memory", lambda: total * 10**9)
    monkeypatch.setattr(system_memory, "get_available_memory", lambda: 10**12)
    assert compute_default_limit() == MemoryBudget().limit == limit * 10**6


def test_it_is_never_more_than_half_of_what_is_free(monkeypatch):
    monkeypatch.delenv("HEADSWAP_MEMORY", raising=False)
    monkeypatch.setattr(system_memory, "get_total_memory", lambda: 10**9)
    monkeypatch.setattr(system_memory, "get_available_memory", lambda: 2 * 10**8)
    assert compute_default_limit() == 10**8


@pytest.mark.parametrize("nonsense", ["much", "1.5", "2 GB"])
def test_a_limit_that_is_no_number_is_told_in_a_sentence(monkeypatch, nonsense):
    monkeypatch.setenv("HEADSWAP_MEMORY", nonsense)
    with pytest.raises(InputError, match=f"HEADSWAP_MEMORY is '{nonsense}'.*Set it to"):
        Buffer(1, SAMPLE, MemoryBudget())


def test_importing_the_library_minds_no_nonsense(monkeypatch):
    monkeypatch.setenv("HEADSWAP_MEMORY", "much")
    assert runpy.run_path(memory.__file__)["MEMORY_BUDGET"].reserved == 0


# Precision


@pytest.mark.parametrize("limit, where, within", [(4000, "memory", 0), (2000, "half", 2e-3), (0, "file", 2e-3)])
def test_what_is_written_can_be_read_again(folder, limit, where, within):
    room = Buffer(10, SAMPLE, MemoryBudget(limit))
    written = torch.randn(10, 100, generator=torch.Generator().manual_seed(0))
    room.tensor[:4], room.tensor[4:] = written[:4], written[4:]
    assert room.storage == where
    assert room.tensor.shape == (10, 100)
    assert torch.allclose(room.tensor.float(), written, rtol=within, atol=within)


def test_rooms_in_files_do_not_share_one(folder):
    first, second = Buffer(3, SAMPLE, MemoryBudget(0)), Buffer(3, SAMPLE, MemoryBudget(0))
    first.tensor.fill_(1)
    second.tensor.fill_(2)
    assert (first.tensor == 1).all() and (second.tensor == 2).all()


@pytest.mark.parametrize("limit", [4000, 2000, 0])
@pytest.mark.parametrize(
    "sample",
    [SAMPLE.double(), SAMPLE * 1e5, SAMPLE.where(SAMPLE > 0, torch.nan), SAMPLE.bfloat16(), SAMPLE.long()],
    ids=["double", "large", "no number", "bfloat16", "whole"],
)
def test_what_half_precision_would_not_hold_stays_as_it_is(folder, sample, limit):
    room = Buffer(5, sample, MemoryBudget(limit))
    room.tensor[:] = sample
    assert room.tensor.dtype == sample.dtype
    assert torch.equal(room.tensor.nan_to_num(), sample.expand(5, 100).nan_to_num())


def test_a_shape_of_any_rank_is_kept(folder):
    for sample in (torch.tensor(1.0), torch.ones(2, 3, 4)):
        for limit in (1000, 0):
            assert Buffer(3, sample, MemoryBudget(limit)).tensor.shape == (3, *sample.shape)


# Files


def test_no_file_is_left_behind(folder):
    room = Buffer(1000, SAMPLE, MemoryBudget(0))
    room.tensor.fill_(1)
    if os.name == "posix":
        assert list(folder.iterdir()) == []
    kept = room.tensor[3:5]
    del room
    gc.collect()
    assert (kept == 1).all()  # whoever still holds some of it can read it
    del kept
    gc.collect()
    assert list(folder.iterdir()) == []


HOLDING = """
import sys, torch
from headswap.features.memory import Buffer, MemoryBudget
buffer = Buffer(1000, torch.ones(100), MemoryBudget(0))
buffer.tensor.fill_(2)
print(buffer.storage, flush=True)
sys.stdin.read()
"""


@pytest.mark.subprocess
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a signal of POSIX")
def test_no_file_is_left_behind_by_a_process_that_was_killed(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDING], env=environment, **pipes) as process:
        assert process.stdout.readline() == "file\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("headswap")]


def test_a_disk_that_is_full_is_told_in_a_sentence(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match=r"file of 40 MB cannot be made \(No space left on device\)\. Make room"):
        Buffer(200_000, SAMPLE, MemoryBudget(0))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("reason", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_cannot_reserve_room_is_used_all_the_same(folder, monkeypatch, reason):
    def unable(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "posix_fallocate", unable, raising=False)
    assert Buffer(3, SAMPLE, MemoryBudget(0)).tensor.fill_(1).sum() == 300


def test_without_a_temporary_folder_that_is_told_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot be made"):
        Buffer(3, SAMPLE, MemoryBudget(0))
