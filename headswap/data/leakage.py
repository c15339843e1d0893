"""Tracks by hash which images a model was trained on or validated with, so that splits and metrics avoid data leakage.

An image is recognized by a hash of its decoded pixels, whatever its name, folder and lossless format, and by a hash of
its file, whatever the decoder. A copy that was compressed again is recognized only if it is loaded together with the
original, because both are then one group. If leakage cannot be avoided, it is described in sentences.

Knows nothing of networks and of training.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, PlainSerializer

from headswap.common.errors import InputError
from headswap.common.text import format_image_count, list_names, pluralize
from headswap.data.dataset import LabelledImages

HASH_BYTES = 8  # two sets of 20,000 images have a hash in common by chance once in fifty billion cases
MAX_HASHES = 500_000  # stored for each side; an image has two
MAX_LISTED_CLASSES = 5


def _decode_base64(encoded: object) -> object:
    return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else encoded


def _encode_base64(hashes: bytes) -> str:
    return base64.b64encode(hashes).decode()


# Base64 in JSON. Unlike pydantic's own type, this one refuses characters that are not Base64.
Hashes = Annotated[bytes, BeforeValidator(_decode_base64), PlainSerializer(_encode_base64, return_type=str)]


@dataclass(frozen=True)
class SeenImages:
    """The images that a model was trained on or validated with, as 8-byte hashes in ascending order, two an image.

    Training images never become validation images. Validation images become training images only in ``refit``; then
    they are in both, and count as training images.

    Attributes:
        training_hashes: of the images that the model was trained on.
        validation_hashes: of the images that it was validated with.
        stages_trained: whether stages of the backbone were trained; then a new head inherits the training images.
        is_truncated: whether there were more hashes than ``MAX_HASHES``, so that some are missing.
    """

    training_hashes: Hashes = b""
    validation_hashes: Hashes = b""
    stages_trained: bool = False
    is_truncated: bool = False

    def __post_init__(self) -> None:
        """Validate the hashes, which may come from a model file."""
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
        """Add the images of a training.

        Args:
            training: images of the training side.
            validation: images of the validation side, if there is one.
            stages_trained: whether stages of the backbone were trained as well as the head.
        """
        training_hashes, is_truncated = _merge_hashes(self.training_hashes, training)
        validation_hashes, also_truncated = self.validation_hashes, False
        if validation:
            validation_hashes, also_truncated = _merge_hashes(self.validation_hashes, validation)
        return SeenImages(
            training_hashes,
            validation_hashes,
            self.stages_trained or stages_trained,
            self.is_truncated or is_truncated or also_truncated,
        )

    def find_training_indices(self, images: LabelledImages) -> list[int]:
        """The indices of the images that the model was trained on."""
        return _find_known_indices(images, self.training_hashes)

    def find_validation_indices(self, images: LabelledImages) -> list[int]:
        """The indices of the images that the model was validated with, even if it was trained on them afterwards."""
        return _find_known_indices(images, self.validation_hashes)

    def split(
        self, images: LabelledImages, validation: float = 0.2, seed: int = 0
    ) -> tuple[LabelledImages, LabelledImages]:
        """``images.split`` in which images that the model has seen, and new copies of them, stay on their side.

        If the model was trained on every image, the former validation images become the validation side again, or a
        random draw if there are none; ``describe_leakage`` then says so.

        Args:
            images: to be split.
            validation: the fraction of the validation side among the new images.
            seed: of the random draw.

        Returns:
            The training and the validation side.

        Raises:
            InputError: as ``images.split``, and if a class has no image left for training.
        """
        trained, validated = self.find_training_indices(images), self.find_validation_indices(images)
        sides = images.split(validation, seed, trained, validated)
        if not len(sides[1]):
            sides = images.split(validation, seed, set(range(len(images))) - set(validated), validated)
            if not len(sides[1]) or _find_untrained_class(images, sides[0]):
                sides = images.split(validation, seed)
        if validated and (untrained_class := _find_untrained_class(images, sides[0])):
            raise InputError(
                f"All images of '{untrained_class}' have judged this model before and stay held back, so none is left "
                "to learn from. Add others of it."
            )
        return sides

    def describe_leakage(self, training: LabelledImages, validation: LabelledImages) -> str:
        """Describe in sentences how far validation figures of a training with this split can be trusted.

        ``self`` is what the model had seen before that training.

        Returns:
            The sentences; "" for a model that had seen none of these images.
        """
        sentences = []
        num_leaked = len(self.with_training(training, None, False).find_training_indices(validation))
        num_validated = len(self.find_validation_indices(validation))
        if num_leaked:
            sentences.append(_format_leakage(num_leaked, len(validation), "validation image"))
        elif num_validated or self.find_training_indices(training):
            verb = pluralize(num_validated, "was", "were")
            stayed = f"{num_validated:,} of them {verb} held back before as well; " if num_validated else ""
            sentences.append(f"{stayed}none of them was ever learned from.".capitalize())
        if self:
            sentences += self._describe_unvalidated_classes(training, validation)
            sentences += self._describe_moved_images(training, validation)
        if self.is_truncated:
            sentences.append("The model has seen more images than it remembers, so the figures may flatter.")
        return " ".join(sentences)

    def _describe_unvalidated_classes(self, training: LabelledImages, validation: LabelledImages) -> list[str]:
        validation_counts = validation.counts
        unvalidated = [f"'{name}'" for name, count in training.counts.items() if count and not validation_counts[name]]
        if not unvalidated:
            return []
        classes = list_names(unvalidated, MAX_LISTED_CLASSES)
        return [f"No image of {classes} is left that was not learned from, so the figures say nothing of that."]

    def _describe_moved_images(self, training: LabelledImages, validation: LabelledImages) -> list[str]:
        """Sentences on images that are not on the side that their folder, their group or their past suggests."""
        trained = self.find_training_indices(training)
        moved = sum(training.held_out[i] for i in trained)
        has_folder = any(validation.held_out + training.held_out)
        validated = self.find_validation_indices(validation) if has_folder else []
        stayed = sum(not validation.held_out[i] for i in validated)
        released = len(set(self.find_validation_indices(training)) - set(trained))
        training_groups = set(training.groups) if training.shares_files_with(validation) else set()
        copies = sum(group in training_groups for group in validation.groups)
        was_moved, was_stayed, was_released = (pluralize(n, "was", "were") for n in (moved, stayed, released))
        descriptions = [
            (moved, f"of the validation folder {was_moved} learned from before, which cannot judge"),
            (stayed, f"outside the validation folder {was_stayed} held back before and judge as before"),
            (released, f"that judged before {was_released} learned from now"),
            (copies, "that judge may be known by their copies, which were learned from"),
        ]
        return [f"{format_image_count(count)} {description}." for count, description in descriptions if count]


NO_SEEN_IMAGES = SeenImages()


def describe_evaluation_leakage(num_leaked: int | None, total: int) -> str:
    """A sentence on the leakage in an evaluation, "" if there is none.

    Args:
        num_leaked: how many of its images the model was trained on; None if that is not known.
        total: how many images it has.
    """
    if num_leaked is None:
        return "Whether it has learned from these images is not known; if so, the figures flatter."
    return _format_leakage(num_leaked, total, "image") if num_leaked else ""


def _format_leakage(num_leaked: int, total: int, noun: str) -> str:
    if num_leaked == total:
        images = f"This {noun} was" if total == 1 else f"All of these {total:,} {noun}s were"
    else:
        images = f"{num_leaked:,} of these {total:,} {noun}s {pluralize(num_leaked, 'was', 'were')}"
    return f"{images} learned from, so the figures flatter."


def _find_untrained_class(images: LabelledImages, training: LabelledImages) -> str:
    """A class without a training image, or ""; of multi-label images only if there is no training image at all."""
    if images.multi_label and len(training):
        return ""
    return next((name for name, count in training.counts.items() if not count and images.counts[name]), "")


def _image_hashes(images: LabelledImages) -> npt.NDArray[np.uint64]:
    """Big-endian uint64 ``[N, 2]``: hashes of the pixels and of the file."""
    hashes = b"".join(stats.pixel_digest[:HASH_BYTES] + stats.file_digest[:HASH_BYTES] for stats in images.stats)
    return _as_hash_array(hashes).reshape(-1, 2)


def _as_hash_array(hashes: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(hashes, dtype=">u8")


def _find_known_indices(images: LabelledImages, hashes: bytes) -> list[int]:
    if not hashes or not len(images):
        return []
    known = np.isin(_image_hashes(images), _as_hash_array(hashes))
    indices: list[int] = np.flatnonzero(known.any(axis=1)).tolist()
    return indices


def _merge_hashes(hashes: bytes, images: LabelledImages) -> tuple[bytes, bool]:
    """Add the images' hashes; if there are more than ``MAX_HASHES``, some of the old ones are dropped.

    Returns:
        The sorted hashes, and whether any were dropped.
    """
    new = np.unique(_image_hashes(images))[:MAX_HASHES]
    old = np.setdiff1d(_as_hash_array(hashes), new)
    kept = old[: MAX_HASHES - len(new)]
    return np.union1d(kept, new).astype(">u8").tobytes(), len(kept) < len(old)
