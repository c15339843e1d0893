"""Reports what loading has used, understood, skipped and lost, in sentences for the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headswap.common.text import format_image_count, natural_sort_key
from headswap.data.ingest import MeasuredImage, SkippedFiles
from headswap.data.layout_types import (
    OUTSIDE_CLASS_FOLDERS,
    TRAINING,
    VALIDATION,
    LabelledFile,
    Layout,
    parse_split_name,
)
from headswap.data.load_report import LoadReport
from headswap.data.sources import SYMLINK_REASON

_MAX_LISTED_NAMES = 3  # in a note


def make_report(
    layout: Layout,
    images: Sequence[MeasuredImage],
    skipped: SkippedFiles,
    unusable: SkippedFiles,
    existing_classes: Sequence[str],
) -> LoadReport:
    """Report what was loaded.

    Args:
        layout: of the files that seemed usable.
        images: those that are.
        skipped: files that were no images by their name.
        unusable: images that could not be copied, decoded or used.
        existing_classes: of the images to which these are added.
    """
    lost_validation = any(file.split == VALIDATION for file in layout.labelled_files) and not any(
        image.held_out for image in images
    )
    split_summary = [layout.split_summary] if layout.split_summary and not lost_validation else []
    return LoadReport(
        num_read=len(images),
        skipped=tuple(sorted([*skipped, *layout.skipped, *unusable], key=lambda pair: natural_sort_key(pair[0]))),
        notes=(
            *layout.notes,
            *_describe_symlinks(skipped),
            *_describe_missing_classes(layout.labelled_files, images, existing_classes),
        ),
        interpretation=(*layout.table_summaries, *split_summary),
    )


def _describe_symlinks(skipped: SkippedFiles) -> list[str]:
    """Notes on folders that were not followed, because a class or a split may be missing."""
    links = [name for name, reason in skipped if reason == SYMLINK_REASON]
    notes = [f"{name}/ {SYMLINK_REASON}." for name in links[:_MAX_LISTED_NAMES]]
    splits = {name: parse_split_name(name.rsplit("/", 1)[-1]) for name in links}
    unused = [name for name, split in splits.items() if split and split[0] != TRAINING]
    if unused:
        notes.append(f"{unused[0]}/ is not used, so that images to check on are drawn from the others instead.")
    return notes


def _describe_missing_classes(
    files: Sequence[LabelledFile], images: Sequence[MeasuredImage], existing_classes: Sequence[str]
) -> list[str]:
    """Notes on classes that lost all their images, or that the validation split lacks."""
    classes = sort_labels([image.labels for image in images], existing_classes)
    expected = sort_labels([file.labels for file in files if file.split != VALIDATION])
    notes = [
        f"'{name}' has no image that can be used, so it is not a class." for name in expected if name not in classes
    ]
    expected_validation = [file.labels for file in files if file.split == VALIDATION]
    validation_classes = sort_labels([image.labels for image in images if image.held_out])
    if expected_validation and not validation_classes:
        names = ", ".join(sort_labels(expected_validation)[:_MAX_LISTED_NAMES])
        notes.append(
            f"The validation folder is not used, because no class of it ({names}) is learned; images to check on are "
            "drawn from the others instead."
        )
    if validation_classes:
        missing = [name for name in classes if name not in validation_classes]
        notes += [f"The validation folder has no image of '{name}'." for name in missing]
    return notes


def describe_skipped_files(report: LoadReport) -> str:
    """Say what a source without a usable image holds instead."""
    num_loose = sum(reason == OUTSIDE_CLASS_FOLDERS for _, reason in report.skipped)
    if num_loose:
        return f"{format_image_count(num_loose)} lying loose"
    if report.skipped:
        name, reason = report.skipped[0]
        return f"{len(report.skipped)} unusable (the first, {name}, {reason})"
    return "nothing"


def sort_labels(label_sets: Iterable[tuple[str, ...]], existing_classes: Iterable[str] = ()) -> list[str]:
    """The different labels of images, and the existing classes, in natural order."""
    labels = {label for labels in label_sets for label in labels}
    return sorted(labels.union(existing_classes), key=natural_sort_key)
