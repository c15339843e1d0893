"""Checks a dataset before training for duplicates, label conflicts, leaks, class imbalance, bad images and outliers.

Each check is a function with the decorator ``register_check``; one of your own is added in the same way. They use
what was measured when the images were loaded. Knows nothing of networks but their input size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch

from headswap.common.deprecation import renamed_arguments, renamed_attributes
from headswap.common.errors import InputError
from headswap.common.text import format_image_count, list_names, pluralize
from headswap.data.dataset import LabelledImages
from headswap.data.duplicates import ImageStats, group_duplicates

DEFAULT_INPUT_SIZE = 224  # pixels of a side, of most networks
MIN_IMAGES_PER_CLASS = 10
MAX_CLASS_IMBALANCE = 4  # ratio of the largest class to the smallest
DARK_LEVEL = 25  # of 255; a dark image's brightness and contrast are lower
# A photograph in focus has a sharpness of 8 and more, one blurred by three pixels of 256 has 2. Drawings are smooth
# without being blurred, but have little contrast as well.
BLURRED_SHARPNESS, BLURRED_SHARPNESS_PER_CONTRAST = 3.0, 0.06
MIN_SHARPNESS_SIZE = 256  # pixels; a smaller image was enlarged to be measured, and so is never sharp
OUTLIER_DISTANCE_RATIO = 2.0  # of an outlier's distance from its nearest neighbours to the median of its class
_MIN_IMAGES_FOR_OUTLIERS = 8  # of a class
_MIN_DISTANCE = 50.0  # between thumbnails; less, a grey level a pixel, is within the error of torch.cdist's fast method
_MAX_COMPARED_IMAGES = 1000  # about; in a larger class the distances to every second or third image are enough
_MAX_LISTED_CLASSES = 6


@renamed_attributes(images="index_groups")
@dataclass(frozen=True)
class Finding:
    """What a check found, with advice.

    Attributes:
        kind: a short name, such as "copies" or "dark", mostly that of the check.
        sentence: what was found.
        advice: what to do about it, one sentence or more.
        index_groups: indices of the images concerned; the images of a group are shown side by side.
    """

    kind: str
    sentence: str
    advice: str
    index_groups: tuple[tuple[int, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}"


@dataclass(frozen=True)
class CheckContext:
    """What all checks of a dataset share.

    Attributes:
        images: the dataset.
        copies: indices of each group of two or more images that are copies of one another; the frames of one camera
            burst are none.
        input_size: pixels of a side of the network's input.
    """

    images: LabelledImages
    copies: tuple[tuple[int, ...], ...]
    input_size: int

    def find_images(
        self, kind: str, predicate: Callable[[ImageStats], bool], description: str, advice: str
    ) -> Finding | None:
        """A finding of all images whose statistics satisfy a predicate, or None if there are none.

        Args:
            kind: of the finding.
            predicate: takes an image's statistics.
            description: ends the sentence "3 images are ...", without a full stop.
            advice: of the finding.
        """
        indices = [i for i, stats in enumerate(self.images.stats) if predicate(stats)]
        if not indices:
            return None
        sentence = f"{format_image_count(len(indices))} {pluralize(len(indices), 'is', 'are')} {description}."
        return Finding(kind, sentence, advice, tuple((i,) for i in indices))


Check: TypeAlias = Callable[[CheckContext], Finding | None]


@dataclass(frozen=True)
class _RegisteredCheck:
    function: Check
    severity: float


_CHECKS: dict[str, _RegisteredCheck] = {}
CHECKS: Mapping[str, _RegisteredCheck] = MappingProxyType(_CHECKS)


def register_check(name: str, *, severity: float = 0.0) -> Callable[[Check], Check]:
    """Decorator that adds a function to the checks that ``check``, the command line and the page run.

    Args:
        name: a Python identifier that is not taken, mostly the kind of the findings.
        severity: the findings of graver checks come first. The built-in ones have 10 (outliers) to 90 (the same image
            in several classes).

    Returns:
        A decorator for a function that takes a ``CheckContext`` and returns a ``Finding``, or None if all is well. It
        returns the function unchanged.

    Raises:
        ValueError: if the name is taken or no identifier.
    """
    if not name.isidentifier() or name in _CHECKS:
        raise ValueError(f"A check's name is a word of its own, such as my_check, and not '{name}'.")

    def register(function: Check) -> Check:
        _CHECKS[name] = _RegisteredCheck(function, severity)
        return function

    return register


@renamed_arguments(side="input_size")
def check(images: LabelledImages, input_size: int = DEFAULT_INPUT_SIZE) -> list[Finding]:
    """Check a dataset before training.

    Args:
        images: as ``load_images`` gives them.
        input_size: pixels of a side of the network's input.

    Returns:
        The findings, the gravest first; none if all is well.
    """
    context = CheckContext(images, _find_copies(images), input_size)
    gravest_first = sorted(CHECKS.values(), key=lambda registered: -registered.severity)
    findings = (registered.function(context) for registered in gravest_first)
    return [finding for finding in findings if finding]


def count_leaking_pairs(images: LabelledImages) -> int:
    """The number of pairs of images of one group that a split without groups would put on different sides."""
    try:
        _, validation = replace(images, groups=tuple(range(len(images)))).split()
    except InputError:  # too few images of a class to be split
        return 0
    validation_paths, num_pairs = set(validation.paths), 0
    for group in images.group_indices:
        num_validation = sum(images.paths[i] in validation_paths for i in group)
        num_pairs += num_validation * (len(group) - num_validation)
    return num_pairs


def _find_copies(images: LabelledImages) -> tuple[tuple[int, ...], ...]:
    """The groups of copies, without those that are the frames of one burst."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(group_duplicates(images.stats)):
        groups[number].append(i)
    return tuple(
        tuple(group)
        for group in groups.values()
        if len(group) > 1 and (not images.bursts[group[0]] or len({images.bursts[i] for i in group}) > 1)
    )


@register_check("contradictions", severity=90)
def _check_contradictions(context: CheckContext) -> Finding | None:
    """Copies of one image in different classes."""
    label_names = context.images.label_names
    groups = tuple(group for group in context.copies if len({label_names[i] for i in group}) > 1)
    if not groups:
        return None
    classes = sorted({" and ".join(label_names[i]) or "none" for i in groups[0]})
    what = "The same picture stands" if len(groups) == 1 else f"{len(groups)} pictures stand"
    return Finding(
        "contradictions",
        f"{what} in several classes: {', '.join(classes)}.",
        "Which is right? Remove the others: a model cannot learn both.",
        groups,
    )


@register_check("leaks", severity=80)
def _check_leaks(context: CheckContext) -> Finding | None:
    """Copies inside and outside the validation folder."""
    held_out = context.images.held_out
    groups = tuple(group for group in context.copies if len({held_out[i] for i in group}) > 1)
    if not groups or all(held_out):
        return None
    number = sum(held_out[i] for group in groups for i in group)
    return Finding(
        "leaks",
        f"{format_image_count(number)} of the validation folder {pluralize(number, 'is a copy', 'are copies')} of what "
        "is learned from.",
        "Remove them from one side: what was learned by heart proves nothing.",
        groups,
    )


@register_check("few", severity=70)
def _check_few_images(context: CheckContext) -> Finding | None:
    """Classes with too few images."""
    few = [f"{name} {count}" for name, count in context.images.counts.items() if count < MIN_IMAGES_PER_CLASS]
    if not few:
        return None
    return Finding(
        "few",
        f"Few images: {list_names(few, _MAX_LISTED_CLASSES, ', and others')}.",
        "Add more; twenty of a class are a good start, and with fewer than ten its figures are a guess.",
    )


@register_check("uneven", severity=60)
def _check_imbalance(context: CheckContext) -> Finding | None:
    """A class with many more images than another."""
    counts = context.images.counts
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    ratio = counts[largest] / max(counts[smallest], 1)
    if ratio < MAX_CLASS_IMBALANCE:
        return None
    return Finding(
        "uneven",
        f"{largest} has {ratio:.0f} times as many images as {smallest}.",
        f"Add images of {smallest}, or the model will be tempted to answer {largest}.",
    )


@register_check("copies", severity=50)
def _check_copies(context: CheckContext) -> Finding | None:
    """Copies of one image in the same class."""
    label_names = context.images.label_names
    groups = tuple(group for group in context.copies if len({label_names[i] for i in group}) == 1)
    number = sum(len(group) - 1 for group in groups)
    if not number:
        return None
    return Finding(
        "copies",
        f"{format_image_count(number)} {pluralize(number, 'is a copy', 'are copies')}, or nearly so, of others.",
        "They stay together on one side of the split, so that they cannot flatter the result; they add little.",
        groups,
    )


@register_check("small", severity=40)
def _check_small_images(context: CheckContext) -> Finding | None:
    """Images much smaller than the network's input."""
    return context.find_images(
        "small",
        lambda stats: min(stats.size) < context.input_size / 2,
        f"smaller than half of the {context.input_size} pixels that a network looks at",
        "Larger ones would show more: enlarged pictures are soft.",
    )


@register_check("dark", severity=30)
def _check_dark_images(context: CheckContext) -> Finding | None:
    """Images that are dark all over."""
    return context.find_images(
        "dark",
        lambda stats: stats.brightness < DARK_LEVEL and stats.contrast < DARK_LEVEL,
        "so dark that hardly anything is seen",
        "Better removed, or taken again with more light.",
    )


@register_check("blurred", severity=20)
def _check_blurred_images(context: CheckContext) -> Finding | None:
    """Images out of focus."""
    return context.find_images(
        "blurred", _is_blurred, "blurred", "Better removed, unless new pictures will be as blurred as well."
    )


def _is_blurred(stats: ImageStats) -> bool:
    if min(stats.size) < MIN_SHARPNESS_SIZE:
        return False
    return stats.sharpness < BLURRED_SHARPNESS and stats.sharpness < BLURRED_SHARPNESS_PER_CONTRAST * stats.contrast


@register_check("odd", severity=10)
def _check_outliers(context: CheckContext) -> Finding | None:
    """In each class the one image whose thumbnail is farthest from the three most similar ones, if it is far enough."""
    images, outliers = context.images, []
    for label in range(len(images.classes)):
        indices = [i for i, labels in enumerate(images.label_sets) if label in labels]
        if len(indices) >= _MIN_IMAGES_FOR_OUTLIERS:
            distances = _nearest_distances(images.stats[i] for i in indices)
            farthest = int(distances.argmax())
            if distances[farthest] > OUTLIER_DISTANCE_RATIO * distances.median():
                outliers.append((indices[farthest],))
    if not outliers:
        return None
    number = len(outliers)
    return Finding(
        "odd",
        f"{format_image_count(number)} {pluralize(number, 'looks', 'look')} unlike the others of "
        f"{pluralize(number, 'its', 'their')} class.",
        "By colour and light alone; remove what does not belong.",
        tuple(dict.fromkeys(outliers)),
    )


def _nearest_distances(stats: Iterable[ImageStats]) -> torch.Tensor:
    """For each image the mean distance from the three most similar ones that are no copies of it, float ``[N]``."""
    thumbnails = torch.from_numpy(np.stack([each.thumbnail for each in stats])).float()
    others = thumbnails[:: 1 + len(thumbnails) // _MAX_COMPARED_IMAGES]
    distances = torch.cdist(thumbnails, others)
    distances = distances.where(distances > _MIN_DISTANCE, torch.inf)
    return distances.topk(3, largest=False).values.mean(1).nan_to_num(posinf=0.0)
