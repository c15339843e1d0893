"""Formats counts, percentages, durations, sizes and lists of names for display.

How the project writes a number, a plural or a list is decided here. Knows nothing of what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MAX_COMPARED_LENGTH = 100  # characters of a name that are compared: a file may hold megabytes as one name


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """The noun or verb that agrees with a number: ``image`` or ``images``, ``is`` or ``are``.

    Args:
        number: how many.
        singular: the form for 1.
        plural: the form for all others, 0 included; the singular with an s by default.
    """
    return singular if number == 1 else plural or singular + "s"


def format_count(number: int, singular: str, plural: str = "") -> str:
    """``1,234 images``, ``1 image``; the plural as for ``pluralize``."""
    return f"{number:,} {pluralize(number, singular, plural)}"


def format_image_count(number: int) -> str:
    """``1234 images``, ``1 image``: without a separator of thousands, as the report of loading writes it."""
    return f"{number} {pluralize(number, 'image')}"


def spell_out_number(number: int) -> str:
    """``three``; from 13 on in digits."""
    return NUMBER_WORDS[number] if 0 <= number < len(NUMBER_WORDS) else str(number)


def format_millions(number: float) -> str:
    """``3.4 million``; below 100,000 in digits."""
    return f"{number / 1e6:.1f} million" if number >= 1e5 else f"{number:,.0f}"


def format_weight_count(number: int) -> str:
    """``3,843 weights``, ``1.2 million weights``."""
    return f"{number / 1e6:.1f} million weights" if number >= 1e6 else format_count(number, "weight")


def format_percent(fraction: float, decimals: int = 0, space: str = " ") -> str:
    """``94 %`` for 0.94.

    Args:
        fraction: 1 for 100 %.
        decimals: digits after the point.
        space: between the number and the sign.
    """
    return f"{fraction * 100:.{decimals}f}{space}%"


def format_duration(seconds: float) -> str:
    """``6 s``, from 90 s on ``2 min``; never less than ``1 s``."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def format_bytes(number: float) -> str:
    """Bytes with two significant digits in a decimal unit: ``0.35 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor / 10:
            return f"{float(f'{number / factor:.2g}'):g} {unit}"
    return format_count(int(number), "byte")


def sanitize(text: str) -> str:
    r"""Escape control characters, direction marks and undecodable bytes: ``\x1b``."""
    joiners = "\u200c\u200d"  # not printable by Unicode, but parts of words in many scripts
    return "".join(c if c.isprintable() or c in joiners else c.encode("unicode_escape").decode("ascii") for c in text)


def join_names(names: Sequence[str], max_names: int = 0, rest_noun: str = "more") -> str:
    """``a, b and c``; with ``max_names=2`` it is ``a, b and 1 more``.

    Args:
        names: what to list.
        max_names: names beyond these are only counted; 0 for no limit.
        rest_noun: what follows their count.
    """
    if max_names and len(names) > max_names:
        names = [*names[:max_names], f"{len(names) - max_names} {rest_noun}"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def list_names(names: Sequence[str], max_names: int, ending: str = " and others") -> str:
    """``a, b, c``; with ``max_names=2`` it is ``a, b and others``."""
    return ", ".join(names[:max_names]) + (ending if len(names) > max_names else "")


def suggest_names(name: str, choices: Iterable[str]) -> str:
    """A sentence that offers up to three close matches of a mistyped name, or else the first six choices."""
    choices = list(choices)
    close = get_close_matches(str(name)[:MAX_COMPARED_LENGTH], choices, n=3, cutoff=0.5)
    offered = ", ".join(close or choices[:6])
    return f"Did you mean {offered}?" if close else f"There are, for example, {offered}."


def natural_sort_key(name: str) -> tuple[list[object], str]:
    """A sort key that puts photo2 before photo10, whatever the case; equal names by their exact spelling."""
    pieces: list[object] = [*re.split(r"([0-9]+)", name.casefold())]
    # A number as its length and digits, because int() refuses thousands of digits.
    pieces[1::2] = [(len(digits), digits) for digits in (str(piece).lstrip("0") for piece in pieces[1::2])]
    return pieces, name
