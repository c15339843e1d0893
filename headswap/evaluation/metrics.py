"""Computes classification loss, accuracy, average precision, F1 thresholds and confusion matrices.

Knows nothing of models: logits or probabilities and targets in, figures out. Targets are int64 ``[N]``, or with several
labels an image float ``[N, classes]`` of 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# scikit-learn and SciPy are imported where they are used: their imports take 2 and 1.3 seconds of CPU time.


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted classes with their targets.

    Attributes:
        predicted: int64 ``[N]``, or with several labels an image bool ``[N, classes]``.
        targets: likewise.
        num_classes: the number of classes.
    """

    predicted: Tensor
    targets: Tensor
    num_classes: int

    @property
    def correct_mask(self) -> Tensor:
        """Which images are classified correctly, bool ``[N]``; with several labels, exactly their labels predicted."""
        equal = self.predicted == self.targets
        return equal if equal.ndim == 1 else equal.all(1)

    def confusion_matrix(self) -> Tensor:
        """The counts of targets against predictions.

        Returns:
            int64 ``[classes, classes]``, a row for each true class and a column for each predicted one; with several
            labels ``[classes, 2, 2]``, for each label the rows "absent" and "present", the columns "not predicted" and
            "predicted".
        """
        from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

        targets, predicted = self.targets.cpu().numpy(), self.predicted.cpu().numpy()
        if targets.ndim == 1:
            counts = confusion_matrix(targets, predicted, labels=range(self.num_classes))
        else:
            counts = multilabel_confusion_matrix(targets, predicted, labels=_label_selection(self.num_classes))
        return torch.from_numpy(counts).long()


class HasAccuracyInterval:
    """Mixin for results that count the correctly classified images.

    Attributes:
        correct: number of correctly classified images; a mean where there are several runs.
        total: number of images.
    """

    correct: float
    total: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy, by ``wilson_interval``."""
        return wilson_interval(round(self.correct), self.total)


def predict_from_logits(logits: Tensor, targets: Tensor) -> Predictions:
    """The predictions of logits ``[N, classes]``: the likeliest class, or with several labels all above one half."""
    if targets.is_floating_point():
        return Predictions(logits > 0, targets > 0, logits.shape[1])
    return Predictions(logits.argmax(1), targets, logits.shape[1])


def classification_loss(
    logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """The mean cross-entropy, or with several labels an image the mean binary cross-entropy.

    Args:
        logits: ``[N, classes]``.
        targets: int64 ``[N]`` or float ``[N, classes]``.
        label_smoothing: only for one label an image.
        class_weights: ``[classes]``, those of ``compute_class_weights``.
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
        num_positives = targets.sum(0).clamp(min=1)
        return ((len(targets) - num_positives) / num_positives).clamp(0.1, 10)
    return len(targets) / num_classes / targets.bincount(minlength=num_classes).clamp(min=1)


def correct_mask(logits: Tensor, targets: Tensor) -> Tensor:
    """Which images are classified correctly, bool ``[N]``; see ``Predictions.correct_mask``."""
    return predict_from_logits(logits, targets).correct_mask


def count_correct(logits: Tensor, targets: Tensor) -> int:
    """The number of correctly classified images; with several labels an image, those with exactly their labels."""
    return int(correct_mask(logits, targets).sum())


def score(logits: Tensor, targets: Tensor) -> float:
    """The accuracy, or with several labels an image the mean average precision, from 0 to 1."""
    if not targets.is_floating_point():
        return count_correct(logits, targets) / len(targets)
    return float(average_precisions(logits.sigmoid(), targets).nanmean().nan_to_num())


def average_precisions(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The area below the precision-recall curve of each label.

    Args:
        probabilities: float ``[N, classes]``.
        targets: ``[N, classes]`` of 0 and 1.

    Returns:
        float32 ``[classes]``; NaN where no image carries the label, or a probability is NaN.
    """
    from sklearn.metrics import average_precision_score

    figures = [
        average_precision_score(truth.numpy(), scores.numpy())
        if truth.any() and not scores.isnan().any()
        else torch.nan
        for scores, truth in zip(probabilities.cpu().T, targets.cpu().long().T, strict=True)
    ]
    return torch.tensor(figures)


def precision_recall_f1(predicted: Tensor, targets: Tensor) -> tuple[list[float], list[float], list[float]]:
    """The precision, recall and F1 of each label; 0 where a denominator is.

    Args:
        predicted: bool ``[N, classes]``.
        targets: likewise.
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        targets.long().cpu().numpy(),
        predicted.long().cpu().numpy(),
        labels=_label_selection(targets.shape[1]),
        average=None,
        zero_division=0,
    )
    return precision.tolist(), recall.tolist(), f1.tolist()


def best_thresholds(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """For each label the probability above which predicting it gives the highest F1, and that F1: both ``[classes]``.

    A threshold lies halfway between two neighbouring probabilities, so that it does not equal one of them. A label that
    no image carries keeps 0.5, with an F1 of NaN.
    """
    thresholds, f1 = torch.full((targets.shape[1],), 0.5), torch.full((targets.shape[1],), torch.nan)
    for label in range(targets.shape[1]):
        truth = targets[:, label]
        if truth.any():
            probabilities, order = logits[:, label].sigmoid().sort(descending=True)
            true_positives = truth[order].cumsum(0)
            candidates = 2 * true_positives / (torch.arange(1, len(truth) + 1) + truth.sum())
            best = int(candidates.argmax())
            next_lower = probabilities[best + 1] if best + 1 < len(probabilities) else torch.tensor(0.0)
            thresholds[label], f1[label] = (probabilities[best] + next_lower) / 2, candidates[best]
    return thresholds, f1


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The lowest and highest accuracy that ``correct`` of ``total`` leave likely: Wilson's interval (1927)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _label_selection(num_labels: int) -> list[int] | None:
    """scikit-learn's ``labels`` for indicators ``[N, labels]``.

    It takes a single column for a task of the two classes 0 and 1, of which only the second is wanted.
    """
    return [1] if num_labels == 1 else None
