"""Predicts probabilities and labels of images of any kind and number: the part of ``Classifier`` that reads images.

Knows nothing of stages and heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from headswap.common.errors import ImageReadError
from headswap.data.picture_inputs import ACCEPTED_INPUTS, UNNAMED_IMAGE, ImageInput
from headswap.networks.preprocess import Preprocess
from headswap.networks.stage import eval_mode

ImageInputs = list[ImageInput] | tuple[ImageInput, ...]  # or an array or tensor of four axes
RankedClasses = list[tuple[str, float]]  # classes with their probabilities, in descending order of these

PREDICT_BATCH_SIZE = 16


class ImagePredictor(nn.Module):
    """Base class with the prediction methods of a module from normalized images to logits.

    Attributes:
        classes: names of the classes, in the order of the logits.
        preprocess: turns an image into the network's input.
        multi_label: whether an image may show several classes or none; then probabilities come from a sigmoid.
        thresholds: only with ``multi_label``: the probability ``[classes]`` above which a class is predicted.
    """

    classes: tuple[str, ...]
    preprocess: Preprocess
    multi_label: bool
    thresholds: Tensor

    def check_head(self, head: nn.Module | None = None) -> None:
        """Check that the head returns a logit for each class.

        Raises:
            InputError: if it does not.
        """
        raise NotImplementedError

    def predict_proba(self, images: Iterable[ImageInput]) -> Tensor:
        """Predict probabilities, float32 ``[N, classes]`` on the CPU; rows add up to one unless ``multi_label``.

        Images are read and predicted in batches of 16, so an iterator of many is never in memory as a whole.

        Args:
            images: each a path, a file's bytes or binary stream, a PIL image, an array or a tensor (uint8, or floats
                from 0 to 1), of any size: whatever it is, it gets the prediction of its file. Images that are
                normalized already are for the model itself, ``model(batch)``, and squares that are cropped already for
                ``predict_proba_cropped``.

        Raises:
            InputError: if one cannot be decoded as an image; it says which.
            TypeError: if one is no image at all, or ``images`` is a single one.
        """
        is_file = isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")
        if is_file or _get_ndim(images) in (2, 3) or not isinstance(images, Iterable):
            raise TypeError(
                f"Several pictures are wanted here, each {ACCEPTED_INPUTS}. Give a list, [picture], or ask predict."
            )
        return self._predict_in_batches(images, "pictures[{}]")

    def predict_proba_cropped(self, pixels: Tensor) -> Tensor:
        """Predict probabilities ``[N, classes]`` of uint8 ``[N, 3, size, size]``, which are only normalized.

        One image at a time, so that a prediction never depends on its neighbours, to the last bit.
        """
        with eval_mode(self), torch.inference_mode():
            logits = [self._forward_float32(self.preprocess.normalize(square)[None]) for square in pixels]
            return self._to_probabilities(logits)

    @overload
    def predict_labels(self, image: ImageInput) -> list[str]: ...
    @overload
    def predict_labels(self, image: ImageInputs) -> list[list[str]]: ...
    def predict_labels(self, image: ImageInput | ImageInputs) -> list[str] | list[list[str]]:
        """Predict the labels of an image: the classes above their thresholds, or the one most likely class.

        For several images it returns a list of such lists. Arguments and errors are those of ``predict``.
        """
        rows = self._predict_one_or_many(image)
        return (
            [self._labels_above_threshold(row) for row in rows]
            if rows.ndim == 2
            else self._labels_above_threshold(rows)
        )

    def _labels_above_threshold(self, row: Tensor) -> list[str]:
        if not self.multi_label:
            return [self.classes[int(row.argmax())]]
        is_above = row > self.thresholds.to(row.device)
        return [name for name, above in zip(self.classes, is_above, strict=True) if above]

    @overload
    def predict(self, image: ImageInput) -> RankedClasses: ...
    @overload
    def predict(self, image: ImageInputs) -> list[RankedClasses]: ...
    def predict(self, image: ImageInput | ImageInputs) -> RankedClasses | list[RankedClasses]:
        """Predict the probabilities of all classes, most likely first; for several images a list of such lists.

        Args:
            image: one as ``predict_proba`` takes them, or a list or tuple of such, or an array or tensor of four axes.

        Raises:
            InputError: if it cannot be decoded as an image.
            TypeError: if it is no image at all.
        """
        rows = self._predict_one_or_many(image)
        return [self._rank_classes(row) for row in rows] if rows.ndim == 2 else self._rank_classes(rows)

    def _rank_classes(self, row: Tensor) -> RankedClasses:
        return sorted(zip(self.classes, row.tolist(), strict=True), key=lambda pair: -pair[1])

    def _predict_one_or_many(self, image: ImageInput | ImageInputs) -> Tensor:
        """Predict the probabilities of one image, ``[classes]``, or of several, ``[N, classes]``."""
        if isinstance(image, list | tuple) or (isinstance(image, np.ndarray | Tensor) and image.ndim == 4):
            return self.predict_proba(image)
        return self._predict_in_batches([image], UNNAMED_IMAGE)[0]

    def _predict_in_batches(self, images: Iterable[ImageInput], name_template: str) -> Tensor:
        """As ``predict_proba``; ``name_template`` names an image without a file name in errors, by its index."""
        with eval_mode(self), torch.inference_mode():
            numbered, logits = enumerate(images), []
            while batch := [
                self._preprocess_image(image, name_template.format(i))
                for i, image in islice(numbered, PREDICT_BATCH_SIZE)
            ]:
                logits.append(self._forward_float32(torch.stack(batch)))
            return self._to_probabilities(logits)

    def _preprocess_image(self, image: ImageInput, name: str) -> Tensor:
        try:
            return self.preprocess(image).to(next(self.parameters()).device)
        except ImageReadError as error:
            raise ImageReadError(name if error.name == UNNAMED_IMAGE else error.name, error.reason) from error
        except TypeError as error:
            raise TypeError(str(error) if name == UNNAMED_IMAGE else f"{name}: {error}") from error

    def _forward_float32(self, images: Tensor) -> Tensor:
        """Run in the precision of the weights and return float32 on the CPU."""
        # Contiguous, because the last bit of a logit may depend on the memory format of the pixels.
        try:
            logits: Tensor = self(images.to(next(self.parameters())).contiguous())
        except RuntimeError:
            self.check_head()
            raise
        if not isinstance(logits, Tensor) or logits.shape[1:] != (len(self.classes),):
            self.check_head()  # explains what is wrong with a head that was assigned
        return logits.float().cpu()

    def _to_probabilities(self, logits: list[Tensor]) -> Tensor:
        joined = torch.cat(logits) if logits else torch.empty(0, len(self.classes))
        return joined.sigmoid() if self.multi_label else joined.softmax(1)


def _get_ndim(value: object) -> int:
    """Number of axes of an array or a tensor; 0 for anything else."""
    return value.ndim if isinstance(value, np.ndarray | Tensor) else 0
