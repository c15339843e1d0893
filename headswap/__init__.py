"""headswap gives a pretrained image network a new head and teaches it new classes.

One idea carries it: a network is a sequence of stages with a head on top, and frozen stages are computed once.
"""

from headswap.common import privacy  # noqa: F401, first: what is imported below would report home

# isort: split
from headswap.common.errors import InputError
from headswap.data.checks import findings
from headswap.data.dataset import LabelledImages
from headswap.data.loading import load_images
from headswap.evaluation.evaluate import evaluate
from headswap.export.integrity import DamageWarning
from headswap.export.model_file import load, save
from headswap.export.onnx import export_onnx
from headswap.export.script import eject
from headswap.networks.catalogue import backbones
from headswap.networks.classifier import Classifier, adapt
from headswap.training.checkpoints import keep
from headswap.training.cross_validation import cross_validate
from headswap.training.lr_finder import find_rate
from headswap.training.plan import Phase, Plan
from headswap.training.race import race
from headswap.training.trainer import fit, refit, train

__all__ = [
    "Classifier",
    "DamageWarning",
    "InputError",
    "LabelledImages",
    "Phase",
    "Plan",
    "adapt",
    "backbones",
    "cross_validate",
    "eject",
    "evaluate",
    "export_onnx",
    "find_rate",
    "findings",
    "fit",
    "keep",
    "load",
    "load_images",
    "race",
    "refit",
    "save",
    "train",
]
