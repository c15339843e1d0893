"""A forged header cannot make a parser read more at once than was allowed."""

import io
import zipfile

import pytest

from headswap.common.bounded_file import BoundedFile


class RefusedError(Exception):
    """What the caller wants to be raised."""


def bounded(content, max_read_bytes):
    return BoundedFile(io.BytesIO(content), max_read_bytes, RefusedError, "too much")


def test_a_read_of_more_bytes_than_allowed_raises_the_callers_error():
    file = bounded(b"0123456789", 4)
    assert file.read(4) == b"0123"
    with pytest.raises(RefusedError, match=r"^too much$"):
        file.read(5)


def test_a_read_without_a_size_passes():
    assert bounded(b"0123456789", 4).read() == bounded(b"0123456789", 4).read(None) == b"0123456789"


def test_the_bound_can_be_lifted_and_the_position_moved():
    file = bounded(b"0123456789", 4)
    file.max_read_bytes = 10
    assert file.seekable() and file.seek(2) == file.tell() == 2
    assert file.read(10) == b"23456789"


def test_a_zip_is_read_through_it_and_its_list_of_members_is_bounded():
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a name.txt", b"content")
    with zipfile.ZipFile(bounded(written.getvalue(), 1000)) as archive:
        assert archive.read("a name.txt") == b"content"
    with pytest.raises(RefusedError):
        zipfile.ZipFile(bounded(written.getvalue(), 30))
