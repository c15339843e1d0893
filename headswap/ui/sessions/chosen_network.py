"""Builds the chosen backbone with its head, with weights or on the meta device, and times it on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain

import torch

from headswap.common.rng import SeededRandomMode
from headswap.data.dataset import LabelledImages
from headswap.networks.adaptation import adapt, attach_head
from headswap.networks.classifier import Classifier
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.state import ModelChoice

SEED = 0  # of random weights, so that the same choices give the same training curves
NUM_TIMING_PASSES = 3  # of which the fastest counts
SLOW_SECONDS_PER_IMAGE = 0.25  # from here on one timing pass is exact enough
TIMING_LOCK = threading.Lock()
_seconds_per_image: dict[str, float] = {}


def build_chosen_network(
    choice: ModelChoice,
    classes: Sequence[str] | int,
    multi_label: bool = False,
    pretrained: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """Build the chosen network, and download its weights if they are missing.

    Args:
        choice: Backbone, head and options.
        classes: Class names, or their number.
        multi_label: Whether an image may carry several labels.
        pretrained: False for random weights, whatever the choice says.
        progress: Called with the downloaded and the total bytes.
    """
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
    """Build the chosen network for these images; its random weights are the same each time.

    Args:
        choice: Backbone, head and options.
        images: The dataset, whose classes the network predicts.
        scheduler: Lends the compute slot.
        progress: Called with the downloaded and the total bytes.
    """
    pretrained = None
    if choice.pretrained:  # without a compute slot, because it may download
        with SeededRandomMode(SEED):
            pretrained = build_chosen_network(choice, images.classes, images.multi_label, progress=progress)
    with scheduler.compute_slot(), SeededRandomMode(SEED):
        if pretrained is not None:
            return attach_head(pretrained, choice.head, **choice.head_options)
        return build_chosen_network(choice, images.classes, images.multi_label)


def build_meta_network(choice: ModelChoice, classes: Sequence[str] | int, multi_label: bool = False) -> Classifier:
    """Build the chosen network on the meta device, which is quick and takes no memory for weights.

    A network that cannot be built there has random weights instead.
    """
    try:
        with torch.device("meta"):
            return build_chosen_network(choice, classes, multi_label, pretrained=False)
    except (NotImplementedError, RuntimeError):  # RegNet computes with tensor values in its constructor
        return build_chosen_network(choice, classes, multi_label, pretrained=False)


def measure_seconds_per_image(backbone: str) -> float:
    """Seconds that this machine needs for a forward pass of one image; measured once for each backbone."""
    with TIMING_LOCK:  # one at a time, because simultaneous passes would slow each other down and need more memory
        if backbone not in _seconds_per_image:
            _seconds_per_image[backbone] = _time_network(backbone)
        return _seconds_per_image[backbone]


@cache
def count_flops_per_image(backbone: str) -> int:
    """Floating-point operations of a forward pass of one image."""
    return build_meta_network(ModelChoice(backbone, "linear", pretrained=False), 2).count_flops_per_image()


def get_measured_seconds(backbone: str) -> float | None:
    """The measured seconds for each image; None before ``measure_seconds_per_image`` was called for this backbone."""
    return _seconds_per_image.get(backbone)


def _time_network(backbone: str) -> float:
    model = build_meta_network(ModelChoice(backbone, "linear", pretrained=False), 2)
    if next(model.parameters()).is_meta:
        model.to_empty(device="cpu")
        for tensor in chain(model.parameters(), model.buffers()):
            tensor.detach().zero_()  # uninitialized memory may hold denormal numbers, which are slow to compute with
    fastest = model.measure_seconds_per_image()
    for _ in range(NUM_TIMING_PASSES - 1):
        if fastest < SLOW_SECONDS_PER_IMAGE:
            fastest = min(fastest, model.measure_seconds_per_image())
    return fastest
