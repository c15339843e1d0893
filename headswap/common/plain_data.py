"""Converts events, predictions and other dataclasses to dictionaries that JSON can hold.

Knows nothing of terminals and of the page, which both send them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from headswap.common.deprecation import get_old_names

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def dataclass_to_dict(instance: DataclassInstance) -> dict[str, Any]:
    """A dataclass as a dictionary, without its fields of ``field(repr=False)``, such as weights.

    A field that was renamed keeps its old name as key, because programs read the JSON that is made of this.
    """
    keys = get_old_names(type(instance))
    fields = [field for field in dataclasses.fields(instance) if field.repr]
    return {keys.get(field.name, field.name): plain_value(getattr(instance, field.name)) for field in fields}


def event_to_dict(event: DataclassInstance) -> dict[str, Any]:
    """An event as a dictionary, with the name of its class under ``event``."""
    return {"event": type(event).__name__, **dataclass_to_dict(event)}


def predictions_to_dicts(predictions: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Pairs of class and probability as dictionaries, in the same order."""
    return [{"class": name, "probability": probability} for name, probability in predictions]


@singledispatch
def plain_value(value: Any) -> Any:
    """A value as JSON can hold it; NaN and infinite floats become None.

    Packages register a conversion for their own types with ``plain_value.register``.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return event_to_dict(value)
    if isinstance(value, Mapping):
        return {name: plain_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
