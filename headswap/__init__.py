"""headswap gives a pretrained image network a new head and teaches it new classes.

One idea carries it: a network is a sequence of stages with a head on top, and frozen stages are computed once.
"""

from headswap.common import privacy  # noqa: F401, first: what is imported below would report home

# isort: split
from typing import Any

from headswap.common.deprecation import renamed_function, warn_renamed
from headswap.common.errors import InputError
from headswap.common.version import read_version
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

heads.register = renamed_function(register_head, "heads.register")  # type: ignore[attr-defined]  # a module once

_NEW_NAMES = {"find_rate": "lr_find", "findings": "check", "keep": "restore"}


def __getattr__(name: str) -> Any:
    if name not in _NEW_NAMES:
        raise AttributeError(f"module 'headswap' has no attribute '{name}'")
    warn_renamed(f"headswap.{name}", f"headswap.{_NEW_NAMES[name]}")
    return globals()[_NEW_NAMES[name]]
