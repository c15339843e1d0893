"""Loads images from a folder, archive, table or list of uploaded files into ``LabelledImages``.

Reports progress and skipped files. The images are copied to a private folder, so the source may disappear. Knows
nothing of networks, nor of how labels are inferred, bytes copied or pixels decoded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

from headswap.common.errors import InputError
from headswap.common.limits import get_limits
from headswap.common.text import sanitize
from headswap.data.archives import open_archive
from headswap.data.dataset import LabelledImages
from headswap.data.duplicates import group_duplicates
from headswap.data.ingest import (
    LoadingProgress,
    MeasuredImage,
    SkippedFiles,
    copy_to_store,
    decode_and_measure,
    partition_files,
    read_table_files,
)
from headswap.data.layout import infer_layout
from headswap.data.layout_types import LabelledFile, Layout, TableFile
from headswap.data.load_notes import describe_skipped_files, make_report, sort_labels
from headswap.data.load_report import LoadReport
from headswap.data.picture_inputs import reject_url
from headswap.data.sources import (
    EXPECTED_LAYOUT,
    TABLE_EXTENSIONS,
    SourceFile,
    link_or_copy_counted,
    read_file_start,
    walk_folder,
)
from headswap.data.store import STORE_BYTES, ImageStore

LoadingGenerator = Generator[LoadingProgress | LabelledImages, None, None]  # the images come last


def load_images(
    source: str | os.PathLike[str],
    *,
    name: str | None = None,
    store_bytes: int = STORE_BYTES,
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> LabelledImages:
    """Load a folder or an archive with one sub-folder per class, or a CSV with labels, and decode every image once.

    Files that cannot be used are skipped and listed in ``.report``, which also says how the source was understood; the
    classes are those that have an image. Folders that hold everything are stripped, deeper ones belong to their class.
    If ``train`` lies beside ``val`` or ``test``, by these or other usual names, the classes are the folders in these:
    ``val`` becomes the validation split and ``test`` is set aside; folders with the same sub-folders are parts of one
    dataset as well.

    A CSV or TSV gives the labels of the images beside it instead: one each, or several or none (``multi_label``). One
    called ``labels.csv`` in a folder or archive is always used, others if their header says which column is which.
    Copies of one image belong to one group, which is never divided by a split.

    Args:
        source: path of a folder, of a zip, tar or tar.gz, or of a CSV or TSV.
        name: what messages call the source; its file name by default.
        store_bytes: size of the cache of decoded pixels in memory; other images are decoded when they are asked for.
        for_evaluation: load the images to evaluate a model on instead of those to train on: ``test/``, or else
            ``val/``, or everything if there are no splits; a single class is enough then.
        multi_label: whether an image may have several labels or none, whatever the table says; if False, images with
            several labels are left out. None decides by the table.

    Raises:
        InputError: if there is no such source, it has no image or only one class, or it exceeds one of
            ``headswap.common.limits`` while it is read.
    """
    return _run(
        load_images_with_progress(
            source, name=name, store_bytes=store_bytes, for_evaluation=for_evaluation, multi_label=multi_label
        )
    )


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
    """Yield the progress of ``load_images`` and finally the images. If closed before, it removes what it has written.

    Args:
        source: as for ``load_images``.
        name: as for ``load_images``.
        store_bytes: as for ``load_images``.
        existing: images to add these to; they are unchanged and share their store with the result.
        min_classes: how many classes the result must have; one is enough with ``for_evaluation``.
        for_evaluation: as for ``load_images``.
        multi_label: as for ``load_images``.

    Raises:
        InputError: as ``load_images``.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"load_images takes the path of a folder, an archive or a table of labels, not {type(source).__name__}. "
            "Write arrays to image files first, in a folder for each class."
        )
    reject_url(source)
    path = Path(source)
    source_name = sanitize(name or path.name or str(path))
    target = _Target(source_name, store_bytes, existing, 1 if for_evaluation else min_classes)
    infer = partial(infer_layout, for_evaluation=for_evaluation, multi_label=multi_label)
    if path.name.lower().endswith(TABLE_EXTENSIONS) and os.path.isfile(path):
        folder = path.absolute().parent
        yield from _load_source_files(walk_folder(folder, folder.name), target, partial(infer, table_name=path.name))
    elif os.path.isdir(path):  # unlike Path.is_dir, never raises
        infer = partial(infer, folder_name=sanitize(path.resolve().name))
        yield from _load_source_files(walk_folder(path, name or path.name), target, infer)
    elif not os.path.exists(path):
        raise InputError(f"{source_name} does not exist; check the name.")
    else:
        with open_archive(path, source_name) as files:
            yield from _load_source_files(files, target, infer)


def load_files_with_progress(
    files: Iterable[tuple[str, Path, str]],
    *,
    class_name: str = "",
    store_bytes: int = STORE_BYTES,
    existing: LabelledImages | None = None,
    min_classes: int = 2,
    for_evaluation: bool = False,
) -> LoadingGenerator:
    """Yield the progress of loading files that lie anywhere, such as a browser's upload, and finally the images.

    Args:
        files: for each the relative name, such as "flowers/roses/a.png", the path of its bytes, and the camera burst
            that it belongs to or "". The caller decides whether that path may be read.
        class_name: the class of all files; "" to infer it from their folders or a table.
        store_bytes: as for ``load_images``.
        existing: images to add these to; they are unchanged and share their store with the result.
        min_classes: how many classes the result must have; one is enough with ``for_evaluation``.
        for_evaluation: as for ``load_images``.

    Raises:
        InputError: as ``load_images``.
    """
    source_files = (
        SourceFile.from_name(
            name,
            partial(link_or_copy_counted, Path(path)),
            burst=burst,
            read_start=partial(read_file_start, Path(path)),
        )
        for name, path, burst in files
    )
    target = _Target("The upload", store_bytes, existing, 1 if for_evaluation else min_classes)
    if class_name := sanitize(class_name.strip()):
        yield from _load_source_files(source_files, target, partial(_assign_class, class_name), use_tables=False)
    else:
        yield from _load_source_files(source_files, target, partial(infer_layout, for_evaluation=for_evaluation))


def _run(steps: LoadingGenerator) -> LabelledImages:
    *_, images = steps
    assert isinstance(images, LabelledImages)
    return images


def _assign_class(class_name: str, image_files: Sequence[SourceFile], _: Sequence[TableFile]) -> Layout:
    return Layout(tuple(LabelledFile(file, (class_name,)) for file in image_files))


@dataclass(frozen=True)
class _Target:
    """What files are loaded into, and what to call their source.

    Attributes:
        source_name: what messages call the source.
        store_bytes: size of the cache of decoded pixels, if a new store is made.
        existing: images to add these to.
        min_classes: how many classes the result must have.
    """

    source_name: str
    store_bytes: int
    existing: LabelledImages | None
    min_classes: int

    @property
    def existing_classes(self) -> tuple[str, ...]:
        return self.existing.classes if self.existing else ()


def _load_source_files(
    source_files: Iterable[SourceFile],
    target: _Target,
    infer: Callable[[Sequence[SourceFile], Sequence[TableFile]], Layout],
    use_tables: bool = True,
) -> LoadingGenerator:
    existing_names = target.existing.names if target.existing else ()
    image_files, table_files, skipped = yield from partition_files(
        source_files, target.source_name, existing_names, use_tables
    )
    store = target.existing._store if target.existing else ImageStore(target.store_bytes)
    written_paths: list[Path] = []
    try:
        layout = infer(image_files, read_table_files(table_files, store, target.source_name))
        _check_class_count(layout.labelled_files, target)
        stored, not_copied = yield from copy_to_store(layout.labelled_files, store, target.source_name, written_paths)
        measured, damaged = yield from decode_and_measure(stored, store)
        images, untrained = _drop_untrained_classes(measured, target.existing_classes)
        report = make_report(layout, images, skipped, [*not_copied, *damaged, *untrained], target.existing_classes)
        dataset = _build_dataset(images, report, store, target, layout.multi_label)
    except BaseException:
        for path in written_paths:
            path.unlink(missing_ok=True)
        if target.existing is None:
            store.close()
        raise
    yield dataset


def _check_class_count(files: Sequence[LabelledFile], target: _Target) -> None:
    max_classes = get_limits().classes
    if len(sort_labels([file.labels for file in files], target.existing_classes)) > max_classes:
        raise InputError(
            f"{target.source_name} holds more than {max_classes:,} classes; a class is a folder, or a label of the "
            "table."
        )


def _drop_untrained_classes(
    images: Sequence[MeasuredImage], existing_classes: Iterable[str]
) -> tuple[list[MeasuredImage], SkippedFiles]:
    """Leave out validation images of classes without a training image."""
    trained = {label for image in images if not image.held_out for label in image.labels}
    trained.update(existing_classes)
    kept = [image for image in images if trained.issuperset(image.labels)]
    dropped = [image.name for image in images if not trained.issuperset(image.labels)]
    return kept, [(name, "has a class without an image to learn from") for name in dropped]


def _build_dataset(
    images: Sequence[MeasuredImage], report: LoadReport, store: ImageStore, target: _Target, multi_label: bool
) -> LabelledImages:
    classes = sort_labels([image.labels for image in images], target.existing_classes)
    if not images:
        raise InputError(
            f"{target.source_name} holds no image to learn from; expected {EXPECTED_LAYOUT}, but found "
            f"{describe_skipped_files(report)}."
        )
    if len(classes) < target.min_classes:
        problem = f"{target.source_name} holds only one class, '{classes[0]}';"
        raise InputError(" ".join([problem, "add a sub-folder with what it is to be told from.", *report.notes]))
    existing_groups = target.existing.groups if target.existing else ()
    dataset = LabelledImages(
        classes=(),
        labels=((),) * len(images),
        groups=_number_bursts([image.burst for image in images], 1 + max(existing_groups, default=-1)),
        names=tuple(image.name for image in images),
        paths=tuple(image.path for image in images),
        stats=tuple(image.stats for image in images),
        bursts=tuple(image.burst for image in images),
        report=report,
        held_out=tuple(image.held_out for image in images),
        _store=store,
        multi_label=multi_label,
    )
    label_names = [image.labels for image in images]
    if target.existing:
        dataset = target.existing.concatenate(dataset)
        label_names = target.existing.label_names + label_names
    dataset = dataset.with_labels(label_names)
    return replace(dataset, groups=tuple(group_duplicates(dataset.stats, dataset.groups)))


def _number_bursts(bursts: Sequence[str], first: int) -> tuple[int, ...]:
    """A group number from ``first`` on for each image: the same for images of one burst, else one of its own."""
    numbers = count(first)
    by_burst = {burst: next(numbers) for burst in dict.fromkeys(bursts) if burst}
    return tuple(by_burst[burst] if burst else next(numbers) for burst in bursts)
