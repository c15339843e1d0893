"""What a training tells: plain dataclasses with everything that a screen needs and nothing that it must compute.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

from torch import Tensor, nn

from headswap.common.deprecation import renamed_attributes
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.evaluation import metrics
from headswap.evaluation.significance import UnfreezingComparison
from headswap.features.frozen_pass import FrozenPass
from headswap.training.plan import Phase
from headswap.training.record import Record, ValidationResult


def _nested(rows: list | int) -> tuple | int:
    """Lists in lists as tuples in tuples."""
    return tuple(map(_nested, rows)) if isinstance(rows, list) else rows


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class ClassificationMetrics:
    """How a network answered the validation images."""

    score: float  # what `metric` says, from 0 to 1
    metric: str  # "accuracy", or with several labels an image "mean average precision"
    correct: int  # of `of`: with several labels exactly those, called above one half
    total: int
    loss: float
    predictions: metrics.Predictions | None = field(default=None, repr=False, compare=False)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of images that are named rightly lies for all such images, 19 times of 20."""
        return metrics.wilson_interval(self.correct, self.total)

    @property
    def to_result(self) -> ValidationResult:
        """The same as a model's record keeps it."""
        confusion = self.predictions.confusion_matrix().tolist() if self.predictions else []
        return ValidationResult(self.score, self.metric, self.correct, self.total, _nested(confusion))


@renamed_attributes(figures="validation_metrics")
@dataclass(frozen=True)
class Reference:
    """What the head that is solved at once says on the same features: every later phase is measured against it."""

    validation_metrics: ClassificationMetrics
    seconds: float  # to solve it


@dataclass(frozen=True)
class LearningRate:
    """The highest learning rate of a part in a phase."""

    name: str  # of the stage, "pool" or "head"
    rate: float


@renamed_attributes(still_weights="frozen_weights")
@dataclass(frozen=True)
class PhaseBegins:
    """What stands still and what learns from now on."""

    number: int  # from 1
    phases: int
    phase: Phase
    first_epoch: int  # counted over the whole run, from 1
    epochs: int  # of the whole run
    learning_stages: tuple[str, ...]  # their names, in order; the head always learns
    learning_weights: int
    frozen_weights: int
    kept_bytes: int  # at the boundary, for each training image
    rates: tuple[LearningRate, ...] = ()  # of everything that learns, the head last
    left: float = 0.0  # seconds of the whole run, by what one batch took


@dataclass(frozen=True)
class Step:
    """A batch was learned from. Told ten times a second at the most."""

    epoch: int
    step: int  # from 1
    steps: int  # in the epoch
    loss: float


@dataclass(frozen=True)
class LabelMetrics:
    """Of one label among several an image: NaN where no validation image carries it."""

    name: str
    average_precision: float
    f1: float  # at the threshold
    threshold: float  # the probability above which calling the label gives the highest F1


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class Epoch:
    """The figures after an epoch. Training figures are the mean over the epoch's batches, as they were learned.

    In a refit nothing is held back, and the validation figures are NaN, of no image.
    """

    number: int  # counted over the whole run, from 1
    training_loss: float
    training_score: float  # what `metric` says, from 0 to 1
    validation_loss: float
    validation_score: float
    correct: int  # validation images named rightly, of `of`: with several labels exactly those, called above one half
    total: int
    metric: str  # "accuracy", or with several labels an image "mean average precision"
    seconds: float
    best: bool = False  # so far: a higher score than ever before, or the same with a lower loss
    labels: tuple[LabelMetrics, ...] = ()  # of the best epoch, where images carry several labels
    left: float = 0.0  # seconds of the whole run
    predictions: metrics.Predictions | None = field(default=None, repr=False, compare=False)

    @property
    def validation_metrics(self) -> ClassificationMetrics:
        """How the network of this epoch answered the validation images."""
        return ClassificationMetrics(
            self.validation_score, self.metric, self.correct, self.total, self.validation_loss, self.predictions
        )


@dataclass(frozen=True)
class Candidate:
    """A network that the training passed and that can be had instead: ``headswap.keep`` puts it into the model."""

    validation_metrics: ClassificationMetrics | None  # None for what was never asked
    head: nn.Module = field(repr=False)
    weights: Mapping[str, Tensor] = field(repr=False)  # of everything else that learned in this run
    record: Record | None = field(default=None, repr=False)  # what its network has been through
    seen: SeenImages = field(default=NO_SEEN_IMAGES, repr=False)  # which images its network knows


@renamed_attributes(
    what="checkpoint",
    right="correct",
    of="total",
    chosen="selected_on_validation",
    share="weight_interpolation",
    offers="candidates",
    sharpened="logit_scale",
)
@dataclass(frozen=True)
class Kept:
    """The training is over; the model holds what this says."""

    epoch: int
    checkpoint: str  # "between", "best" or "last": see `Plan.keep`
    score: float
    metric: str
    correct: int
    total: int
    labels: tuple[LabelMetrics, ...]
    seconds: float
    selected_on_validation: bool  # the epoch was chosen by these very validation images, so the figure flatters
    reference: ClassificationMetrics | None = None
    verdict: UnfreezingComparison | None = None  # whether unfreezing was worth it, where anything was unfrozen
    weight_interpolation: float = (
        1.0  # of the way from the frozen network to the last epoch, where what is kept lies between them
    )
    candidates: Mapping[str, Candidate] = field(default_factory=dict, repr=False)  # "start", "frozen" and "reference"
    problem: str = ""  # why it ended early, and what to change
    refitted: bool = False  # on all images: the figures are the honest run's, before
    loss: float = nan
    predictions: metrics.Predictions | None = field(default=None, repr=False, compare=False)
    logit_scale: float = (
        1.0  # by what the answers were multiplied in the end, where they had been softened for learning
    )
    leakage: str = ""  # of a model that knew some of the images: whether its figures flatter

    @property
    def validation_metrics(self) -> ClassificationMetrics:
        """How the network that was kept answered the validation images."""
        return ClassificationMetrics(self.score, self.metric, self.correct, self.total, self.loss, self.predictions)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of images that are named rightly lies for all such images, 19 times of 20."""
        return metrics.wilson_interval(self.correct, self.total)

    @property
    def interpolation_text(self) -> str:
        """Where what is kept lies between the frozen network and the last epoch."""
        return "half-way" if self.weight_interpolation == 0.5 else f"{self.weight_interpolation:.0%} of the way"

    @property
    def sentence(self) -> str:
        """What a beginner should know now."""
        low, high = self.interval
        figures = f"{self.correct} of {self.total} validation images right ({low:.0%} to {high:.0%})"
        kept = {
            "between": f"Kept the weights {self.interpolation_text} between the frozen network's and those of epoch {self.epoch}",
            "last": f"Kept the weights of the last epoch, {self.epoch}",
            "best": f"Kept the weights of epoch {self.epoch}, which these images chose",
        }[self.checkpoint]
        said = [f"{kept}: {figures}."]
        if self.refitted:
            said = [
                f"Learned again from all images, validation images included. The figure is the honest run's: {figures}."
            ]
        if self.leakage:
            said.append(self.leakage)
        if self.problem:
            said.insert(0, self.problem)
        if self.verdict:
            said.append(self.verdict.sentence)
        if self.reference and self.reference.correct > self.correct and "reference" in self.candidates:
            said.append(
                f"The head that is solved at once names {self.reference.correct} of them rightly; it can be kept instead."
            )
        return " ".join(said)


Event = FrozenPass | Reference | PhaseBegins | Step | Epoch | Kept
