"""The entries of a TIFF's directory are read as they stand, in either byte order."""

import io
import struct

import pytest

from headswap.data.tiff_entries import ORIENTATION_TAG, iter_tiff_entries


@pytest.mark.parametrize(("order", "mark"), [("<", b"II"), (">", b"MM")])
def test_a_short_value_and_an_offset_are_read_in_either_byte_order(order, mark):
    header = mark + struct.pack(order + "HI", 42, 8)
    entries = struct.pack(order + "HHHIHH", 2, ORIENTATION_TAG, 3, 1, 6, 0) + struct.pack(
        order + "HHII", 273, 4, 9, 500
    )
    assert list(iter_tiff_entries(io.BytesIO(header + entries))) == [(ORIENTATION_TAG, 3, 1, 6), (273, 4, 9, 500)]


def test_a_big_tiff_has_offsets_of_eight_bytes():
    header = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16)
    entries = struct.pack("<QHHQQ", 1, 324, 16, 7, 2**33)
    assert list(iter_tiff_entries(io.BytesIO(header + entries))) == [(324, 16, 7, 2**33)]


def test_more_entries_than_there_are_tags_are_refused():
    header = b"II" + struct.pack("<HHHQQ", 43, 8, 0, 16, 2**16)
    with pytest.raises(ValueError, match="more entries"):
        list(iter_tiff_entries(io.BytesIO(header)))
