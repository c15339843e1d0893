"""A file is there whole or not at all."""

import os
import stat

import pytest

from headswap.common import atomic
from headswap.common.atomic import atomic_write, atomic_write_bytes
from headswap.common.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_there(tmp_path):
    atomic_write_bytes(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content"
    assert names(tmp_path) == ["new"]


def test_until_the_block_ends_the_old_file_stands(tmp_path):
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_what_was_written_can_be_read_before_it_takes_its_place(tmp_path):
    with atomic_write(tmp_path / "file") as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, InputError])
def test_a_block_that_fails_leaves_the_old_file_and_its_own_error(error, tmp_path):
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")
    with pytest.raises(error) as caught, atomic_write(path) as file:
        file.write(b"half")
        raise error("its own")
    assert str(caught.value) == "its own"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_file_that_was_not_there_is_not_there_after_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "file"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_two_at_once_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"1" * 1000)
        second.write(b"2" * 10)
    assert path.read_bytes() == b"1" * 1000
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["x" * 255, "猫" * 80, "é" * 120, "a b", "a'b", ".hidden", "-"])
def test_any_name_that_a_file_can_have_can_be_written(name, tmp_path):
    atomic_write_bytes(tmp_path / name, b"content")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["", ".", "/", "nul\0inside"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InputError, match="is no name for a file"):
        atomic_write_bytes(name, b"content")


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere.*cannot be written: No such file or directory\. Choose another place"
    ):
        atomic_write_bytes(tmp_path / "nowhere" / "file", b"content")
    assert names(tmp_path) == []


def test_a_folder_in_its_place_stays(tmp_path):
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        atomic_write_bytes(tmp_path / "file", b"content")
    assert names(tmp_path) == ["file"] and names(tmp_path / "file") == ["inside"]


def test_a_refusal_has_no_control_characters(tmp_path):
    with pytest.raises(InputError) as caught:
        atomic_write_bytes(tmp_path / "no\nwhere\x1b" / "file", b"content")
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.name != "posix", reason="folders are not flushed otherwise")
def test_its_bytes_reach_the_disc_before_its_name_and_its_name_thereafter(tmp_path, monkeypatch):
    told = []
    fsync, replace = os.fsync, os.replace

    def flushed(handle):
        told.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(*paths):
        told.append("name")
        replace(*paths)

    monkeypatch.setattr(atomic.os, "fsync", flushed)
    monkeypatch.setattr(atomic.os, "replace", renamed)
    atomic_write_bytes(tmp_path / "file", b"content")
    assert told == ["file", "name", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="folders are not flushed otherwise")
def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch):
    fsync = os.fsync

    def failing(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(atomic.os, "fsync", failing)
    atomic_write_bytes(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_what_a_killed_writing_left_is_removed_by_a_later_one_and_a_young_one_is_not(tmp_path):
    path = tmp_path / "a[1].bin"
    old, young, other = (tmp_path / f".{name}.partial" for name in ("a[1].bin.0123", "a[1].bin.4567", "b.bin.0123"))
    for left in (old, young, other):
        left.write_bytes(b"half")
    for left in (old, other):
        os.utime(left, (0, 0))
    atomic.atomic_write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole" and not old.exists() and young.exists() and other.exists()
