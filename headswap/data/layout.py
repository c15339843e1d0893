"""Infers each image file's labels and split (training, validation, test) from folder names or label tables.

One sub-folder per class is the rule; a table beside the images takes its place. What was inferred is reported in the
layout's notes and summaries. Knows names and parsed tables only: no file is opened here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from headswap.common.errors import InputError
from headswap.common.text import format_image_count, natural_sort_key
from headswap.data.layout_by_folders import infer_from_folders
from headswap.data.layout_by_tables import infer_from_tables
from headswap.data.layout_types import (
    OUTSIDE_CLASS_FOLDERS,
    TEST,
    TRAINING,
    VALIDATION,
    LabelledFile,
    Layout,
    TableFile,
    join_few_names,
    normalize_class_name,
)
from headswap.data.sources import SourceFile


def infer_layout(
    image_files: Sequence[SourceFile],
    table_files: Sequence[TableFile] = (),
    *,
    table_name: str = "",
    folder_name: str = "",
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> Layout:
    """Infer the labels and the split of each image file.

    Args:
        image_files: files that may be images.
        table_files: files that may be label tables.
        table_name: name of the table to use; "" for ``labels.csv``, or else those whose header says so.
        folder_name: name of the folder that holds everything.
        for_evaluation: choose the files to evaluate a model on (``test/``, or else ``val/``) instead of those to train
            on.
        multi_label: whether an image may have several labels; None leaves it to the tables.

    Raises:
        InputError: if the table to use cannot be read or names no image while folders show no classes either; or if
            ``for_evaluation`` meets a test folder without classes.
    """
    layout = infer_from_tables(image_files, table_files, table_name, infer_from_folders(image_files), multi_label)
    layout = _merge_similar_class_names(layout)
    if not for_evaluation:
        return _select_for_training(layout)
    if folder_name and not layout.labelled_files and all(len(file.parts) == 1 for file in image_files):
        return _assign_single_class(image_files, folder_name)
    return _select_for_evaluation(layout)


def _assign_single_class(image_files: Sequence[SourceFile], folder_name: str) -> Layout:
    """Give all files the name of their folder as class: enough for an evaluation."""
    sentence = f"The images lie in {folder_name}/ itself, so {folder_name} is their class."
    return Layout(
        tuple(LabelledFile(file, (folder_name,)) for file in image_files),
        table_summaries=(sentence,) if image_files else (),
    )


def _select_for_training(layout: Layout) -> Layout:
    """Drop the test files and describe the remaining splits."""
    test_counts = Counter(file.split_source for file in layout.labelled_files if file.split == TEST)
    notes = [
        f"{folder}: {format_image_count(count)} set aside; a test folder never chooses anything."
        for folder, count in sorted(test_counts.items())
    ]
    remaining = tuple(file for file in layout.labelled_files if file.split != TEST)
    return replace(
        layout,
        labelled_files=remaining,
        split_summary=_describe_splits(remaining),
        notes=(*notes, *layout.notes),
    )


def _describe_splits(labelled_files: Sequence[LabelledFile]) -> str:
    training, validation = (
        sorted({file.split_source for file in labelled_files if file.split == split})
        for split in (TRAINING, VALIDATION)
    )
    if training == [""] or not training:
        return ""
    if not validation:
        return f"{join_few_names(training)} to learn from, and a part drawn by lot to check on."
    return f"{join_few_names(training)} to learn from, {join_few_names(validation)} to check on."


def _select_for_evaluation(layout: Layout) -> Layout:
    """Keep the test files, or else those for validation, or all if there are no splits."""
    usable = [file for file in layout.labelled_files if file.labels or layout.multi_label]
    unlabelled = [file for file in layout.labelled_files if not (file.labels or layout.multi_label)]
    folders_by_split = {
        split: sorted({file.split_source for file in usable if file.split == split} - {""})
        for split in (TEST, VALIDATION, TRAINING)
    }
    chosen_split = next((split for split, folders in folders_by_split.items() if folders), TRAINING)
    if chosen_split == TRAINING and any(file.split != TRAINING for file in layout.labelled_files):
        where = join_few_names(sorted({file.split_source for file in unlabelled}))
        raise InputError(f"{where} has no sub-folder for each class, so it cannot judge a model; give one that has.")
    chosen = tuple(replace(file, split=TRAINING) for file in usable if file.split == chosen_split)
    left_out = sorted({file.split_source for file in layout.labelled_files if file.split != chosen_split})
    summaries = layout.table_summaries
    if left_out:
        summaries = (
            *summaries,
            f"Judged by {join_few_names(folders_by_split[chosen_split])}: {format_image_count(len(chosen))}. "
            f"{join_few_names(left_out)} {'is' if len(left_out) == 1 else 'are'} left out.",
        )
    return replace(
        layout,
        labelled_files=chosen,
        skipped=(*layout.skipped, *((file.source_file.name, OUTSIDE_CLASS_FOLDERS) for file in unlabelled)),
        table_summaries=summaries,
    )


def _merge_similar_class_names(layout: Layout) -> Layout:
    """Spell the classes of the other splits as the training split does; report alike names within the latter."""
    training_names = {name for file in layout.labelled_files if file.split == TRAINING for name in file.labels}
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in sorted(training_names, key=natural_sort_key):
        spellings[normalize_class_name(name)].add(name)
    renamed: dict[str, tuple[str, str]] = {}  # (split source, name in the training split)
    for file in layout.labelled_files:
        for name in file.labels:
            similar = spellings[normalize_class_name(name)]
            if file.split != TRAINING and name not in training_names and len(similar) == 1:
                [training_name] = similar
                renamed[name] = (file.split_source, training_name)
    notes = [
        f"{folder}{name} is taken for {training_name}, as the training half writes it."
        for name, (folder, training_name) in renamed.items()
    ]
    for names in spellings.values():
        if len(names) > 1:
            notes.append(
                f"{' and '.join(sorted(names))} are spelled alike, and are classes of their own; rename one to "
                "join them."
            )
    files = tuple(
        replace(file, labels=tuple(renamed[name][1] if name in renamed else name for name in file.labels))
        if file.split != TRAINING
        else file
        for file in layout.labelled_files
    )
    return replace(layout, labelled_files=files, notes=(*layout.notes, *notes))
