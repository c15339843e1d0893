"""The terminals to which everything is printed, and plain lines on them. Imports nothing that is slow."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console

EXIT_INTERRUPTED = 130  # as shells report what Ctrl+C ended

# A file or a pipe gets whole lines: nobody searches for half of a file's name.
_PIPED_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 1000

console: Console = Console(width=_PIPED_WIDTH)
error_console: Console = Console(stderr=True)


def print_line(text: str) -> None:
    """Print a text without markup or highlighting."""
    console.print(text, markup=False, highlight=False)


def print_json_line(**fields: Any) -> None:
    """Print a JSON object as one line, and flush."""
    print(json.dumps(fields, ensure_ascii=False, allow_nan=False), flush=True)


def print_text_or_json(text: str, as_json: bool, **fields: Any) -> None:
    """Print ``fields`` as a JSON object, or else the text."""
    print_json_line(**fields) if as_json else print_line(text)


def format_default(default: object) -> str:
    """Format the default of a head option as it would be typed."""
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
