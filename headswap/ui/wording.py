"""Numbers and lists as a person writes them. Knows nothing of what they mean."""

from __future__ import annotations

from headswap.errors import listed as listed  # the library lists in its sentences, too

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
