"""Names of classes as a person gives them, and what to offer to somebody who mistyped a name."""

from collections import Counter
from collections.abc import Mapping
from operator import index
from typing import Any

MAX_CLASSES = 65_536  # logits of a head
MAX_REPR_LENGTH = 60  # characters of what was given, in a sentence


def validate_class_names(classes: Any) -> tuple[str, ...]:
    """The names of classes in their order, made up where only their number is given: "class 1", "class 2" and so on.

    Args:
        classes: texts in a list, tuple, array or anything else that has an order, or how many there are.

    Raises:
        ValueError: for anything else, with what to give instead; and unless there are two or more, each with a name of
            its own.
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
            f"classes is a list of names, such as ['cat', 'dog'], or how many there are, not the text {_short_repr(classes)}."
        )
    if hasattr(classes, "classes"):  # images, a model, or somebody else's data set
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
        told = f"{_short_repr(list(names))}" if twice is None else f"{_short_repr(twice)} twice"
        raise ValueError(f"A classifier needs at least two classes, each with a name of its own, not {told}.")
    return names


def validate_class_name(name: Any) -> str:
    """The name of one class, as plain text.

    Raises:
        ValueError: if it is no text, or an empty one.
    """
    if not isinstance(name, str):
        raise ValueError(f"The name of a class is a text, such as '1', not {_short_repr(name)}.")
    if not name.strip():
        raise ValueError("The name of a class is a text of one character or more that can be seen, not an empty one.")
    return str.__str__(name)  # of a text of numpy's, or of an enumeration, the text alone


def _as_integer(value: Any) -> int | None:
    """A whole number of Python's, numpy's or torch's; None for anything else, truth values included."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def _short_repr(value: Any) -> str:
    """What was given, short enough for a sentence."""
    told = repr(value)
    return told if len(told) <= MAX_REPR_LENGTH else f"{told[: MAX_REPR_LENGTH - 3]}..."
