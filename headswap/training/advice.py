"""Recommends how to train on a dataset: the number of views and of unfrozen stages, and what suits it, in sentences.

The bounds are measured: EfficientNet-Lite0 on four kinds of photographs, 5 to 40 images a class. Knows nothing of plans
and of training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headswap.networks.stage import count_parameters

if TYPE_CHECKING:
    from headswap.data.dataset import LabelledImages
    from headswap.networks.classifier import Classifier

FEW_IMAGES = 10  # in the smallest class
ENOUGH_IMAGES = 20  # in the smallest class, for unfreezing to pay
PLENTY_OF_IMAGES = 100  # in the smallest class, for a head with hidden layers
MANY_IMAGES = 200  # in all; beyond it two views are enough: four gained nothing and took twice the time
IMBALANCE_RATIO = 3  # times as many images in the largest class as in the smallest
MANY_HEAD_WEIGHTS_PER_IMAGE = 1000
# Two minutes of two cores with networks that use them badly: EfficientNet-Lite0 does some 60 GFLOP in a second there.
# Operations and not seconds, so that a plan is the same on every machine, whatever else the machine does.
MAX_FROZEN_PASS_FLOPS = 7e12
MAX_UNFROZEN_WEIGHTS = 12_000_000  # beyond it an epoch takes minutes on two cores


def describe_dataset_fit(images: LabelledImages, model: Classifier) -> str:
    """Describe in a few sentences which head suits these images, and whether unfreezing will pay."""
    smallest, weights = min(images.counts.values()), count_parameters(model.head)
    weights_per_image = weights / len(images)
    share = f"{weights_per_image:,.0f} for each" if weights_per_image >= 1.5 else "one for each at most"
    sentences = [f"There are {len(images):,} images for the head's {weights:,} weights, {share}."]
    if weights_per_image > MANY_HEAD_WEIGHTS_PER_IMAGE:
        sentences.append("That is many: a smaller head overfits less, and a dropout of 0.5 helps.")
    if smallest < ENOUGH_IMAGES:
        suitable = "a linear head" if images.multi_label else "LDA or a linear head"
        sentences.append(f"With {smallest} images in the smallest class {suitable} without dropout suits best.")
    elif smallest < PLENTY_OF_IMAGES:
        sentences.append(
            f"With {smallest} images in the smallest class a linear head suits, or a bottleneck with a dropout of 0.2."
        )
    else:
        sentences.append(
            f"With {smallest} images in the smallest class a bottleneck or an MLP with a dropout of 0.3 can pay."
        )
    if smallest < FEW_IMAGES:
        sentences.append("Unfreezing is more likely to hurt than to help here.")
    elif smallest < ENOUGH_IMAGES:
        sentences.append("Unfreezing will change little here, for better or worse.")
    else:
        sentences.append("Unfreezing can pay here where the pictures look unlike ImageNet's photographs of things.")
    return " ".join(sentences)


def explain_plan(images: LabelledImages, model: Classifier, smallest_class_size: int, is_imbalanced: bool) -> str:
    """Explain the suggested plan in a sentence or two."""
    return " ".join(_plan_sentences(images, model, smallest_class_size, is_imbalanced))


def _plan_sentences(
    images: LabelledImages, model: Classifier, smallest_class_size: int, is_imbalanced: bool
) -> Iterator[str]:
    kept = "so what is kept lies half-way between the frozen network and what they learn."
    if smallest_class_size < FEW_IMAGES:
        yield f"With as few as {smallest_class_size} images in a class the last stages learn little that holds, {kept}"
    else:
        yield f"With {smallest_class_size} images or more in each class the last stages may learn a little, too, {kept}"
    weights = count_parameters(model.head)
    if weights > MANY_HEAD_WEIGHTS_PER_IMAGE * len(images):
        yield f"The head has {weights:,} weights for {len(images)} images; a smaller one overfits less."
    if is_imbalanced:
        yield "The classes differ much in number, so each counts as much as every other."


def choose_num_views(num_images: int, flops_per_image: int) -> int:
    """The number of views of each training image: fewer for many images, or where the frozen pass would take minutes.

    Args:
        num_images: in the dataset.
        flops_per_image: floating-point operations of the backbone.
    """
    views = 4 if num_images < MANY_IMAGES else 2
    while views > 1 and num_images * views * flops_per_image > MAX_FROZEN_PASS_FLOPS:
        views //= 2
    return views


def choose_num_unfrozen_stages(model: Classifier) -> int:
    """The number of last stages to unfreeze: at least one, at most a third, and ``MAX_UNFROZEN_WEIGHTS`` in all."""
    weights = [count_parameters(stage) for stage in reversed(model.freezable_stages)]
    at_most = max(1, len(weights) // 3)
    return max(1, sum(sum(weights[: n + 1]) <= MAX_UNFROZEN_WEIGHTS for n in range(at_most)))
