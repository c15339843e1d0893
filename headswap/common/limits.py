"""Limits on input size and resource use, each read from a ``HEADSWAP_MAX_*`` environment variable.

Knows nothing of what is limited. The environment is read at each call, so that a change takes effect at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from headswap.common.errors import InputError

ENV_PREFIX = "HEADSWAP_MAX_"
MEGABYTE = 1024**2


@dataclass(frozen=True)
class Limits:
    """The limits; ``HEADSWAP_MAX_IMAGES`` sets ``images``, and so on for each field."""

    images: int = 20_000  # of one loading, or of one session of the page
    classes: int = 1_000
    megabytes: int = 2_048  # that one loading may write, or one session may keep on disk
    unpacked_megabytes: int = 2_048  # of one archive
    ratio: int = 200  # of an archive's unpacked size to its own size, beyond the first 64 MB
    file_megabytes: int = 64  # of one image file
    megapixels: int = 100  # of one image
    depth: int = 32  # folders above a file
    name: int = 500  # characters of a file's or folder's name
    trainings: int = 8  # that run at once on the page; others are queued
    minutes: int = 60  # of one training on the page; then it stops and keeps its best weights
    away: int = 10  # minutes until a session is removed whose page is closed

    @property
    def total_bytes(self) -> int:
        """``megabytes`` in bytes."""
        return self.megabytes * MEGABYTE

    @property
    def unpacked_bytes(self) -> int:
        """``unpacked_megabytes`` in bytes."""
        return self.unpacked_megabytes * MEGABYTE

    @property
    def file_bytes(self) -> int:
        """``file_megabytes`` in bytes."""
        return self.file_megabytes * MEGABYTE

    @property
    def pixels(self) -> int:
        """``megapixels`` in pixels."""
        return self.megapixels * 10**6


def get_limits() -> Limits:
    """The limits that the environment sets now, with the defaults for the others.

    Raises:
        InputError: if a variable is not a whole number from 1 to 9,999,999,999, in digits alone.
    """
    values = {field.name: os.environ.get(ENV_PREFIX + field.name.upper()) for field in fields(Limits)}
    return Limits(**{name: _parse_positive_int(name, text) for name, text in values.items() if text})


def _parse_positive_int(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 10**10):
        raise InputError(f"{ENV_PREFIX}{name.upper()} is a whole number above zero, such as {getattr(Limits, name)}.")
    return int(text)
