"""Reads the labels in the cells of a table's label column, or of its indicator columns.

Labels are taken as they are written: "NA" and "None" are labels like any other. Knows nothing of images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from headswap.common.text import join_names, sanitize

TRUE_VALUES = frozenset({"1", "1.0", "true", "yes", "y", "t", "x"})
FALSE_VALUES = frozenset({"0", "0.0", "-1", "-1.0", "false", "no", "n", "f", ""})
# Columns with these names may have several labels in a cell.
_MULTI_LABEL_COLUMNS = ("labels", "classes", "tags", "categories", "targets", "keywords", "genre", "genres")
_MULTI_LABEL_SUFFIXES = ("_labels", "_tags", "_classes")
_SEPARATOR_NAMES = MappingProxyType({";": "semicolons", "|": "bars", ",": "commas", " ": "spaces"})
_MAX_LISTED_COLUMNS = 6  # in a sentence

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class CellLabels:
    """Labels that the cells of a table give.

    Attributes:
        labels: of each row; None where the cell is empty.
        description: a phrase that says which columns the labels are from.
        notes: sentences for the user.
    """

    labels: Sequence[tuple[str, ...] | None]
    description: str
    notes: tuple[str, ...] = ()


def format_column_list(names: Sequence[str], columns: Sequence[int]) -> str:
    """``column label`` or ``columns a, b and c``; unnamed columns, called "column 2", are listed by number."""
    listed = [names[i].removeprefix("column ") for i in columns]
    return f"column{'s' if len(columns) > 1 else ''} {join_names(listed, _MAX_LISTED_COLUMNS, 'others')}"


def read_indicator_columns(names: Sequence[str], rows: Rows, indicator_columns: Sequence[int]) -> CellLabels:
    """Labels of each row: the names of the columns that hold a true value; None where all cells are empty."""
    labels = [
        tuple(names[i] for i in indicator_columns if row[i].casefold() in TRUE_VALUES)
        if any(row[i] for i in indicator_columns)
        else None
        for row in rows
    ]
    mixed = [i for i in indicator_columns if {"0", "-1"} <= {row[i].removesuffix(".0") for row in rows}]
    notes = (f"{format_column_list(names, mixed)} hold 0 and -1; both are taken for no.",) if mixed else ()
    return CellLabels(labels, f"{format_column_list(names, indicator_columns)}, one for each label", notes)


def read_label_column(name: str, normalized_name: str, cells: Sequence[str], delimiter: str) -> CellLabels:
    """Labels of each cell: one, or several between separators.

    Semicolons and bars separate labels wherever they occur; commas and spaces only in a column that is named for
    several labels and whose cells are lists of recurring parts.

    Args:
        name: of the column, for messages.
        normalized_name: of the column, in lower case.
        cells: of the column.
        delimiter: of the table, which separates no labels.
    """
    unique_cells = list(dict.fromkeys(filter(None, cells)))
    is_multi_label = normalized_name in _MULTI_LABEL_COLUMNS or normalized_name.endswith(_MULTI_LABEL_SUFFIXES)
    separators, unused_separator = _detect_separators(unique_cells, is_multi_label, delimiter)
    labels = {cell: _split_cell(cell, separators) if separators else (sanitize(cell),) for cell in unique_cells}
    description = column = format_column_list([name], [0])
    if separators in (",", " "):
        description += f" with {_SEPARATOR_NAMES[separators]} between tags"
    notes: tuple[str, ...] = ()
    if unused_separator:
        example = next(cell for cell in unique_cells if unused_separator in cell)
        notes = (
            f"cells of {column} hold {_SEPARATOR_NAMES[unused_separator]}, such as '{sanitize(example)}', and each "
            "cell was taken for one label; where it is several labels, separate them with ; or |.",
        )
    return CellLabels([labels.get(cell) for cell in cells], description, notes)


def _detect_separators(unique_cells: Sequence[str], is_multi_label: bool, delimiter: str) -> tuple[str, str]:
    """Find the characters between the labels of a cell.

    Args:
        unique_cells: the different cells.
        is_multi_label: whether the column is named for several labels, so that a comma or a space may separate them.
        delimiter: of the table.

    Returns:
        The separators, and one that seems to be a separator but is not used; either may be "".
    """
    found = [separator for separator in _SEPARATOR_NAMES if any(separator in cell for cell in unique_cells)]
    for separator in found:
        is_separator = separator in ";|" and separator != delimiter
        if is_separator and (separator == ";" or _has_recurring_part(unique_cells, separator)):
            return (";|" if delimiter != ";" else "|"), ""
    for separator in (separator for separator in found if separator in ", "):
        is_list = _has_only_recurring_parts(unique_cells, separator)
        if is_list and is_multi_label:
            return separator, ""
        if is_list or (is_multi_label and sum(separator in cell for cell in unique_cells) > 1):
            return "", separator
    return "", ""


def _split_cell(cell: str, separators: str) -> tuple[str, ...]:
    parts = [part.strip() for part in re.split(f"[{re.escape(separators)}]", cell)]
    if "|" in separators and any(part.count("(") != part.count(")") for part in parts):
        return (sanitize(cell),)  # a formula, such as P(A|B)
    return tuple(dict.fromkeys(sanitize(part) for part in parts if part))


def _has_recurring_part(unique_cells: Iterable[str], separator: str) -> bool:
    """Whether a part of a split cell occurs in another cell as well; else the separator is part of a name."""
    counts: Counter[str] = Counter()
    parts_of_lists: set[str] = set()
    for cell in unique_cells:
        parts = {part.strip() for part in cell.split(separator)} - {""}
        counts.update(parts)
        parts_of_lists.update(parts if len(parts) > 1 else ())
    return any(counts[part] > 1 for part in parts_of_lists)


def _has_only_recurring_parts(unique_cells: Sequence[str], separator: str) -> bool:
    """Whether cells are lists: each part occurs in several of them, and there are fewer parts than cells."""
    counts: Counter[str] = Counter()
    for cell in unique_cells:
        counts.update({part.strip() for part in cell.split(separator)} - {""})
    return bool(counts) and min(counts.values()) > 1 and len(counts) < len(unique_cells)
