"""Defines the events that a training yields, as frozen dataclasses with everything that a screen shows.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

from torch import Tensor, nn

from headswap.common.deprecation import renamed_attributes
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.evaluation.metrics import HasAccuracyInterval, Predictions
from headswap.evaluation.significance import UnfreezingComparison
from headswap.features.frozen_pass import FrozenPass
from headswap.training.plan import Phase
from headswap.training.record import Confusion, Record, ValidationResult


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class ClassificationMetrics(HasAccuracyInterval):
    """How well a network classifies the validation images.

    Attributes:
        score: the figure that ``metric`` names, from 0 to 1.
        metric: "accuracy", or with several labels an image "mean average precision".
        correct: number of correctly classified images; with several labels exactly theirs, predicted above one half.
        total: number of images.
        loss: the mean.
        predictions: with their targets.
    """

    score: float
    metric: str
    correct: int
    total: int
    loss: float
    predictions: Predictions | None = field(default=None, repr=False, compare=False)

    @property
    def to_result(self) -> ValidationResult:
        """The same as a model's record keeps it."""
        confusion = _confusion_rows(self.predictions) if self.predictions else ()
        return ValidationResult(self.score, self.metric, self.correct, self.total, confusion)


@renamed_attributes(figures="validation_metrics")
@dataclass(frozen=True)
class Reference:
    """The metrics of an LDA head on the same frozen features, to which every later phase is compared.

    Attributes:
        validation_metrics: its metrics.
        seconds: that solving it took.
    """

    validation_metrics: ClassificationMetrics
    seconds: float


@dataclass(frozen=True)
class LearningRate:
    """The highest learning rate of a part in a phase.

    Attributes:
        name: of the stage, "pool" or "head".
        rate: the learning rate.
    """

    name: str
    rate: float


@renamed_attributes(still_weights="frozen_weights")
@dataclass(frozen=True)
class PhaseBegins:
    """A phase begins.

    Attributes:
        number: of the phase, from 1.
        phases: number of phases.
        phase: its settings.
        first_epoch: counted over the whole run, from 1.
        epochs: of the whole run.
        learning_stages: names of the unfrozen stages, in order; the head always learns.
        learning_weights: number of weights that learn.
        frozen_weights: number of weights that are frozen.
        kept_bytes: of the cached features at the boundary, for each training image.
        rates: the highest learning rate of everything that learns, the head last.
        left: estimated seconds until the end of the whole run.
    """

    number: int
    phases: int
    phase: Phase
    first_epoch: int
    epochs: int
    learning_stages: tuple[str, ...]
    learning_weights: int
    frozen_weights: int
    kept_bytes: int
    rates: tuple[LearningRate, ...] = ()
    left: float = 0.0


@dataclass(frozen=True)
class Step:
    """An optimizer step was made; at most ten of these events a second.

    Attributes:
        epoch: counted over the whole run, from 1.
        step: from 1.
        steps: in the epoch.
        loss: of the batch.
    """

    epoch: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class LabelMetrics:
    """The metrics of one label, where images carry several; NaN where no validation image carries it.

    Attributes:
        name: of the label.
        average_precision: the area below its precision-recall curve.
        f1: at the threshold.
        threshold: the probability above which predicting the label gives the highest F1.
    """

    name: str
    average_precision: float
    f1: float
    threshold: float


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class Epoch:
    """The metrics after an epoch; without validation images (in a refit) those of validation are NaN, of no image.

    Attributes:
        number: counted over the whole run, from 1.
        training_loss: the mean over the epoch's batches, each computed before its step.
        training_score: likewise, the figure that ``metric`` names, from 0 to 1.
        validation_loss: the mean.
        validation_score: the figure that ``metric`` names, from 0 to 1.
        correct: number of correctly classified validation images; with several labels exactly theirs, predicted above
            one half.
        total: number of validation images.
        metric: "accuracy", or with several labels an image "mean average precision".
        seconds: that the epoch took.
        best: whether the score is the highest so far, or equals the highest with a lower loss.
        labels: of the best epoch, where images carry several labels.
        left: estimated seconds until the end of the whole run.
        predictions: with their targets.
    """

    number: int
    training_loss: float
    training_score: float
    validation_loss: float
    validation_score: float
    correct: int
    total: int
    metric: str
    seconds: float
    best: bool = False
    labels: tuple[LabelMetrics, ...] = ()
    left: float = 0.0
    predictions: Predictions | None = field(default=None, repr=False, compare=False)

    @property
    def validation_metrics(self) -> ClassificationMetrics:
        """How well the network of this epoch classifies the validation images."""
        return ClassificationMetrics(
            self.validation_score, self.metric, self.correct, self.total, self.validation_loss, self.predictions
        )


@dataclass(frozen=True)
class Candidate:
    """A network of this training that ``headswap.restore`` can put into the model instead of the one that was kept.

    Attributes:
        validation_metrics: None for what was never evaluated.
        head: a copy of its head.
        weights: of everything else that learned in this run.
        record: of its training.
        seen: which images it has learned from and which were its validation images.
    """

    validation_metrics: ClassificationMetrics | None
    head: nn.Module = field(repr=False)
    weights: Mapping[str, Tensor] = field(repr=False)
    record: Record | None = field(default=None, repr=False)
    seen: SeenImages = field(default=NO_SEEN_IMAGES, repr=False)


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
class Kept(HasAccuracyInterval):
    """The training is over, and the model holds what this event describes.

    Attributes:
        epoch: whose weights were kept, or towards whose weights was interpolated.
        checkpoint: "between", "best" or "last", as ``Plan.checkpoint``.
        score: the figure that ``metric`` names, from 0 to 1.
        metric: "accuracy", or with several labels an image "mean average precision".
        correct: number of correctly classified validation images.
        total: number of validation images.
        labels: the metrics of each label, where images carry several.
        seconds: that the training took.
        selected_on_validation: whether the epoch was selected on these very validation images, which makes the figures
            too good.
        reference: the metrics of an LDA head on the frozen features.
        verdict: the comparison of the frozen and the unfrozen network, where anything was unfrozen.
        weight_interpolation: where the weights lie from those of the frozen network (0) to the last epoch's (1).
        candidates: networks that ``headswap.restore`` takes instead: "start", "frozen" and "reference".
        problem: why the training ended early, and what to change.
        refitted: whether it was a refit on all images; then the metrics are those of the validated run before it.
        loss: the mean over the validation images.
        predictions: with their targets.
        logit_scale: by what the logits were multiplied in the end, where the temperature had been raised.
        leakage: of a model that knew some of the images: whether its figures are too good.
    """

    epoch: int
    checkpoint: str
    score: float
    metric: str
    correct: int
    total: int
    labels: tuple[LabelMetrics, ...]
    seconds: float
    selected_on_validation: bool
    reference: ClassificationMetrics | None = None
    verdict: UnfreezingComparison | None = None
    weight_interpolation: float = 1.0
    candidates: Mapping[str, Candidate] = field(default_factory=dict, repr=False)
    problem: str = ""
    refitted: bool = False
    loss: float = nan
    predictions: Predictions | None = field(default=None, repr=False, compare=False)
    logit_scale: float = 1.0
    leakage: str = ""

    @property
    def validation_metrics(self) -> ClassificationMetrics:
        """How well the network that was kept classifies the validation images."""
        return ClassificationMetrics(self.score, self.metric, self.correct, self.total, self.loss, self.predictions)

    @property
    def interpolation_text(self) -> str:
        """``weight_interpolation`` in words."""
        return "half-way" if self.weight_interpolation == 0.5 else f"{self.weight_interpolation:.0%} of the way"

    @property
    def checkpoint_text(self) -> str:
        """Which weights were kept, in words."""
        if self.checkpoint == "between":
            end = f"the frozen network's and those of epoch {self.epoch}"
            return f"Kept the weights {self.interpolation_text} between {end}"
        return f"Kept the weights of {'the last epoch, ' if self.checkpoint == 'last' else 'epoch '}{self.epoch}"

    @property
    def sentence(self) -> str:
        """The result in words, for a beginner."""
        low, high = self.interval
        figures = f"{self.correct} of {self.total} validation images right ({low:.0%} to {high:.0%})"
        kept = self.checkpoint_text + (", which these images chose" if self.checkpoint == "best" else "")
        sentences = [self.problem, f"{kept}: {figures}.", self.leakage, self.verdict.sentence if self.verdict else ""]
        if self.refitted:
            sentences[1] = (
                f"Learned again from all images, validation images included. The figure is the honest run's: {figures}."
            )
        if self.reference and self.reference.correct > self.correct and "reference" in self.candidates:
            sentences.append(
                f"The head that is solved at once names {self.reference.correct} of them rightly; it can be kept "
                "instead."
            )
        return " ".join(filter(None, sentences))


Event = FrozenPass | Reference | PhaseBegins | Step | Epoch | Kept
"""What ``train``, ``fit`` and ``refit`` yield; ``race`` has ``Lap`` and ``Won`` as well."""


def _confusion_rows(predictions: Predictions) -> Confusion:
    """The confusion matrix as nested tuples of plain integers."""
    counts = predictions.confusion_matrix()
    if counts.ndim == 2:
        return tuple(tuple(row) for row in counts.tolist())
    return tuple(tuple(tuple(pair) for pair in label) for label in counts.tolist())
