"""Numbers and lists as a person writes them. Knows nothing of what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def format_count(number: int, singular: str, plural: str = "") -> str:
    """``1,234 images``, ``1 image``; the plural ends in s unless it is given."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def spell_out_number(number: int) -> str:
    """``three``, and digits from thirteen on."""
    return NUMBER_WORDS[number] if 0 <= number < len(NUMBER_WORDS) else str(number)


def format_millions(number: float) -> str:
    """``3.4 million``, or all digits below a hundred thousand."""
    return f"{number / 1e6:.1f} million" if number >= 1e5 else f"{number:,.0f}"


def format_weight_count(number: int) -> str:
    """``3,843 weights``, ``1.2 million weights``."""
    return f"{number / 1e6:.1f} million weights" if number >= 1e6 else format_count(number, "weight")


def format_percent(fraction: float) -> str:
    """``94 %``."""
    return f"{fraction * 100:.0f} %"


def format_duration(number: float) -> str:
    """``6 s`` or ``2 min``."""
    return f"{max(1, round(number))} s" if number < 90 else f"{round(number / 60)} min"


def format_bytes(number: float) -> str:
    """Bytes with two sensible digits, in powers of ten as discs are sold: ``0.35 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor / 10:
            return f"{float(f'{number / factor:.2g}'):g} {unit}"
    return format_count(int(number), "byte")


def sanitize(text: str) -> str:
    """The text with control characters, direction marks and undecodable bytes written out: ``\\x1b``."""
    joiners = "\u200c\u200d"  # parts of words in many scripts
    return "".join(c if c.isprintable() or c in joiners else c.encode("unicode_escape").decode("ascii") for c in text)


def join_names(names: Sequence[str], max_names: int = 0, rest_noun: str = "more") -> str:
    """``a, b and c``; from ``most`` on the ``rest`` is only counted."""
    if max_names and len(names) > max_names:
        names = [*names[:max_names], f"{len(names) - max_names} {rest_noun}"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


MAX_COMPARED_LENGTH = 100  # characters that are compared: what comes from a file may be megabytes of them


def suggest_names(name: str, choices: Iterable[str]) -> str:
    """A sentence that offers the nearest of the known names, or a few of them where none is near."""
    choices = list(choices)
    close = get_close_matches(str(name)[:MAX_COMPARED_LENGTH], choices, n=3, cutoff=0.5)
    offered = close or choices[:6]
    return f"{'Did you mean' if close else 'There are, for example,'} {', '.join(offered)}{'?' if close else '.'}"


def format_image_count(number: int) -> str:
    """Of images, in words: 1 image, 2 images."""
    return f"{number} image" if number == 1 else f"{number} images"


def natural_sort_key(name: str) -> tuple[list[object], str]:
    """A key that sorts photo2 before photo10, whatever the case; equal ones by their exact name."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    # By its length and digits, because a number of thousands of digits is more than int() takes.
    pieces[1::2] = [(len(digits), digits) for digits in (piece.lstrip("0") for piece in pieces[1::2])]
    return pieces, name
