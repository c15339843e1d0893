"""Renames the fields of a format 1 model file's description as format 2 names them.

Knows nothing of what the fields mean and trusts none of them: values of an unexpected type stay as they are, to be
refused by the validation that follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# By the path of the objects that hold the fields: the new name of each renamed one.
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


def rename_format_1_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the fields of a format 1 description as format 2 names them; all other fields stay.

    Args:
        fields: parsed JSON. Nothing in it is trusted, and nothing is checked here.

    Returns:
        A new dictionary; an equal one if no field has a name of format 1.
    """
    return {_NEW_NAMES[()].get(name, name): _rename(value, (name,)) for name, value in fields.items()}


def _rename(value: Any, path: tuple[str, ...]) -> Any:
    if path not in _NEW_NAMES:
        return value
    if isinstance(value, list):
        return [_rename(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    new_names = _NEW_NAMES[path]
    return {new_names.get(name, name): _rename(item, (*path, name)) for name, item in value.items()}
