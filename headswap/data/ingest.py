"""Takes the files of a source into an image store: lists them, copies, decodes and measures the images.

Each step gives what it could not use with a reason. Knows nothing of how files get their labels.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.data.csv_tables import LABELS_FILE_NAME, MAX_TABLE_BYTES, read_csv_table
from headswap.data.decoding import read_image_size
from headswap.data.duplicates import ImageStats, measure_image
from headswap.data.layout_types import VALIDATION, LabelledFile, TableFile
from headswap.data.sources import ByteCounter, SourceFile
from headswap.data.store import DEFAULT_INTERPOLATION, DEFAULT_SIDE, ImageStore

_MAX_TABLES = 10  # of a source; the others are skipped
_PROGRESS_INTERVAL = 20  # files between two progress events
_MAX_DECODING_THREADS = 4

SkippedFiles = list[tuple[str, str]]  # (name, reason)


@dataclass(frozen=True)
class LoadingProgress:
    """Progress of loading.

    Attributes:
        done: steps done; each file is copied and decoded, which are two steps.
        total: steps in all; 0 while files are being listed, and their number is unknown.
    """

    done: int
    total: int = 0


@dataclass(frozen=True)
class StoredImage:
    """A labelled file whose bytes lie in the image store.

    Attributes:
        name: as the source has it.
        labels: names of its classes.
        held_out: whether it is a validation image.
        burst: the camera burst that it comes from; "" for none.
        path: in the store.
    """

    name: str
    labels: tuple[str, ...]
    held_out: bool
    burst: str
    path: Path


@dataclass(frozen=True)
class MeasuredImage(StoredImage):
    """A stored image that could be decoded."""

    stats: ImageStats = field(repr=False)


def partition_files(
    source_files: Iterable[SourceFile], source_name: str, existing_names: Iterable[str], use_tables: bool
) -> Generator[LoadingProgress, None, tuple[list[SourceFile], list[SourceFile], SkippedFiles]]:
    """Sort the files of a source by what they may be, and give images of the same name numbers.

    Args:
        source_files: the files.
        source_name: what messages call the source.
        existing_names: of the images to which these are added.
        use_tables: whether label tables count.

    Returns:
        Files that may be images, those that may be label tables, and the others.

    Raises:
        InputError: if there are more files than there may be images.
    """
    image_files: list[SourceFile] = []
    table_files: list[SourceFile] = []
    skipped: SkippedFiles = []
    name_counts = Counter(existing_names)
    max_files = get_limits().images
    num_existing = name_counts.total()
    for file in source_files:
        if file.is_junk:
            continue
        if len(image_files) + len(skipped) + num_existing >= max_files:
            raise InputError(f"{source_name} holds more than {max_files:,} files; take fewer.")
        if file.is_table_candidate and use_tables and len(table_files) < _MAX_TABLES:
            table_files.append(file)
        elif file.problem:
            skipped.append((file.name, file.problem))
        else:
            name_counts[file.name] += 1
            count = name_counts[file.name]
            image_files.append(file if count == 1 else replace(file, name=f"{file.name} ({count})"))
        if len(image_files) % _PROGRESS_INTERVAL == 0:
            yield LoadingProgress(len(image_files))
    return image_files, table_files, skipped


def read_table_files(table_files: Sequence[SourceFile], store: ImageStore, source_name: str) -> list[TableFile]:
    """Read label tables; one that cannot be read comes with the error."""
    tables: list[TableFile] = []
    for file in table_files:
        path = store.allocate_path(LABELS_FILE_NAME)
        name = file.parts[-1]
        counter = ByteCounter(MAX_TABLE_BYTES, f"{source_name} has a table of labels that is too large.")
        try:
            file.write_to(path, counter)
            tables.append(TableFile(file, read_csv_table(path, name)))
        except InputError as error:
            tables.append(TableFile(file, error))
        except OSError:
            tables.append(TableFile(file, InputError(f"{name} cannot be opened; check that it may be read.")))
        finally:
            path.unlink(missing_ok=True)
    return tables


def copy_to_store(
    labelled_files: Sequence[LabelledFile], store: ImageStore, source_name: str, written_paths: list[Path]
) -> Generator[LoadingProgress, None, tuple[list[StoredImage], SkippedFiles]]:
    """Write the files into the store's folder, and append each path to ``written_paths`` before it is written.

    Raises:
        InputError: if they are more bytes than the limits allow, or than the disk has room for.
    """
    stored: list[StoredImage] = []
    skipped: SkippedFiles = []
    limits = get_limits()
    counter = ByteCounter(
        limits.total_bytes - store.bytes_written,
        f"{source_name} holds more than {limits.megabytes / 1024:.3g} GB that would have to be unpacked or copied, "
        "with what is there already; make the pictures smaller (1000 pixels are plenty) or take fewer.",
    )
    for number, file in enumerate(labelled_files):
        if number % _PROGRESS_INTERVAL == 0:
            yield LoadingProgress(number, 2 * len(labelled_files))
        source_file = file.source_file
        path = store.allocate_path(source_file.name)
        written_paths.append(path)
        try:
            source_file.write_to(path, counter)
        except ImageReadError as error:
            skipped.append((source_file.name, error.reason))
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                reason = f"does not fit on the disk of {store.folder.parent}; make room, or set TMPDIR."
                raise InputError(f"{source_name} {reason}") from error
            skipped.append((source_file.name, "cannot be opened; check that it exists and may be read"))
            path.unlink(missing_ok=True)
        else:
            held_out = file.split == VALIDATION
            stored.append(StoredImage(source_file.name, file.labels, held_out, source_file.burst, path))
    store.bytes_written += counter.num_bytes
    return stored, skipped


def decode_and_measure(
    images: Sequence[StoredImage], store: ImageStore
) -> Generator[LoadingProgress, None, tuple[list[MeasuredImage], SkippedFiles]]:
    """Decode each image once, in parallel: this fills the store's cache and finds damaged files."""

    def measure(image: StoredImage) -> ImageStats | str:
        try:
            size = read_image_size(image.path)
            pixels = store.pixels(image.path, DEFAULT_SIDE, DEFAULT_INTERPOLATION)
            file_digest = hashlib.blake2b(image.path.read_bytes(), digest_size=16).digest()
            return measure_image(pixels, size, file_digest)
        except ImageReadError as error:
            image.path.unlink(missing_ok=True)
            return error.reason

    measured: list[MeasuredImage] = []
    skipped: SkippedFiles = []
    pool = ThreadPoolExecutor(min(_MAX_DECODING_THREADS, os.cpu_count() or 1))
    try:
        for number, (image, result) in enumerate(zip(images, pool.map(measure, images), strict=True)):
            if number % _PROGRESS_INTERVAL == 0:
                yield LoadingProgress(len(images) + number, 2 * len(images))
            if isinstance(result, str):
                skipped.append((image.name, result))
            else:
                measured.append(
                    MeasuredImage(image.name, image.labels, image.held_out, image.burst, image.path, result)
                )
    finally:
        pool.shutdown(cancel_futures=True)
    return measured, skipped
