"""What is told, as plain data for machines: events and answers as dictionaries that JSON can hold.

Knows nothing of terminals and of the page, which both tell them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any


def dataclass_to_dict(instance: Any) -> dict[str, Any]:
    """A dataclass as plain data: what is not printed, as weights, is not told, and what is no number is null."""
    return {f.name: plain_value(getattr(instance, f.name)) for f in dataclasses.fields(instance) if f.repr}


def event_to_dict(event: Any) -> dict[str, Any]:
    """An event as plain data; ``event`` names its kind."""
    return {"event": type(event).__name__, **dataclass_to_dict(event)}


def predictions_to_dicts(predictions: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """The classes with their probabilities, likeliest first."""
    return [{"class": name, "probability": share} for name, share in predictions]


@singledispatch
def plain_value(value: Any) -> Any:
    """A value as JSON can hold it. Packages with kinds of their own register them: ``plain_value.register``."""
    if dataclasses.is_dataclass(value):
        return event_to_dict(value)
    if isinstance(value, Mapping):
        return {name: plain_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
