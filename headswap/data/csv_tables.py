"""Reads CSV files in any usual dialect, and formats CSV for spreadsheets. Knows nothing of what the cells mean."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headswap.common.errors import InputError
from headswap.common.limits import MEGABYTE, get_limits

LABELS_FILE_NAME = "labels.csv"  # in a folder or archive, a table of this name replaces the folders as labels
MAX_TABLE_BYTES = 16 * MEGABYTE


@dataclass(frozen=True)
class CsvTable:
    """The cells of a CSV file.

    Attributes:
        name: what messages call the file.
        rows: non-empty rows of stripped cells, all of the same width; the header is the first, if there is one.
        delimiter: between cells.
    """

    name: str
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    delimiter: str


def read_csv_table(path: Path, table_name: str) -> CsvTable:
    """Read a CSV file in UTF-8, UTF-16 with a byte order mark or Windows-1252, with commas, semicolons or tabs.

    Raises:
        InputError: if it is larger than ``MAX_TABLE_BYTES``, has more rows or columns than there may be images or
            classes, has fewer than two columns, or is malformed.
    """
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise InputError(
            f"{table_name} is larger than {MAX_TABLE_BYTES // MEGABYTE} MB; give a CSV of file names and labels."
        )
    text = _decode(path.read_bytes())
    if separator_line := re.match(r"sep=([,;\t])\r?\n", text):  # which Excel writes, and reads
        text = text[separator_line.end() :]
        delimiter = separator_line[1]
    else:
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows: list[list[str]] = []
    limits = get_limits()
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True):
            if len(rows) > limits.images or len(row) > limits.classes + 1:
                most = f"{limits.images:,} rows or {limits.classes:,} columns"
                raise InputError(f"{table_name} has more than {most} of labels; give a CSV of file names and labels.")
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise InputError(f"{table_name} cannot be read as a CSV ({error}); save it again as CSV.") from error
    width = max(map(len, rows), default=0)
    if width < 2:
        raise InputError(f"{table_name} needs two columns: the name of an image's file and its labels.")
    return CsvTable(table_name, tuple(tuple(row + [""] * (width - len(row))) for row in rows), delimiter)


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    return unicodedata.normalize("NFC", text).lstrip("\r\n ")


def format_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a CSV in which no cell is a formula to a spreadsheet, whatever a file was called."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([_escape_formula(cell) for cell in row] for row in (header, *rows))
    return stream.getvalue()


def _escape_formula(cell: str) -> str:
    # Spreadsheets strip a cell first, and treat full-width signs as the ASCII ones.
    return f"'{cell}" if cell.lstrip()[:1] in tuple("=+-@|%＝＋－＠") else cell
