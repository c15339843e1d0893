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

from headswap.common.errors import InputError, PictureError
from headswap.common.limits import MEGABYTE, limits
from headswap.data.sources import ARCHIVES, EXPECTED, START, Found, Meter, adopt, copy

_ALWAYS = 64 * MEGABYTE  # may be unpacked whatever the archive's own size
_DIRECTORY = 16 * MEGABYTE  # of a zip: names for a few hundred thousand files
_HEADER = MEGABYTE  # of a tar: a name or other words before a file
_LOCAL_HEADER = 30  # bytes of a zip's file, before its name
_MEMBERS = 5  # times as many members as there may be images


@contextmanager
def opened(path: Path, label: str) -> Iterator[Iterator[Found]]:
    """The files in a zip, a tar or a tar.gz; what they were unpacked to goes when this is left.

    Raises:
        InputError: if it is neither, is damaged, encrypted or a bomb, or may not be read.
    """
    neither = f"{label} is neither a folder nor a zip or tar.gz; give one that holds {EXPECTED}."
    if not path.is_file():  # a named pipe would be waited for
        raise InputError(neither)
    try:
        with open(path, "rb") as stream:
            start = stream.read(512)
    except OSError as error:
        raise InputError(f"{label} may not be read; change its permissions.") from error
    packed = path.stat().st_size
    if start[:2] == b"\x1f\x8b" or start[257:262] == b"ustar":
        with tempfile.TemporaryDirectory(prefix="headswap-") as folder:
            yield _tar_members(path, label, Path(folder), _unpacking(label, packed))
        return
    with (
        _Bounded(path, _DIRECTORY, f"{label} lists too many files; take fewer.") as stream,
        _opened_zip(stream, label, neither) as archive,
    ):
        yield _zip_members(archive, label, _unpacking(label, packed))


def _unpacking(label: str, packed: int) -> Meter:
    """Counts what comes out of an archive of so many bytes."""
    most = limits()
    if _ALWAYS + most.ratio * packed < most.unpacked_bytes:
        refusal = f"{label} unpacks to more than {most.ratio} times its size, as bombs do; pack the pictures again."
        return Meter(_ALWAYS + most.ratio * packed, refusal)
    size = f"{most.unpacked_megabytes / 1024:.3g} GB"
    return Meter(most.unpacked_bytes, f"{label} unpacks to more than {size}; make the pictures smaller or take fewer.")


# Zip


def _opened_zip(stream: BinaryIO, label: str, neither: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except InputError:
        raise
    # A damaged zip raises BadZipFile, but also struct.error, ValueError, NotImplementedError and others.
    except Exception as error:
        damaged = f"{label} is not a zip or tar.gz, or is damaged; make or download it again."
        raise InputError(damaged if Path(label).suffix.lower() in ARCHIVES else neither) from error


def _zip_members(archive: zipfile.ZipFile, label: str, unpacked: Meter) -> Iterator[Found]:
    listed = archive.infolist()
    if any(member.flag_bits & 0x1 for member in listed):
        raise InputError(f"{label} is encrypted; unpack it and zip it again without a password.")
    _check_apart(archive, listed, label)
    for member in listed:
        if member.filename.endswith(("/", "\\")):
            continue
        problem = ""
        if stat.S_ISLNK(member.external_attr >> 16):
            problem = "is a link, which is not followed"
        # The other methods unpack without a bound on what one read gives.
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "is packed by an unusual method; zip it again"
        peek = partial(_start, archive, member)
        yield Found.named(_said(member), partial(_unpack, archive, member, unpacked), problem, peek=peek)


def _check_apart(archive: zipfile.ZipFile, listed: list[zipfile.ZipInfo], label: str) -> None:
    """Files that share their bytes make a bomb of a small zip, and no honest program writes them."""
    end = archive.start_dir
    for member in sorted(listed, key=lambda member: member.header_offset, reverse=True):
        if member.header_offset + _LOCAL_HEADER + member.compress_size > end:
            raise InputError(f"{label} holds files that overlap, as bombs do; zip the pictures again.")
        end = member.header_offset


def _said(member: zipfile.ZipInfo) -> str:
    """A name as its writer meant it: macOS writes UTF-8 and does not say so."""
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The first bytes of a member, whose damage is told when it is unpacked."""
    with suppress(Exception), archive.open(member) as stream:
        return stream.read(START)
    return b""


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, unpacked: Meter, target: Path, meter: Meter) -> None:
    try:
        with archive.open(member) as stream:
            copy(stream, target, unpacked, meter)
    except (InputError, OSError):
        raise
    # A damaged member raises BadZipFile, but also zlib.error, struct.error, EOFError and others.
    except Exception as error:
        raise PictureError(member.filename, "is damaged inside the zip; zip it again") from error


# Tar


def _tar_members(path: Path, label: str, folder: Path, unpacked: Meter) -> Iterator[Found]:
    """Each file is unpacked when it is listed, because a compressed tar can only be read in one go."""
    most = _MEMBERS * limits().images
    try:
        with (
            _decompressed(path) as plain,
            _Forward(plain, unpacked, label) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for number in range(most):
                stream.header()
                member = archive.next()
                if member is None:
                    return
                archive.members, archive.pax_headers = [], {}  # it would keep those of every file
                if not member.isdir():
                    yield _tar_member(archive, stream, member, folder / f"{number:06d}")
    except InputError:
        raise
    # A damaged tar raises TarError, but also zlib.error, EOFError, ValueError, UnicodeError and others.
    except Exception as error:
        raise InputError(f"{label} is damaged or cut short; make or download it again.") from error
    raise InputError(f"{label} lists more than {most:,} files; take fewer.")


def _tar_member(archive: tarfile.TarFile, stream: _Forward, member: tarfile.TarInfo, path: Path) -> Found:
    problem = ""
    if member.issym() or member.islnk():
        problem = "is a link, which is not followed"
    elif not member.isreg():
        problem = "is not a regular file; give the picture itself"
    elif member.issparse():  # holes cost nothing in the archive and are as large as anybody likes
        problem = "is packed with holes; pack it again"
    if problem:
        return Found.named(member.name, None, problem)
    stream.content()
    try:
        with archive.extractfile(member) as content:
            start = content.peek(START)[:START]
            found = Found.named(member.name, partial(adopt, path), peek=lambda: start)
            if found.litter or (found.problem and not found.may_be_table):
                return found
            copy(content, path)
    except PictureError as error:
        path.unlink()
        return Found.named(member.name, None, error.reason)
    return found


@contextmanager
def _decompressed(path: Path) -> Iterator[BinaryIO]:
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not packed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as plain:
            yield plain


class _Forward(io.RawIOBase):
    """A stream that is only read onwards, each byte counted, so that skipping costs what reading does."""

    def __init__(self, stream: BinaryIO, meter: Meter, label: str) -> None:
        self._stream, self._meter, self._place = stream, meter, 0
        self._refusal = f"{label} has a header of more than {_HEADER // MEGABYTE} MB, as bombs do; pack it again."
        self._left: int | None = _HEADER

    def header(self) -> None:
        """What is read from here on is a header, which is held in memory."""
        self._left = _HEADER

    def content(self) -> None:
        """What is read from here on is a file, which is not."""
        self._left = None

    def read(self, size: int = -1) -> bytes:
        if self._left is not None:
            if not 0 <= size <= self._left:
                raise InputError(self._refusal)
            self._left -= size
        return self._read(size)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        if place < self._place:  # a header that leads backwards leads round and round
            raise tarfile.ReadError("The archive leads backwards.")
        while self._place < place and self._read(min(place - self._place, _HEADER)):
            pass
        return self._place

    def tell(self) -> int:
        return self._place

    def _read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._place += len(found)
        self._meter.count(len(found))
        return found


class _Bounded(io.FileIO):
    """A file that gives no more than so many bytes at once: a zip's list of files is read in one go."""

    def __init__(self, path: Path, most: int, refusal: str) -> None:
        super().__init__(path)
        self._most, self._refusal = most, refusal

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise InputError(self._refusal)
        return super().read(size)
