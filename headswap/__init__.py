"""headswap gives a pretrained image network a new head and teaches it new classes.

One idea carries it: a network is a sequence of stages with a head on top, and frozen stages are computed once.

``import headswap`` imports neither torch nor anything else that is slow; a public name is imported at its first use.
"""

from headswap.common import privacy  # noqa: F401, first: what is imported below would report home

# isort: split
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headswap.common.deprecation import warn_renamed
from headswap.common.version import read_version

if TYPE_CHECKING:  # for editors and type checkers; PUBLIC_MODULES says the same when the program runs
    from headswap.common.errors import InputError
    from headswap.data.checks import CheckContext, Finding, check, register_check
    from headswap.data.dataset import LabelledImages
    from headswap.data.loading import load_images
    from headswap.evaluation.evaluate import Evaluation, evaluate
    from headswap.export.deploy import onnx_kit, space_kit
    from headswap.export.forms import ExportForm, ExportInputs, register_export
    from headswap.export.hub import push_to_hub
    from headswap.export.integrity import DamageWarning
    from headswap.export.model_file import load, save
    from headswap.export.onnx import export_onnx
    from headswap.export.script import eject
    from headswap.export.torch_program import export_program
    from headswap.features.frozen_pass import FrozenPass
    from headswap.networks.adaptation import adapt
    from headswap.networks.catalogue import backbones
    from headswap.networks.classifier import Classifier
    from headswap.networks.head_registry import heads, register_head
    from headswap.training.api import fit, refit, train
    from headswap.training.checkpoints import restore
    from headswap.training.cross_validation import CrossValidated, Fold, cross_validate
    from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference, Step
    from headswap.training.lr_finder import RateTest, lr_find
    from headswap.training.plan import Phase, Plan
    from headswap.training.race import Lap, Won, race

__version__ = read_version()

__all__ = [
    "CheckContext",
    "Classifier",
    "CrossValidated",
    "DamageWarning",
    "Epoch",
    "Evaluation",
    "Event",
    "ExportForm",
    "ExportInputs",
    "Finding",
    "Fold",
    "FrozenPass",
    "InputError",
    "Kept",
    "LabelledImages",
    "Lap",
    "Phase",
    "PhaseBegins",
    "Plan",
    "RateTest",
    "Reference",
    "Step",
    "Won",
    "adapt",
    "backbones",
    "check",
    "cross_validate",
    "eject",
    "evaluate",
    "export_onnx",
    "export_program",
    "fit",
    "heads",
    "load",
    "load_images",
    "lr_find",
    "onnx_kit",
    "push_to_hub",
    "race",
    "refit",
    "register_check",
    "register_export",
    "register_head",
    "restore",
    "save",
    "space_kit",
    "train",
]

PUBLIC_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "CheckContext": "headswap.data.checks",
        "Classifier": "headswap.networks.classifier",
        "CrossValidated": "headswap.training.cross_validation",
        "DamageWarning": "headswap.export.integrity",
        "Epoch": "headswap.training.events",
        "Evaluation": "headswap.evaluation.evaluate",
        "Event": "headswap.training.events",
        "ExportForm": "headswap.export.forms",
        "ExportInputs": "headswap.export.forms",
        "Finding": "headswap.data.checks",
        "Fold": "headswap.training.cross_validation",
        "FrozenPass": "headswap.features.frozen_pass",
        "InputError": "headswap.common.errors",
        "Kept": "headswap.training.events",
        "LabelledImages": "headswap.data.dataset",
        "Lap": "headswap.training.race",
        "Phase": "headswap.training.plan",
        "PhaseBegins": "headswap.training.events",
        "Plan": "headswap.training.plan",
        "RateTest": "headswap.training.lr_finder",
        "Reference": "headswap.training.events",
        "Step": "headswap.training.events",
        "Won": "headswap.training.race",
        "adapt": "headswap.networks.adaptation",
        "backbones": "headswap.networks.catalogue",
        "check": "headswap.data.checks",
        "cross_validate": "headswap.training.cross_validation",
        "eject": "headswap.export.script",
        "evaluate": "headswap.evaluation.evaluate",
        "export_onnx": "headswap.export.onnx",
        "export_program": "headswap.export.torch_program",
        "fit": "headswap.training.api",
        "heads": "headswap.networks.head_registry",
        "load": "headswap.export.model_file",
        "load_images": "headswap.data.loading",
        "lr_find": "headswap.training.lr_finder",
        "onnx_kit": "headswap.export.deploy",
        "push_to_hub": "headswap.export.hub",
        "race": "headswap.training.race",
        "refit": "headswap.training.api",
        "register_check": "headswap.data.checks",
        "register_export": "headswap.export.forms",
        "register_head": "headswap.networks.head_registry",
        "restore": "headswap.training.checkpoints",
        "save": "headswap.export.model_file",
        "space_kit": "headswap.export.deploy",
        "train": "headswap.training.api",
    }
)
_NEW_NAMES = {"find_rate": "lr_find", "findings": "check", "keep": "restore"}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name in _NEW_NAMES:
        warn_renamed(f"headswap.{name}", f"headswap.{_NEW_NAMES[name]}")
        return __getattr__(_NEW_NAMES[name])
    if name not in PUBLIC_MODULES:
        raise AttributeError(f"module 'headswap' has no attribute '{name}'")
    value = getattr(import_module(PUBLIC_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
