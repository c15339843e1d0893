"""Translates the description of a format 1 model file, whose fields had other names, into today's names.

Knows nothing of what the fields mean and trusts none of them: what is no table stays as it is, for the check that comes
after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_NEW_NAMES: Mapping[tuple[str, ...], Mapping[str, str]] = MappingProxyType(
    {
        (): {"licence": "license"},
        ("preprocess",): {"deviation": "std"},
        ("seen",): {
            "learned": "training_hashes",
            "judged": "validation_hashes",
            "stages": "stages_trained",
            "forgotten": "is_truncated",
        },
        ("record",): {
            "images": "class_counts",
            "learned": "num_training_images",
            "stretches": "phases",
            "kept": "checkpoint",
            "chosen": "selected_on_validation",
        },
        ("record", "result"): {"right": "correct", "of": "total"},
        ("record", "reference"): {"right": "correct", "of": "total"},
        ("record", "plan"): {
            "soften": "head_loss_ratio",
            "keep": "checkpoint",
            "share": "weight_interpolation",
            "validation": "validation_fraction",
            "class_weights": "balance_classes",
        },
        ("record", "plan", "phases"): {
            "head_rate": "head_lr",
            "backbone_rate": "backbone_lr",
            "deeper": "layer_decay",
            "warm_up": "warmup_ratio",
        },
    }
)


def upgrade_format_1(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Gives the fields of a format 1 description the names of format 2.

    Args:
        fields: parsed JSON. Nothing in it is trusted, and nothing is checked here.

    Returns:
        A new table whose ``format`` is 2.
    """
    return {**_rename(fields, ()), "format": 2}


def _rename(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_rename(item, path) for item in value]
    if not isinstance(value, dict) or path not in _NEW_NAMES:
        return value
    new_names = _NEW_NAMES[path]
    return {new_names.get(name, name): _rename(item, (*path, name)) for name, item in value.items()}
