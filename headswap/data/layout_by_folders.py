"""Infers each image file's class and split from its folders.

Folders that hold everything are stripped. Folders for training, validation and test are recognised by many names, and
by having the same sub-folders. Knows names only: no file is opened here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from headswap.common.text import natural_sort_key
from headswap.data.layout_types import (
    FILLER_WORDS,
    OUTSIDE_CLASS_FOLDERS,
    OUTSIDE_SPLIT_FOLDERS,
    SPLIT_NAMES,
    TEST,
    TRAINING,
    VALIDATION,
    LabelledFile,
    Layout,
    join_few_names,
    match_split_names,
    normalize_class_name,
    parse_split_name,
)
from headswap.data.sources import SourceFile

RelativeParts = Mapping[SourceFile, tuple[str, ...]]  # path of each file below the wrapper folders


def infer_from_folders(image_files: Sequence[SourceFile]) -> Layout:
    """Infer class and split of each image file from its path."""
    relative_parts, top_folders = strip_wrapper_folders(image_files)
    if splits := match_split_names(top_folders):
        return _infer_from_split_folders(_strip_repeated_split_folders(relative_parts), splits)
    subfolders = _collect_subfolders(relative_parts)
    if top_folders and subfolders.keys() == top_folders:
        splits = match_split_names({name for names in subfolders.values() for name in names})
        if splits and None not in splits.values():  # cat/train, cat/test, dog/train, dog/test
            swapped = {
                file: (parts[1], parts[0], *parts[2:]) for file, parts in relative_parts.items() if len(parts) > 2
            }
            return _infer_from_split_folders({**relative_parts, **swapped}, splits)
        if _has_matching_subfolders(subfolders.values()):
            return _infer_from_matching_subfolders(relative_parts, subfolders)
    return Layout(
        tuple(LabelledFile(file, parts[:1]) for file, parts in relative_parts.items() if len(parts) > 1),
        tuple((file.name, OUTSIDE_CLASS_FOLDERS) for file, parts in relative_parts.items() if len(parts) < 2),
    )


def strip_wrapper_folders(image_files: Sequence[SourceFile]) -> tuple[dict[SourceFile, tuple[str, ...]], set[str]]:
    """Path of each file below the folders that hold everything, and the top folders of these paths."""
    depth = _count_wrapper_folders([file.parts for file in image_files])
    relative_parts = {file: file.parts[depth:] for file in image_files}
    return relative_parts, {parts[0] for parts in relative_parts.values() if len(parts) > 1}


def _count_wrapper_folders(paths: Sequence[tuple[str, ...]]) -> int:
    """Number of folders above the classes that hold everything. Loose images beside them do not count."""
    depth = 0
    while True:
        nested = [parts for parts in paths if len(parts) > depth + 1]
        folders = {parts[depth] for parts in nested}
        subfolders = {parts[depth + 1] for parts in nested if len(parts) > depth + 2}
        only_subfolders = all(len(parts) > depth + 2 for parts in nested)
        if len(folders) != 1 or not (len(subfolders) > 1 or (subfolders and only_subfolders)):
            return depth
        depth += 1


def _infer_from_matching_subfolders(relative_parts: RelativeParts, subfolders: Mapping[str, set[str]]) -> Layout:
    """Take folders with the same sub-folders for parts of one dataset; a part whose name says no split is training."""
    parsed = {folder: parse_split_name(folder) for folder in subfolders}
    splits = {folder: SPLIT_NAMES.get(split[0], VALIDATION) if split else TRAINING for folder, split in parsed.items()}
    if TRAINING not in splits.values():
        splits = dict.fromkeys(splits, TRAINING)
    classes = join_few_names(sorted({name for names in subfolders.values() for name in names}, key=natural_sort_key))
    folders = join_few_names([f"{folder}/" for folder in sorted(subfolders, key=natural_sort_key)])
    note = (
        f"{folders} have the same sub-folders ({classes}), so these are the classes, and {folders} are "
        f"{'halves' if len(subfolders) == 2 else 'parts'} of one set. Where they are the classes, put their pictures "
        "into them without sub-folders."
    )
    layout = _infer_from_split_folders(relative_parts, splits)
    return Layout(layout.labelled_files, layout.skipped, notes=(note,))


def _infer_from_split_folders(relative_parts: RelativeParts, splits: Mapping[str, str | None]) -> Layout:
    """Read paths as split/class/file; a test file needs no class."""
    labelled_files, skipped = [], []
    for file, parts in relative_parts.items():
        split = splits.get(parts[0]) if len(parts) > 1 else TRAINING
        labels = parts[1:2] if len(parts) > 2 else ()
        if split is None:
            skipped.append((file.name, OUTSIDE_SPLIT_FOLDERS))
        elif not labels and split != TEST:
            skipped.append((file.name, OUTSIDE_CLASS_FOLDERS))
        else:
            labelled_files.append(LabelledFile(file, labels, split, f"{parts[0]}/"))
    return Layout(tuple(labelled_files), tuple(skipped))


def _strip_repeated_split_folders(relative_parts: RelativeParts) -> dict[SourceFile, tuple[str, ...]]:
    """Strip a folder that holds all of a split and has its name, as in ``seg_train/seg_train/rose``."""
    stripped = dict(relative_parts)
    while True:
        children: dict[str, set[str | None]] = defaultdict(set)  # None stands for a file
        for parts in stripped.values():
            if len(parts) > 1:
                children[parts[0]].add(parts[1] if len(parts) > 2 else None)
        repeated = {
            folder
            for folder, [child, *others] in ((folder, list(names)) for folder, names in children.items())
            if not others
            and child
            and (parse_split_name(child) == parse_split_name(folder) or child.casefold() in FILLER_WORDS)
        }
        if not repeated:
            return stripped
        stripped = {
            file: (parts[0], *parts[2:]) if len(parts) > 2 and parts[0] in repeated else parts
            for file, parts in stripped.items()
        }


def _collect_subfolders(relative_parts: RelativeParts) -> dict[str, set[str]]:
    """Sub-folders of each top folder that holds no images directly."""
    subfolders: dict[str, set[str]] = defaultdict(set)
    with_images = {parts[0] for parts in relative_parts.values() if len(parts) == 2}
    for parts in relative_parts.values():
        if len(parts) > 2 and parts[0] not in with_images:
            subfolders[parts[0]].add(parts[1])
    return subfolders


def _has_matching_subfolders(subfolders: Iterable[set[str]]) -> bool:
    """Whether each folder shares at least two, and at least half, of its sub-folders with others."""
    normalized = [{normalize_class_name(name) for name in names} for names in subfolders]
    counts = Counter(name for names in normalized for name in names)
    shared = {name for name, count in counts.items() if count > 1}
    return len(normalized) > 1 and all(len(names & shared) >= max(2, len(names) / 2) for names in normalized)
