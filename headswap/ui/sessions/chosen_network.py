"""The chosen network: with its weights, without their numbers, and how fast this machine runs it. Knows no step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import chain

import torch

from headswap.common.rng import Seeded
from headswap.data.dataset import LabelledImages
from headswap.networks.classifier import Classifier, adapt, crown
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Choice

SEED = 0  # of what is random in a new network: the same choices give the same curve
PASSES = 3  # of which the fastest counts
SLOW = 0.25  # seconds a picture; a pass as long as that is long enough to be measured once
MEASURING = threading.Lock()
_paces: dict[str, float] = {}


def make(
    choice: Choice,
    classes: Sequence[str] | int,
    multi_label: bool = False,
    pretrained: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """The chosen network with its weights, which may have to be downloaded first."""
    return adapt(
        choice.backbone,
        classes,
        choice.head,
        pretrained=pretrained and choice.pretrained,
        multi_label=multi_label,
        crop=choice.crop,
        progress=progress,
        head_options=choice.options,
    )


def network(choice: Choice, images: LabelledImages, turns: Turns, progress: Callable[[int, int], None]) -> Classifier:
    """The chosen network; what is random in it is the same each time."""
    learned = None
    if choice.pretrained:  # takes no turn: a download is no work for the processor
        with Seeded(SEED):
            learned = make(choice, images.classes, images.multi_label, progress=progress)
    with turns.turn(), Seeded(SEED):
        if learned:
            return crown(learned, choice.head, **choice.options)
        return make(choice, images.classes, images.multi_label)


def preview(choice: Choice, classes: Sequence[str] | int, multi_label: bool = False) -> Classifier:
    """The chosen network without its weights' numbers: quick to build and as large as its names."""
    try:
        with torch.device("meta"):
            return make(choice, classes, multi_label, pretrained=False)
    except (NotImplementedError, RuntimeError):  # RegNets compute with tensors while they are built
        return make(choice, classes, multi_label, pretrained=False)


def measured(backbone: str) -> float:
    """Seconds that a picture takes through a network of this name on this machine, measured once."""
    with MEASURING:  # one at a time, for the time's sake and for memory's
        if backbone not in _paces:
            _paces[backbone] = _measure(backbone)
        return _paces[backbone]


def known(backbone: str) -> float | None:
    """What ``measured`` has measured; None of a network that it has not."""
    return _paces.get(backbone)


def _measure(backbone: str) -> float:
    model = preview(Choice(backbone, "linear", pretrained=False), 2)
    if next(model.parameters()).is_meta:
        model.to_empty(device="cpu")
        for tensor in chain(model.parameters(), model.buffers()):
            tensor.detach().zero_()  # what was in memory before could be numbers that are slow to compute with
    fastest = model.pace()
    for _ in range(PASSES - 1):
        if fastest < SLOW:
            fastest = min(fastest, model.pace())
    return fastest
