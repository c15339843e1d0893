"""Numbers and lists as a person writes them. Knows nothing of what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def count(number: int, one: str, many: str = "") -> str:
    """``1,234 images``, ``1 image``; the plural ends in s unless it is given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def small(number: int) -> str:
    """``three``, and digits from thirteen on."""
    return SMALL[number] if 0 <= number < len(SMALL) else str(number)


def million(number: float) -> str:
    """``3.4 million``, or all digits below a hundred thousand."""
    return f"{number / 1e6:.1f} million" if number >= 1e5 else f"{number:,.0f}"


def weights(number: int) -> str:
    """``3,843 weights``, ``1.2 million weights``."""
    return f"{number / 1e6:.1f} million weights" if number >= 1e6 else count(number, "weight")


def percent(share: float) -> str:
    """``94 %``."""
    return f"{share * 100:.0f} %"


def seconds(number: float) -> str:
    """``6 s`` or ``2 min``."""
    return f"{max(1, round(number))} s" if number < 90 else f"{round(number / 60)} min"


def size(number: float) -> str:
    """Bytes with two sensible digits, in powers of ten as discs are sold: ``0.35 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor / 10:
            return f"{float(f'{number / factor:.2g}'):g} {unit}"
    return count(int(number), "byte")


def harmless(text: str) -> str:
    """The text with control characters, direction marks and undecodable bytes written out: ``\\x1b``."""
    joiners = "\u200c\u200d"  # parts of words in many scripts
    return "".join(c if c.isprintable() or c in joiners else c.encode("unicode_escape").decode("ascii") for c in text)


def listed(names: Sequence[str], most: int = 0, rest: str = "more") -> str:
    """``a, b and c``; from ``most`` on the ``rest`` is only counted."""
    if most and len(names) > most:
        names = [*names[:most], f"{len(names) - most} {rest}"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


LONGEST = 100  # characters that are compared: what comes from a file may be megabytes of them


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest of the known names, or a few of them where none is near."""
    known = list(known)
    close = get_close_matches(str(name)[:LONGEST], known, n=3, cutoff=0.5)
    offered = close or known[:6]
    return f"{'Did you mean' if close else 'There are, for example,'} {', '.join(offered)}{'?' if close else '.'}"


def how_many(number: int) -> str:
    """Of images, in words: 1 image, 2 images."""
    return f"{number} image" if number == 1 else f"{number} images"


def natural(name: str) -> tuple[list[object], str]:
    """A key that sorts photo2 before photo10, whatever the case; equal ones by their exact name."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    # By its length and digits, because a number of thousands of digits is more than int() takes.
    pieces[1::2] = [(len(digits), digits) for digits in (piece.lstrip("0") for piece in pieces[1::2])]
    return pieces, name
