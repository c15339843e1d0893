"""Finds which columns of a label table hold file names and labels, and reads the labels of each image.

The file column is found by its header and by how many of its cells name an image. The labels are in a column with a
label's name; else in one indicator column (0 or 1, yes or no) for each label, or in the one column that is left. Knows
nothing of images: the caller says which image a name means.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headswap.common.text import format_image_count, sanitize
from headswap.data.csv_tables import CsvTable
from headswap.data.label_cells import (
    FALSE_VALUES,
    TRUE_VALUES,
    CellLabels,
    Rows,
    format_column_list,
    read_indicator_columns,
    read_label_column,
)

# Usual column names, in lower case with _ between words, the likeliest first.
# fmt: off
_FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_name", "image_file",
    "image_filename", "image_path", "imagefile", "imagepath", "imagename", "img", "img_name", "img_path", "picture",
    "photo", "fname", "image_id", "imageid", "img_id", "file_id", "image_index", "name", "id",
)
_LABEL_COLUMNS = (
    "label", "labels", "class", "classes", "tag", "tags", "class_name", "classname", "label_name", "class_label",
    "category", "categories", "category_name", "target", "targets", "keyword", "keywords", "species", "breed",
    "diagnosis", "dx", "finding", "emotion", "expression", "genre", "genres", "variety", "grade", "y", "class_id",
    "classid", "label_id", "category_id",
)
_LABEL_SUFFIXES = ("_label", "_labels", "_class", "_classes", "_tag", "_tags", "_category")
# Data about an image that are never its labels.
_METADATA_COLUMNS = frozenset(
    {
        "index", "idx", "row", "number", "age", "sex", "gender", "width", "height", "size", "date", "year", "time",
        "is_valid", "is_train", "is_test", "valid", "train", "test", "split", "fold", "set", "partition", "subset",
        "usage", "url", "source", "author", "license", "comment", "notes",
    }
)
# fmt: on
_NUMBER_PATTERN = re.compile(r"[-+]?\d*[.,]?\d+(e[-+]?\d+)?", re.IGNORECASE)
_NON_WORD_PATTERN = re.compile(r"[^\w]+")

ImageLookup = Callable[[str], int | None]  # index of the image that a file name in a table means


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table hold.

    Attributes:
        names: as the header has them; "column 2" where it has none.
        normalized_header: the same in lower case with _ between words; "" where there is none.
        file_column: index of the column of file names.
        has_file_header: whether the header says so.
        rows: the rows below the header.
        num_matched_rows: the rows that name an image.
    """

    names: tuple[str, ...]
    normalized_header: tuple[str, ...]
    file_column: int
    has_file_header: bool
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    num_matched_rows: int


@dataclass(frozen=True)
class TableLabels:
    """Labels that a table, or several with the same header, give.

    Attributes:
        labels: of each image by its index.
        unlabelled: indices of images with an empty cell.
        summary: a phrase that says which column is the label, how many classes there are and what is not used.
        notes: sentences for the user.
        has_indicator_columns: there is one column for each label, so an image may have none of them.
        has_explicit_header: the header says which column holds file names and which labels.
        is_multi_label: an image has more than one label.
    """

    labels: Mapping[int, tuple[str, ...]]
    unlabelled: frozenset[int]
    summary: str
    notes: tuple[str, ...]
    has_indicator_columns: bool
    has_explicit_header: bool
    is_multi_label: bool


def detect_columns(csv_table: CsvTable, find_image: ImageLookup, is_file_name: Callable[[str], bool]) -> TableColumns:
    """Find the column of file names: the one whose cells name most images, by its header where several do.

    Args:
        csv_table: the table; whether it has a header is found as well.
        find_image: gives the index of the image that a cell means, if any.
        is_file_name: whether a cell is written like the name of an image file.
    """
    first_row, width = csv_table.rows[0], len(csv_table.rows[0])
    header = tuple(_normalize_header(cell) for cell in first_row)
    rank = {name: -i for i, name in enumerate(_FILE_COLUMNS)}
    matches = [sum(find_image(row[i]) is not None for row in csv_table.rows) for i in range(width)]
    is_likely = [header[i] in rank and 2 * matches[i] >= max(matches) for i in range(width)]
    file_column = max(range(width), key=lambda i: (is_likely[i], matches[i], rank.get(header[i], -len(rank)), -i))
    file_header, names_image = first_row[file_column], find_image(first_row[file_column]) is not None
    has_file_header = header[file_column] in rank
    has_header = (
        has_file_header
        or (not names_image and not is_file_name(file_header))
        or (not matches[file_column] and any(map(_is_label_column_name, header)))
    )
    return TableColumns(
        names=tuple((has_header and sanitize(cell)) or f"column {i}" for i, cell in enumerate(first_row, 1)),
        normalized_header=header if has_header else ("",) * width,
        file_column=file_column,
        has_file_header=has_file_header,
        rows=csv_table.rows[1:] if has_header else csv_table.rows,
        num_matched_rows=matches[file_column] - (has_header and names_image),
    )


def extract_labels(
    parts: Sequence[tuple[CsvTable, TableColumns, ImageLookup]], single_label: bool = False
) -> TableLabels | None:
    """Read the labels that tables with the same header give to the images that they name.

    Args:
        parts: each table with its columns, and which image a file name in it means.
        single_label: whether an image with several labels will be left out.

    Returns:
        None if no column holds labels.
    """
    table, columns, _ = parts[0]
    indexed_rows = [
        (find_image(row[part_columns.file_column]), row)
        for _, part_columns, find_image in parts
        for row in part_columns.rows
    ]
    other_columns = [i for i in range(len(columns.names)) if i != columns.file_column]
    found = _read_cells(columns, [row for _, row in indexed_rows], other_columns, table.delimiter)
    if found is None:
        return None
    label_column, used, cells = found
    labels, unlabelled, conflicting = _merge_rows_by_image(indexed_rows, cells.labels)
    file_names = {index: row[columns.file_column] for index, row in indexed_rows}
    classes = {name for names in labels.values() for name in names if not single_label or len(names) == 1}
    is_multi_label = any(len(names) > 1 for names in labels.values())
    unused = [i for i in other_columns if i not in used]
    summary = cells.description
    if label_column is not None:
        summary += f", {len(classes)} {'labels' if is_multi_label and not single_label else 'classes'}"
    if unused:
        summary += f"; {format_column_list(columns.names, unused)} {'is' if len(unused) == 1 else 'are'} not used"
    return TableLabels(
        labels=labels,
        unlabelled=frozenset(unlabelled),
        summary=summary,
        notes=tuple(
            f"{table.name}: {note}"
            for note in (*cells.notes, *_describe_conflicting_rows(conflicting, labels, file_names, single_label))
        ),
        has_indicator_columns=label_column is None,
        has_explicit_header=columns.has_file_header
        and (label_column is None or _is_label_column_name(columns.normalized_header[label_column])),
        is_multi_label=is_multi_label,
    )


def _read_cells(
    columns: TableColumns, rows: Rows, other_columns: Sequence[int], delimiter: str
) -> tuple[int | None, Sequence[int], CellLabels] | None:
    """Find the columns that hold labels and read their cells.

    Returns:
        The label column (None for indicator columns), all columns used and their labels; None if there are none.
    """
    header = columns.normalized_header
    indicator_columns = _find_indicator_columns(header, rows, other_columns)
    label_column = _find_label_column(header, rows, other_columns, indicator_columns)
    if label_column is not None:
        cells = [row[label_column] for row in rows]
        labels = read_label_column(columns.names[label_column], header[label_column], cells, delimiter)
        return label_column, [label_column], labels
    if indicator_columns:
        return None, indicator_columns, read_indicator_columns(columns.names, rows, indicator_columns)
    return None


def _normalize_header(name: str) -> str:
    return _NON_WORD_PATTERN.sub("_", name.casefold()).strip("_")


def _is_label_column_name(name: str) -> bool:
    return name in _LABEL_COLUMNS or name.endswith(_LABEL_SUFFIXES)


def _find_indicator_columns(header: Sequence[str], rows: Rows, other_columns: Sequence[int]) -> list[int]:
    """Columns of yes and no, one for each label: at least two, none of them constant or a row number."""
    found = []
    for i in other_columns:
        values = {row[i].casefold() for row in rows}
        is_row_number = [row[i] for row in rows] == [str(number) for number in range(len(rows))]
        is_named = header[i] and not header[i].startswith("unnamed") and header[i] not in _METADATA_COLUMNS
        is_binary = values <= TRUE_VALUES | FALSE_VALUES and values & TRUE_VALUES and values & FALSE_VALUES
        if is_named and is_binary and not is_row_number:
            found.append(i)
    return found if len(found) > 1 else []  # the cells of a single column are the labels themselves


def _find_label_column(
    header: Sequence[str], rows: Rows, other_columns: Sequence[int], indicator_columns: Sequence[int]
) -> int | None:
    """Column whose cells are the labels; None if the labels have columns of their own, or there is none."""
    num_values = {i: len({row[i] for row in rows}) for i in other_columns}
    named = [i for i in other_columns if header[i] in _LABEL_COLUMNS]
    if named:
        return min(named, key=lambda i: _LABEL_COLUMNS.index(header[i]))
    with_suffix = [i for i in other_columns if header[i].endswith(_LABEL_SUFFIXES) and num_values[i] > 1]
    if len(with_suffix) == 1 and with_suffix[0] not in indicator_columns:
        return with_suffix[0]
    if len(other_columns) == 1:
        return other_columns[0]
    is_one_hot = {sum(row[i].casefold() in TRUE_VALUES for i in indicator_columns) for row in rows} == {1}
    categorical = [
        i for i in other_columns if i not in indicator_columns and _is_categorical(header[i], [row[i] for row in rows])
    ]
    if indicator_columns and (is_one_hot or not categorical):
        return None
    if categorical:
        return categorical[0]
    candidates = [i for i in other_columns if header[i] not in _METADATA_COLUMNS and num_values[i] > 1]
    binary = [i for i in candidates if {row[i].casefold() for row in rows} <= TRUE_VALUES | FALSE_VALUES]
    with_few_values = [i for i in candidates if num_values[i] <= len(rows) / 2]
    return next(iter([*binary, *with_few_values]), None)


def _is_categorical(name: str, cells: Sequence[str]) -> bool:
    """Whether a column holds recurring words and is not known for something else than labels."""
    filled = [cell for cell in cells if cell]
    values = set(filled)
    has_words = not any(_NUMBER_PATTERN.fullmatch(cell) for cell in values)
    is_metadata = name in _METADATA_COLUMNS or name.endswith("_id")  # of a patient, a camera
    return not is_metadata and has_words and 1 < len(values) < len(filled)


def _merge_rows_by_image(
    indexed_rows: Sequence[tuple[int | None, Sequence[str]]], row_labels: Sequence[tuple[str, ...] | None]
) -> tuple[dict[int, tuple[str, ...]], set[int], list[int]]:
    """Join the labels of rows that name the same image.

    Returns:
        The labels by index of the image, the images with empty cells only, and those whose rows differ.
    """
    merged: dict[int, dict[str, None]] = {}
    variants: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    unlabelled: set[int] = set()
    for (index, _), labels in zip(indexed_rows, row_labels, strict=True):
        if index is None:
            continue
        if labels is None:
            unlabelled.add(index)
        else:
            merged.setdefault(index, {}).update(dict.fromkeys(labels))
            variants[index].add(labels)
    conflicting = [index for index, different in variants.items() if len(different) > 1]
    return {index: tuple(names) for index, names in merged.items()}, unlabelled - merged.keys(), conflicting


def _describe_conflicting_rows(
    conflicting: Sequence[int],
    labels: Mapping[int, tuple[str, ...]],
    file_names: Mapping[int | None, str],
    single_label: bool,
) -> list[str]:
    if not conflicting:
        return []
    first, is_single = conflicting[0], len(conflicting) == 1
    if single_label:
        outcome = f"{'is' if is_single else 'are'} left out, because one label is wanted"
    else:
        outcome = f"{'carries' if is_single else 'carry'} all their labels"
    images = f"{format_image_count(len(conflicting))} {'stands' if is_single else 'stand'}"
    example = f"{sanitize(file_names[first])} ({', '.join(labels[first])})"
    return [f"{images} in rows that differ, and {outcome}; the first is {example}."]
