"""Matches file names written in a label table to image files, by path, name or stem.

A name may lack its extension or folders, or have those of another machine; one that could mean several files matches
none. Knows names only.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from headswap.common.text import sanitize
from headswap.data.sources import IMAGE_EXTENSIONS

_EXACT_MATCH_SCORE = 10_000  # more than any number of folders


@dataclass(frozen=True)
class FileNameMatch:
    """The file that a name means.

    Attributes:
        index: of the file; None if the name means no file, or several.
        score: number of parent folders that agree; ``_EXACT_MATCH_SCORE`` for the same path.
        ambiguous: whether several files match equally well.
    """

    index: int | None
    score: int = 0
    ambiguous: bool = False


class FileNameIndex:
    """Index of files by path, name and stem.

    A name means the file with the same path, relative to the folder of the table or to the top folder; else the file of
    that name, in any case; else the file of that name but for an image extension, which either may lack. Of several
    files it means the one with the most equal parent folders, counted from the file upwards.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]]) -> None:
        """Index the files.

        Args:
            paths: the parts of each file's path.
        """
        self._paths = paths
        self._index_by_path = {parts: index for index, parts in reversed(list(enumerate(paths)))}  # the first counts
        self._indices_by_name: dict[str, list[int]] = defaultdict(list)
        self._indices_by_stem: dict[str, list[int]] = defaultdict(list)
        for index, parts in enumerate(paths):
            name = parts[-1].casefold()
            self._indices_by_name[name].append(index)
            self._indices_by_stem[_strip_image_extension(name)].append(index)
        self._cache: dict[tuple[str, tuple[str, ...]], FileNameMatch] = {}

    def match_name(self, name: str, base_folder: tuple[str, ...] = ()) -> FileNameMatch:
        """Match a name that was written in the folder ``base_folder``."""
        key = (name, base_folder)
        if key not in self._cache:
            self._cache[key] = self._match_parts(_split_path(name), base_folder)
        return self._cache[key]

    def find_index(self, name: str, base_folder: tuple[str, ...] = ()) -> int | None:
        """Index of the file that a name means, as ``match_name`` finds it."""
        return self.match_name(name, base_folder).index

    def match_names(self, names: Iterable[str], base_folder: tuple[str, ...] = ()) -> dict[str, FileNameMatch]:
        """Match all names of one table: of different names for one file only the best match means it."""
        matches = {name: self.match_name(name, base_folder) for name in names}
        scores: dict[int, dict[tuple[str, ...], int]] = defaultdict(dict)  # by file, then by normalized name
        for name, match in matches.items():
            if match.index is not None:
                scores[match.index][_normalize_path(name)] = match.score
        for name, match in matches.items():
            if match.index is not None and len(scores[match.index]) > 1:
                best_score = max(scores[match.index].values())
                best = [path for path, score in scores[match.index].items() if score == best_score]
                if len(best) > 1:
                    matches[name] = FileNameMatch(None, ambiguous=True)
                elif _normalize_path(name) not in best:
                    matches[name] = FileNameMatch(None)
        return matches

    def _match_parts(self, parts: tuple[str, ...], base_folder: tuple[str, ...]) -> FileNameMatch:
        if not parts:
            return FileNameMatch(None)
        for path in ((*base_folder, *parts), parts):
            if path in self._index_by_path:
                return FileNameMatch(self._index_by_path[path], _EXACT_MATCH_SCORE)
        name = parts[-1].casefold()
        candidates = (
            self._indices_by_name.get(name)
            or self._indices_by_stem.get(_strip_image_extension(name))
            or self._indices_by_stem.get(name)
            or []
        )
        inside = [index for index in candidates if self._paths[index][: len(base_folder)] == base_folder]
        by_score: dict[int, list[int]] = defaultdict(list)
        for index in inside or candidates:
            by_score[_count_matching_folders(self._paths[index][:-1], parts[:-1])].append(index)
        if not by_score:
            return FileNameMatch(None)
        score = max(by_score)
        best = by_score[score]
        return FileNameMatch(best[0], score) if len(best) == 1 else FileNameMatch(None, ambiguous=True)


def has_image_extension(name: str) -> bool:
    """Whether a name has the extension of an image file."""
    return _strip_image_extension(name) != name


def _split_path(name: str) -> tuple[str, ...]:
    """Parts of a path with slashes or backslashes."""
    text = unicodedata.normalize("NFC", name)
    return tuple(sanitize(part) for part in re.split(r"[/\\]", text) if part not in ("", ".", ".."))


def _normalize_path(name: str) -> tuple[str, ...]:
    *folders, last = _split_path(name)
    return (*folders, _strip_image_extension(last.casefold()))


def _strip_image_extension(name: str) -> str:
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in IMAGE_EXTENSIONS else name


def _count_matching_folders(folders: Sequence[str], written: Sequence[str]) -> int:
    """Number of equal folders, counted from the file upwards."""
    pairs = zip(reversed(folders), reversed(written), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].casefold() == pair[1].casefold(), pairs))
