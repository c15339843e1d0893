"""How much is read and learned at most: every bound in one place, each of them an environment variable.

Knows nothing of what is bounded; whoever begins asks then, so a variable takes effect at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from headswap.common.errors import InputError

ENV_PREFIX = "HEADSWAP_MAX_"
MEGABYTE = 1024**2


@dataclass(frozen=True)
class Limits:
    """The bounds; ``HEADSWAP_MAX_IMAGES`` sets ``images``, and so on for each."""

    images: int = 20_000  # of one loading, or of one visitor of the page
    classes: int = 1_000
    megabytes: int = 2_048  # that one loading may write, or one visitor may keep
    unpacked_megabytes: int = 2_048  # of one archive
    ratio: int = 200  # of what an archive unpacks to, to its own size, beyond the first 64 MB
    file_megabytes: int = 64  # of one picture's file
    megapixels: int = 100  # of one picture
    depth: int = 32  # folders above a file
    name: int = 500  # characters of a file's or folder's name
    trainings: int = 8  # that learn at once on the page, taking turns; others wait for a place
    minutes: int = 60  # of one training on the page; then it stops and keeps its best
    away: int = 10  # minutes for which the things of somebody are kept whose page is closed

    @property
    def total_bytes(self) -> int:
        """``megabytes``, counted."""
        return self.megabytes * MEGABYTE

    @property
    def unpacked_bytes(self) -> int:
        """``unpacked_megabytes``, counted."""
        return self.unpacked_megabytes * MEGABYTE

    @property
    def file_bytes(self) -> int:
        """``file_megabytes``, counted."""
        return self.file_megabytes * MEGABYTE

    @property
    def pixels(self) -> int:
        """``megapixels``, counted."""
        return self.megapixels * 10**6


def get_limits() -> Limits:
    """The bounds that hold now. Raises ``InputError`` where a variable is no whole number above zero."""
    wanted = {field.name: os.environ.get(ENV_PREFIX + field.name.upper()) for field in fields(Limits)}
    return Limits(**{name: _parse_positive_int(name, text) for name, text in wanted.items() if text})


def _parse_positive_int(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 10**10):
        raise InputError(f"{ENV_PREFIX}{name.upper()} is a whole number above zero, such as {getattr(Limits, name)}.")
    return int(text)
