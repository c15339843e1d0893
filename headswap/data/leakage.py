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
from headswap.common.text import format_image_count
from headswap.data.dataset import LabelledImages

HASH_BYTES = (
    8  # bytes of a hash: among 20,000 images and as many others two agree by chance once in fifty billion cases
)
MAX_HASHES = 500_000  # that are remembered on each side; an image has two
MAX_LISTED_CLASSES = 5  # classes that a sentence names


def _decode_base64(encoded: object) -> object:
    return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else encoded


def _encode_base64(hashes: bytes) -> str:
    return base64.b64encode(hashes).decode()


# Base64 in JSON; pydantic's own would pass over what is none.
Hashes = Annotated[bytes, BeforeValidator(_decode_base64), PlainSerializer(_encode_base64, return_type=str)]


@dataclass(frozen=True)
class SeenImages:
    """The images that a model knows, as 8-byte hashes in ascending order, two for each image.

    One that it learned from never judges it again. One that judged it is never learned from, but by ``refit``; then
    it is in both, and counts as learned from.

    Attributes:
        learned: hashes of the images that it has learned from.
        judged: hashes of those that have judged it.
        stages: whether stages learned too; then a new head on them knows these images as well.
        forgotten: whether there were more than can be remembered.
    """

    training_hashes: Hashes = b""
    validation_hashes: Hashes = b""
    stages_trained: bool = False
    is_truncated: bool = False

    def __post_init__(self) -> None:
        """What a file says must be what can be remembered."""
        if any(
            len(side) % HASH_BYTES or len(side) > HASH_BYTES * MAX_HASHES
            for side in (self.training_hashes, self.validation_hashes)
        ):
            raise ValueError("These are no hashes of images, or too many.")

    def __bool__(self) -> bool:
        return bool(self.training_hashes or self.validation_hashes)

    def with_training(
        self, training: LabelledImages, validation: LabelledImages | None, stages_trained: bool
    ) -> SeenImages:
        """What a model knows after a training with these halves; ``stages``: whether stages learned in it."""
        more, full = _merge_hashes(self.training_hashes, training)
        others, overfull = (
            _merge_hashes(self.validation_hashes, validation) if validation else (self.validation_hashes, False)
        )
        return SeenImages(more, others, self.stages_trained or stages_trained, self.is_truncated or full or overfull)

    def find_training_indices(self, images: LabelledImages) -> list[int]:
        """The places of the images that were learned from."""
        return _find_known_indices(images, self.training_hashes)

    def find_validation_indices(self, images: LabelledImages) -> list[int]:
        """The places of the images that have judged, whether or not they were learned from afterwards."""
        return _find_known_indices(images, self.validation_hashes)

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
        known, judged = self.find_training_indices(images), self.find_validation_indices(images)
        halves = images.split(validation, seed, known, judged)
        if not len(halves[1]):
            halves = images.split(validation, seed, set(range(len(images))) - set(judged), judged)
            if not len(halves[1]) or _find_untrained_class(images, halves[0]):
                halves = images.split(validation, seed)
        if judged and (lacking := _find_untrained_class(images, halves[0])):
            raise InputError(
                f"All images of '{lacking}' have judged this model before and stay held back, so none is left to learn "
                "from. Add others of it."
            )
        return halves

    def describe_leakage(self, training: LabelledImages, validation: LabelledImages) -> str:
        """Whether figures of a training with these halves flatter, and what they say nothing of, in sentences.

        Nothing where there is nothing to say, as of a model that knew none of these images. ``self`` is what it knew
        before.
        """
        said = []
        leaked, before = (
            len(self.with_training(training, None, False).find_training_indices(validation)),
            len(self.find_validation_indices(validation)),
        )
        if leaked:
            said.append(_format_leakage(leaked, len(validation), "validation image"))
        elif before or self.find_training_indices(training):
            stayed = f"{before:,} of them {_was_or_were(before)} held back before as well; " if before else ""
            said.append(f"{stayed}none of them was ever learned from.".capitalize())
        if self:
            said += self._describe_unvalidated_classes(training, validation) + self._describe_moved_images(
                training, validation
            )
        if self.is_truncated:
            said.append("The model has seen more images than it remembers, so the figures may flatter.")
        return " ".join(said)

    def _describe_unvalidated_classes(self, training: LabelledImages, validation: LabelledImages) -> list[str]:
        unjudged = [name for name, count in training.counts.items() if count and not validation.counts[name]]
        if not unjudged:
            return []
        named = ", ".join(f"'{name}'" for name in unjudged[:MAX_LISTED_CLASSES]) + " and others" * (
            len(unjudged) > MAX_LISTED_CLASSES
        )
        return [f"No image of {named} is left that was not learned from, so the figures say nothing of that."]

    def _describe_moved_images(self, training: LabelledImages, validation: LabelledImages) -> list[str]:
        """What became of images that their folders, their copies or whoever chose the halves have on the other side."""
        known = self.find_training_indices(training)
        moved = sum(training.held_out[place] for place in known)
        folder = any(validation.held_out + training.held_out)
        stayed = (
            sum(not validation.held_out[place] for place in self.find_validation_indices(validation)) if folder else 0
        )
        before = len(set(self.find_validation_indices(training)) - set(known))
        shared = set(training.groups) if training.shares_files_with(validation) else set()
        copies = sum(group in shared for group in validation.groups)
        told = [
            (moved, f"of the validation folder {_was_or_were(moved)} learned from before, which cannot judge"),
            (stayed, f"outside the validation folder {_was_or_were(stayed)} held back before and judge as before"),
            (before, f"that judged before {_was_or_were(before)} learned from now"),
            (copies, "that judge may be known by their copies, which were learned from"),
        ]
        return [f"{format_image_count(count)} {what}." for count, what in told if count]


NO_SEEN_IMAGES = SeenImages()


def describe_evaluation_leakage(num_leaked: int | None, total: int) -> str:
    """What an evaluation says of how many of its images were learned from; None if that is not known."""
    if num_leaked is None:
        return "Whether it has learned from these images is not known; if so, the figures flatter."
    return _format_leakage(num_leaked, total, "image") if num_leaked else ""


def _format_leakage(num_leaked: int, total: int, noun: str) -> str:
    if num_leaked == total:
        images = f"This {noun} was" if total == 1 else f"All of these {total:,} {noun}s were"
    else:
        images = f"{num_leaked:,} of these {total:,} {noun}s {_was_or_were(num_leaked)}"
    return f"{images} learned from, so the figures flatter."


def _was_or_were(count: int) -> str:
    return "was" if count == 1 else "were"


def _find_untrained_class(images: LabelledImages, training: LabelledImages) -> str:
    """A class that none is left to learn from; with several labels only if no image at all is."""
    if images.multi_label and len(training):
        return ""
    return next((name for name, count in training.counts.items() if not count and images.counts[name]), "")


def _image_hashes(images: LabelledImages) -> np.ndarray:
    """uint64 ``[N, 2]``: of the pixels, and of the file."""
    told = b"".join(traits.pixel_digest[:HASH_BYTES] + traits.file_digest[:HASH_BYTES] for traits in images.stats)
    return _as_hash_array(told).reshape(-1, 2)


def _as_hash_array(hashes: bytes) -> np.ndarray:
    return np.frombuffer(hashes, dtype=">u8")


def _find_known_indices(images: LabelledImages, hashes: bytes) -> list[int]:
    if not hashes or not len(images):
        return []
    return np.isin(_image_hashes(images), _as_hash_array(hashes)).any(1).nonzero()[0].tolist()


def _merge_hashes(hashes: bytes, images: LabelledImages) -> tuple[bytes, bool]:
    """Both together, and whether that is more than can be remembered: then some of the old ones are left out."""
    new = np.unique(_image_hashes(images))[:MAX_HASHES]
    old = np.setdiff1d(_as_hash_array(hashes), new)
    kept = old[: MAX_HASHES - len(new)]
    return np.union1d(kept, new).astype(">u8").tobytes(), len(kept) < len(old)
