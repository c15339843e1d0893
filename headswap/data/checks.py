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

from headswap.common.errors import InputError
from headswap.common.text import how_many
from headswap.data.dataset import LabelledImages
from headswap.data.duplicates import Traits, resembling

SIDE = 224  # pixels a side that most networks look at
FEW = 10  # images of a class; below, every figure is a guess
UNEVEN = 4  # times as many images in the largest class as in the smallest
DARK = 25  # of 255: a picture darker than this, and as even, shows nothing
# A photograph in focus has 8 and more, one blurred by three pixels of 256 has 2; drawings are smooth but even as well.
BLURRED, BLURRED_OF_CONTRAST = 3.0, 0.06
ODD = 2.0  # times as far from its three nearest as is usual in its class
_ENOUGH = 8  # images of a class before one of them can be called odd
_SAME = 50.0  # apart, and less: one grey level a pixel, which is what the quick way to compute it may be wrong by
_COMPARED = 1000  # of a class; among more it is enough to look at every second, or third


@dataclass(frozen=True)
class Finding:
    """One thing to know, in a sentence, with advice and the images that show it."""

    kind: str  # "contradictions", "leaks", "copies", "few", "uneven", "small", "dark", "blurred" or "odd"
    sentence: str
    advice: str
    images: tuple[tuple[int, ...], ...] = ()  # places among the images, those to be seen side by side together

    def __str__(self) -> str:
        return f"{self.sentence} {self.advice}"


def findings(images: LabelledImages, side: int = SIDE) -> list[Finding]:
    """What to know of these images before training, the gravest first; nothing where all is well.

    Args:
        images: as ``load_images`` gives them.
        side: how many pixels a side the network looks at.
    """
    copies = _copies(images)
    found = [
        _contradictions(images, copies),
        _leaks(images, copies),
        _few(images),
        _uneven(images),
        _same(images, copies),
        _of_each(
            images,
            lambda traits: min(traits.size) < side / 2,
            "small",
            f"smaller than half of the {side} pixels that a network looks at",
            "Larger ones would show more: enlarged pictures are soft.",
        ),
        _of_each(
            images,
            lambda traits: traits.brightness < DARK and traits.contrast < DARK,
            "dark",
            "so dark that hardly anything is seen",
            "Better removed, or taken again with more light.",
        ),
        _of_each(
            images, _blurred, "blurred", "blurred", "Better removed, unless new pictures will be as blurred as well."
        ),
        _odd(images),
    ]
    return [finding for finding in found if finding]


def pairs_apart(images: LabelledImages) -> int:
    """How many pairs of copies, or of frames of one burst, a split by lot would put on both sides."""
    try:
        _, checked = replace(images, groups=tuple(range(len(images)))).split()
    except InputError:  # nothing can be split
        return 0
    there, apart = set(checked.paths), 0
    for places in images.together:
        inside = sum(images.paths[i] in there for i in places)
        apart += inside * (len(places) - inside)
    return apart


def _copies(images: LabelledImages) -> list[tuple[int, ...]]:
    """Places of the images that are copies of one another, but for the frames of one burst."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(resembling(images.traits)):
        groups[number].append(place)
    return [
        tuple(group)
        for group in groups.values()
        if len(group) > 1 and (not images.bursts[group[0]] or len({images.bursts[i] for i in group}) > 1)
    ]


def _contradictions(images: LabelledImages, copies: Sequence[tuple[int, ...]]) -> Finding | None:
    torn = [group for group in copies if len({images.named[i] for i in group}) > 1]
    if not torn:
        return None
    first = sorted({" and ".join(images.named[i]) or "none" for i in torn[0]})
    what = "The same picture stands" if len(torn) == 1 else f"{len(torn)} pictures stand"
    return Finding(
        "contradictions",
        f"{what} in several classes: {', '.join(first)}.",
        "Which is right? Remove the others: a model cannot learn both.",
        tuple(torn),
    )


def _leaks(images: LabelledImages, copies: Sequence[tuple[int, ...]]) -> Finding | None:
    held = images.held_out
    torn = [group for group in copies if len({held[i] for i in group}) > 1]
    if not torn or all(held):
        return None
    number = sum(held[i] for group in torn for i in group)
    return Finding(
        "leaks",
        f"{how_many(number)} of the validation folder {'is a copy' if number == 1 else 'are copies'} of what is "
        "learned from.",
        "Remove them from one side: what was learned by heart proves nothing.",
        tuple(torn),
    )


def _same(images: LabelledImages, copies: Sequence[tuple[int, ...]]) -> Finding | None:
    like = [group for group in copies if len({images.named[i] for i in group}) == 1]
    more = sum(len(group) - 1 for group in like)
    if not more:
        return None
    return Finding(
        "copies",
        f"{how_many(more)} {'is a copy' if more == 1 else 'are copies'}, or nearly so, of others.",
        "They stay together on one side of the split, so that they cannot flatter the result; they add little.",
        tuple(like),
    )


def _few(images: LabelledImages) -> Finding | None:
    few = [(name, number) for name, number in images.counts.items() if number < FEW]
    if not few:
        return None
    listed = ", ".join(f"{name} {number}" for name, number in few[:6]) + (", and others" if len(few) > 6 else "")
    return Finding(
        "few",
        f"Few images: {listed}.",
        "Add more; twenty of a class are a good start, and with fewer than ten its figures are a guess.",
    )


def _uneven(images: LabelledImages) -> Finding | None:
    counts = images.counts
    most, least = max(counts, key=counts.get), min(counts, key=counts.get)
    if counts[most] < UNEVEN * max(counts[least], 1):
        return None
    return Finding(
        "uneven",
        f"{most} has {counts[most] / max(counts[least], 1):.0f} times as many images as {least}.",
        f"Add images of {least}, or the model will be tempted to answer {most}.",
    )


def _of_each(
    images: LabelledImages, is_so: Callable[[Traits], bool], kind: str, what: str, advice: str
) -> Finding | None:
    found = [i for i, traits in enumerate(images.traits) if is_so(traits)]
    if not found:
        return None
    verb = "is" if len(found) == 1 else "are"
    return Finding(kind, f"{how_many(len(found))} {verb} {what}.", advice, tuple((i,) for i in found))


def _blurred(traits: Traits) -> bool:
    if min(traits.size) < 256:  # it was enlarged, which is no fault of the lens
        return False
    return traits.sharpness < BLURRED and traits.sharpness < BLURRED_OF_CONTRAST * traits.contrast


def _odd(images: LabelledImages) -> Finding | None:
    """Of each class the one image whose thumbnail is far from the three most like it."""
    found = []
    for label in range(len(images.classes)):
        places = [i for i, labels in enumerate(images.shown) if label in labels]
        if len(places) >= _ENOUGH:
            far = _distances(images.traits[i] for i in places)
            furthest = int(far.argmax())
            if far[furthest] > ODD * far.median():
                found.append((places[furthest],))
    if not found:
        return None
    verb = "looks" if len(found) == 1 else "look"
    return Finding(
        "odd",
        f"{how_many(len(found))} {verb} unlike the others of {'its' if len(found) == 1 else 'their'} class.",
        "By colour and light alone; remove what does not belong.",
        tuple(dict.fromkeys(found)),
    )


def _distances(traits: Iterable[Traits]) -> torch.Tensor:
    """Of each thumbnail from the three nearest that differ from it, on average."""
    thumbnails = torch.from_numpy(np.stack([each.thumbnail for each in traits])).float()
    others = thumbnails[:: 1 + len(thumbnails) // _COMPARED]
    apart = torch.cdist(thumbnails, others)
    return apart.where(apart > _SAME, torch.inf).topk(3, largest=False).values.mean(1).nan_to_num(posinf=0.0)
