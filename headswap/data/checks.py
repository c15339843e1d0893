"""What a teacher would want to know of labelled images before training, each with what to do about it.

Everything is told from what was measured when the images were read. Knows nothing of networks but how many pixels they
look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from headswap.common.deprecation import renamed_arguments, renamed_attributes
from headswap.common.errors import InputError
from headswap.common.text import format_image_count
from headswap.data.dataset import LabelledImages
from headswap.data.duplicates import ImageStats, group_duplicates

DEFAULT_INPUT_SIZE = 224  # pixels a side that most networks look at
MIN_IMAGES_PER_CLASS = 10  # images of a class; below, every figure is a guess
MAX_CLASS_IMBALANCE = 4  # times as many images in the largest class as in the smallest
DARK_LEVEL = 25  # of 255: a picture darker than this, and as even, shows nothing
# A photograph in focus has 8 and more, one blurred by three pixels of 256 has 2; drawings are smooth but even as well.
BLURRED_SHARPNESS, BLURRED_SHARPNESS_PER_CONTRAST = 3.0, 0.06
OUTLIER_DISTANCE_RATIO = 2.0  # times as far from its three nearest as is usual in its class
_MIN_IMAGES_FOR_OUTLIERS = 8  # images of a class before one of them can be called odd
_MIN_DISTANCE = (
    50.0  # apart, and less: one grey level a pixel, which is what the quick way to compute it may be wrong by
)
_MAX_COMPARED_IMAGES = 1000  # of a class; among more it is enough to look at every second, or third


@renamed_attributes(images="index_groups")
@dataclass(frozen=True)
class Finding:
    """One thing to know, in a sentence, with advice and the images that show it."""

    kind: str  # "contradictions", "leaks", "copies", "few", "uneven", "small", "dark", "blurred" or "odd"
    sentence: str
    advice: str
    index_groups: tuple[tuple[int, ...], ...] = ()  # places among the images, those to be seen side by side together

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}"


@renamed_arguments(side="input_size")
def check(images: LabelledImages, input_size: int = DEFAULT_INPUT_SIZE) -> list[Finding]:
    """What to know of these images before training, the gravest first; nothing where all is well.

    Args:
        images: as ``load_images`` gives them.
        side: how many pixels a side the network looks at.
    """
    copies = _find_copies(images)
    found = [
        _check_contradictions(images, copies),
        _check_leaks(images, copies),
        _check_few_images(images),
        _check_imbalance(images),
        _check_copies(images, copies),
        _check_each_image(
            images,
            lambda traits: min(traits.size) < input_size / 2,
            "small",
            f"smaller than half of the {input_size} pixels that a network looks at",
            "Larger ones would show more: enlarged pictures are soft.",
        ),
        _check_each_image(
            images,
            lambda traits: traits.brightness < DARK_LEVEL and traits.contrast < DARK_LEVEL,
            "dark",
            "so dark that hardly anything is seen",
            "Better removed, or taken again with more light.",
        ),
        _check_each_image(
            images, _is_blurred, "blurred", "blurred", "Better removed, unless new pictures will be as blurred as well."
        ),
        _check_outliers(images),
    ]
    return [finding for finding in found if finding]


def count_leaking_pairs(images: LabelledImages) -> int:
    """How many pairs of copies, or of frames of one burst, a split by lot would put on both sides."""
    try:
        _, checked = replace(images, groups=tuple(range(len(images)))).split()
    except InputError:  # nothing can be split
        return 0
    there, apart = set(checked.paths), 0
    for places in images.group_indices:
        inside = sum(images.paths[i] in there for i in places)
        apart += inside * (len(places) - inside)
    return apart


def _find_copies(images: LabelledImages) -> list[tuple[int, ...]]:
    """Places of the images that are copies of one another, but for the frames of one burst."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(group_duplicates(images.stats)):
        groups[number].append(place)
    return [
        tuple(group)
        for group in groups.values()
        if len(group) > 1 and (not images.bursts[group[0]] or len({images.bursts[i] for i in group}) > 1)
    ]


def _check_contradictions(images: LabelledImages, copies: Sequence[tuple[int, ...]]) -> Finding | None:
    torn = [group for group in copies if len({images.label_names[i] for i in group}) > 1]
    if not torn:
        return None
    first = sorted({" and ".join(images.label_names[i]) or "none" for i in torn[0]})
    what = "The same picture stands" if len(torn) == 1 else f"{len(torn)} pictures stand"
    return Finding(
        "contradictions",
        f"{what} in several classes: {', '.join(first)}.",
        "Which is right? Remove the others: a model cannot learn both.",
        tuple(torn),
    )


def _check_leaks(images: LabelledImages, copies: Sequence[tuple[int, ...]]) -> Finding | None:
    held = images.held_out
    torn = [group for group in copies if len({held[i] for i in group}) > 1]
    if not torn or all(held):
        return None
    number = sum(held[i] for group in torn for i in group)
    return Finding(
        "leaks",
        f"{format_image_count(number)} of the validation folder {'is a copy' if number == 1 else 'are copies'} of what is "
        "learned from.",
        "Remove them from one side: what was learned by heart proves nothing.",
        tuple(torn),
    )


def _check_copies(images: LabelledImages, copies: Sequence[tuple[int, ...]]) -> Finding | None:
    like = [group for group in copies if len({images.label_names[i] for i in group}) == 1]
    more = sum(len(group) - 1 for group in like)
    if not more:
        return None
    return Finding(
        "copies",
        f"{format_image_count(more)} {'is a copy' if more == 1 else 'are copies'}, or nearly so, of others.",
        "They stay together on one side of the split, so that they cannot flatter the result; they add little.",
        tuple(like),
    )


def _check_few_images(images: LabelledImages) -> Finding | None:
    few = [(name, number) for name, number in images.counts.items() if number < MIN_IMAGES_PER_CLASS]
    if not few:
        return None
    listed = ", ".join(f"{name} {number}" for name, number in few[:6]) + (", and others" if len(few) > 6 else "")
    return Finding(
        "few",
        f"Few images: {listed}.",
        "Add more; twenty of a class are a good start, and with fewer than ten its figures are a guess.",
    )


def _check_imbalance(images: LabelledImages) -> Finding | None:
    counts = images.counts
    most, least = max(counts, key=counts.get), min(counts, key=counts.get)
    if counts[most] < MAX_CLASS_IMBALANCE * max(counts[least], 1):
        return None
    return Finding(
        "uneven",
        f"{most} has {counts[most] / max(counts[least], 1):.0f} times as many images as {least}.",
        f"Add images of {least}, or the model will be tempted to answer {most}.",
    )


def _check_each_image(
    images: LabelledImages, predicate: Callable[[ImageStats], bool], kind: str, description: str, advice: str
) -> Finding | None:
    found = [i for i, traits in enumerate(images.stats) if predicate(traits)]
    if not found:
        return None
    verb = "is" if len(found) == 1 else "are"
    return Finding(kind, f"{format_image_count(len(found))} {verb} {description}.", advice, tuple((i,) for i in found))


def _is_blurred(stats: ImageStats) -> bool:
    if min(stats.size) < 256:  # it was enlarged, which is no fault of the lens
        return False
    return stats.sharpness < BLURRED_SHARPNESS and stats.sharpness < BLURRED_SHARPNESS_PER_CONTRAST * stats.contrast


def _check_outliers(images: LabelledImages) -> Finding | None:
    """Of each class the one image whose thumbnail is far from the three most like it."""
    found = []
    for label in range(len(images.classes)):
        places = [i for i, labels in enumerate(images.label_sets) if label in labels]
        if len(places) >= _MIN_IMAGES_FOR_OUTLIERS:
            far = _nearest_distances(images.stats[i] for i in places)
            furthest = int(far.argmax())
            if far[furthest] > OUTLIER_DISTANCE_RATIO * far.median():
                found.append((places[furthest],))
    if not found:
        return None
    verb = "looks" if len(found) == 1 else "look"
    return Finding(
        "odd",
        f"{format_image_count(len(found))} {verb} unlike the others of {'its' if len(found) == 1 else 'their'} class.",
        "By colour and light alone; remove what does not belong.",
        tuple(dict.fromkeys(found)),
    )


def _nearest_distances(stats: Iterable[ImageStats]) -> torch.Tensor:
    """Of each thumbnail from the three nearest that differ from it, on average."""
    thumbnails = torch.from_numpy(np.stack([each.thumbnail for each in stats])).float()
    others = thumbnails[:: 1 + len(thumbnails) // _MAX_COMPARED_IMAGES]
    apart = torch.cdist(thumbnails, others)
    return apart.where(apart > _MIN_DISTANCE, torch.inf).topk(3, largest=False).values.mean(1).nan_to_num(posinf=0.0)
