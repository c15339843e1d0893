"""A model judged by images: how many are named rightly, the figures of each class, and which answers were wrong.

Sees each image once, in its plain view, and says how many of them the model has learned from. Knows nothing of screens,
nor of training.
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
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import describe_evaluation_leakage
from headswap.evaluation import metrics
from headswap.networks.classifier import Classifier


@dataclass(frozen=True)
class ClassMetrics:
    """Of one class against all others, each from 0 to 1; what would be divided by zero is 0."""

    name: str
    precision: float  # of the images that were called it, the share that show it
    recall: float  # of the images that show it, the share that were called it
    f1: float
    support: int  # images that show it
    average_precision: float  # the area below the precision-recall curve; NaN where no image shows the class


@renamed_attributes(given="true_label", answered="predicted_label")
@dataclass(frozen=True)
class Mistake:
    """An image with a wrong answer.

    Where images carry several labels it is about one of them, the one that the model was most sure of and wrong about:
    ``given`` is None if the image does not carry what was called, ``answered`` is None if what it carries was missed.
    """

    index: int  # in the images that were judged
    name: str  # of the image
    true_label: str | None
    predicted_label: str | None
    probability: float  # that the model gave to its answer; of a missed label, that the image does not carry it


@renamed_attributes(right="correct", of="total", leakage="leakage_warning")
@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a model's answers to some images are; printed, a sentence and a table of the classes.

    Attributes:
        classes: the model's, in the order of everything below.
        right: images named rightly: their class, or with several labels exactly those, called above their thresholds.
        of: how many images there are.
        always_largest: the accuracy of always answering the largest class of these images, or with several labels an
            image always the set of them that is most frequent.
        confusion: int64 ``[classes, classes]``, a row for each true class and a column for each answer; with several
            labels ``[classes, 2, 2]``, for each label the rows "does not carry it" and "carries it", the columns
            "not called" and "called".
        per_class: the figures of each class.
        mistakes: one for each image that is not named rightly, the most confident first.
        probabilities: float ``[N, classes]`` as ``Classifier.probabilities`` gives them.
        multi_label: whether the model may give an image several labels or none.
        learned_from: how many of the images the model has learned from; their answers flatter it. None if that is not
            known, as of a model from a file of an older headswap.
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
        """The share of the images that are named rightly."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of images that are named rightly lies for all such images, 19 times of 20."""
        return metrics.wilson_interval(self.correct, self.total)

    @property
    def mean_average_precision(self) -> float:
        """The mean over the classes that some image shows, each weighing the same; NaN if there are none."""
        figures = [c.average_precision for c in self.per_class if not isnan(c.average_precision)]
        return fmean(figures) if figures else nan

    @property
    def leakage_warning(self) -> str:
        """Why the figures flatter, in a sentence; nothing where the model has seen none of the images."""
        return describe_evaluation_leakage(self.learned_from, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        largest = "the most frequent labels" if self.multi_label else "the largest class"
        sentence = (
            f"{self.correct} of {self.total} right, {_percent(self.accuracy)} ({_percent(low)} to {_percent(high)}); "
            f"always answering {largest} would get {_percent(self.always_largest)}."
        )
        sentence = " ".join(filter(None, [sentence, self.leakage_warning]))
        heads = ["class", "precision", "recall", "F1", "support"]
        rows = [
            [c.name, *map(_decimals, (c.precision, c.recall, c.f1) if c.support else (nan,) * 3), str(c.support)]
            for c in self.per_class
        ]
        if self.multi_label:
            sentence += f" The mean average precision is {_decimals(self.mean_average_precision)}."
            heads.append("average precision")
            for row, c in zip(rows, self.per_class, strict=True):
                row.append(_decimals(c.average_precision))
        return "\n".join([sentence, "", *_format_table([heads, *rows])])


def evaluate(model: Classifier, images: LabelledImages) -> Evaluation:
    """Let a model answer images whose classes are known, and compare.

    The model stays as it is. Its figures say something about other images only if it has not learned from these:
    ``learned_from`` counts those that it has.

    Args:
        model: in whichever mode; it answers in evaluation mode.
        images: N of them, of some or all of the model's classes.

    Raises:
        InputError: if there are no images, or one shows a class that the model does not know, or a file has been
            damaged or lost.
    """
    images = images.aligned_to(model.classes, model.multi_label)
    if not len(images):
        raise InputError("There are no images to judge the model by; give it at least one.")
    wanted, count = model.preprocess, len(images)
    pixels = (images.pixels(i, wanted.resize, wanted.interpolation) for i in range(count))
    return evaluate_probabilities(
        model, images, model.predict_proba(pixels).clone()
    )  # inference mode's own could not be written to


def evaluate_probabilities(model: Classifier, images: LabelledImages, probabilities: Tensor) -> Evaluation:
    """The same of answers that are already there: float ``[N, classes]`` for one image or more that are
    ``fitting``."""
    count = len(images)
    marks = images.as_multi_label().targets.bool()
    called = predict_label_mask(model, probabilities)
    return Evaluation(
        classes=model.classes,
        correct=int((called == marks).all(1).sum()),
        total=count,
        always_largest=Counter(map(frozenset, images.label_sets)).most_common(1)[0][1] / count,
        confusion=_confusion(called, marks, model.multi_label),
        per_class=_per_class(model.classes, probabilities, called, marks),
        mistakes=_mistakes(images, probabilities, called, marks, model.multi_label),
        probabilities=probabilities,
        multi_label=model.multi_label,
        learned_from=None if model.record and not model.seen else len(model.seen.find_training_indices(images)),
    )


def predict_label_mask(model: Classifier, probabilities: Tensor) -> Tensor:
    """What the model calls each image, bool ``[N, classes]``: the most likely class, or all above their thresholds."""
    if model.multi_label:
        return probabilities > model.thresholds.to(probabilities.device)
    return F.one_hot(probabilities.argmax(1), len(model.classes)).bool()


def _confusion(called: Tensor, marks: Tensor, multi_label: bool) -> Tensor:
    pair = (called, marks) if multi_label else (called.long().argmax(1), marks.long().argmax(1))
    return metrics.Predictions(*pair, marks.shape[1]).confusion_matrix()


def _per_class(
    classes: tuple[str, ...], probabilities: Tensor, called: Tensor, marks: Tensor
) -> tuple[ClassMetrics, ...]:
    """One class an image is the special case of several labels where just one is called and carried."""
    # Imported here because it takes two seconds, which nobody owes who only wants to train.
    from torchmetrics.functional.classification import (
        binary_average_precision,
        multilabel_f1_score,
        multilabel_precision,
        multilabel_recall,
    )

    called, truth, support = called.long(), marks.long(), marks.sum(0)
    shares = (
        figure(called, truth, len(classes), average="none").tolist()
        for figure in (multilabel_precision, multilabel_recall, multilabel_f1_score)
    )
    areas = [
        # torchmetrics would warn where nothing is to be found, and call it zero.
        binary_average_precision(probabilities[:, i], truth[:, i]).item() if support[i] else nan
        for i in range(len(classes))
    ]
    return tuple(map(ClassMetrics, classes, *shares, support.tolist(), areas))


def _mistakes(
    images: LabelledImages, probabilities: Tensor, called: Tensor, marks: Tensor, multi_label: bool
) -> tuple[Mistake, ...]:
    wrong = called != marks
    sure = torch.where(called, probabilities, 1 - probabilities)
    # Of one class an image the answer is what was called; that another was missed says the same again.
    sure[~(wrong if multi_label else wrong & called)] = -1
    worst = sure.argmax(1).tolist()
    found = []
    for i in wrong.any(1).nonzero().flatten().tolist():
        label = worst[i]
        name = images.classes[label]
        if multi_label:
            given, answered = (name, None) if marks[i, label] else (None, name)
        else:
            given, answered = images.classes[images.labels[i]], name
        found.append(Mistake(i, images.names[i], given, answered, sure[i, label].item()))
    return tuple(sorted(found, key=lambda mistake: -mistake.probability))


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _decimals(figure: float) -> str:
    return "–" if isnan(figure) else f"{figure:.2f}"


def _format_table(rows: list[list[str]]) -> list[str]:
    """Each row as a line: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
