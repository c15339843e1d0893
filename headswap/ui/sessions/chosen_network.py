"""The chosen network: with its weights, without their numbers, and how fast this machine runs it. Knows no step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import chain

import torch

from headswap.common.rng import SeededRandomMode
from headswap.data.dataset import LabelledImages
from headswap.networks.adaptation import adapt, attach_head
from headswap.networks.classifier import Classifier
from headswap.ui.sessions.job import Scheduler
from headswap.ui.sessions.session import ModelChoice

SEED = 0  # of what is random in a new network: the same choices give the same curve
NUM_TIMING_PASSES = 3  # of which the fastest counts
SLOW_SECONDS_PER_IMAGE = 0.25  # seconds a picture; a pass as long as that is long enough to be measured once
TIMING_LOCK = threading.Lock()
_seconds_per_image: dict[str, float] = {}


def build_chosen_network(
    choice: ModelChoice,
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
        head_options=choice.head_options,
    )


def build_seeded_network(
    choice: ModelChoice, images: LabelledImages, scheduler: Scheduler, progress: Callable[[int, int], None]
) -> Classifier:
    """The chosen network; what is random in it is the same each time."""
    learned = None
    if choice.pretrained:  # takes no turn: a download is no work for the processor
        with SeededRandomMode(SEED):
            learned = build_chosen_network(choice, images.classes, images.multi_label, progress=progress)
    with scheduler.compute_slot(), SeededRandomMode(SEED):
        if learned:
            return attach_head(learned, choice.head, **choice.head_options)
        return build_chosen_network(choice, images.classes, images.multi_label)


def build_meta_network(choice: ModelChoice, classes: Sequence[str] | int, multi_label: bool = False) -> Classifier:
    """The chosen network without its weights' numbers: quick to build and as large as its names."""
    try:
        with torch.device("meta"):
            return build_chosen_network(choice, classes, multi_label, pretrained=False)
    except (NotImplementedError, RuntimeError):  # RegNets compute with tensors while they are built
        return build_chosen_network(choice, classes, multi_label, pretrained=False)


def measure_seconds_per_image(backbone: str) -> float:
    """Seconds that a picture takes through a network of this name on this machine, measured once."""
    with TIMING_LOCK:  # one at a time, for the time's sake and for memory's
        if backbone not in _seconds_per_image:
            _seconds_per_image[backbone] = _time_network(backbone)
        return _seconds_per_image[backbone]


def get_measured_seconds(backbone: str) -> float | None:
    """What ``measured`` has measured; None of a network that it has not."""
    return _seconds_per_image.get(backbone)


def _time_network(backbone: str) -> float:
    model = build_meta_network(ModelChoice(backbone, "linear", pretrained=False), 2)
    if next(model.parameters()).is_meta:
        model.to_empty(device="cpu")
        for tensor in chain(model.parameters(), model.buffers()):
            tensor.detach().zero_()  # what was in memory before could be numbers that are slow to compute with
    fastest = model.measure_seconds_per_image()
    for _ in range(NUM_TIMING_PASSES - 1):
        if fastest < SLOW_SECONDS_PER_IMAGE:
            fastest = min(fastest, model.measure_seconds_per_image())
    return fastest
