"""Which class and which half each file belongs to: by its folders, or by tables beside it.

One sub-folder per class is the rule. Folders that hold everything are peeled off; folders for training, validation and
test are understood by many names, and by bearing the same sub-folders. Whatever was understood, or taken for granted,
is said. Knows only names: nothing is opened here.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from headswap.common.errors import InputError
from headswap.common.text import format_image_count, join_names, natural_sort_key, sanitize
from headswap.data import label_tables
from headswap.data.file_names import FileNameIndex, FileNameMatch, has_image_extension
from headswap.data.sources import SourceFile, is_unsafe_path

TRAINING, VALIDATION, TEST = "training", "validation", "test"
OUTSIDE_CLASS_FOLDERS = "lies outside the class folders"
# What folders for the halves are called, in lower case.
_SPLIT_NAMES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("train", "training", "trn"), TRAINING)
    | dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel"), VALIDATION)
    | dict.fromkeys(("test", "testing", "tst", "pred", "predict", "prediction", "inference"), TEST)
)
# Of some people the validation folder, of others the test folder beside one.
_AMBIGUOUS_SPLIT_NAMES = frozenset({"eval", "evaluation", "evaluate", "holdout", "heldout"})
_FILLER_WORDS = frozenset(
    {"set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "folder", "dir"}
)
_MAX_LISTED_FOLDERS = 3  # folders in a sentence


@dataclass(frozen=True)
class LabelledFile:
    """A file with what it shows, by its folder or by a table."""

    source_file: SourceFile
    labels: tuple[str, ...]  # one of them, unless a table says otherwise
    split: str = TRAINING
    split_source: str = ""  # what says its role: a folder, such as "train/", or a table


@dataclass(frozen=True, eq=False)
class TableFile:
    """A table that lies beside the pictures, or why it cannot be read as one."""

    source_file: SourceFile
    content: label_tables.CsvTable | InputError


@dataclass(frozen=True)
class Layout:
    """Where everything belongs, and what is to be said of that."""

    labelled_files: tuple[LabelledFile, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason)
    table_summaries: tuple[str, ...] = ()  # a sentence for each table
    split_summary: str = ""  # the sentence that says which half is for what
    notes: tuple[str, ...] = ()
    multi_label: bool = False


def infer_layout(
    image_files: Sequence[SourceFile],
    table_files: Sequence[TableFile] = (),
    *,
    table_name: str = "",
    folder_name: str = "",
    for_evaluation: bool = False,
    multi_label: bool | None = None,
) -> Layout:
    """Give each picture what it shows and its half.

    Args:
        pictures: the files that may be pictures.
        listings: the files that may be tables of labels.
        table: the name of the table that counts; without one ``labels.csv``, or those whose header says so.
        folder: what the folder that holds everything is called.
        for_evaluation: choose what judges a model, ``test/`` where there is one or else ``val/``, instead of what it
            learns from.
        multi_label: whether an image may carry several labels; None leaves it to the tables.

    Raises:
        InputError: if the table that counts cannot be read or names no picture, and folders show no classes either; or
            if a test folder is to judge that does not say what its pictures show.
    """
    folders = _infer_from_folders(image_files)
    layout = _infer_from_tables(image_files, table_files, table_name, folders, multi_label)
    layout = _merge_similar_class_names(layout)
    if (
        for_evaluation
        and folder_name
        and not layout.labelled_files
        and all(len(picture.parts) == 1 for picture in image_files)
    ):
        return _assign_single_class(image_files, folder_name)
    return _select_for_evaluation(layout) if for_evaluation else _select_for_training(layout)


def _assign_single_class(image_files: Sequence[SourceFile], folder_name: str) -> Layout:
    """Pictures without folders or a table to say what they show: to judge by, they show what their own is called."""
    said = (f"The images lie in {folder_name}/ itself, so {folder_name} is their class.",) if image_files else ()
    return Layout(tuple(LabelledFile(picture, (folder_name,)) for picture in image_files), table_summaries=said)


# Halves


def parse_split_name(name: str) -> tuple[str, str] | None:
    """What a folder is for by its name, and what else its name says: ``seg_train`` is (training, "seg")."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    text = re.sub(r"(hold|held)[^a-z]*out", "holdout", text)
    words = [re.sub(r"(?<=[a-z]{3})(set|data|images)$", "", word) for word in re.findall(r"[^\W\d_]+", text)]
    roles = {word for word in words if word in _SPLIT_NAMES or word in _AMBIGUOUS_SPLIT_NAMES}
    if len(roles) != 1:
        return None
    [role] = roles
    return _SPLIT_NAMES.get(role, role), "_".join(word for word in words if word not in roles | _FILLER_WORDS)


def _match_split_names(names: Iterable[str]) -> dict[str, str | None]:
    """What each of some folders is for, where these are the halves of one set; else nothing."""
    said = {name: parse_split_name(name) for name in names}
    for rest in sorted({role[1] for role in said.values() if role}):
        roles = {name: role[0] if role and role[1] == rest else None for name, role in said.items()}
        either = TEST if VALIDATION in roles.values() else VALIDATION
        roles = {name: either if role in _AMBIGUOUS_SPLIT_NAMES else role for name, role in roles.items()}
        if TRAINING in roles.values() and len({*roles.values(), None}) > 2:
            return roles
    return {}


def _select_for_training(layout: Layout) -> Layout:
    """A test folder never chooses anything."""
    aside = Counter(picture.split_source for picture in layout.labelled_files if picture.split == TEST)
    notes = [
        f"{half}: {format_image_count(count)} set aside; a test folder never chooses anything."
        for half, count in sorted(aside.items())
    ]
    learned = tuple(picture for picture in layout.labelled_files if picture.split != TEST)
    return replace(
        layout,
        labelled_files=learned,
        split_summary=_describe_splits(learned),
        notes=(*notes, *layout.notes),
    )


def _describe_splits(labelled_files: Sequence[LabelledFile]) -> str:
    by_role = {
        role: sorted({p.split_source for p in labelled_files if p.split == role}) for role in (TRAINING, VALIDATION)
    }
    if by_role[TRAINING] == [""] or not by_role[TRAINING]:
        return ""
    if not by_role[VALIDATION]:
        return f"{_join_names(by_role[TRAINING])} to learn from, and a part drawn by lot to check on."
    return f"{_join_names(by_role[TRAINING])} to learn from, {_join_names(by_role[VALIDATION])} to check on."


def _select_for_evaluation(layout: Layout) -> Layout:
    """The test pictures, or those for validation, or all where there are no halves."""
    able = [picture for picture in layout.labelled_files if picture.labels or layout.multi_label]
    mute = [picture for picture in layout.labelled_files if not (picture.labels or layout.multi_label)]
    halves = {
        role: sorted({p.split_source for p in able if p.split == role} - {""}) for role in (TEST, VALIDATION, TRAINING)
    }
    role = next((role for role in halves if halves[role]), TRAINING)
    if role == TRAINING and any(picture.split != TRAINING for picture in layout.labelled_files):
        where = _join_names(sorted({picture.split_source for picture in mute}))
        raise InputError(f"{where} has no sub-folder for each class, so it cannot judge a model; give one that has.")
    chosen = tuple(replace(p, split=TRAINING) for p in able if p.split == role)
    rest = sorted({picture.split_source for picture in layout.labelled_files if picture.split != role})
    said = ()
    if rest:
        are = "is" if len(rest) == 1 else "are"
        said = (
            f"Judged by {_join_names(halves[role])}: {format_image_count(len(chosen))}. {_join_names(rest)} {are} left out.",
        )
    return replace(
        layout,
        labelled_files=chosen,
        skipped=(*layout.skipped, *((picture.source_file.name, OUTSIDE_CLASS_FOLDERS) for picture in mute)),
        table_summaries=(*layout.table_summaries, *said),
    )


def _join_folder_names(names: Sequence[str]) -> str:
    return _join_names([f"{name}/" for name in names])


def _join_names(names: Sequence[str]) -> str:
    return join_names(names, _MAX_LISTED_FOLDERS, "others")


def _merge_similar_class_names(layout: Layout) -> Layout:
    """Classes of another half that are written in another case are the same; of the same half it is only said."""
    known = {name for picture in layout.labelled_files if picture.split == TRAINING for name in picture.labels}
    spelled: dict[str, set[str]] = defaultdict(set)
    for name in sorted(known, key=natural_sort_key):
        spelled[_normalize_class_name(name)].add(name)
    notes, taken = [], {}
    for picture in layout.labelled_files:
        for name in picture.labels:
            others = spelled[_normalize_class_name(name)]
            if picture.split != TRAINING and name not in known and len(others) == 1:
                taken[name] = (picture.split_source, *others)
    notes += [
        f"{half}{name} is taken for {own}, as the training half writes it." for name, (half, own) in taken.items()
    ]
    for several in spelled.values():
        if len(several) > 1:
            names = " and ".join(sorted(several))
            notes.append(f"{names} are spelled alike, and are classes of their own; rename one to join them.")
    placed = tuple(
        replace(p, labels=tuple(taken[name][1] if name in taken else name for name in p.labels))
        if p.split != TRAINING
        else p
        for p in layout.labelled_files
    )
    return replace(layout, labelled_files=placed, notes=(*layout.notes, *notes))


def _normalize_class_name(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip() or name


# By folders


def _infer_from_folders(image_files: Sequence[SourceFile]) -> Layout:
    """Give each picture the class that its folder names."""
    inside, tops = _strip_wrapper_folders(image_files)
    if roles := _match_split_names(tops):
        return _infer_from_split_folders(_strip_repeated_split_folders(inside), roles)
    subs = _collect_subfolders(inside)
    if tops and subs.keys() == tops:
        within = _match_split_names({sub for found in subs.values() for sub in found})
        if within and None not in within.values():  # cat/train, cat/test, dog/train, dog/test
            turned = {picture: (parts[1], parts[0], *parts[2:]) for picture, parts in inside.items() if len(parts) > 2}
            return _infer_from_split_folders(inside | turned, within)
        if _has_matching_subfolders(subs.values()):
            return _infer_from_matching_subfolders(inside, subs)
    return Layout(
        tuple(LabelledFile(picture, parts[:1]) for picture, parts in inside.items() if len(parts) > 1),
        tuple((picture.name, OUTSIDE_CLASS_FOLDERS) for picture, parts in inside.items() if len(parts) < 2),
    )


def _strip_wrapper_folders(image_files: Sequence[SourceFile]) -> tuple[dict[SourceFile, tuple[str, ...]], set[str]]:
    """The parts of each path below the folders that hold everything, and the folders that stand first there."""
    depth = _count_wrapper_folders([picture.parts for picture in image_files])
    inside = {picture: picture.parts[depth:] for picture in image_files}
    return inside, {parts[0] for parts in inside.values() if len(parts) > 1}


def _infer_from_matching_subfolders(
    relative_parts: Mapping[SourceFile, tuple[str, ...]], subfolders: Mapping[str, set[str]]
) -> Layout:
    """Folders that bear the same sub-folders are parts of one set, each for what its name says, or else to learn."""
    said = {top: parse_split_name(top) for top in subfolders}
    roles = {top: _SPLIT_NAMES.get(role[0], VALIDATION) if role else TRAINING for top, role in said.items()}
    if TRAINING not in roles.values():
        roles = dict.fromkeys(roles, TRAINING)
    classes = _join_names(sorted({sub for found in subfolders.values() for sub in found}, key=natural_sort_key))
    tops = _join_folder_names(sorted(subfolders, key=natural_sort_key))
    note = (
        f"{tops} have the same sub-folders ({classes}), so these are the classes, and {tops} are "
        f"{'halves' if len(subfolders) == 2 else 'parts'} of one set. Where they are the classes, put their pictures into "
        "them without sub-folders."
    )
    return replace(_infer_from_split_folders(relative_parts, roles), notes=(note,))


def _infer_from_split_folders(
    relative_parts: Mapping[SourceFile, tuple[str, ...]], splits: Mapping[str, str | None]
) -> Layout:
    placed, skipped = [], []
    for picture, parts in relative_parts.items():
        role = splits.get(parts[0]) if len(parts) > 1 else TRAINING
        labels = parts[1:2] if len(parts) > 2 else ()
        if role is None:
            skipped.append((picture.name, "lies outside the folders for training, validation and test"))
        elif not labels and role != TEST:
            skipped.append((picture.name, OUTSIDE_CLASS_FOLDERS))
        else:
            placed.append(LabelledFile(picture, labels, role, f"{parts[0]}/"))
    return Layout(tuple(placed), tuple(skipped))


def _count_wrapper_folders(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders hold everything and stand above the classes. Loose pictures have no say."""
    depth = 0
    while True:
        nested = [parts for parts in paths if len(parts) > depth + 1]
        tops = {parts[depth] for parts in nested}
        inner = {parts[depth + 1] for parts in nested if len(parts) > depth + 2}
        only_folders = all(len(parts) > depth + 2 for parts in nested)
        if len(tops) != 1 or not (len(inner) > 1 or (inner and only_folders)):
            return depth
        depth += 1


def _strip_repeated_split_folders(
    relative_parts: Mapping[SourceFile, tuple[str, ...]],
) -> dict[SourceFile, tuple[str, ...]]:
    """Without a folder that holds all of a half and is called like it, as in ``seg_train/seg_train/rose``."""
    peeled = dict(relative_parts)
    while True:
        within: dict[str, set[str | None]] = defaultdict(set)
        for parts in peeled.values():
            if len(parts) > 1:
                within[parts[0]].add(parts[1] if len(parts) > 2 else None)
        again = {
            top
            for top, [first, *more] in ((top, list(found)) for top, found in within.items())
            if not more
            and first
            and (parse_split_name(first) == parse_split_name(top) or first.casefold() in _FILLER_WORDS)
        }
        if not again:
            return peeled
        peeled = {
            picture: (parts[0], *parts[2:]) if len(parts) > 2 and parts[0] in again else parts
            for picture, parts in peeled.items()
        }


def _collect_subfolders(relative_parts: Mapping[SourceFile, tuple[str, ...]]) -> dict[str, set[str]]:
    """The sub-folders of each folder that has no pictures beside them."""
    subs: dict[str, set[str]] = defaultdict(set)
    direct = {parts[0] for parts in relative_parts.values() if len(parts) == 2}
    for parts in relative_parts.values():
        if len(parts) > 2 and parts[0] not in direct:
            subs[parts[0]].add(parts[1])
    return subs


def _has_matching_subfolders(subfolders: Iterable[set[str]]) -> bool:
    """Whether all have most of their names in common: two at least, half of each one's and more."""
    folded = [{_normalize_class_name(name) for name in found} for found in subfolders]
    times = Counter(name for found in folded for name in found)
    common = {name for name, many in times.items() if many > 1}
    return len(folded) > 1 and all(len(found & common) >= max(2, len(found) / 2) for found in folded)


# By tables


@dataclass(frozen=True, eq=False)
class _UsableTable:
    """A table that counts: where it lies, its columns, and which picture each of its names means."""

    table_file: TableFile
    columns: label_tables.TableColumns
    matches: Mapping[str, FileNameMatch]
    single_label: bool

    @property
    def name(self) -> str:
        return self.table_file.source_file.parts[-1]

    @cached_property
    def table_labels(self) -> label_tables.TableLabels | None:
        """What it says by itself."""
        return _extract_merged_labels([self])

    @cached_property
    def image_indices(self) -> set[int]:
        return {each.index for each in self.matches.values() if each.index is not None}

    def find_image(self, name: str) -> int | None:
        return self.matches[name].index


def _extract_merged_labels(usable_tables: Sequence[_UsableTable]) -> label_tables.TableLabels | None:
    return label_tables.extract_labels(
        [(each.table_file.content, each.columns, each.find_image) for each in usable_tables],
        usable_tables[0].single_label,
    )


def _infer_from_tables(
    image_files: Sequence[SourceFile],
    table_files: Sequence[TableFile],
    table_name: str,
    folder_layout: Layout,
    multi_label: bool | None,
) -> Layout:
    """What tables say the pictures show; where none counts, what folders say and why no table does."""
    names = FileNameIndex([picture.parts for picture in image_files])
    classes = {name for picture in folder_layout.labelled_files for name in picture.labels}
    if table_name:
        expected = [each for each in table_files if each.source_file.parts == (table_name,)]
    else:
        expected = [
            each for each in table_files if each.source_file.parts[-1].casefold() == label_tables.LABELS_FILE_NAME
        ]
    counting, idle = _find_usable_tables(
        expected or table_files, names, classes, len(image_files), multi_label is False
    )
    if not expected:
        counting = _filter_explicit_tables(counting, idle, folder_layout, len(classes))
    counting = _drop_overlapping_tables(counting, idle)
    said = _merge_tables_by_header(counting, idle)
    if expected:
        others = [each for each in table_files if each not in expected]
        idle |= dict.fromkeys(
            others, f"is a table that does not count, because {table_name or label_tables.LABELS_FILE_NAME} does"
        )
    if said:
        return _build_table_layout(image_files, said, idle, multi_label)
    if expected and len(classes) < 2 and image_files:
        first = expected[0]
        if isinstance(first.content, InputError):
            raise first.content
        raise InputError(
            f"{first.source_file.parts[-1]} {_strip_reason_prefix(idle[first])}: one row says '{sanitize(first.content.rows[-1][0])}'. Write "
            "the names as the files are called, each with its label beside it."
        )
    passed_over = tuple(
        f"{each.source_file.parts[-1]} {_strip_reason_prefix(reason)}, so it is passed over: the folders say what the pictures show."
        for each, reason in idle.items()
        if each in expected
    )
    return replace(
        folder_layout,
        skipped=(*folder_layout.skipped, *_list_unused_tables(idle)),
        notes=(*passed_over, *folder_layout.notes),
    )


def _strip_reason_prefix(reason: str) -> str:
    return reason.removeprefix("is a table that ")


def _list_unused_tables(unused: Mapping[TableFile, str]) -> list[tuple[str, str]]:
    return [(listing.source_file.name, reason) for listing, reason in unused.items()]


def _find_usable_tables(
    table_files: Sequence[TableFile], file_names: FileNameIndex, classes: set[str], num_images: int, single_label: bool
) -> tuple[list[_UsableTable], dict[TableFile, str]]:
    """Those that name pictures; and what the others are instead."""
    counting, idle = [], {}
    for each in table_files:
        if isinstance(each.content, InputError):
            idle[each] = "is not a picture, nor a table of labels"
            continue
        home = each.source_file.parts[:-1]
        columns = label_tables.detect_columns(
            each.content, lambda name, home=home: file_names.match_name(name, home).index, has_image_extension
        )
        keys = dict.fromkeys(row[columns.file_column] for row in columns.rows)
        if not columns.num_matched_rows:
            idle[each] = "is a table that names no picture here"
        elif len(classes) > 1 and classes <= keys.keys() and 2 * columns.num_matched_rows < num_images:
            idle[each] = "is a table that lists the classes"
        else:
            counting.append(_UsableTable(each, columns, file_names.match_names(keys, home), single_label))
    return counting, idle


def _filter_explicit_tables(
    candidates: Sequence[_UsableTable], unused: dict[TableFile, str], folder_layout: Layout, num_classes: int
) -> list[_UsableTable]:
    """Tables of any name count if their headers say that they do; without classes a single one needs no header."""
    in_a_class = (
        {picture.source_file.parts[:-1] for picture in folder_layout.labelled_files} if num_classes > 1 else set()
    )
    kept = []
    for each in candidates:
        home = each.table_file.source_file.parts[:-1]
        if each.table_labels is None:
            unused[each.table_file] = "is a table without a column of labels"
        elif home and home in in_a_class:
            unused[each.table_file] = "is a table inside a class folder, which says what its pictures show"
        elif "submission" in each.name.casefold():
            unused[each.table_file] = "is a table to be filled in, by its name"
        elif not each.table_labels.has_explicit_header and (num_classes > 1 or len(candidates) > 1):
            unused[each.table_file] = (
                "is a table whose header does not say which column names the files and which the label"
            )
        else:
            kept.append(each)
    return kept


def _drop_overlapping_tables(candidates: Sequence[_UsableTable], unused: dict[TableFile, str]) -> list[_UsableTable]:
    """Of tables that name the same pictures the one that names most."""
    kept: list[_UsableTable] = []
    for each in sorted(candidates, key=lambda each: (-len(each.image_indices), each.table_file.source_file.name)):
        rival = next((other for other in kept if other.image_indices & each.image_indices), None)
        if rival:
            unused[each.table_file] = f"is a table that names pictures which {rival.table_file.source_file.name} names"
        else:
            kept.append(each)
    return sorted(kept, key=lambda each: natural_sort_key(each.table_file.source_file.name))


def _merge_tables_by_header(
    candidates: Sequence[_UsableTable], unused: dict[TableFile, str]
) -> list[tuple[Sequence[_UsableTable], label_tables.TableLabels]]:
    """Tables with the same header are read as one."""
    alike: dict[tuple[object, ...], list[_UsableTable]] = defaultdict(list)
    for each in candidates:
        alike[each.columns.normalized_header, each.columns.names, each.columns.file_column].append(each)
    said = []
    for some in alike.values():
        table = some[0].table_labels if len(some) == 1 else _extract_merged_labels(some)
        if table is None:
            unused |= {each.table_file: "is a table that has no column of labels" for each in some}
        else:
            said.append((some, table))
    return said


def _build_table_layout(
    image_files: Sequence[SourceFile],
    merged_tables: Sequence[tuple[Sequence[_UsableTable], label_tables.TableLabels]],
    unused: Mapping[TableFile, str],
    multi_label: bool | None,
) -> Layout:
    """Give each picture the labels that a table names beside it, and the half of its folder or of its table."""
    several = any(
        table.is_multi_label or (table.has_indicator_columns and () in table.labels.values())
        for _, table in merged_tables
    )
    as_several = several if multi_label is None else multi_label
    labels: dict[int, tuple[str, ...]] = {}
    for _, table in merged_tables:
        labels |= table.labels
        if as_several and not table.has_indicator_columns:  # an empty cell of several labels is none of them
            labels |= dict.fromkeys(table.unlabelled, ())
    called = {place: each.name for some, _ in merged_tables for each in some for place in each.image_indices}
    roles = _infer_splits(image_files, merged_tables)
    everywhere = _join_names(sorted({each.name for some, _ in merged_tables for each in some}))
    placed, skipped = [], list(_list_unused_tables(unused))
    for place, picture in enumerate(image_files):
        role, half = roles.get(place, (TRAINING, ""))
        mine = labels.get(place)
        if role is None:
            skipped.append((picture.name, "lies outside the folders for training, validation and test"))
        elif mine is not None and (as_several or len(mine) == 1):
            placed.append(LabelledFile(picture, mine, role, half))
        elif role == TEST and mine is None:
            placed.append(LabelledFile(picture, (), role, half))
        elif mine is None:
            why = f"has no label in {called[place]}" if place in called else f"is not named in {everywhere}"
            skipped.append((picture.name, why))
        else:
            carries = f"the labels {', '.join(mine)}" if mine else "no label"
            skipped.append((picture.name, f"carries {carries} in {called[place]}, and one is wanted"))
    outside, notes = _report_unmatched_names(merged_tables)
    empties = [place for _, table in merged_tables for place in sorted(table.unlabelled)]
    if empties:
        notes.append(
            _describe_empty_cells(image_files, empties, called, is_kept=any(place in labels for place in empties))
        )
    if as_several:
        notes.append("Some images carry several labels or none, so each label is decided on its own.")
    return Layout(
        labelled_files=tuple(placed),
        skipped=(*skipped, *outside),
        table_summaries=tuple(
            f"{_join_names(_list_table_names(some))}: {table.summary}." for some, table in merged_tables
        ),
        notes=(*(note for _, table in merged_tables for note in table.notes), *notes),
        multi_label=as_several,
    )


def _list_table_names(usable_tables: Sequence[_UsableTable]) -> list[str]:
    return [each.name if len(usable_tables) == 1 else each.table_file.source_file.name for each in usable_tables]


def _infer_splits(
    image_files: Sequence[SourceFile], merged_tables: Sequence[tuple[Sequence[_UsableTable], label_tables.TableLabels]]
) -> dict[int, tuple[str | None, str]]:
    """For what each picture is, with the folder or table that says so: by its folder, else by its table's name."""
    inside, tops = _strip_wrapper_folders(image_files)
    if roles := _match_split_names(tops):
        return {
            place: (roles[parts[0]], f"{parts[0]}/")
            for place, picture in enumerate(image_files)
            if len(parts := inside[picture]) > 1
        }
    by_name = {each.name: each for some, _ in merged_tables for each in some}
    roles = _match_split_names(os.path.splitext(name)[0] for name in by_name)
    stems = {name: roles.get(os.path.splitext(name)[0]) for name in by_name}
    if not roles or None in stems.values():
        return {}
    return {place: (stems[name], name) for name, each in by_name.items() for place in each.image_indices}


def _report_unmatched_names(
    merged_tables: Sequence[tuple[Sequence[_UsableTable], label_tables.TableLabels]],
) -> tuple[list[tuple[str, str]], list[str]]:
    """What tables name that is not there, or cannot be told from others."""
    skipped, notes = [], []
    for each in (each for some, _ in merged_tables for each in some):
        lacking = [name for name, meaning in each.matches.items() if name and meaning.index is None]
        outside = [
            name for name in lacking if is_unsafe_path(name) or "://" in name or ".." in re.split(r"[/\\]", name)
        ]
        unclear = [name for name in lacking if each.matches[name].ambiguous]
        missing = [name for name in lacking if name not in outside and name not in unclear]
        for name in outside:
            why = f"lies outside the folder of {each.name}; put the picture beside it"
            skipped.append((sanitize(name.replace("\\", "/")), why))
        if missing:
            are = "is" if len(missing) == 1 else "are"
            first = sanitize(missing[0].replace("\\", "/"))
            notes.append(
                f"{each.name} names {format_image_count(len(missing))} that {are} not there; the first is {first}."
            )
        if unclear:
            first = sanitize(unclear[0])
            notes.append(
                f"{each.name} calls {format_image_count(len(unclear))} by a name that several have; the first is {first}. Write "
                "their folders, too."
            )
    return skipped, notes


def _describe_empty_cells(
    image_files: Sequence[SourceFile], unlabelled: Sequence[int], table_names: Mapping[int, str], is_kept: bool
) -> str:
    first, one = unlabelled[0], len(unlabelled) == 1
    many = "1 image has" if one else f"{len(unlabelled)} images have"
    then = f"{'carries' if one else 'carry'} none of the labels" if is_kept else f"{'is' if one else 'are'} left out"
    return f"{table_names[first]}: {many} an empty cell in place of a label and {then}; the first is {image_files[first].name}."
