"""Validates class names as users give them."""

from collections import Counter
from collections.abc import Mapping
from operator import index
from typing import Any

MAX_CLASSES = 65_536
MAX_REPR_LENGTH = 60  # characters shown of a value in an error message


def validate_class_names(classes: Any) -> tuple[str, ...]:
    """Convert a list of class names, or their number, to a tuple of names in the order of the logits.

    Args:
        classes: strings in a list, tuple, array or another ordered iterable; or an integer, for which the names are
            "class 1", "class 2" and so on.

    Raises:
        ValueError: for anything else, fewer than 2 or more than ``MAX_CLASSES`` classes, or a name that occurs twice.
    """
    number = _as_integer(classes)
    if number is not None:
        if number < 2:
            raise ValueError(f"A classifier needs at least two classes, each with a name of its own, not {number}.")
        if number > MAX_CLASSES:
            raise ValueError(f"A classifier has at most {MAX_CLASSES:,} classes, not {number:,}.")
        return tuple(f"class {i}" for i in range(1, number + 1))
    if isinstance(classes, str | bytes | bytearray):
        raise ValueError(
            "classes is a list of names, such as ['cat', 'dog'], or how many there are, not the text "
            f"{_short_repr(classes)}."
        )
    if hasattr(classes, "classes"):  # LabelledImages, a Classifier, or a dataset of another library
        raise ValueError(
            f"classes is a list of names, and not what has them: give the .classes of this {type(classes).__name__}, "
            "such as classes=images.classes."
        )
    if isinstance(classes, set | frozenset):
        raise ValueError(
            "classes is a set, which has no order, and the first class has the first logit; give sorted(classes)."
        )
    if isinstance(classes, Mapping):
        raise ValueError(
            "classes is a mapping, which may be meant either way; give a list of the names in the order of the logits."
        )
    try:
        names = tuple(validate_class_name(name) for name in classes)
    except TypeError as error:
        raise ValueError(
            f"classes is a list of names, such as ['cat', 'dog'], or how many there are, not {_short_repr(classes)}."
        ) from error
    if len(names) > MAX_CLASSES:
        raise ValueError(f"A classifier has at most {MAX_CLASSES:,} classes, not {len(names):,}.")
    if len(names) < 2 or len(set(names)) < len(names):
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        given = _short_repr(list(names)) if twice is None else f"{_short_repr(twice)} twice"
        raise ValueError(f"A classifier needs at least two classes, each with a name of its own, not {given}.")
    return names


def validate_class_name(name: Any) -> str:
    """Convert the name of a class to a plain ``str``.

    Raises:
        ValueError: if it is no string, or has no visible character.
    """
    if not isinstance(name, str):
        raise ValueError(f"The name of a class is a text, such as '1', not {_short_repr(name)}.")
    if not name.strip():
        raise ValueError("The name of a class is a text of one character or more that can be seen, not an empty one.")
    return str.__str__(name)  # without a subclass of NumPy or an enumeration


def _as_integer(value: Any) -> int | None:
    """An integer of Python, NumPy or torch as ``int``; None for anything else, booleans included."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def _short_repr(value: Any) -> str:
    """``repr`` of a value, truncated for an error message."""
    text = repr(value)
    return text if len(text) <= MAX_REPR_LENGTH else f"{text[: MAX_REPR_LENGTH - 3]}..."
