"""A CSV that says what each image shows, and one for a person to take along. Knows nothing of images.

Either one column with the labels of a file, several of them with ``;`` or ``|`` between, or a column of 0 and 1 for
each label. Labels are taken as they are written: "NA" and "None" are labels like any other.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headswap.errors import InputError, harmless
from headswap.limits import limits

NAME = "labels.csv"  # a file of this name in a folder or zip says what the images show, instead of their folders
MAX_BYTES = 16 * 1024**2
_FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_name", "path", "name")
_LABEL_COLUMNS = ("labels", "label", "classes", "class", "tags", "tag")
_YES_NO = frozenset({"0", "1", "0.0", "1.0", ""})


@dataclass(frozen=True)
class Table:
    """What a CSV says: name of a file, as it is written with ``/``, to its labels."""

    rows: dict[str, tuple[str, ...]]
    multi_label: bool  # some file has several labels, or none
    explicit: bool  # its header says which column names the files and which the labels


def read_table(path: Path, label: str) -> Table:
    """Read a CSV in UTF-8 or Windows' Western encoding, with commas, semicolons or tabs, with or without a header.

    Raises:
        InputError: if it is empty, too large, or has fewer than two columns.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{label} is larger than {MAX_BYTES // 1024**2} MB; give a CSV of file names and labels.")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    text = unicodedata.normalize("NFC", text).lstrip()
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    table: list[list[str]] = []
    most = limits()
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if len(table) > most.images or len(row) > most.classes + 1:
                many = f"{most.images:,} rows or {most.classes:,} columns"
                raise InputError(f"{label} has more than {many} of labels; give a CSV of file names and labels.")
            if any(cell.strip() for cell in row):
                table.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise InputError(f"{label} cannot be read as a CSV ({error}); save it again as CSV.") from error
    if not table or max(map(len, table)) < 2:
        raise InputError(f"{label} needs two columns: the name of an image's file and its labels.")
    return _table(table, delimiter)


def written(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV for a spreadsheet, in which no cell begins a formula, whatever a file was called."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([_inert(cell) for cell in row] for row in (header, *rows))
    return stream.getvalue()


def _inert(cell: str) -> str:
    # A spreadsheet trims first, and takes the full-width signs for the plain ones.
    return f"'{cell}" if cell.lstrip()[:1] in tuple("=+-@|%＝＋－＠") else cell


def _table(table: list[list[str]], delimiter: str) -> Table:
    width = max(map(len, table))
    table = [row + [""] * (width - len(row)) for row in table]
    header = [cell.casefold() for cell in table[0]]
    file = next((header.index(name) for name in _FILE_COLUMNS if name in header), None)
    has_header = file is not None or any(name in header for name in _LABEL_COLUMNS)
    marked = [i for i in range(width) if i != (file or 0)]
    body = table[1:]
    if width > 2 and body and all(row[i] in _YES_NO for row in body for i in marked):
        labels = {i: harmless(table[0][i]) for i in marked}
        found = {row[file or 0]: tuple(labels[i] for i in marked if row[i] in ("1", "1.0")) for row in body}
    else:
        column = next((header.index(name) for name in _LABEL_COLUMNS if name in header), marked[0])
        found = {row[file or 0]: _labels(row[column], delimiter) for row in (body if has_header else table)}
    rows = {name.replace("\\", "/").removeprefix("./"): labels for name, labels in found.items() if name}
    explicit = file is not None and any(name in header for name in _LABEL_COLUMNS)
    return Table(rows, any(len(labels) != 1 for labels in rows.values()), explicit)


def _labels(cell: str, delimiter: str) -> tuple[str, ...]:
    between = next((mark for mark in ";|" if mark != delimiter and mark in cell), None)
    parts = cell.split(between) if between else [cell]
    return tuple(dict.fromkeys(harmless(part.strip()) for part in parts if part.strip()))
