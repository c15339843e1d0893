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
from headswap.common.limits import limits
from headswap.common.text import harmless, listed

NAME = "labels.csv"  # a file of this name in a folder or zip says what the images show, instead of their folders
MAX_BYTES = 16 * 1024**2
_MOST_NAMED = 6  # columns in a sentence

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
_SEVERAL_COLUMNS = ("labels", "classes", "tags", "categories", "targets", "keywords", "genre", "genres")
_LABEL_ENDINGS = ("_label", "_labels", "_class", "_classes", "_tag", "_tags", "_category")
# Of an image, but never what it shows.
_OTHER_COLUMNS = frozenset(
    {
        "index", "idx", "row", "number", "age", "sex", "gender", "width", "height", "size", "date", "year", "time",
        "is_valid", "is_train", "is_test", "valid", "train", "test", "split", "fold", "set", "partition", "subset",
        "usage", "url", "source", "author", "license", "comment", "notes",
    }
)
# fmt: on
_YES = frozenset({"1", "1.0", "true", "yes", "y", "t", "x"})
_NO = frozenset({"0", "0.0", "-1", "-1.0", "false", "no", "n", "f", ""})
_NUMBER = re.compile(r"[-+]?\d*[.,]?\d+(e[-+]?\d+)?", re.IGNORECASE)
_BETWEEN = MappingProxyType({";": "semicolons", "|": "bars", ",": "commas", " ": "spaces"})
_PARTS = re.compile(r"[^\w]+")

Place = Callable[[str], int | None]  # of the image that a name in a table means


@dataclass(frozen=True)
class Sheet:
    """A CSV as it is written: its rows of cells, all of one width, the header among them if it has one."""

    name: str
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    delimiter: str


@dataclass(frozen=True)
class Columns:
    """Which columns of a sheet are what."""

    names: tuple[str, ...]  # as the header has them; "column 2" where it has none
    header: tuple[str, ...]  # the same in lower case with _ between words, empty where there is none
    file: int
    known: bool  # the header says which column names the files
    body: tuple[tuple[str, ...], ...] = field(repr=False)  # the rows below the header
    hits: int  # rows that name an image


@dataclass(frozen=True)
class Table:
    """What one sheet, or several with the same header, say: for each image that they name its labels, or none."""

    labels: Mapping[int, tuple[str, ...]]
    unlabelled: frozenset[int]  # images whose cell is empty
    understood: str  # in a phrase: which column is the label, how many classes, what is not used
    notes: tuple[str, ...]
    by_marks: bool  # a column for each label, so that an image may carry none of them
    explicit: bool  # its header says which column names the files and which the labels
    several: bool  # some image carries more than one label


def read_sheet(path: Path, label: str) -> Sheet:
    """Read a CSV in UTF-8 or Windows' Western encoding, with commas, semicolons or tabs.

    Raises:
        InputError: if it is empty, too large, or has fewer than two columns.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{label} is larger than {MAX_BYTES // 1024**2} MB; give a CSV of file names and labels.")
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
    most = limits()
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True):
            if len(table) > most.images or len(row) > most.classes + 1:
                many = f"{most.images:,} rows or {most.classes:,} columns"
                raise InputError(f"{label} has more than {many} of labels; give a CSV of file names and labels.")
            if any(cell.strip() for cell in row):
                table.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise InputError(f"{label} cannot be read as a CSV ({error}); save it again as CSV.") from error
    width = max(map(len, table), default=0)
    if width < 2:
        raise InputError(f"{label} needs two columns: the name of an image's file and its labels.")
    return Sheet(label, tuple(tuple(row + [""] * (width - len(row))) for row in table), delimiter)


def columns_of(sheet: Sheet, place: Place, named_file: Callable[[str], bool]) -> Columns:
    """Tell the column that names the files: the one whose cells name most images, by its header where several do.

    Args:
        sheet: as ``read_sheet`` gives it.
        place: which image a cell means, if any.
        named_file: whether a cell is written like the name of a picture's file.
    """
    first, width = sheet.rows[0], len(sheet.rows[0])
    header = tuple(_plain(cell) for cell in first)
    rank = {name: -i for i, name in enumerate(_FILE_COLUMNS)}
    hits = [sum(place(row[i]) is not None for row in sheet.rows) for i in range(width)]
    likely = [header[i] in rank and 2 * hits[i] >= max(hits) for i in range(width)]
    file = max(range(width), key=lambda i: (likely[i], hits[i], rank.get(header[i], -len(rank)), -i))
    known = header[file] in rank
    headed = known or (place(first[file]) is None and not named_file(first[file]))
    headed = headed or (not hits[file] and any(map(_is_label_name, header)))
    body = sheet.rows[1:] if headed else sheet.rows
    above = headed and place(first[file]) is not None  # a header that is a picture's name as well
    names = tuple((headed and harmless(cell)) or f"column {i}" for i, cell in enumerate(first, 1))
    header = header if headed else ("",) * width
    return Columns(names, header, file, known, body, hits[file] - above)


def understood(parts: Sequence[tuple[Sheet, Columns, Place]], one_label: bool = False) -> Table | None:
    """What sheets with one and the same header say of the images that they name; None where no column is a label.

    Args:
        parts: each sheet with its columns, and which image a name in it means.
        one_label: whether an image with several labels will be left out.
    """
    columns, sheet = parts[0][1], parts[0][0]
    rows = [(place(row[each.file]), row) for _, each, place in parts for row in each.body]
    body = [row for _, row in rows]
    header = columns.header
    others = [i for i in range(len(header)) if i != columns.file]
    marks = _marks(header, body, others)
    label = _label_column(header, body, others, marks)
    if label is None and not marks:
        return None
    if label is None:
        used, notes = marks, _odd_marks(sheet.name, columns.names, body, marks)
        said = _Said(_by_marks(columns.names, body, marks), f"{_listed(columns.names, marks)}, one for each label")
    else:
        used, notes = [label], []
        said = _by_column(columns.names[label], header[label], body, label, sheet.delimiter)
        notes = [f"{sheet.name}: {note}" for note in said.notes]
    labels, empty, doubled = _gathered(rows, said.cells)
    notes += _doubled(sheet.name, doubled, labels, {place: row[columns.file] for place, row in rows}, one_label)
    classes = {name for names in labels.values() for name in names if not one_label or len(names) == 1}
    several = any(len(names) > 1 for names in labels.values())
    idle = [i for i in others if i not in used]
    phrase = said.phrase
    if label is not None:
        phrase += f", {len(classes)} {'labels' if several and not one_label else 'classes'}"
    if idle:
        phrase += f"; {_listed(columns.names, idle)} {'is' if len(idle) == 1 else 'are'} not used"
    explicit = columns.known and (label is None or _is_label_name(header[label]))
    return Table(labels, frozenset(empty), phrase, tuple(notes), label is None, explicit, several)


def written(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV for a spreadsheet, in which no cell begins a formula, whatever a file was called."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([_inert(cell) for cell in row] for row in (header, *rows))
    return stream.getvalue()


def _inert(cell: str) -> str:
    # A spreadsheet trims first, and takes the full-width signs for the plain ones.
    return f"'{cell}" if cell.lstrip()[:1] in tuple("=+-@|%＝＋－＠") else cell


@dataclass(frozen=True)
class _Said:
    """What the cells of the rows mean, in the order of the rows: None where nothing is said."""

    cells: Sequence[tuple[str, ...] | None]
    phrase: str
    notes: tuple[str, ...] = ()


def _plain(name: str) -> str:
    return _PARTS.sub("_", name.casefold()).strip("_")


def _is_label_name(name: str) -> bool:
    return name in _LABEL_COLUMNS or name.endswith(_LABEL_ENDINGS)


def _listed(names: Sequence[str], places: Sequence[int]) -> str:
    shown = [names[i].removeprefix("column ") for i in places]
    return f"column{'s' if len(places) > 1 else ''} {listed(shown, _MOST_NAMED, 'others')}"


# Which column is the label


def _marks(header: Sequence[str], body: Sequence[Sequence[str]], others: Sequence[int]) -> list[int]:
    """The columns that may mark a label with yes and no: two at least, and neither a constant nor an index."""
    found = []
    for i in others:
        cells = {row[i].casefold() for row in body}
        counts_up = [row[i] for row in body] == [str(n) for n in range(len(body))]
        unnamed = not header[i] or header[i].startswith("unnamed") or header[i] in _OTHER_COLUMNS
        if cells <= _YES | _NO and cells & _YES and cells & _NO and not (unnamed or counts_up):
            found.append(i)
    return found if len(found) > 1 else []  # the cells of one column alone are labels


def _label_column(
    header: Sequence[str],
    body: Sequence[Sequence[str]],
    others: Sequence[int],
    marks: Sequence[int],
) -> int | None:
    """The column whose cells are the labels; None where the labels have columns of their own, or there is none."""
    named = [i for i in others if header[i] in _LABEL_COLUMNS]
    if named:
        return min(named, key=lambda i: _LABEL_COLUMNS.index(header[i]))
    ending = [i for i in others if header[i].endswith(_LABEL_ENDINGS) and len({row[i] for row in body}) > 1]
    if len(ending) == 1 and ending[0] not in marks:
        return ending[0]
    if len(others) == 1:
        return others[0]
    counts = [sum(row[i].casefold() in _YES for i in marks) for row in body]
    words = [i for i in others if i not in marks and _is_categorical(header[i], [row[i] for row in body])]
    if marks and (set(counts) == {1} or not words):
        return None
    if words:
        return words[0]
    left = [i for i in others if header[i] not in _OTHER_COLUMNS and len({row[i] for row in body}) > 1]
    binary = [i for i in left if {row[i].casefold() for row in body} <= _YES | _NO]
    few = [i for i in left if len({row[i] for row in body}) <= len(body) / 2]
    return next(iter([*binary, *few]), None)


def _is_categorical(name: str, cells: Sequence[str]) -> bool:
    """Whether words recur in it."""
    filled = [cell for cell in cells if cell]
    different = set(filled)
    words = not any(_NUMBER.fullmatch(cell) for cell in different)
    known = name in _OTHER_COLUMNS or name.endswith("_id")  # of a patient, a camera
    return not known and words and 1 < len(different) < len(filled)


# What its cells mean


def _by_marks(
    names: Sequence[str], body: Sequence[Sequence[str]], marks: Sequence[int]
) -> list[tuple[str, ...] | None]:
    labels = {i: names[i] for i in marks}
    return [
        tuple(labels[i] for i in marks if row[i].casefold() in _YES) if any(row[i] for i in marks) else None
        for row in body
    ]


def _odd_marks(name: str, names: Sequence[str], body: Sequence[Sequence[str]], marks: Sequence[int]) -> list[str]:
    both = [i for i in marks if {"0", "-1"} <= {row[i].removesuffix(".0") for row in body}]
    return [f"{name}: {_listed(names, both)} hold 0 and -1; both are taken for no."] if both else []


def _by_column(name: str, plain: str, body: Sequence[Sequence[str]], column: int, delimiter: str) -> _Said:
    """Cells with one label each, or with several between semicolons, bars, and where that is sure commas or spaces."""
    cells = [row[column] for row in body]
    different = list(dict.fromkeys(filter(None, cells)))
    called = _listed([name], [0])
    several = plain in _SEVERAL_COLUMNS or plain.endswith(("_labels", "_tags", "_classes"))
    marks, hint = _between(different, several, delimiter)
    said = {cell: _split(cell, marks) if marks else (harmless(cell),) for cell in different}
    phrase = f"{called} with {_BETWEEN[marks]} between tags" if marks in _BETWEEN and marks in ", " else called
    notes = ()
    if hint:
        first = next(cell for cell in different if hint in cell)
        notes = (
            f"cells of {called} hold {_BETWEEN[hint]}, such as '{harmless(first)}', and each cell was taken for one "
            "label; where it is several labels, separate them with ; or |.",
        )
    return _Said([said.get(cell) for cell in cells], phrase, notes)


def _between(different: Sequence[str], several: bool, delimiter: str) -> tuple[str, str]:
    """The marks that stand between labels in a cell, if any; else a mark that only looks as if it did, if any.

    Args:
        different: the cells, each once.
        several: whether the column is named for more than one label, so that a comma or a space may be a mark.
        delimiter: between the cells.
    """
    found = [mark for mark in _BETWEEN if any(mark in cell for cell in different)]
    sure = [mark for mark in found if mark in ";|" and mark != delimiter]
    if any(mark == ";" or _any_recurs(different, mark) for mark in sure):
        return (";|" if delimiter != ";" else "|"), ""
    for mark in (mark for mark in found if mark in ", "):
        parts = _recurring(different, mark)
        if parts and several:
            return mark, ""
        if parts or (several and sum(mark in cell for cell in different) > 1):
            return "", mark
    return "", ""


def _split(cell: str, marks: str) -> tuple[str, ...]:
    parts = [part.strip() for part in re.split(f"[{re.escape(marks)}]", cell)]
    if "|" in marks and any(part.count("(") != part.count(")") for part in parts):
        return (harmless(cell),)  # a formula, such as P(A|B)
    return tuple(dict.fromkeys(harmless(part) for part in parts if part))


def _any_recurs(different: Iterable[str], mark: str) -> bool:
    """Whether any part between marks stands in another cell, too: else the mark is a letter like any other."""
    seen: Counter[str] = Counter()
    split: set[str] = set()
    for cell in different:
        parts = {part.strip() for part in cell.split(mark)} - {""}
        seen.update(parts)
        split.update(parts if len(parts) > 1 else ())
    return any(seen[part] > 1 for part in split)


def _recurring(different: Iterable[str], mark: str) -> bool:
    """Whether cells are lists: each part stands in several of them, and there are fewer parts than cells."""
    seen: Counter[str] = Counter()
    number = 0
    for cell in different:
        seen.update({part.strip() for part in cell.split(mark)} - {""})
        number += 1
    return bool(seen) and min(seen.values()) > 1 and len(seen) < number


# What all rows say of an image


def _gathered(
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


def _doubled(
    name: str,
    doubled: Sequence[int],
    labels: Mapping[int, tuple[str, ...]],
    written_as: Mapping[int | None, str],
    one_label: bool,
) -> list[str]:
    if not doubled:
        return []
    first, single = doubled[0], len(doubled) == 1
    many = "1 image stands" if single else f"{len(doubled)} images stand"
    then = f"{'carries' if single else 'carry'} all their labels"
    if one_label:
        then = f"{'is' if single else 'are'} left out, because one label is wanted"
    which = f"{harmless(written_as[first])} ({', '.join(labels[first])})"
    return [f"{name}: {many} in rows that differ, and {then}; the first is {which}."]
