"""Evaluates a trained classifier on labelled images: accuracy, metrics of each class, confusion matrix and mistakes.

Each image is predicted once, in its plain view. Knows nothing of screens, nor of training; it only counts how many of
the images the model has learned from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import InputError
from headswap.common.text import format_percent
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import describe_evaluation_leakage
from headswap.evaluation import metrics
from headswap.networks.classifier import Classifier


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class against all others, each from 0 to 1; 0 where a denominator is.

    Attributes:
        name: of the class.
        precision: of the images that were predicted to show it, the share that does.
        recall: of the images that show it, the share that was predicted to.
        f1: the harmonic mean of both.
        support: number of images that show it.
        average_precision: the area below the precision-recall curve; NaN where no image shows the class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    average_precision: float


@renamed_attributes(given="true_label", answered="predicted_label")
@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrongly.

    Where images carry several labels it is about one of them, the wrong one with the highest confidence.

    Attributes:
        index: of the image among those that were evaluated.
        name: of the image.
        true_label: None if the image does not carry the predicted label.
        predicted_label: None if a label that the image carries was not predicted.
        probability: of the prediction; where a label was missed, that the image does not carry it.
    """

    index: int
    name: str
    true_label: str | None
    predicted_label: str | None
    probability: float


@renamed_attributes(right="correct", of="total", leakage="leakage_warning")
@dataclass(frozen=True, eq=False)
class Evaluation(metrics.HasAccuracyInterval):
    """How well a model classifies some images; printed, a sentence and a table of the classes.

    Attributes:
        classes: the model's, in the order of everything below.
        correct: number of images whose class is predicted, or with several labels exactly their labels, by the model's
            thresholds.
        total: number of images.
        always_largest: the accuracy of always predicting the largest class of these images, or with several labels the
            set of labels that is most frequent.
        confusion: int64 ``[classes, classes]``, a row for each true class and a column for each predicted one; with
            several labels ``[classes, 2, 2]``, for each label the rows "absent" and "present", the columns "not
            predicted" and "predicted".
        per_class: the metrics of each class.
        mistakes: one for each image that is not classified correctly, the most confident first.
        probabilities: float ``[N, classes]`` as ``Classifier.predict_proba`` gives them.
        multi_label: whether the model may give an image several labels or none.
        learned_from: how many of the images the model has learned from, which makes the figures too good. None if that
            is not known, as of a model from a file of an older headswap.
    """

    classes: tuple[str, ...]
    correct: int
    total: int
    always_largest: float
    confusion: Tensor
    per_class: tuple[ClassMetrics, ...]
    mistakes: tuple[Mistake, ...]
    probabilities: Tensor = field(repr=False)
    multi_label: bool = False
    learned_from: int | None = 0

    @property
    def accuracy(self) -> float:
        """The share of the images that are classified correctly."""
        return self.correct / self.total

    @property
    def mean_average_precision(self) -> float:
        """The mean over the classes that some image shows, each with the same weight; NaN if there are none."""
        figures = [c.average_precision for c in self.per_class if not isnan(c.average_precision)]
        return fmean(figures) if figures else nan

    @property
    def leakage_warning(self) -> str:
        """Why the figures are too good, in a sentence; empty where the model has learned from none of the images."""
        return describe_evaluation_leakage(self.learned_from, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        largest = "the most frequent labels" if self.multi_label else "the largest class"
        sentence = (
            f"{self.correct} of {self.total} right, {format_percent(self.accuracy)} ({format_percent(low)} to "
            f"{format_percent(high)}); always answering {largest} would get {format_percent(self.always_largest)}."
        )
        sentence = " ".join(filter(None, [sentence, self.leakage_warning]))
        header = ["class", "precision", "recall", "F1", "support"]
        rows = [
            [c.name, *map(_format_figure, (c.precision, c.recall, c.f1) if c.support else (nan,) * 3), str(c.support)]
            for c in self.per_class
        ]
        if self.multi_label:
            sentence += f" The mean average precision is {_format_figure(self.mean_average_precision)}."
            header.append("average precision")
            for row, c in zip(rows, self.per_class, strict=True):
                row.append(_format_figure(c.average_precision))
        return "\n".join([sentence, "", *_format_table([header, *rows])])


def evaluate(model: Classifier, images: LabelledImages) -> Evaluation:
    """Predict images whose classes are known, and compare.

    The model is not changed. The figures say something about other images only if the model has not learned from these:
    ``learned_from`` counts those that it has.

    Args:
        model: in either mode; it predicts in evaluation mode.
        images: N of them, of some or all of the model's classes.

    Returns:
        The metrics, the confusion matrix and the mistakes.

    Raises:
        InputError: if there are no images, or one shows a class that the model does not know, or a file has been
            damaged or lost.
    """
    images = images.aligned_to(model.classes, model.multi_label)
    if not len(images):
        raise InputError("There are no images to judge the model by; give it at least one.")
    preprocess = model.preprocess
    pixels = (images.pixels(i, preprocess.resize, preprocess.interpolation) for i in range(len(images)))
    # An inference tensor could not be written to, so the result is a copy.
    return evaluate_probabilities(model, images, model.predict_proba(pixels).clone())


def evaluate_probabilities(model: Classifier, images: LabelledImages, probabilities: Tensor) -> Evaluation:
    """Compare probabilities that were computed already.

    Args:
        model: that computed them.
        images: N of them, at least one, with the model's classes (``LabelledImages.aligned_to``).
        probabilities: float ``[N, classes]``.
    """
    count = len(images)
    targets = images.as_multi_label().targets.bool()
    predicted = predict_label_mask(model, probabilities)
    return Evaluation(
        classes=model.classes,
        correct=int((predicted == targets).all(1).sum()),
        total=count,
        always_largest=Counter(map(frozenset, images.label_sets)).most_common(1)[0][1] / count,
        confusion=_confusion_matrix(predicted, targets, model.multi_label),
        per_class=_compute_class_metrics(model.classes, probabilities, predicted, targets),
        mistakes=_find_mistakes(images, probabilities, predicted, targets, model.multi_label),
        probabilities=probabilities,
        multi_label=model.multi_label,
        learned_from=None if model.record and not model.seen else len(model.seen.find_training_indices(images)),
    )


def predict_label_mask(model: Classifier, probabilities: Tensor) -> Tensor:
    """The predicted labels, bool ``[N, classes]``: the likeliest class, or with several labels all above thresholds."""
    if model.multi_label:
        return probabilities > model.thresholds.to(probabilities.device)
    return F.one_hot(probabilities.argmax(1), len(model.classes)).bool()


def _confusion_matrix(predicted: Tensor, targets: Tensor, multi_label: bool) -> Tensor:
    pair = (predicted, targets) if multi_label else (predicted.long().argmax(1), targets.long().argmax(1))
    return metrics.Predictions(*pair, targets.shape[1]).confusion_matrix()


def _compute_class_metrics(
    classes: tuple[str, ...], probabilities: Tensor, predicted: Tensor, targets: Tensor
) -> tuple[ClassMetrics, ...]:
    """One class an image is the special case of several labels where exactly one is predicted and carried."""
    figures = metrics.precision_recall_f1(predicted, targets)
    average_precisions = metrics.average_precisions(probabilities, targets).tolist()
    return tuple(map(ClassMetrics, classes, *figures, targets.sum(0).tolist(), average_precisions))


def _find_mistakes(
    images: LabelledImages, probabilities: Tensor, predicted: Tensor, targets: Tensor, multi_label: bool
) -> tuple[Mistake, ...]:
    wrong = predicted != targets
    confidence = torch.where(predicted, probabilities, 1 - probabilities)
    # With one class an image the mistake is the predicted class; that the true one was missed says the same again.
    confidence[~(wrong if multi_label else wrong & predicted)] = -1
    most_confident, label_sets = confidence.argmax(1).tolist(), images.label_sets
    mistakes = []
    for i in wrong.any(1).nonzero().flatten().tolist():
        label = most_confident[i]
        name = images.classes[label]
        true_label: str | None
        predicted_label: str | None
        if multi_label:
            true_label, predicted_label = (name, None) if targets[i, label] else (None, name)
        else:
            true_label, predicted_label = images.classes[label_sets[i][0]], name
        mistakes.append(Mistake(i, images.names[i], true_label, predicted_label, confidence[i, label].item()))
    return tuple(sorted(mistakes, key=lambda mistake: -mistake.probability))


def _format_figure(figure: float) -> str:
    return "–" if isnan(figure) else f"{figure:.2f}"


def _format_table(rows: list[list[str]]) -> list[str]:
    """Each row as a line: the first column aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
