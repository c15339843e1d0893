"""How good a set of answers is: the share that is right, and for several labels an image the average precision and F1.

Knows nothing of models: logits in, figures out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network called some images, and what they show: int64 ``[N]``, or with several labels an image bool
    ``[N, classes]``."""

    predicted: Tensor
    targets: Tensor
    num_classes: int

    def confusion_matrix(self) -> Tensor:
        """int64 ``[classes, classes]``, a row for each true class and a column for each answer; with several labels
        ``[classes, 2, 2]``: the rows "does not carry it" and "carries it", the columns "not called" and "called"."""
        if self.targets.ndim == 1:
            pairs = self.targets * self.num_classes + self.predicted
            return pairs.bincount(minlength=self.num_classes**2).view(self.num_classes, self.num_classes)
        pairs = 2 * self.targets.long() + self.predicted.long()
        return torch.stack([column.bincount(minlength=4) for column in pairs.T]).view(-1, 2, 2)


def predict_from_logits(logits: Tensor, targets: Tensor) -> Predictions:
    """What logits ``[N, classes]`` call: the likeliest class, or with several labels all above one half."""
    if targets.is_floating_point():
        return Predictions(logits > 0, targets > 0, logits.shape[1])
    return Predictions(logits.argmax(1), targets, logits.shape[1])


def classification_loss(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy for ``targets`` int64 ``[N]``, binary cross-entropy for float ``[N, classes]`` of 0 and 1.

    ``weights`` ``[classes]`` are those of ``balance``.
    """
    if targets.is_floating_point():
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits), pos_weight=class_weights)
    return F.cross_entropy(logits, targets, class_weights, label_smoothing=label_smoothing)


def per_image_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each image, ``[N]``."""
    if targets.is_floating_point():
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none").mean(1)
    return F.cross_entropy(logits, targets, reduction="none")


def compute_class_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Weights ``[classes]`` under which every class counts as much as every other.

    With several labels an image: how much an image that carries the label counts against one that does not, at most
    tenfold.
    """
    if targets.is_floating_point():
        carry = targets.sum(0).clamp(min=1)
        return ((len(targets) - carry) / carry).clamp(0.1, 10)
    return len(targets) / num_classes / targets.bincount(minlength=num_classes).clamp(min=1)


def correct_mask(logits: Tensor, targets: Tensor) -> Tensor:
    """Which images are named rightly, bool ``[N]``: see ``right``."""
    if targets.is_floating_point():
        return ((logits > 0) == (targets > 0)).all(1)
    return logits.argmax(1) == targets


def count_correct(logits: Tensor, targets: Tensor) -> int:
    """How many images are named rightly: their class, or with several labels an image exactly its labels."""
    return int(correct_mask(logits, targets).sum())


def score(logits: Tensor, targets: Tensor) -> float:
    """The figure that a curve shows, from 0 to 1: accuracy, or the mean over labels of their average precision."""
    if not targets.is_floating_point():
        return count_correct(logits, targets) / len(targets)
    return average_precisions(logits, targets).nanmean().nan_to_num().item()


def average_precisions(logits: Tensor, targets: Tensor) -> Tensor:
    """For each label the area below its precision-recall curve, ``[classes]``; NaN where no image carries the label."""
    # Imported here because it takes two seconds, which nobody owes who has one label an image.
    from torchmetrics.functional.classification import binary_average_precision

    columns = zip(logits.sigmoid().T, targets.long().T, strict=True)
    figures = [
        binary_average_precision(some, marks) if marks.any() else torch.tensor(torch.nan) for some, marks in columns
    ]
    return torch.stack(figures)


def best_thresholds(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """For each label the probability above which calling it gives the highest F1, and that F1: both ``[classes]``.

    Halfway between two neighbouring answers, so that the threshold does not sit on an image. A label that no image
    carries keeps 0.5, with an F1 of NaN.
    """
    thresholds, f1 = torch.full((targets.shape[1],), 0.5), torch.full((targets.shape[1],), torch.nan)
    for label in range(targets.shape[1]):
        marks = targets[:, label]
        if marks.any():
            answers, order = logits[:, label].sigmoid().sort(descending=True)
            hits = marks[order].cumsum(0)
            figures = 2 * hits / (torch.arange(1, len(marks) + 1) + marks.sum())
            best = int(figures.argmax())
            below = answers[best + 1] if best + 1 < len(answers) else torch.tensor(0.0)
            thresholds[label], f1[label] = (answers[best] + below) / 2, figures[best]
    return thresholds, f1


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a share (1927): lowest and highest accuracy that ``right`` of ``of`` leave likely."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
