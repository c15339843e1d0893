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

from headswap.common.text import harmless
from headswap.data.sources import ENDINGS

_EXACT = 10_000  # nearer than any number of folders


@dataclass(frozen=True)
class Meaning:
    """The file that a name means, how near the name is to its path, and whether several files are as near."""

    place: int | None
    nearness: int = 0
    ambiguous: bool = False


class FileNames:
    """Files by their names.

    A name means the file with the same path from where it was written; else the one file called so, in any case; else
    the one called so but for its ending. Of several, it means the one whose folders agree furthest with those written.
    """

    def __init__(self, files: Sequence[tuple[str, ...]]) -> None:
        """``files`` are the parts of each one's path."""
        self._files = files
        self._exact = {parts: place for place, parts in reversed(list(enumerate(files)))}
        self._called: dict[str, list[int]] = defaultdict(list)
        self._stems: dict[str, list[int]] = defaultdict(list)
        for place, parts in enumerate(files):
            name = parts[-1].casefold()
            self._called[name].append(place)
            self._stems[_without_ending(name)].append(place)
        self._known: dict[tuple[str, tuple[str, ...]], Meaning] = {}

    def find(self, name: str, home: tuple[str, ...] = ()) -> Meaning:
        """What a name means that was written in the folder ``home``."""
        key = (name, home)
        if key not in self._known:
            self._known[key] = self._find(_parts(name), home)
        return self._known[key]

    def find_all(self, names: Iterable[str], home: tuple[str, ...] = ()) -> dict[str, Meaning]:
        """What each of some names means, written in one place: of two different ones only the nearer means a file."""
        found = {name: self.find(name, home) for name in names}
        claims: dict[int, dict[tuple[str, ...], int]] = defaultdict(dict)
        for name, match in found.items():
            if match.place is not None:
                claims[match.place][_plain(name)] = match.nearness
        for name, match in found.items():
            if match.place is not None and len(claims[match.place]) > 1:
                best = max(claims[match.place].values())
                nearest = [plain for plain, nearness in claims[match.place].items() if nearness == best]
                if len(nearest) > 1:
                    found[name] = Meaning(None, ambiguous=True)
                elif _plain(name) not in nearest:
                    found[name] = Meaning(None)
        return found

    def _find(self, parts: tuple[str, ...], home: tuple[str, ...]) -> Meaning:
        if not parts:
            return Meaning(None)
        for path in ((*home, *parts), parts):
            if path in self._exact:
                return Meaning(self._exact[path], _EXACT)
        name = parts[-1].casefold()
        called = self._called.get(name) or self._stems.get(_without_ending(name)) or self._stems.get(name) or []
        inside = [place for place in called if self._files[place][: len(home)] == home]
        by_nearness: dict[int, list[int]] = defaultdict(list)
        for place in inside or called:
            by_nearness[_agreeing(self._files[place][:-1], parts[:-1])].append(place)
        if not by_nearness:
            return Meaning(None)
        nearness = max(by_nearness)
        places = by_nearness[nearness]
        return Meaning(places[0], nearness) if len(places) == 1 else Meaning(None, ambiguous=True)


def like_a_picture(name: str) -> bool:
    """Whether a name is written like that of a picture's file."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path of any machine."""
    text = unicodedata.normalize("NFC", name)
    return tuple(harmless(part) for part in re.split(r"[/\\]", text) if part not in ("", ".", ".."))


def _plain(name: str) -> tuple[str, ...]:
    *folders, last = _parts(name)
    return (*folders, _without_ending(last.casefold()))


def _without_ending(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in ENDINGS else name


def _agreeing(folders: Sequence[str], written: Sequence[str]) -> int:
    """How many folders are the same, counted from the file upwards."""
    pairs = zip(reversed(folders), reversed(written), strict=False)
    number = 0
    for ours, theirs in pairs:
        if ours.casefold() != theirs.casefold():
            break
        number += 1
    return number
