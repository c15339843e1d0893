"""Infers each image file's labels and split from the label tables beside the files.

Knows names and parsed tables only: no file is opened here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from headswap.common.errors import InputError
from headswap.common.text import format_image_count, sanitize
from headswap.data.csv_tables import LABELS_FILE_NAME
from headswap.data.layout_by_folders import strip_wrapper_folders
from headswap.data.layout_types import (
    OUTSIDE_SPLIT_FOLDERS,
    TEST,
    TRAINING,
    LabelledFile,
    Layout,
    TableFile,
    join_few_names,
    match_split_names,
)
from headswap.data.sources import SourceFile, is_unsafe_path
from headswap.data.table_selection import (
    MergedTables,
    SkipReasons,
    UsableTable,
    drop_overlapping_tables,
    filter_explicit_tables,
    find_usable_tables,
    merge_tables_by_header,
)


def infer_from_tables(
    image_files: Sequence[SourceFile],
    table_files: Sequence[TableFile],
    table_name: str,
    folder_layout: Layout,
    multi_label: bool | None,
) -> Layout:
    """Infer the labels of each image file from tables; without a usable one, return what the folders say.

    Args:
        image_files: files that may be images.
        table_files: files that may be label tables.
        table_name: name of the table to use; "" for ``labels.csv``, or else those whose header says so.
        folder_layout: what the folders say.
        multi_label: whether an image may have several labels; None leaves it to the tables.

    Raises:
        InputError: if the table to use cannot be read or names no image while folders show no classes either.
    """
    class_names = {name for file in folder_layout.labelled_files for name in file.labels}
    if table_name:
        requested = [table for table in table_files if table.source_file.parts == (table_name,)]
    else:
        requested = [table for table in table_files if table.source_file.parts[-1].casefold() == LABELS_FILE_NAME]
    tables, unused = find_usable_tables(requested or table_files, image_files, class_names, multi_label is False)
    if not requested:
        tables = filter_explicit_tables(tables, unused, folder_layout, len(class_names))
    tables = drop_overlapping_tables(tables, unused)
    merged_tables = merge_tables_by_header(tables, unused)
    if requested:
        others = [table for table in table_files if table not in requested]
        unused |= dict.fromkeys(
            others, f"is a table that does not count, because {table_name or LABELS_FILE_NAME} does"
        )
    if merged_tables:
        return _build_table_layout(image_files, merged_tables, unused, multi_label)
    if requested and len(class_names) < 2 and image_files:
        raise _unusable_table_error(requested[0], unused)
    passed_over = tuple(
        f"{table.source_file.parts[-1]} {_strip_reason_prefix(reason)}, so it is passed over: the folders say what the "
        "pictures show."
        for table, reason in unused.items()
        if table in requested
    )
    return replace(
        folder_layout,
        skipped=(*folder_layout.skipped, *_list_unused_tables(unused)),
        notes=(*passed_over, *folder_layout.notes),
    )


def _unusable_table_error(table: TableFile, unused: SkipReasons) -> InputError:
    if isinstance(table.content, InputError):
        return table.content
    return InputError(
        f"{table.source_file.parts[-1]} {_strip_reason_prefix(unused[table])}: one row says "
        f"'{sanitize(table.content.rows[-1][0])}'. Write the names as the files are called, each with its label beside "
        "it."
    )


def _strip_reason_prefix(reason: str) -> str:
    return reason.removeprefix("is a table that ")


def _list_unused_tables(unused: SkipReasons) -> list[tuple[str, str]]:
    return [(table.source_file.name, reason) for table, reason in unused.items()]


# Reading labels and splits


def _build_table_layout(
    image_files: Sequence[SourceFile],
    merged_tables: Sequence[MergedTables],
    unused: SkipReasons,
    multi_label: bool | None,
) -> Layout:
    """Give each image its labels from the tables, and the split of its folder or of its table."""
    is_multi_label = _is_multi_label(merged_tables) if multi_label is None else multi_label
    labels = _collect_labels(merged_tables, is_multi_label)
    table_names = {
        index: table.name for merged in merged_tables for table in merged.tables for index in table.image_indices
    }
    splits = _infer_splits(image_files, merged_tables)
    all_names = join_few_names(sorted({table.name for merged in merged_tables for table in merged.tables}))
    labelled_files, skipped = [], _list_unused_tables(unused)
    for index, file in enumerate(image_files):
        split, split_source = splits.get(index, (TRAINING, ""))
        file_labels = labels.get(index)
        if split is None:
            skipped.append((file.name, OUTSIDE_SPLIT_FOLDERS))
        elif file_labels is not None and (is_multi_label or len(file_labels) == 1):
            labelled_files.append(LabelledFile(file, file_labels, split, split_source))
        elif file_labels is None and split == TEST:
            labelled_files.append(LabelledFile(file, (), split, split_source))
        elif file_labels is None:
            in_table = index in table_names
            reason = f"has no label in {table_names[index]}" if in_table else f"is not named in {all_names}"
            skipped.append((file.name, reason))
        else:
            listed = f"the labels {', '.join(file_labels)}" if file_labels else "no label"
            skipped.append((file.name, f"carries {listed} in {table_names[index]}, and one is wanted"))
    outside, notes = _report_unmatched_names(merged_tables)
    unlabelled = [index for merged in merged_tables for index in sorted(merged.table_labels.unlabelled)]
    if unlabelled:
        is_kept = any(index in labels for index in unlabelled)
        notes.append(_describe_empty_cells(image_files, unlabelled, table_names, is_kept))
    if is_multi_label:
        notes.append("Some images carry several labels or none, so each label is decided on its own.")
    return Layout(
        labelled_files=tuple(labelled_files),
        skipped=(*skipped, *outside),
        table_summaries=tuple(
            f"{join_few_names(_list_table_names(merged.tables))}: {merged.table_labels.summary}."
            for merged in merged_tables
        ),
        notes=(*(note for merged in merged_tables for note in merged.table_labels.notes), *notes),
        multi_label=is_multi_label,
    )


def _is_multi_label(merged_tables: Sequence[MergedTables]) -> bool:
    """Whether the tables give any image several labels, or none in indicator columns."""
    all_labels = [merged.table_labels for merged in merged_tables]
    return any(
        labels.is_multi_label or (labels.has_indicator_columns and () in labels.labels.values())
        for labels in all_labels
    )


def _collect_labels(merged_tables: Sequence[MergedTables], is_multi_label: bool) -> dict[int, tuple[str, ...]]:
    """Labels by index of the image; an empty cell is no label, which is one of the answers of multi-label data."""
    labels: dict[int, tuple[str, ...]] = {}
    for merged in merged_tables:
        labels |= merged.table_labels.labels
        if is_multi_label and not merged.table_labels.has_indicator_columns:
            labels |= dict.fromkeys(merged.table_labels.unlabelled, ())
    return labels


def _list_table_names(tables: Sequence[UsableTable]) -> list[str]:
    return [table.name if len(tables) == 1 else table.path_name for table in tables]


def _infer_splits(
    image_files: Sequence[SourceFile], merged_tables: Sequence[MergedTables]
) -> dict[int, tuple[str | None, str]]:
    """Split of images, with the folder or table that it was inferred from: from folders, else from table names."""
    relative_parts, top_folders = strip_wrapper_folders(image_files)
    if splits := match_split_names(top_folders):
        return {
            index: (splits[parts[0]], f"{parts[0]}/")
            for index, file in enumerate(image_files)
            if len(parts := relative_parts[file]) > 1
        }
    tables = {table.name: table for merged in merged_tables for table in merged.tables}
    splits = match_split_names(os.path.splitext(name)[0] for name in tables)
    table_splits = {name: splits.get(os.path.splitext(name)[0]) for name in tables}
    if not splits or None in table_splits.values():
        return {}
    return {index: (table_splits[name], name) for name, table in tables.items() for index in table.image_indices}


# Reporting


def _report_unmatched_names(merged_tables: Sequence[MergedTables]) -> tuple[list[tuple[str, str]], list[str]]:
    """Names of which tables mean no file, or several.

    Returns:
        ``(name, reason)`` of those outside the table's folder, and notes on the others.
    """
    skipped, notes = [], []
    for table in (table for merged in merged_tables for table in merged.tables):
        unmatched = [name for name, match in table.matches.items() if name and match.index is None]
        outside = [name for name in unmatched if is_unsafe_path(name) or "://" in name]
        ambiguous = [name for name in unmatched if table.matches[name].ambiguous]
        missing = [name for name in unmatched if name not in outside and name not in ambiguous]
        for name in outside:
            reason = f"lies outside the folder of {table.name}; put the picture beside it"
            skipped.append((sanitize(name.replace("\\", "/")), reason))
        if missing:
            first = sanitize(missing[0].replace("\\", "/"))
            notes.append(
                f"{table.name} names {format_image_count(len(missing))} that {'is' if len(missing) == 1 else 'are'} "
                f"not there; the first is {first}."
            )
        if ambiguous:
            notes.append(
                f"{table.name} calls {format_image_count(len(ambiguous))} by a name that several have; the first is "
                f"{sanitize(ambiguous[0])}. Write their folders, too."
            )
    return skipped, notes


def _describe_empty_cells(
    image_files: Sequence[SourceFile], unlabelled: Sequence[int], table_names: Mapping[int, str], is_kept: bool
) -> str:
    is_single = len(unlabelled) == 1
    if is_kept:
        outcome = f"{'carries' if is_single else 'carry'} none of the labels"
    else:
        outcome = f"{'is' if is_single else 'are'} left out"
    first = unlabelled[0]
    return (
        f"{table_names[first]}: {format_image_count(len(unlabelled))} {'has' if is_single else 'have'} an empty cell "
        f"in place of a label and {outcome}; the first is {image_files[first].name}."
    )
