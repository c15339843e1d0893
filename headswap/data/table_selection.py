"""Chooses the label tables of a source that count, and merges those with the same header.

Says of each other table why it is not used. Knows names and parsed tables only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from headswap.common.errors import InputError
from headswap.common.text import natural_sort_key
from headswap.data.csv_tables import CsvTable
from headswap.data.file_names import FileNameIndex, FileNameMatch, has_image_extension
from headswap.data.label_tables import TableColumns, TableLabels, detect_columns, extract_labels
from headswap.data.layout_types import Layout, TableFile
from headswap.data.sources import SourceFile

SkipReasons = dict[TableFile, str]  # why a table is not used; starts with "is a table that" where it is one


@dataclass(frozen=True, eq=False)
class UsableTable:
    """A table that names images.

    Attributes:
        table_file: where it lies.
        content: its cells.
        columns: what its columns hold.
        matches: the image file that each of its file names means.
        single_label: whether an image with several labels will be left out.
    """

    table_file: TableFile
    content: CsvTable
    columns: TableColumns
    matches: Mapping[str, FileNameMatch]
    single_label: bool

    @property
    def path_name(self) -> str:
        """Its path as the source has it."""
        return self.table_file.source_file.name

    @property
    def name(self) -> str:
        """Its file name without folders."""
        return self.table_file.source_file.parts[-1]

    @cached_property
    def table_labels(self) -> TableLabels | None:
        """Its labels, read without other tables."""
        return _extract_merged_labels([self])

    @cached_property
    def image_indices(self) -> set[int]:
        """Indices of the images that it names."""
        return {match.index for match in self.matches.values() if match.index is not None}

    def find_image(self, name: str) -> int | None:
        """Index of the image that a name in it means."""
        return self.matches[name].index


@dataclass(frozen=True)
class MergedTables:
    """Tables with the same header, and the labels that they give together."""

    tables: Sequence[UsableTable]
    table_labels: TableLabels


def find_usable_tables(
    table_files: Sequence[TableFile], image_files: Sequence[SourceFile], class_names: set[str], single_label: bool
) -> tuple[list[UsableTable], SkipReasons]:
    """Tables that name images, and why each of the others does not count."""
    file_names = FileNameIndex([file.parts for file in image_files])
    usable: list[UsableTable] = []
    unused: SkipReasons = {}
    for table in table_files:
        if isinstance(table.content, InputError):
            unused[table] = "is not a picture, nor a table of labels"
            continue
        base_folder = table.source_file.parts[:-1]
        columns = detect_columns(
            table.content, partial(file_names.find_index, base_folder=base_folder), has_image_extension
        )
        file_cells = dict.fromkeys(row[columns.file_column] for row in columns.rows)
        if not columns.num_matched_rows:
            unused[table] = "is a table that names no picture here"
        elif (
            len(class_names) > 1
            and class_names <= file_cells.keys()
            and 2 * columns.num_matched_rows < len(image_files)
        ):
            unused[table] = "is a table that lists the classes"
        else:
            matches = file_names.match_names(file_cells, base_folder)
            usable.append(UsableTable(table, table.content, columns, matches, single_label))
    return usable, unused


def filter_explicit_tables(
    candidates: Sequence[UsableTable], unused: SkipReasons, folder_layout: Layout, num_classes: int
) -> list[UsableTable]:
    """Tables of any name count if their headers say so; without class folders a single one needs no header."""
    class_folders = {file.source_file.parts[:-1] for file in folder_layout.labelled_files} if num_classes > 1 else set()
    kept = []
    for table in candidates:
        folder = table.table_file.source_file.parts[:-1]
        if table.table_labels is None:
            reason = "is a table without a column of labels"
        elif folder and folder in class_folders:
            reason = "is a table inside a class folder, which says what its pictures show"
        elif "submission" in table.name.casefold():
            reason = "is a table to be filled in, by its name"
        elif not table.table_labels.has_explicit_header and (num_classes > 1 or len(candidates) > 1):
            reason = "is a table whose header does not say which column names the files and which the label"
        else:
            kept.append(table)
            continue
        unused[table.table_file] = reason
    return kept


def drop_overlapping_tables(candidates: Sequence[UsableTable], unused: SkipReasons) -> list[UsableTable]:
    """Of tables that name the same images, keep the one that names most."""
    kept: list[UsableTable] = []
    for table in sorted(candidates, key=lambda table: (-len(table.image_indices), table.path_name)):
        larger = next((other for other in kept if other.image_indices & table.image_indices), None)
        if larger:
            unused[table.table_file] = f"is a table that names pictures which {larger.path_name} names"
        else:
            kept.append(table)
    return sorted(kept, key=lambda table: natural_sort_key(table.path_name))


def merge_tables_by_header(candidates: Sequence[UsableTable], unused: SkipReasons) -> list[MergedTables]:
    """Read tables with the same header as one."""
    by_header: dict[tuple[object, ...], list[UsableTable]] = defaultdict(list)
    for table in candidates:
        by_header[table.columns.normalized_header, table.columns.names, table.columns.file_column].append(table)
    merged = []
    for tables in by_header.values():
        table_labels = tables[0].table_labels if len(tables) == 1 else _extract_merged_labels(tables)
        if table_labels is None:
            unused |= {table.table_file: "is a table that has no column of labels" for table in tables}
        else:
            merged.append(MergedTables(tables, table_labels))
    return merged


def _extract_merged_labels(tables: Sequence[UsableTable]) -> TableLabels | None:
    return extract_labels(
        [(table.content, table.columns, table.find_image) for table in tables], tables[0].single_label
    )
