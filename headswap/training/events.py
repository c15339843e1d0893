"""What a training tells: plain dataclasses with everything that a screen needs and nothing that it must compute.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan

from torch import Tensor, nn

from headswap.data.leakage import NOTHING_SEEN, Seen
from headswap.evaluation import metrics
from headswap.evaluation.significance import Verdict
from headswap.features.frozen_pass import FrozenPass
from headswap.training.plan import Phase
from headswap.training.record import Record, Result


def _nested(rows: list | int) -> tuple | int:
    """Lists in lists as tuples in tuples."""
    return tuple(map(_nested, rows)) if isinstance(rows, list) else rows


@dataclass(frozen=True)
class Figures:
    """How a network answered the validation images."""

    score: float  # what `metric` says, from 0 to 1
    metric: str  # "accuracy", or with several labels an image "mean average precision"
    right: int  # of `of`: with several labels exactly those, called above one half
    of: int
    loss: float
    answers: metrics.Answers | None = field(default=None, repr=False, compare=False)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of images that are named rightly lies for all such images, 19 times of 20."""
        return metrics.wilson(self.right, self.of)

    @property
    def result(self) -> Result:
        """The same as a model's record keeps it."""
        confusion = self.answers.confusion().tolist() if self.answers else []
        return Result(self.score, self.metric, self.right, self.of, _nested(confusion))


@dataclass(frozen=True)
class Reference:
    """What the head that is solved at once says on the same features: every later phase is measured against it."""

    figures: Figures
    seconds: float  # to solve it


@dataclass(frozen=True)
class Rate:
    """The highest learning rate of a part in a phase."""

    name: str  # of the stage, "pool" or "head"
    rate: float


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
    still_weights: int
    kept_bytes: int  # at the boundary, for each training image
    rates: tuple[Rate, ...] = ()  # of everything that learns, the head last
    left: float = 0.0  # seconds of the whole run, by what one batch took


@dataclass(frozen=True)
class Step:
    """A batch was learned from. Told ten times a second at the most."""

    epoch: int
    step: int  # from 1
    steps: int  # in the epoch
    loss: float


@dataclass(frozen=True)
class LabelFigures:
    """Of one label among several an image: NaN where no validation image carries it."""

    name: str
    average_precision: float
    f1: float  # at the threshold
    threshold: float  # the probability above which calling the label gives the highest F1


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
    right: int  # validation images named rightly, of `of`: with several labels exactly those, called above one half
    of: int
    metric: str  # "accuracy", or with several labels an image "mean average precision"
    seconds: float
    best: bool = False  # so far: a higher score than ever before, or the same with a lower loss
    labels: tuple[LabelFigures, ...] = ()  # of the best epoch, where images carry several labels
    left: float = 0.0  # seconds of the whole run
    answers: metrics.Answers | None = field(default=None, repr=False, compare=False)

    @property
    def figures(self) -> Figures:
        """How the network of this epoch answered the validation images."""
        return Figures(self.validation_score, self.metric, self.right, self.of, self.validation_loss, self.answers)


@dataclass(frozen=True)
class Offer:
    """A network that the training passed and that can be had instead: ``headswap.keep`` puts it into the model."""

    figures: Figures | None  # None for what was never asked
    head: nn.Module = field(repr=False)
    weights: Mapping[str, Tensor] = field(repr=False)  # of everything else that learned in this run
    record: Record | None = field(default=None, repr=False)  # what its network has been through
    seen: Seen = field(default=NOTHING_SEEN, repr=False)  # which images its network knows


@dataclass(frozen=True)
class Kept:
    """The training is over; the model holds what this says."""

    epoch: int
    what: str  # "between", "best" or "last": see `Plan.keep`
    score: float
    metric: str
    right: int
    of: int
    labels: tuple[LabelFigures, ...]
    seconds: float
    chosen: bool  # the epoch was chosen by these very validation images, so the figure flatters
    reference: Figures | None = None
    verdict: Verdict | None = None  # whether unfreezing was worth it, where anything was unfrozen
    share: float = 1.0  # of the way from the frozen network to the last epoch, where what is kept lies between them
    offers: Mapping[str, Offer] = field(default_factory=dict, repr=False)  # "start", "frozen" and "reference"
    problem: str = ""  # why it ended early, and what to change
    refitted: bool = False  # on all images: the figures are the honest run's, before
    loss: float = nan
    answers: metrics.Answers | None = field(default=None, repr=False, compare=False)
    sharpened: float = 1.0  # by what the answers were multiplied in the end, where they had been softened for learning
    leakage: str = ""  # of a model that knew some of the images: whether its figures flatter

    @property
    def figures(self) -> Figures:
        """How the network that was kept answered the validation images."""
        return Figures(self.score, self.metric, self.right, self.of, self.loss, self.answers)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of images that are named rightly lies for all such images, 19 times of 20."""
        return metrics.wilson(self.right, self.of)

    @property
    def way(self) -> str:
        """Where what is kept lies between the frozen network and the last epoch."""
        return "half-way" if self.share == 0.5 else f"{self.share:.0%} of the way"

    @property
    def sentence(self) -> str:
        """What a beginner should know now."""
        low, high = self.interval
        figures = f"{self.right} of {self.of} validation images right ({low:.0%} to {high:.0%})"
        kept = {
            "between": f"Kept the weights {self.way} between the frozen network's and those of epoch {self.epoch}",
            "last": f"Kept the weights of the last epoch, {self.epoch}",
            "best": f"Kept the weights of epoch {self.epoch}, which these images chose",
        }[self.what]
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
        if self.reference and self.reference.right > self.right and "reference" in self.offers:
            said.append(
                f"The head that is solved at once names {self.reference.right} of them rightly; it can be kept instead."
            )
        return " ".join(said)


Event = FrozenPass | Reference | PhaseBegins | Step | Epoch | Kept
