"""Reads the entries of a TIFF directory, which EXIF data are as well, without following their pointers."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO

ORIENTATION_TAG = 0x0112

# Bytes of a value of each type; 13 is an offset of four bytes, 16 to 18 are BigTIFF's types of eight.
TIFF_TYPE_BYTES: Mapping[int, int] = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
)


def iter_tiff_entries(stream: BinaryIO) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and value of each entry in the first directory of a TIFF, a BigTIFF or EXIF data.

    The value is an offset if the values do not fit into the entry.

    Args:
        stream: at the beginning of the TIFF header.

    Raises:
        Exception: KeyError, struct.error and others if the data are damaged.
    """
    header = stream.read(4)
    byte_order, is_big = {b"II": "<", b"MM": ">"}[header[:2]], header[2] == 43

    def unpack(form: str) -> tuple[Any, ...]:
        return struct.unpack(byte_order + form, stream.read(struct.calcsize(byte_order + form)))

    stream.seek(*unpack("4xQ" if is_big else "I"))
    (num_entries,) = unpack("Q" if is_big else "H")
    if num_entries > 0xFFFF:
        raise ValueError("There are more entries than tags.")
    for _ in range(num_entries):
        tag, kind, count, field = unpack("HHQ8s" if is_big else "HHI4s")
        width = min(TIFF_TYPE_BYTES.get(kind, 1), len(field)) if count == 1 else len(field)
        yield tag, kind, count, int.from_bytes(field[:width], "little" if byte_order == "<" else "big")
