"""Which file somebody means by a name that was written elsewhere: without its ending or folder, or on another machine.

Knows only names, and is sure of them: where a name could mean several files, it means none.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headswap.common.text import sanitize
from headswap.data.sources import IMAGE_EXTENSIONS

_EXACT_MATCH_SCORE = 10_000  # nearer than any number of folders


@dataclass(frozen=True)
class FileNameMatch:
    """The file that a name means, how near the name is to its path, and whether several files are as near."""

    index: int | None
    score: int = 0
    ambiguous: bool = False


class FileNameIndex:
    """Files by their names.

    A name means the file with the same path from where it was written; else the one file called so, in any case; else
    the one called so but for its ending. Of several, it means the one whose folders agree furthest with those written.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]]) -> None:
        """``files`` are the parts of each one's path."""
        self._paths = paths
        self._index_by_path = {parts: place for place, parts in reversed(list(enumerate(paths)))}
        self._indices_by_name: dict[str, list[int]] = defaultdict(list)
        self._indices_by_stem: dict[str, list[int]] = defaultdict(list)
        for place, parts in enumerate(paths):
            name = parts[-1].casefold()
            self._indices_by_name[name].append(place)
            self._indices_by_stem[_strip_image_extension(name)].append(place)
        self._cache: dict[tuple[str, tuple[str, ...]], FileNameMatch] = {}

    def match_name(self, name: str, base_folder: tuple[str, ...] = ()) -> FileNameMatch:
        """What a name means that was written in the folder ``home``."""
        key = (name, base_folder)
        if key not in self._cache:
            self._cache[key] = self._match_parts(_split_path(name), base_folder)
        return self._cache[key]

    def match_names(self, names: Iterable[str], base_folder: tuple[str, ...] = ()) -> dict[str, FileNameMatch]:
        """What each of some names means, written in one place: of two different ones only the nearer means a file."""
        found = {name: self.match_name(name, base_folder) for name in names}
        claims: dict[int, dict[tuple[str, ...], int]] = defaultdict(dict)
        for name, match in found.items():
            if match.index is not None:
                claims[match.index][_normalize_path(name)] = match.score
        for name, match in found.items():
            if match.index is not None and len(claims[match.index]) > 1:
                best = max(claims[match.index].values())
                nearest = [plain for plain, nearness in claims[match.index].items() if nearness == best]
                if len(nearest) > 1:
                    found[name] = FileNameMatch(None, ambiguous=True)
                elif _normalize_path(name) not in nearest:
                    found[name] = FileNameMatch(None)
        return found

    def _match_parts(self, parts: tuple[str, ...], base_folder: tuple[str, ...]) -> FileNameMatch:
        if not parts:
            return FileNameMatch(None)
        for path in ((*base_folder, *parts), parts):
            if path in self._index_by_path:
                return FileNameMatch(self._index_by_path[path], _EXACT_MATCH_SCORE)
        name = parts[-1].casefold()
        called = (
            self._indices_by_name.get(name)
            or self._indices_by_stem.get(_strip_image_extension(name))
            or self._indices_by_stem.get(name)
            or []
        )
        inside = [place for place in called if self._paths[place][: len(base_folder)] == base_folder]
        by_nearness: dict[int, list[int]] = defaultdict(list)
        for place in inside or called:
            by_nearness[_count_matching_folders(self._paths[place][:-1], parts[:-1])].append(place)
        if not by_nearness:
            return FileNameMatch(None)
        nearness = max(by_nearness)
        places = by_nearness[nearness]
        return FileNameMatch(places[0], nearness) if len(places) == 1 else FileNameMatch(None, ambiguous=True)


def has_image_extension(name: str) -> bool:
    """Whether a name is written like that of a picture's file."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def _split_path(name: str) -> tuple[str, ...]:
    """The parts of a path of any machine."""
    text = unicodedata.normalize("NFC", name)
    return tuple(sanitize(part) for part in re.split(r"[/\\]", text) if part not in ("", ".", ".."))


def _normalize_path(name: str) -> tuple[str, ...]:
    *folders, last = _split_path(name)
    return (*folders, _strip_image_extension(last.casefold()))


def _strip_image_extension(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in IMAGE_EXTENSIONS else name


def _count_matching_folders(folders: Sequence[str], written: Sequence[str]) -> int:
    """How many folders are the same, counted from the file upwards."""
    pairs = zip(reversed(folders), reversed(written), strict=False)
    number = 0
    for ours, theirs in pairs:
        if ours.casefold() != theirs.casefold():
            break
        number += 1
    return number
