"""Writes strings, numbers and collections as Python source, in lines of at most 120 characters.

A value is a literal whatever it contains, so a text of the user never becomes code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MAX_LINE_LENGTH = 120  # characters

LiteralCollection = list[Any] | dict[Any, Any] | set[Any]  # of strings, numbers and such collections


def to_python_literal(value: object) -> str:
    """Python source of a string or number, or of a list, dict or set of them; strings are double-quoted."""
    if isinstance(value, str):
        source = repr(value)
        return f'"{source[1:-1]}"' if source[0] == "'" and '"' not in source else source
    if isinstance(value, dict):
        return f"{{{', '.join(_literal_items(value))}}}"
    if isinstance(value, list | set):
        opening, closing = "[]" if isinstance(value, list) else "{}"
        return f"{opening}{', '.join(_literal_items(value))}{closing}"
    return repr(value)


def format_assignment(name: str, value: LiteralCollection) -> str:
    """``name = value`` on one line, or on several lines of as many items as fit."""
    line = f"{name} = {to_python_literal(value)}"
    if len(line) <= MAX_LINE_LENGTH:
        return line
    opening, closing = "[]" if isinstance(value, list) else "{}"
    items = [f"{item}," for item in _literal_items(value)]
    return "\n".join(["# fmt: off", f"{name} = {opening}", *_wrap_items(items), closing, "# fmt: on"])


def _literal_items(value: LiteralCollection) -> list[str]:
    if isinstance(value, dict):
        return [f"{to_python_literal(key)}: {to_python_literal(item)}" for key, item in value.items()]
    return [to_python_literal(item) for item in (sorted(value) if isinstance(value, set) else value)]


def _wrap_items(items: Iterable[str]) -> Iterator[str]:
    """Indented lines of items; ``textwrap`` would break lines within a literal."""
    line = ""
    for item in items:
        if line and len(line) + 1 + len(item) > MAX_LINE_LENGTH:
            yield line
            line = ""
        line = f"{line} {item}" if line else f"    {item}"
        if len(line) > MAX_LINE_LENGTH:
            yield f"{line}  # noqa: E501"
            line = ""
    if line:
        yield line
