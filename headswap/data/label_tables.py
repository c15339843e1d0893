"""A CSV that says what each image shows, and one for a person to take along. Knows nothing of images.

Which column names the files is told by its header and by how many of its cells name one; a column with a label's name
is the label; else a column of 0 and 1 for each label, or the one column that is left. Labels are taken as they are
written: "NA" and "None" are labels like any other.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from headswap.common.errors import InputError
from headswap.common.limits import get_limits
from headswap.common.text import join_names, sanitize

LABELS_FILE_NAME = (
    "labels.csv"  # a file of this name in a folder or zip says what the images show, instead of their folders
)
MAX_TABLE_BYTES = 16 * 1024**2
_MAX_LISTED_COLUMNS = 6  # columns in a sentence

# Names of columns as people write them, in lower case with _ between words, the likeliest first.
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
# Whose cells may be lists.
_MULTI_LABEL_COLUMNS = ("labels", "classes", "tags", "categories", "targets", "keywords", "genre", "genres")
_LABEL_SUFFIXES = ("_label", "_labels", "_class", "_classes", "_tag", "_tags", "_category")
# Of an image, but never what it shows.
_METADATA_COLUMNS = frozenset(
    {
        "index", "idx", "row", "number", "age", "sex", "gender", "width", "height", "size", "date", "year", "time",
        "is_valid", "is_train", "is_test", "valid", "train", "test", "split", "fold", "set", "partition", "subset",
        "usage", "url", "source", "author", "license", "comment", "notes",
    }
)
# fmt: on
_TRUE_VALUES = frozenset({"1", "1.0", "true", "yes", "y", "t", "x"})
_FALSE_VALUES = frozenset({"0", "0.0", "-1", "-1.0", "false", "no", "n", "f", ""})
_NUMBER_PATTERN = re.compile(r"[-+]?\d*[.,]?\d+(e[-+]?\d+)?", re.IGNORECASE)
_LABEL_SEPARATORS = MappingProxyType({";": "semicolons", "|": "bars", ",": "commas", " ": "spaces"})
_NON_WORD_PATTERN = re.compile(r"[^\w]+")

ImageLookup = Callable[[str], int | None]  # of the image that a name in a table means


@dataclass(frozen=True)
class CsvTable:
    """A CSV as it is written: its rows of cells, all of one width, the header among them if it has one."""

    name: str
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    delimiter: str


@dataclass(frozen=True)
class TableColumns:
    """Which columns of a sheet are what."""

    names: tuple[str, ...]  # as the header has them; "column 2" where it has none
    normalized_header: tuple[str, ...]  # the same in lower case with _ between words, empty where there is none
    file_column: int
    has_file_header: bool  # the header says which column names the files
    rows: tuple[tuple[str, ...], ...] = field(repr=False)  # the rows below the header
    num_matched_rows: int  # rows that name an image


@dataclass(frozen=True)
class TableLabels:
    """What one sheet, or several with the same header, say: for each image that they name its labels, or none."""

    labels: Mapping[int, tuple[str, ...]]
    unlabelled: frozenset[int]  # images whose cell is empty
    summary: str  # in a phrase: which column is the label, how many classes, what is not used
    notes: tuple[str, ...]
    has_indicator_columns: bool  # a column for each label, so that an image may carry none of them
    has_explicit_header: bool  # its header says which column names the files and which the labels
    is_multi_label: bool  # some image carries more than one label


def read_csv_table(path: Path, table_name: str) -> CsvTable:
    """Read a CSV in UTF-8 or Windows' Western encoding, with commas, semicolons or tabs.

    Raises:
        InputError: if it is empty, too large, or has fewer than two columns.
    """
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise InputError(
            f"{table_name} is larger than {MAX_TABLE_BYTES // 1024**2} MB; give a CSV of file names and labels."
        )
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    text = unicodedata.normalize("NFC", text).lstrip("\r\n ")
    if told := re.match(r"sep=([,;\t])\r?\n", text):  # which Excel writes, and reads
        text = text[told.end() :]
    delimiter = told[1] if told else max(",;\t", key=text.partition("\n")[0].count)
    table: list[list[str]] = []
    most = get_limits()
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True):
            if len(table) > most.images or len(row) > most.classes + 1:
                many = f"{most.images:,} rows or {most.classes:,} columns"
                raise InputError(f"{table_name} has more than {many} of labels; give a CSV of file names and labels.")
            if any(cell.strip() for cell in row):
                table.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise InputError(f"{table_name} cannot be read as a CSV ({error}); save it again as CSV.") from error
    width = max(map(len, table), default=0)
    if width < 2:
        raise InputError(f"{table_name} needs two columns: the name of an image's file and its labels.")
    return CsvTable(table_name, tuple(tuple(row + [""] * (width - len(row))) for row in table), delimiter)


def detect_columns(csv_table: CsvTable, find_image: ImageLookup, is_file_name: Callable[[str], bool]) -> TableColumns:
    """Tell the column that names the files: the one whose cells name most images, by its header where several do.

    Args:
        sheet: as ``read_sheet`` gives it.
        place: which image a cell means, if any.
        named_file: whether a cell is written like the name of a picture's file.
    """
    first, width = csv_table.rows[0], len(csv_table.rows[0])
    header = tuple(_normalize_header(cell) for cell in first)
    rank = {name: -i for i, name in enumerate(_FILE_COLUMNS)}
    hits = [sum(find_image(row[i]) is not None for row in csv_table.rows) for i in range(width)]
    likely = [header[i] in rank and 2 * hits[i] >= max(hits) for i in range(width)]
    file = max(range(width), key=lambda i: (likely[i], hits[i], rank.get(header[i], -len(rank)), -i))
    known = header[file] in rank
    headed = known or (find_image(first[file]) is None and not is_file_name(first[file]))
    headed = headed or (not hits[file] and any(map(_is_label_column_name, header)))
    body = csv_table.rows[1:] if headed else csv_table.rows
    above = headed and find_image(first[file]) is not None  # a header that is a picture's name as well
    names = tuple((headed and sanitize(cell)) or f"column {i}" for i, cell in enumerate(first, 1))
    header = header if headed else ("",) * width
    return TableColumns(names, header, file, known, body, hits[file] - above)


def extract_labels(
    parts: Sequence[tuple[CsvTable, TableColumns, ImageLookup]], single_label: bool = False
) -> TableLabels | None:
    """What sheets with one and the same header say of the images that they name; None where no column is a label.

    Args:
        parts: each sheet with its columns, and which image a name in it means.
        one_label: whether an image with several labels will be left out.
    """
    columns, sheet = parts[0][1], parts[0][0]
    rows = [(place(row[each.file_column]), row) for _, each, place in parts for row in each.rows]
    body = [row for _, row in rows]
    header = columns.normalized_header
    others = [i for i in range(len(header)) if i != columns.file_column]
    marks = _find_indicator_columns(header, body, others)
    label = _find_label_column(header, body, others, marks)
    if label is None and not marks:
        return None
    if label is None:
        used, notes = marks, _describe_mixed_negatives(sheet.name, columns.names, body, marks)
        said = _CellLabels(
            _read_indicator_columns(columns.names, body, marks),
            f"{_format_column_list(columns.names, marks)}, one for each label",
        )
    else:
        used, notes = [label], []
        said = _read_label_column(columns.names[label], header[label], body, label, sheet.delimiter)
        notes = [f"{sheet.name}: {note}" for note in said.notes]
    labels, empty, doubled = _merge_rows_by_image(rows, said.labels)
    notes += _describe_conflicting_rows(
        sheet.name, doubled, labels, {place: row[columns.file_column] for place, row in rows}, single_label
    )
    classes = {name for names in labels.values() for name in names if not single_label or len(names) == 1}
    several = any(len(names) > 1 for names in labels.values())
    idle = [i for i in others if i not in used]
    phrase = said.description
    if label is not None:
        phrase += f", {len(classes)} {'labels' if several and not single_label else 'classes'}"
    if idle:
        phrase += f"; {_format_column_list(columns.names, idle)} {'is' if len(idle) == 1 else 'are'} not used"
    explicit = columns.has_file_header and (label is None or _is_label_column_name(header[label]))
    return TableLabels(labels, frozenset(empty), phrase, tuple(notes), label is None, explicit, several)


def format_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV for a spreadsheet, in which no cell begins a formula, whatever a file was called."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([_escape_formula(cell) for cell in row] for row in (header, *rows))
    return stream.getvalue()


def _escape_formula(cell: str) -> str:
    # A spreadsheet trims first, and takes the full-width signs for the plain ones.
    return f"'{cell}" if cell.lstrip()[:1] in tuple("=+-@|%＝＋－＠") else cell


@dataclass(frozen=True)
class _CellLabels:
    """What the cells of the rows mean, in the order of the rows: None where nothing is said."""

    labels: Sequence[tuple[str, ...] | None]
    description: str
    notes: tuple[str, ...] = ()


def _normalize_header(name: str) -> str:
    return _NON_WORD_PATTERN.sub("_", name.casefold()).strip("_")


def _is_label_column_name(name: str) -> bool:
    return name in _LABEL_COLUMNS or name.endswith(_LABEL_SUFFIXES)


def _format_column_list(names: Sequence[str], places: Sequence[int]) -> str:
    shown = [names[i].removeprefix("column ") for i in places]
    return f"column{'s' if len(places) > 1 else ''} {join_names(shown, _MAX_LISTED_COLUMNS, 'others')}"


# Which column is the label


def _find_indicator_columns(header: Sequence[str], body: Sequence[Sequence[str]], others: Sequence[int]) -> list[int]:
    """The columns that may mark a label with yes and no: two at least, and neither a constant nor an index."""
    found = []
    for i in others:
        cells = {row[i].casefold() for row in body}
        counts_up = [row[i] for row in body] == [str(n) for n in range(len(body))]
        unnamed = not header[i] or header[i].startswith("unnamed") or header[i] in _METADATA_COLUMNS
        if (
            cells <= _TRUE_VALUES | _FALSE_VALUES
            and cells & _TRUE_VALUES
            and cells & _FALSE_VALUES
            and not (unnamed or counts_up)
        ):
            found.append(i)
    return found if len(found) > 1 else []  # the cells of one column alone are labels


def _find_label_column(
    header: Sequence[str],
    body: Sequence[Sequence[str]],
    others: Sequence[int],
    indicator_columns: Sequence[int],
) -> int | None:
    """The column whose cells are the labels; None where the labels have columns of their own, or there is none."""
    named = [i for i in others if header[i] in _LABEL_COLUMNS]
    if named:
        return min(named, key=lambda i: _LABEL_COLUMNS.index(header[i]))
    ending = [i for i in others if header[i].endswith(_LABEL_SUFFIXES) and len({row[i] for row in body}) > 1]
    if len(ending) == 1 and ending[0] not in indicator_columns:
        return ending[0]
    if len(others) == 1:
        return others[0]
    counts = [sum(row[i].casefold() in _TRUE_VALUES for i in indicator_columns) for row in body]
    words = [i for i in others if i not in indicator_columns and _is_categorical(header[i], [row[i] for row in body])]
    if indicator_columns and (set(counts) == {1} or not words):
        return None
    if words:
        return words[0]
    left = [i for i in others if header[i] not in _METADATA_COLUMNS and len({row[i] for row in body}) > 1]
    binary = [i for i in left if {row[i].casefold() for row in body} <= _TRUE_VALUES | _FALSE_VALUES]
    few = [i for i in left if len({row[i] for row in body}) <= len(body) / 2]
    return next(iter([*binary, *few]), None)


def _is_categorical(name: str, cells: Sequence[str]) -> bool:
    """Whether words recur in it."""
    filled = [cell for cell in cells if cell]
    different = set(filled)
    words = not any(_NUMBER_PATTERN.fullmatch(cell) for cell in different)
    known = name in _METADATA_COLUMNS or name.endswith("_id")  # of a patient, a camera
    return not known and words and 1 < len(different) < len(filled)


# What its cells mean


def _read_indicator_columns(
    names: Sequence[str], body: Sequence[Sequence[str]], indicator_columns: Sequence[int]
) -> list[tuple[str, ...] | None]:
    labels = {i: names[i] for i in indicator_columns}
    return [
        tuple(labels[i] for i in indicator_columns if row[i].casefold() in _TRUE_VALUES)
        if any(row[i] for i in indicator_columns)
        else None
        for row in body
    ]


def _describe_mixed_negatives(
    table_name: str, column_names: Sequence[str], body: Sequence[Sequence[str]], indicator_columns: Sequence[int]
) -> list[str]:
    both = [i for i in indicator_columns if {"0", "-1"} <= {row[i].removesuffix(".0") for row in body}]
    return (
        [f"{table_name}: {_format_column_list(column_names, both)} hold 0 and -1; both are taken for no."]
        if both
        else []
    )


def _read_label_column(
    name: str, normalized_name: str, body: Sequence[Sequence[str]], column: int, delimiter: str
) -> _CellLabels:
    """Cells with one label each, or with several between semicolons, bars, and where that is sure commas or spaces."""
    cells = [row[column] for row in body]
    different = list(dict.fromkeys(filter(None, cells)))
    called = _format_column_list([name], [0])
    several = normalized_name in _MULTI_LABEL_COLUMNS or normalized_name.endswith(("_labels", "_tags", "_classes"))
    marks, hint = _detect_separators(different, several, delimiter)
    said = {cell: _split_cell(cell, marks) if marks else (sanitize(cell),) for cell in different}
    phrase = (
        f"{called} with {_LABEL_SEPARATORS[marks]} between tags"
        if marks in _LABEL_SEPARATORS and marks in ", "
        else called
    )
    notes = ()
    if hint:
        first = next(cell for cell in different if hint in cell)
        notes = (
            f"cells of {called} hold {_LABEL_SEPARATORS[hint]}, such as '{sanitize(first)}', and each cell was taken for one "
            "label; where it is several labels, separate them with ; or |.",
        )
    return _CellLabels([said.get(cell) for cell in cells], phrase, notes)


def _detect_separators(unique_cells: Sequence[str], is_multi_label: bool, delimiter: str) -> tuple[str, str]:
    """The marks that stand between labels in a cell, if any; else a mark that only looks as if it did, if any.

    Args:
        different: the cells, each once.
        several: whether the column is named for more than one label, so that a comma or a space may be a mark.
        delimiter: between the cells.
    """
    found = [mark for mark in _LABEL_SEPARATORS if any(mark in cell for cell in unique_cells)]
    sure = [mark for mark in found if mark in ";|" and mark != delimiter]
    if any(mark == ";" or _has_recurring_part(unique_cells, mark) for mark in sure):
        return (";|" if delimiter != ";" else "|"), ""
    for mark in (mark for mark in found if mark in ", "):
        parts = _has_only_recurring_parts(unique_cells, mark)
        if parts and is_multi_label:
            return mark, ""
        if parts or (is_multi_label and sum(mark in cell for cell in unique_cells) > 1):
            return "", mark
    return "", ""


def _split_cell(cell: str, separators: str) -> tuple[str, ...]:
    parts = [part.strip() for part in re.split(f"[{re.escape(separators)}]", cell)]
    if "|" in separators and any(part.count("(") != part.count(")") for part in parts):
        return (sanitize(cell),)  # a formula, such as P(A|B)
    return tuple(dict.fromkeys(sanitize(part) for part in parts if part))


def _has_recurring_part(unique_cells: Iterable[str], separator: str) -> bool:
    """Whether any part between marks stands in another cell, too: else the mark is a letter like any other."""
    seen: Counter[str] = Counter()
    split: set[str] = set()
    for cell in unique_cells:
        parts = {part.strip() for part in cell.split(separator)} - {""}
        seen.update(parts)
        split.update(parts if len(parts) > 1 else ())
    return any(seen[part] > 1 for part in split)


def _has_only_recurring_parts(unique_cells: Iterable[str], separator: str) -> bool:
    """Whether cells are lists: each part stands in several of them, and there are fewer parts than cells."""
    seen: Counter[str] = Counter()
    number = 0
    for cell in unique_cells:
        seen.update({part.strip() for part in cell.split(separator)} - {""})
        number += 1
    return bool(seen) and min(seen.values()) > 1 and len(seen) < number


# What all rows say of an image


def _merge_rows_by_image(
    rows: Sequence[tuple[int | None, Sequence[str]]], cells: Sequence[tuple[str, ...] | None]
) -> tuple[dict[int, tuple[str, ...]], set[int], list[int]]:
    """For each image its labels, the images of which nothing is said, and those whose rows differ."""
    found: dict[int, dict[str, None]] = {}
    said: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    empty: set[int] = set()
    for (place, _), cell in zip(rows, cells, strict=True):
        if place is None:
            continue
        if cell is None:
            empty.add(place)
        else:
            found.setdefault(place, {}).update(dict.fromkeys(cell))
            said[place].add(cell)
    doubled = [place for place, each in said.items() if len(each) > 1]
    return {place: tuple(names) for place, names in found.items()}, empty - found.keys(), doubled


def _describe_conflicting_rows(
    table_name: str,
    conflicting: Sequence[int],
    labels: Mapping[int, tuple[str, ...]],
    file_names: Mapping[int | None, str],
    single_label: bool,
) -> list[str]:
    if not conflicting:
        return []
    first, single = conflicting[0], len(conflicting) == 1
    many = "1 image stands" if single else f"{len(conflicting)} images stand"
    then = f"{'carries' if single else 'carry'} all their labels"
    if single_label:
        then = f"{'is' if single else 'are'} left out, because one label is wanted"
    which = f"{sanitize(file_names[first])} ({', '.join(labels[first])})"
    return [f"{table_name}: {many} in rows that differ, and {then}; the first is {which}."]
