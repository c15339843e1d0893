"""The inferred layout of a source and the usual names of its splits; shared by the ways of inferring it.

Knows names only: no file is opened here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from headswap.common.errors import InputError
from headswap.common.text import join_names
from headswap.data.csv_tables import CsvTable
from headswap.data.sources import SourceFile

TRAINING, VALIDATION, TEST = "training", "validation", "test"
OUTSIDE_CLASS_FOLDERS = "lies outside the class folders"
OUTSIDE_SPLIT_FOLDERS = "lies outside the folders for training, validation and test"
# Folder names of the splits, in lower case.
SPLIT_NAMES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("train", "training", "trn"), TRAINING)
    | dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel"), VALIDATION)
    | dict.fromkeys(("test", "testing", "tst", "pred", "predict", "prediction", "inference"), TEST)
)
# The validation folder, or the test folder where another one is for validation.
_AMBIGUOUS_SPLIT_NAMES = frozenset({"eval", "evaluation", "evaluate", "holdout", "heldout"})
FILLER_WORDS = frozenset(
    {"set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "folder", "dir"}
)
_MAX_LISTED_FOLDERS = 3  # in a sentence


@dataclass(frozen=True)
class LabelledFile:
    """An image file with its labels and its split.

    Attributes:
        source_file: the file.
        labels: names of its classes; exactly one unless a table says otherwise.
        split: ``TRAINING``, ``VALIDATION`` or ``TEST``.
        split_source: the folder ("train/") or the table that the split was inferred from; "" without splits.
    """

    source_file: SourceFile
    labels: tuple[str, ...]
    split: str = TRAINING
    split_source: str = ""


@dataclass(frozen=True, eq=False)
class TableFile:
    """A label table of the source, or the error that reading it as one gave."""

    source_file: SourceFile
    content: CsvTable | InputError


@dataclass(frozen=True)
class Layout:
    """Labels and split of each image file, and what to report about them.

    Attributes:
        labelled_files: the files that are used.
        skipped: ``(name, reason)`` of each file that is not.
        table_summaries: one sentence for each table, or for another source of the labels.
        split_summary: one sentence on which folder is used for what; "" without splits.
        notes: further sentences for the user.
        multi_label: whether an image may have several labels or none.
    """

    labelled_files: tuple[LabelledFile, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    table_summaries: tuple[str, ...] = ()
    split_summary: str = ""
    notes: tuple[str, ...] = ()
    multi_label: bool = False


def parse_split_name(name: str) -> tuple[str, str] | None:
    """Split that a folder name stands for, and the rest of the name: ``seg_train`` is ``("training", "seg")``.

    Returns:
        None if the name stands for no split or for several. An ambiguous name, such as "eval", is returned as itself
        instead of a split.
    """
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()
    text = re.sub(r"(hold|held)[^a-z]*out", "holdout", text)
    words = [re.sub(r"(?<=[a-z]{3})(set|data|images)$", "", word) for word in re.findall(r"[^\W\d_]+", text)]
    matches = {word for word in words if word in SPLIT_NAMES or word in _AMBIGUOUS_SPLIT_NAMES}
    if len(matches) != 1:
        return None
    [match] = matches
    return SPLIT_NAMES.get(match, match), "_".join(word for word in words if word not in matches | FILLER_WORDS)


def match_split_names(names: Iterable[str]) -> dict[str, str | None]:
    """Split of each folder (None for a folder of another purpose), if the folders are the splits of one dataset.

    They are if one is for training, another for validation or test, and the rest of their names agrees.

    Returns:
        The split by folder name; empty if the folders are not the splits of one dataset.
    """
    parsed = {name: parse_split_name(name) for name in names}
    for rest in sorted({split[1] for split in parsed.values() if split}):
        splits = {name: split[0] if split and split[1] == rest else None for name, split in parsed.items()}
        ambiguous_split = TEST if VALIDATION in splits.values() else VALIDATION
        splits = {name: ambiguous_split if split in _AMBIGUOUS_SPLIT_NAMES else split for name, split in splits.items()}
        if TRAINING in splits.values() and len({*splits.values(), None}) > 2:
            return splits
    return {}


def normalize_class_name(name: str) -> str:
    """Class name without differences of case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip() or name


def join_few_names(names: Sequence[str]) -> str:
    """Up to three names and the number of the others: ``a, b, c and 2 others``."""
    return join_names(names, _MAX_LISTED_FOLDERS, "others")
