"""``BoundedFile``: a readable file whose single reads are bounded, for parsers that trust sizes in a file's header."""

from __future__ import annotations

import os
from typing import BinaryIO


class BoundedFile:
    """Passes reads on to a binary file, but refuses one that asks for too many bytes.

    ``zipfile`` reads the list of members in one call and a stored member in as many bytes as its header says, so a
    forged header alone could exhaust the memory. A read without a size, which it does of the last 64 kB only, passes.

    Attributes:
        max_read_bytes: the most bytes that one call of ``read`` may ask for; may be changed at any time.
    """

    def __init__(self, file: BinaryIO, max_read_bytes: int, error_class: type[Exception], message: str) -> None:
        """Wrap ``file``, which stays its owner's to close.

        Args:
            file: open for reading, seekable.
            max_read_bytes: see the attribute.
            error_class: of the exception that a larger read raises, made of ``message``.
            message: what that exception says.
        """
        self.max_read_bytes: int = max_read_bytes
        self._file, self._error_class, self._message = file, error_class, message

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes, or raise ``error_class`` if that is more than ``max_read_bytes``."""
        size = -1 if size is None else size
        if size > self.max_read_bytes:
            raise self._error_class(self._message)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the file's position, as ``io.IOBase.seek``."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The file's position in bytes."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Whether ``seek`` works."""
        return self._file.seekable()
