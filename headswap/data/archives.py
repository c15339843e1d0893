"""Lists and unpacks zip and tar archives safely, rejecting links, devices, overlaps and decompression bombs.

Trusts no size in a header and unpacks no file by its name. Knows nothing of images.
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

_UNPACK_ALLOWANCE_BYTES = 64 * MEGABYTE  # that may be unpacked, however small the archive
_MAX_ZIP_DIRECTORY_BYTES = 16 * MEGABYTE  # enough for the names of a few hundred thousand files
_MAX_TAR_HEADER_BYTES = MEGABYTE  # of one file: its name and attributes
_ZIP_LOCAL_HEADER_BYTES = 30  # before the name of a file
_MAX_MEMBERS_PER_IMAGE = 5  # as many times the limit of images may an archive list members
_GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC, _TAR_MAGIC_OFFSET = b"ustar", 257
_LINK_REASON = "is a link, which is not followed"


@contextmanager
def open_archive(path: Path, source_name: str) -> Iterator[Iterator[SourceFile]]:
    """Open a zip, tar or tar.gz and give an iterator over its files, which are unpacked while the context is open.

    Args:
        path: the archive.
        source_name: what messages call it.

    Raises:
        InputError: if it is none of these, is damaged, encrypted or a bomb, or may not be read; while iterating, too.
    """
    unsupported = f"{source_name} is neither a folder nor a zip or tar.gz; give one that holds {EXPECTED_LAYOUT}."
    if not path.is_file():  # opening a named pipe would block
        raise InputError(unsupported)
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{source_name} may not be read; change its permissions.") from error
    counter = _make_unpack_counter(source_name, path.stat().st_size)
    if start.startswith(_GZIP_MAGIC) or start.startswith(_TAR_MAGIC, _TAR_MAGIC_OFFSET):
        with tempfile.TemporaryDirectory(prefix="headswap-") as folder:
            yield _iter_tar_members(path, source_name, Path(folder), counter)
        return
    with (
        open(path, "rb") as stream,
        _open_zip(stream, source_name, unsupported) as archive,
    ):
        yield _iter_zip_members(archive, source_name, counter)


def _make_unpack_counter(source_name: str, archive_bytes: int) -> ByteCounter:
    """Make the counter that limits what an archive of ``archive_bytes`` bytes may unpack to."""
    limits = get_limits()
    max_bytes = _UNPACK_ALLOWANCE_BYTES + limits.ratio * archive_bytes
    if max_bytes < limits.unpacked_bytes:
        return ByteCounter(
            max_bytes,
            f"{source_name} unpacks to more than {limits.ratio} times its size, as bombs do; pack the pictures again.",
        )
    size = f"{limits.unpacked_megabytes / 1024:.3g} GB"
    return ByteCounter(
        limits.unpacked_bytes, f"{source_name} unpacks to more than {size}; make the pictures smaller or take fewer."
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
    members = archive.infolist()
    if any(member.flag_bits & 0x1 for member in members):
        raise InputError(f"{source_name} is encrypted; unpack it and zip it again without a password.")
    _check_no_overlap(archive, members, source_name)
    for member in members:
        if member.filename.endswith(("/", "\\")):
            continue
        problem = ""
        if stat.S_ISLNK(member.external_attr >> 16):
            problem = _LINK_REASON
        # zipfile reads the other methods without a bound on the size of one read.
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is packed by an unusual method; zip it again"
        yield SourceFile.from_name(
            _decode_member_name(member),
            partial(_unpack_zip_member, archive, member, unpack_counter),
            problem,
            read_start=partial(_read_member_start, archive, member),
        )


def _check_no_overlap(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], source_name: str) -> None:
    """Refuse members that share bytes: a small zip would be a bomb, and no program writes such zips (Fifield 2019)."""
    end = archive.start_dir
    for member in sorted(members, key=lambda member: member.header_offset, reverse=True):
        if member.header_offset + _ZIP_LOCAL_HEADER_BYTES + member.compress_size > end:
            raise InputError(f"{source_name} holds files that overlap, as bombs do; zip the pictures again.")
        end = member.header_offset


def _decode_member_name(member: zipfile.ZipInfo) -> str:
    """Decode a name as UTF-8 where it can be: macOS writes it so without the flag that says so."""
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _read_member_start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read the first bytes of a member; none if it is damaged, which unpacking it reports."""
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
    """Unpack each file when it is listed, because a compressed tar can be read only once from start to end."""
    max_members = _MAX_MEMBERS_PER_IMAGE * get_limits().images
    try:
        with (
            _open_decompressed(path) as decompressed,
            _ForwardOnlyStream(decompressed, unpack_counter, source_name) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for number in range(max_members):
                stream.begin_header()
                member = archive.next()
                if member is None:
                    return
                # It would keep them for all files.
                archive.members = []  # type: ignore[attr-defined]  # there, but not in typeshed
                archive.pax_headers = {}
                if not member.isdir():
                    yield _read_tar_member(archive, stream, member, folder / f"{number:06d}")
    except InputError:
        raise
    # A damaged tar raises TarError, but also zlib.error, EOFError, ValueError, UnicodeError and others.
    except Exception as error:
        raise InputError(f"{source_name} is damaged or cut short; make or download it again.") from error
    raise InputError(f"{source_name} lists more than {max_members:,} files; take fewer.")


def _read_tar_member(
    archive: tarfile.TarFile, stream: _ForwardOnlyStream, member: tarfile.TarInfo, path: Path
) -> SourceFile:
    problem = ""
    if member.issym() or member.islnk():
        problem = _LINK_REASON
    elif not member.isreg():
        problem = "is not a regular file; give the picture itself"
    elif member.issparse():  # a hole of any size costs nothing in the archive
        problem = "is packed with holes; pack it again"
    if problem:
        return SourceFile.from_name(member.name, None, problem)
    stream.begin_content()
    content = archive.extractfile(member)
    assert isinstance(content, io.BufferedReader)  # of a regular file
    try:
        with content:
            start = content.peek(SNIFF_BYTES)[:SNIFF_BYTES]
            file = SourceFile.from_name(member.name, partial(link_or_copy_counted, path), read_start=lambda: start)
            if file.is_junk or (file.problem and not file.is_table_candidate):
                return file
            copy_stream(content, path)
    except ImageReadError as error:
        path.unlink()
        return SourceFile.from_name(member.name, None, error.reason)
    return file


@contextmanager
def _open_decompressed(path: Path) -> Iterator[io.BufferedIOBase]:
    with open(path, "rb") as stream:
        is_gzip = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        stream.seek(0)
        if not is_gzip:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as decompressed:
            yield decompressed


class _ForwardOnlyStream(io.RawIOBase):
    """A stream that reads forwards only and counts all bytes, those it skips included.

    A header, which tarfile holds in memory, may have ``_MAX_TAR_HEADER_BYTES`` bytes.
    """

    def __init__(self, stream: io.BufferedIOBase, counter: ByteCounter, source_name: str) -> None:
        self._stream, self._counter, self._position = stream, counter, 0
        self._error_message = (
            f"{source_name} has a header of more than {_MAX_TAR_HEADER_BYTES // MEGABYTE} MB, as bombs do; "
            "pack it again."
        )
        self._header_bytes_left: int | None = _MAX_TAR_HEADER_BYTES

    def begin_header(self) -> None:
        """Limit what is read from here on as a header."""
        self._header_bytes_left = _MAX_TAR_HEADER_BYTES

    def begin_content(self) -> None:
        """Lift the limit of a header: what is read from here on is a file's content."""
        self._header_bytes_left = None

    def read(self, size: int = -1) -> bytes:
        if self._header_bytes_left is not None:
            if not 0 <= size <= self._header_bytes_left:
                raise InputError(self._error_message)
            self._header_bytes_left -= size
        return self._read_counted(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset < self._position:  # it could loop for ever
            raise tarfile.ReadError("The archive leads backwards.")
        while self._position < offset and self._read_counted(min(offset - self._position, _MAX_TAR_HEADER_BYTES)):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def _read_counted(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._position += len(content)
        self._counter.add(len(content))
        return content
