"""What is told, as plain data for machines: events and answers as dictionaries that JSON can hold.

Knows nothing of terminals and of the page, which both tell them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from headswap.images import LabelledImages
from headswap.model import Classifier


def plain(told: Any) -> dict[str, Any]:
    """A dataclass as plain data: what is not printed, as weights, is not told, and what is no number is null."""
    return {f.name: _plain(getattr(told, f.name)) for f in dataclasses.fields(told) if f.repr}


def plain_event(event: Any) -> dict[str, Any]:
    """An event as plain data; ``event`` names its kind."""
    return {"event": type(event).__name__, **plain(event)}


def plain_answers(ranked: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """The classes with their probabilities, likeliest first."""
    return [{"class": name, "probability": share} for name, share in ranked]


def plain_report(images: LabelledImages) -> dict[str, Any]:
    """What loading images understood: their number, the classes, and all that its report says."""
    report = images.report
    return {
        "images": len(images),
        "classes": images.counts,
        "understood": list(report.understood),
        "notes": list(report.notes),
        "skipped": [{"file": name, "reason": reason} for name, reason in report.skipped],
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain_event(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Classifier):
        return value.backbone
    return None if isinstance(value, float) and not math.isfinite(value) else value
