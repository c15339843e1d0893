"""From what a source lists to ``LabelledImages``: placed into classes, kept, decoded, measured, with a report.

What is read is kept in a private folder, so its source may disappear. Knows nothing of networks, nor how files get
their classes, how bytes are fetched or become pixels: it asks for them and notes what was refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.common.text import format_image_count, natural_sort_key, sanitize
from headswap.data import archives, label_tables
from headswap.data import layout as layouts
from headswap.data.dataset import LabelledImages
from headswap.data.load_report import LoadReport
from headswap.data.decoding import read_image_size
from headswap.data.duplicates import ImageStats, group_duplicates, measure_image
from headswap.data.layout import Layout, TableFile
from headswap.data.picture_inputs import reject_url
from headswap.data.sources import (
    EXPECTED_LAYOUT,
    SYMLINK_REASON,
    TABLE_EXTENSIONS,
    ByteCounter,
    CopyFunction,
    SourceFile,
    link_or_copy_counted,
    read_file_start,
    walk_folder,
)
from headswap.data.store import DEFAULT_INTERPOLATION, DEFAULT_SIDE, STORE_BYTES, ImageStore

_MAX_TABLES = 10  # that are looked at, of a source
_MAX_LISTED_NAMES = 3  # names in a note
_PROGRESS_INTERVAL = 20  # files between two words on how far it is


@dataclass(frozen=True)
class LoadingProgress:
    """How far reading is: ``done`` files of ``of``, which is not known (0) while a source is being listed."""

    done: int
    total: int = 0


LoadingGenerator = Generator[LoadingProgress | LabelledImages, None, None]  # the images come last


def load_images(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    store_bytes: int = STORE_BYTES,
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> LabelledImages:
    """Read a folder, a zip or a tar.gz with one sub-folder per class, or a CSV with labels, and check every image.

    A file that cannot be used is skipped and listed in ``.report``, which says what was understood; the classes are
    those that have an image. Folders that hold everything are peeled off, deeper ones belong to their class. Where
    ``train`` stands beside ``val`` or ``test``, by these or other usual names, the classes lie in these: ``val``
    becomes the validation half and ``test`` is set aside; folders with the same sub-folders are parts of one set as
    well. A CSV says instead what the images beside it show, each one label, or several or none of them
    (``multi_label``); one called ``labels.csv`` inside a folder or an archive is found by itself, and others if their
    header says which column is which. Copies of one image belong to one group, which never sits on both sides of the
    split.

    Args:
        source: path of a folder, an archive or a CSV.
        name: what to call the source in messages; its own file name by default.
        store_bytes: how many bytes of decoded pixels stay in memory; the rest is decoded when asked for.
        for_evaluation: take what judges a model instead of what it learns from: ``test/``, or without one ``val/``, or
            without halves everything; a single class is enough then.
        multi_label: True: an image may carry several labels or none, whatever the table says. False: each has one, and
            an image with several is left out. None: as the table says.

    Raises:
        InputError: if there is no such source, no image or only one class in it, or more of something than
            ``headswap.common.limits`` allows, counted while it is read.
    """
    *_, images = load_images_with_progress(
        source, name=name, store_bytes=store_bytes, for_evaluation=for_evaluation, multi_label=multi_label
    )
    return images


def load_images_with_progress(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    store_bytes: int = STORE_BYTES,
    existing: LabelledImages | None = None,
    min_classes: int = 2,
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> LoadingGenerator:
    """The same, told as it goes; the images come last. Closed before, it leaves nothing behind.

    Args:
        source, name, store_bytes, for_evaluation, multi_label: as for ``load_images``.
        onto: images to add these to; they stay as they are and share their store with what is returned.
        least: how many classes there must be in the end; to judge by, one is enough.
    """
    reject_url(source)
    path = Path(source)
    label = sanitize(name or path.name or str(path))
    how = _LoadOptions(
        label, store_bytes, existing, min_classes, for_evaluation=for_evaluation, multi_label=multi_label
    )
    if path.name.lower().endswith(TABLE_EXTENSIONS) and os.path.isfile(path):
        home = path.absolute().parent
        yield from _load_source_files(walk_folder(home, home.name), replace(how, table_name=path.name))
    elif os.path.isdir(path):  # unlike Path's own, never raises
        yield from _load_source_files(
            walk_folder(path, name or path.name), replace(how, folder_name=path.resolve().name)
        )
    elif not os.path.exists(path):
        raise InputError(f"{label} does not exist; check the name.")
    else:
        with archives.open_archive(path, label) as files:
            yield from _load_source_files(files, how)


def load_files(files: Iterable[tuple[str, Path]], **options: int) -> LabelledImages:
    """The images of files that lie anywhere, by their relative names: ``gathering``, run to its end."""
    *_, images = load_files_with_progress([(name, path, "") for name, path in files], **options)
    return images


def load_files_with_progress(
    files: Iterable[tuple[str, Path, str]],
    *,
    class_name: str = "",
    store_bytes: int = STORE_BYTES,
    existing: LabelledImages | None = None,
    min_classes: int = 2,
    for_evaluation: bool = False,
) -> LoadingGenerator:
    """What a browser's upload gives, told as it goes: ``loading`` for files that lie anywhere.

    Args:
        files: relative name, such as "flowers/roses/a.png", the path where its bytes lie, and the burst of a camera
            that it belongs to or "". Whether that path may be read at all is for the caller to decide.
        label: the class of all of them; without one their folders or a table say what they show.
        store_bytes, onto, least, for_evaluation: as for ``loading``.

    Raises:
        InputError: as ``load_images`` does.
    """
    found = (
        SourceFile.from_name(
            name,
            partial(link_or_copy_counted, Path(path)),
            burst=burst,
            read_start=partial(read_file_start, Path(path)),
        )
        for name, path, burst in files
    )
    of_class = sanitize(class_name.strip())
    yield from _load_source_files(
        found,
        _LoadOptions(
            "The upload", store_bytes, existing, min_classes, class_name=of_class, for_evaluation=for_evaluation
        ),
    )


@dataclass(frozen=True)
class _LoadOptions:
    """What is asked of a loading."""

    source_name: str  # what to call the source
    store_bytes: int
    existing: LabelledImages | None
    min_classes: int
    table_name: str = ""  # the one that counts, if it was given itself
    class_name: str = ""
    folder_name: str = ""  # what the folder itself is called
    for_evaluation: bool = False
    multi_label: bool | None = None


@dataclass(frozen=True)
class _ImageRecord:
    """A file with what it shows, and what was made of it so far."""

    name: str
    labels: tuple[str, ...]  # one of them, unless a table says otherwise
    held_out: bool
    copy_to: CopyFunction = field(repr=False)
    burst: str = ""
    path: Path = Path()
    traits: ImageStats | None = None


_ImageRecords = list[_ImageRecord]
_SkippedFiles = list[tuple[str, str]]  # (name, reason)


def _load_source_files(source_files: Iterable[SourceFile], options: _LoadOptions) -> LoadingGenerator:
    pictures, skipped, listings = yield from _partition_files(source_files, options)
    store = options.existing._store if options.existing else ImageStore(options.store_bytes)
    written: list[Path] = []
    try:
        if options.class_name:
            layout = Layout(tuple(layouts.LabelledFile(picture, (options.class_name,)) for picture in pictures))
        else:
            read = _read_table_files(listings, store, options.source_name)
            layout = layouts.infer_layout(
                pictures,
                read,
                table_name=options.table_name,
                folder_name=sanitize(options.folder_name),
                for_evaluation=options.for_evaluation,
                multi_label=options.multi_label,
            )
        placed = [
            _ImageRecord(
                p.source_file.name, p.labels, p.split == layouts.VALIDATION, p.source_file.copy_to, p.source_file.burst
            )
            for p in layout.labelled_files
        ]
        _check_class_count(placed, options)
        kept, unusable = yield from _copy_to_store(placed, store, options.source_name, written)
        decoded, broken = yield from _decode_and_measure(kept, store)
        usable, strangers = _drop_untrained_classes(decoded, options.existing)
        notes = [
            *layout.notes,
            *_describe_symlinks(skipped),
            *_describe_missing_classes(placed, usable, options.existing),
        ]
        skipped = sorted(
            [*skipped, *layout.skipped, *unusable, *broken, *strangers], key=lambda pair: natural_sort_key(pair[0])
        )
        unchecked = any(picture.held_out for picture in placed) and not any(picture.held_out for picture in usable)
        halves = [layout.split_summary] if layout.split_summary and not unchecked else []
        report = LoadReport(len(usable), tuple(skipped), tuple(notes), (*layout.table_summaries, *halves))
        images = _build_dataset(usable, report, store, options, layout.multi_label)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        if options.existing is None:
            store.close()
        raise
    yield images


def _partition_files(
    source_files: Iterable[SourceFile], options: _LoadOptions
) -> Generator[LoadingProgress, None, tuple[list[SourceFile], _SkippedFiles, list[SourceFile]]]:
    """What may be a picture, what is not, and what may be a table of labels, by name alone."""
    pictures: list[SourceFile] = []
    listings: list[SourceFile] = []
    skipped: _SkippedFiles = []
    there, most = Counter[str](options.existing.names if options.existing else ()), get_limits().images
    for item in source_files:
        if item.is_junk:
            continue
        if len(pictures) + len(skipped) + (len(options.existing) if options.existing else 0) >= most:
            raise InputError(f"{options.source_name} holds more than {most:,} files; take fewer.")
        if item.is_table_candidate and not options.class_name and len(listings) < _MAX_TABLES:
            listings.append(item)
        elif item.problem:
            skipped.append((item.name, item.problem))
        else:
            there[item.name] += 1
            again = there[item.name]
            pictures.append(item if again == 1 else replace(item, name=f"{item.name} ({again})"))
        if len(pictures) % _PROGRESS_INTERVAL == 0:
            yield LoadingProgress(len(pictures))
    return pictures, skipped, listings


def _read_table_files(table_files: Sequence[SourceFile], store: ImageStore, source_name: str) -> list[TableFile]:
    """Each of them as a table, or why it is none."""
    read: list[TableFile] = []
    for listing in table_files:
        path = store.allocate_path(label_tables.LABELS_FILE_NAME)
        name = listing.parts[-1]
        try:
            listing.copy_to(
                path,
                ByteCounter(label_tables.MAX_TABLE_BYTES, f"{source_name} has a table of labels that is too large."),
            )
            read.append(TableFile(listing, label_tables.read_csv_table(path, name)))
        except InputError as error:
            read.append(TableFile(listing, error))
        except OSError:
            read.append(TableFile(listing, InputError(f"{name} cannot be opened; check that it may be read.")))
        finally:
            path.unlink(missing_ok=True)
    return read


def _check_class_count(records: _ImageRecords, options: _LoadOptions) -> None:
    most = get_limits().classes
    if len(_collect_labels(records, options.existing)) > most:
        raise InputError(
            f"{options.source_name} holds more than {most:,} classes; a class is a folder, or a label of the table."
        )


def _copy_to_store(
    records: _ImageRecords, store: ImageStore, source_name: str, written_paths: list[Path]
) -> Generator[LoadingProgress, None, tuple[_ImageRecords, _SkippedFiles]]:
    """Put each picture into the store's folder; where they lie is noted in ``written`` as well."""
    kept, skipped, most = [], [], get_limits()
    size = f"{most.megabytes / 1024:.3g} GB"
    meter = ByteCounter(
        most.total_bytes - store.bytes_written,
        f"{source_name} holds more than {size} that would have to be unpacked or copied, with what is there already; make "
        "the pictures smaller (1000 pixels are plenty) or take fewer.",
    )
    for number, picture in enumerate(records):
        if number % _PROGRESS_INTERVAL == 0:
            yield LoadingProgress(number, 2 * len(records))
        path = store.allocate_path(picture.name)
        written_paths.append(path)
        try:
            picture.copy_to(path, meter)
            kept.append(replace(picture, path=path))
        except ImageReadError as error:
            skipped.append((picture.name, error.reason))
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                reason = f"does not fit on the disk of {store.folder.parent}; make room, or set TMPDIR."
                raise InputError(f"{source_name} {reason}") from error
            skipped.append((picture.name, "cannot be opened; check that it exists and may be read"))
            path.unlink(missing_ok=True)
    store.bytes_written += meter.num_bytes
    return kept, skipped


def _decode_and_measure(
    records: _ImageRecords, store: ImageStore
) -> Generator[LoadingProgress, None, tuple[_ImageRecords, _SkippedFiles]]:
    """Decode and measure everything once, in parallel, for the store's sake and to find what is damaged."""

    def looked_at(picture: _ImageRecord) -> _ImageRecord | str:
        try:
            size = read_image_size(picture.path)
            pixels = store.pixels(picture.path, DEFAULT_SIDE, DEFAULT_INTERPOLATION)
            digest = hashlib.blake2b(picture.path.read_bytes(), digest_size=16).digest()
            return replace(picture, traits=measure_image(pixels, size, digest))
        except ImageReadError as error:
            picture.path.unlink(missing_ok=True)
            return error.reason

    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    decoded, broken = [], []
    try:
        for number, (picture, result) in enumerate(zip(records, pool.map(looked_at, records), strict=True)):
            if number % _PROGRESS_INTERVAL == 0:
                yield LoadingProgress(len(records) + number, 2 * len(records))
            if isinstance(result, str):
                broken.append((picture.name, result))
            else:
                decoded.append(result)
    finally:
        pool.shutdown(cancel_futures=True)
    return decoded, broken


def _drop_untrained_classes(
    records: _ImageRecords, existing: LabelledImages | None
) -> tuple[_ImageRecords, _SkippedFiles]:
    """Leave out validation images of classes that cannot be learned."""
    learnable = {label for picture in records if not picture.held_out for label in picture.labels}
    learnable.update(existing.classes if existing else ())
    strangers = [picture.name for picture in records if not learnable.issuperset(picture.labels)]
    usable = [picture for picture in records if learnable.issuperset(picture.labels)]
    return usable, [(name, "has a class without an image to learn from") for name in strangers]


def _describe_symlinks(skipped: _SkippedFiles) -> list[str]:
    """Notes on folders that were not followed: a class or a half may be lacking."""
    links = [name for name, reason in skipped if reason == SYMLINK_REASON]
    notes = [f"{name}/ {SYMLINK_REASON}." for name in links[:_MAX_LISTED_NAMES]]
    halves = [
        name for name in links if (role := layouts.parse_split_name(name.rsplit("/", 1)[-1])) and role[0] != "training"
    ]
    if halves:
        notes.append(f"{halves[0]}/ is not used, so that images to check on are drawn from the others instead.")
    return notes


def _describe_missing_classes(
    records: _ImageRecords, usable: _ImageRecords, existing: LabelledImages | None
) -> list[str]:
    """Notes on classes that lost all their images, or that the validation folder lacks."""
    there = _collect_labels(usable, existing)
    lost = [
        label
        for label in _collect_labels([picture for picture in records if not picture.held_out])
        if label not in there
    ]
    notes = [f"'{name}' has no image that can be used, so it is not a class." for name in lost]
    checked = _collect_labels([picture for picture in usable if picture.held_out])
    if not checked and any(picture.held_out for picture in records):
        names = ", ".join(_collect_labels([picture for picture in records if picture.held_out])[:_MAX_LISTED_NAMES])
        notes.append(
            f"The validation folder is not used, because no class of it ({names}) is learned; images to check on are "
            "drawn from the others instead."
        )
    if checked:
        unchecked = [label for label in there if label not in checked]
        notes += [f"The validation folder has no image of '{name}'." for name in unchecked]
    return notes


def _collect_labels(records: _ImageRecords, existing: LabelledImages | None = None) -> list[str]:
    """The labels of pictures, and of images that they are added to, each once and sorted."""
    labels = {label for picture in records for label in picture.labels}
    return sorted(labels.union(existing.classes if existing else ()), key=natural_sort_key)


def _build_dataset(
    usable: _ImageRecords, report: LoadReport, store: ImageStore, options: _LoadOptions, multi_label: bool
) -> LabelledImages:
    classes = _collect_labels(usable, options.existing)
    if not usable:
        raise InputError(
            f"{options.source_name} holds no image to learn from; expected {EXPECTED_LAYOUT}, but found {_describe_skipped_files(report)}."
        )
    if len(classes) < (1 if options.for_evaluation else options.min_classes):
        wanted = "add a sub-folder with what it is to be told from."
        raise InputError(
            " ".join([f"{options.source_name} holds only one class, '{classes[0]}';", wanted, *report.notes])
        )
    images = LabelledImages(
        classes=(),
        labels=((),) * len(usable),
        groups=tuple(picture.burst or None for picture in usable),
        names=tuple(picture.name for picture in usable),
        paths=tuple(picture.path for picture in usable),
        stats=tuple(picture.traits for picture in usable),
        bursts=tuple(picture.burst for picture in usable),
        report=report,
        held_out=tuple(picture.held_out for picture in usable),
        _store=store,
        multi_label=multi_label,
    )
    named = [picture.labels for picture in usable]
    if options.existing:
        images, named = options.existing.concatenate(images), options.existing.label_names + named
    images = images.with_labels(named)
    return replace(images, groups=tuple(group_duplicates(images.stats, images.groups)))


def _describe_skipped_files(report: LoadReport) -> str:
    loose = sum(reason == "lies outside the class folders" for _, reason in report.skipped)
    if loose:
        return f"{format_image_count(loose)} lying loose"
    if report.skipped:
        name, reason = report.skipped[0]
        return f"{len(report.skipped)} unusable (the first, {name}, {reason})"
    return "nothing"
