"""headswap gives a pretrained image network a new head and teaches it new classes.

One idea carries it: a network is a sequence of stages with a head on top, and frozen stages are computed once.
"""

from headswap.catalogue import backbones
from headswap.errors import InputError
from headswap.images import LabelledImages
from headswap.model import Classifier, adapt
from headswap.plan import Phase, Plan
from headswap.reading import load_images
from headswap.training import fit, train

__all__ = [
    "Classifier",
    "InputError",
    "LabelledImages",
    "Phase",
    "Plan",
    "adapt",
    "backbones",
    "fit",
    "load_images",
    "train",
]
