"""What a zip or a tar lists, and how its files are unpacked: whatever its headers promise.

Nothing is unpacked by its name; links, devices, bombs and overlaps end here. Knows nothing of pictures.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from headswap.common.bounded_file import BoundedFile
from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import MEGABYTE, get_limits
from headswap.data.sources import (
    ARCHIVE_EXTENSIONS,
    EXPECTED_LAYOUT,
    SNIFF_BYTES,
    ByteCounter,
    SourceFile,
    copy_stream,
    link_or_copy_counted,
)

_UNPACK_ALLOWANCE_BYTES = 64 * MEGABYTE  # may be unpacked whatever the archive's own size
_MAX_ZIP_DIRECTORY_BYTES = 16 * MEGABYTE  # of a zip: names for a few hundred thousand files
_MAX_TAR_HEADER_BYTES = MEGABYTE  # of a tar: a name or other words before a file
_ZIP_LOCAL_HEADER_BYTES = 30  # bytes of a zip's file, before its name
_MAX_MEMBERS_PER_IMAGE = 5  # times as many members as there may be images


@contextmanager
def open_archive(path: Path, source_name: str) -> Iterator[Iterator[SourceFile]]:
    """The files in a zip, a tar or a tar.gz; what they were unpacked to goes when this is left.

    Raises:
        InputError: if it is neither, is damaged, encrypted or a bomb, or may not be read.
    """
    neither = f"{source_name} is neither a folder nor a zip or tar.gz; give one that holds {EXPECTED_LAYOUT}."
    if not path.is_file():  # a named pipe would be waited for
        raise InputError(neither)
    try:
        with open(path, "rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise InputError(f"{source_name} may not be read; change its permissions.") from error
    packed = path.stat().st_size
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        with tempfile.TemporaryDirectory(prefix="headswap-") as folder:
            yield _iter_tar_members(path, source_name, Path(folder), _make_unpack_counter(source_name, packed))
        return
    with (
        open(path, "rb") as stream,
        _open_zip(stream, source_name, neither) as archive,
    ):
        yield _iter_zip_members(archive, source_name, _make_unpack_counter(source_name, packed))


def _make_unpack_counter(source_name: str, archive_bytes: int) -> ByteCounter:
    """Counts what comes out of an archive of so many bytes."""
    most = get_limits()
    if _UNPACK_ALLOWANCE_BYTES + most.ratio * archive_bytes < most.unpacked_bytes:
        refusal = (
            f"{source_name} unpacks to more than {most.ratio} times its size, as bombs do; pack the pictures again."
        )
        return ByteCounter(_UNPACK_ALLOWANCE_BYTES + most.ratio * archive_bytes, refusal)
    size = f"{most.unpacked_megabytes / 1024:.3g} GB"
    return ByteCounter(
        most.unpacked_bytes, f"{source_name} unpacks to more than {size}; make the pictures smaller or take fewer."
    )


# Zip


def _open_zip(stream: BinaryIO, source_name: str, unsupported_message: str) -> zipfile.ZipFile:
    try:
        too_long = f"{source_name} lists too many files; take fewer."
        return zipfile.ZipFile(BoundedFile(stream, _MAX_ZIP_DIRECTORY_BYTES, InputError, too_long))
    except InputError:
        raise
    # A damaged zip raises BadZipFile, but also struct.error, ValueError, NotImplementedError and others.
    except Exception as error:
        damaged = f"{source_name} is not a zip or tar.gz, or is damaged; make or download it again."
        raise InputError(
            damaged if Path(source_name).suffix.lower() in ARCHIVE_EXTENSIONS else unsupported_message
        ) from error


def _iter_zip_members(archive: zipfile.ZipFile, source_name: str, unpack_counter: ByteCounter) -> Iterator[SourceFile]:
    listed = archive.infolist()
    if any(member.flag_bits & 0x1 for member in listed):
        raise InputError(f"{source_name} is encrypted; unpack it and zip it again without a password.")
    _check_no_overlap(archive, listed, source_name)
    for member in listed:
        if member.filename.endswith(("/", "\\")):
            continue
        problem = ""
        if stat.S_ISLNK(member.external_attr >> 16):
            problem = "is a link, which is not followed"
        # The other methods unpack without a bound on what one read gives.
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is packed by an unusual method; zip it again"
        peek = partial(_read_member_start, archive, member)
        yield SourceFile.from_name(
            _decode_member_name(member),
            partial(_unpack_zip_member, archive, member, unpack_counter),
            problem,
            read_start=peek,
        )


def _check_no_overlap(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], source_name: str) -> None:
    """Files that share their bytes make a bomb of a small zip, and no honest program writes them."""
    end = archive.start_dir
    for member in sorted(members, key=lambda member: member.header_offset, reverse=True):
        if member.header_offset + _ZIP_LOCAL_HEADER_BYTES + member.compress_size > end:
            raise InputError(f"{source_name} holds files that overlap, as bombs do; zip the pictures again.")
        end = member.header_offset


def _decode_member_name(member: zipfile.ZipInfo) -> str:
    """A name as its writer meant it: macOS writes UTF-8 and does not say so."""
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _read_member_start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The first bytes of a member, whose damage is told when it is unpacked."""
    with suppress(Exception), archive.open(member) as stream:
        return stream.read(SNIFF_BYTES)
    return b""


def _unpack_zip_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, unpack_counter: ByteCounter, target: Path, counter: ByteCounter
) -> None:
    try:
        with archive.open(member) as stream:
            copy_stream(stream, target, unpack_counter, counter)
    except (InputError, OSError):
        raise
    # A damaged member raises BadZipFile, but also zlib.error, struct.error, EOFError and others.
    except Exception as error:
        raise ImageReadError(member.filename, "is damaged inside the zip; zip it again") from error


# Tar


def _iter_tar_members(path: Path, source_name: str, folder: Path, unpack_counter: ByteCounter) -> Iterator[SourceFile]:
    """Each file is unpacked when it is listed, because a compressed tar can only be read in one go."""
    most = _MAX_MEMBERS_PER_IMAGE * get_limits().images
    try:
        with (
            _open_decompressed(path) as plain,
            _ForwardOnlyStream(plain, unpack_counter, source_name) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for number in range(most):
                stream.begin_header()
                member = archive.next()
                if member is None:
                    return
                archive.members, archive.pax_headers = [], {}  # it would keep those of every file
                if not member.isdir():
                    yield _read_tar_member(archive, stream, member, folder / f"{number:06d}")
    except InputError:
        raise
    # A damaged tar raises TarError, but also zlib.error, EOFError, ValueError, UnicodeError and others.
    except Exception as error:
        raise InputError(f"{source_name} is damaged or cut short; make or download it again.") from error
    raise InputError(f"{source_name} lists more than {most:,} files; take fewer.")


def _read_tar_member(
    archive: tarfile.TarFile, stream: _ForwardOnlyStream, member: tarfile.TarInfo, path: Path
) -> SourceFile:
    problem = ""
    if member.issym() or member.islnk():
        problem = "is a link, which is not followed"
    elif not member.isreg():
        problem = "is not a regular file; give the picture itself"
    elif member.issparse():  # holes cost nothing in the archive and are as large as anybody likes
        problem = "is packed with holes; pack it again"
    if problem:
        return SourceFile.from_name(member.name, None, problem)
    stream.begin_content()
    try:
        with archive.extractfile(member) as content:
            start = content.peek(SNIFF_BYTES)[:SNIFF_BYTES]
            found = SourceFile.from_name(member.name, partial(link_or_copy_counted, path), read_start=lambda: start)
            if found.is_junk or (found.problem and not found.is_table_candidate):
                return found
            copy_stream(content, path)
    except ImageReadError as error:
        path.unlink()
        return SourceFile.from_name(member.name, None, error.reason)
    return found


@contextmanager
def _open_decompressed(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not packed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as plain:
            yield plain


class _ForwardOnlyStream(io.RawIOBase):
    """A stream that is only read onwards, each byte counted, so that skipping costs what reading does."""

    def __init__(self, stream: BinaryIO, counter: ByteCounter, source_name: str) -> None:
        self._stream, self._counter, self._position = stream, counter, 0
        self._error_message = f"{source_name} has a header of more than {_MAX_TAR_HEADER_BYTES // MEGABYTE} MB, as bombs do; pack it again."
        self._header_bytes_left: int | None = _MAX_TAR_HEADER_BYTES

    def begin_header(self) -> None:
        """What is read from here on is a header, which is held in memory."""
        self._header_bytes_left = _MAX_TAR_HEADER_BYTES

    def begin_content(self) -> None:
        """What is read from here on is a file, which is not."""
        self._header_bytes_left = None

    def read(self, size: int = -1) -> bytes:
        if self._header_bytes_left is not None:
            if not 0 <= size <= self._header_bytes_left:
                raise InputError(self._error_message)
            self._header_bytes_left -= size
        return self._read_counted(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset < self._position:  # a header that leads backwards leads round and round
            raise tarfile.ReadError("The archive leads backwards.")
        while self._position < offset and self._read_counted(min(offset - self._position, _MAX_TAR_HEADER_BYTES)):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def _read_counted(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._position += len(found)
        self._counter.add(len(found))
        return found
