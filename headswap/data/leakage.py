"""Which images a model has learned from and which have judged it, so that no image that it knows ever judges it.

An image is recognised by what is in it: by a hash of its decoded pixels, which outlives another name, another folder
and a file that was written anew without loss; and by a hash of its file, which outlives another decoder. A copy that
was compressed again is recognised where it is loaded beside the image itself, because both are one group.

Knows nothing of networks and of how anything is learned.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, PlainSerializer

from headswap.common.errors import InputError
from headswap.common.text import how_many
from headswap.data.dataset import LabelledImages

KEY = 8  # bytes of a hash: among 20,000 images and as many others two agree by chance once in fifty billion cases
MOST_KEYS = 500_000  # that are remembered on each side; an image has two
SHOWN = 5  # classes that a sentence names


def _decoded(told: object) -> object:
    return base64.b64decode(told, validate=True) if isinstance(told, str) else told


def _encoded(side: bytes) -> str:
    return base64.b64encode(side).decode()


# Base64 in JSON; pydantic's own would pass over what is none.
Hashes = Annotated[bytes, BeforeValidator(_decoded), PlainSerializer(_encoded, return_type=str)]


@dataclass(frozen=True)
class Seen:
    """The images that a model knows, as 8-byte hashes in ascending order, two for each image.

    One that it learned from never judges it again. One that judged it is never learned from, but by ``refit``; then
    it is in both, and counts as learned from.

    Attributes:
        learned: hashes of the images that it has learned from.
        judged: hashes of those that have judged it.
        stages: whether stages learned too; then a new head on them knows these images as well.
        forgotten: whether there were more than can be remembered.
    """

    learned: Hashes = b""
    judged: Hashes = b""
    stages: bool = False
    forgotten: bool = False

    def __post_init__(self) -> None:
        """What a file says must be what can be remembered."""
        if any(len(side) % KEY or len(side) > KEY * MOST_KEYS for side in (self.learned, self.judged)):
            raise ValueError("These are no hashes of images, or too many.")

    def __bool__(self) -> bool:
        return bool(self.learned or self.judged)

    def after(self, learned: LabelledImages, judged: LabelledImages | None, stages: bool) -> Seen:
        """What a model knows after a training with these halves; ``stages``: whether stages learned in it."""
        more, full = _joined(self.learned, learned)
        others, overfull = _joined(self.judged, judged) if judged else (self.judged, False)
        return Seen(more, others, self.stages or stages, self.forgotten or full or overfull)

    def learned_from(self, images: LabelledImages) -> list[int]:
        """The places of the images that were learned from."""
        return _among(images, self.learned)

    def judged_by(self, images: LabelledImages) -> list[int]:
        """The places of the images that have judged, whether or not they were learned from afterwards."""
        return _among(images, self.judged)

    def split(
        self, images: LabelledImages, validation: float = 0.2, seed: int = 0
    ) -> tuple[LabelledImages, LabelledImages]:
        """``images.split`` for a model that knows some of them: these stay on their side, and their new copies with
        them.

        Where every image was learned from, those that judged before are the validation half once more, or another
        draw where none did: ``leakage`` says that their figures flatter.

        Raises:
            InputError: as ``images.split``, and if none of a class's images is left to learn from.
        """
        known, judged = self.learned_from(images), self.judged_by(images)
        halves = images.split(validation, seed, known, judged)
        if not len(halves[1]):
            halves = images.split(validation, seed, set(range(len(images))) - set(judged), judged)
            if not len(halves[1]) or _lacking(images, halves[0]):
                halves = images.split(validation, seed)
        if judged and (lacking := _lacking(images, halves[0])):
            raise InputError(
                f"All images of '{lacking}' have judged this model before and stay held back, so none is left to learn "
                "from. Add others of it."
            )
        return halves

    def leakage(self, learned: LabelledImages, judged: LabelledImages) -> str:
        """Whether figures of a training with these halves flatter, and what they say nothing of, in sentences.

        Nothing where there is nothing to say, as of a model that knew none of these images. ``self`` is what it knew
        before.
        """
        said = []
        leaked, before = len(self.after(learned, None, False).learned_from(judged)), len(self.judged_by(judged))
        if leaked:
            said.append(_flattering(leaked, len(judged), "validation image"))
        elif before or self.learned_from(learned):
            stayed = f"{before:,} of them {_were(before)} held back before as well; " if before else ""
            said.append(f"{stayed}none of them was ever learned from.".capitalize())
        if self:
            said += self._of_classes(learned, judged) + self._of_moved(learned, judged)
        if self.forgotten:
            said.append("The model has seen more images than it remembers, so the figures may flatter.")
        return " ".join(said)

    def _of_classes(self, learned: LabelledImages, judged: LabelledImages) -> list[str]:
        unjudged = [name for name, count in learned.counts.items() if count and not judged.counts[name]]
        if not unjudged:
            return []
        named = ", ".join(f"'{name}'" for name in unjudged[:SHOWN]) + " and others" * (len(unjudged) > SHOWN)
        return [f"No image of {named} is left that was not learned from, so the figures say nothing of that."]

    def _of_moved(self, learned: LabelledImages, judged: LabelledImages) -> list[str]:
        """What became of images that their folders, their copies or whoever chose the halves have on the other side."""
        known = self.learned_from(learned)
        moved = sum(learned.held_out[place] for place in known)
        folder = any(judged.held_out + learned.held_out)
        stayed = sum(not judged.held_out[place] for place in self.judged_by(judged)) if folder else 0
        before = len(set(self.judged_by(learned)) - set(known))
        shared = set(learned.groups) if learned.shares_files_with(judged) else set()
        copies = sum(group in shared for group in judged.groups)
        told = [
            (moved, f"of the validation folder {_were(moved)} learned from before, which cannot judge"),
            (stayed, f"outside the validation folder {_were(stayed)} held back before and judge as before"),
            (before, f"that judged before {_were(before)} learned from now"),
            (copies, "that judge may be known by their copies, which were learned from"),
        ]
        return [f"{how_many(count)} {what}." for count, what in told if count]


NOTHING_SEEN = Seen()


def told_of(leaked: int | None, of: int) -> str:
    """What an evaluation says of how many of its images were learned from; None if that is not known."""
    if leaked is None:
        return "Whether it has learned from these images is not known; if so, the figures flatter."
    return _flattering(leaked, of, "image") if leaked else ""


def _flattering(leaked: int, of: int, noun: str) -> str:
    if leaked == of:
        images = f"This {noun} was" if of == 1 else f"All of these {of:,} {noun}s were"
    else:
        images = f"{leaked:,} of these {of:,} {noun}s {_were(leaked)}"
    return f"{images} learned from, so the figures flatter."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _lacking(images: LabelledImages, learned: LabelledImages) -> str:
    """A class that none is left to learn from; with several labels only if no image at all is."""
    if images.multi_label and len(learned):
        return ""
    return next((name for name, count in learned.counts.items() if not count and images.counts[name]), "")


def _hashes(images: LabelledImages) -> np.ndarray:
    """uint64 ``[N, 2]``: of the pixels, and of the file."""
    told = b"".join(traits.imprint[:KEY] + traits.digest[:KEY] for traits in images.traits)
    return _array(told).reshape(-1, 2)


def _array(side: bytes) -> np.ndarray:
    return np.frombuffer(side, dtype=">u8")


def _among(images: LabelledImages, side: bytes) -> list[int]:
    if not side or not len(images):
        return []
    return np.isin(_hashes(images), _array(side)).any(1).nonzero()[0].tolist()


def _joined(side: bytes, images: LabelledImages) -> tuple[bytes, bool]:
    """Both together, and whether that is more than can be remembered: then some of the old ones are left out."""
    new = np.unique(_hashes(images))[:MOST_KEYS]
    old = np.setdiff1d(_array(side), new)
    kept = old[: MOST_KEYS - len(new)]
    return np.union1d(kept, new).astype(">u8").tobytes(), len(kept) < len(old)
