"""Describes a finished training as plain serialisable data: plan, class counts, metrics and the validation result.

It is kept with the model and in its file. Knows nothing of tensors and of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from pydantic import Field

from headswap.common.deprecation import renamed_attributes
from headswap.training.plan import PLAN_CHECKPOINTS, Plan

SELECTION_BIAS_NOTE = "These images chose the epoch, so the figure flatters."

RECORD_CHECKPOINTS = (*PLAN_CHECKPOINTS, "frozen", "reference")

T = TypeVar("T")
FailFastTuple = Annotated[tuple[T, ...], Field(fail_fast=True)]  # of a million invalid items one error is enough
Confusion = FailFastTuple[FailFastTuple[int]] | FailFastTuple[FailFastTuple[FailFastTuple[int]]]


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of an epoch; without validation images those of validation are None.

    Attributes:
        training_loss: the mean over the batches.
        training_score: the accuracy or the mean average precision.
        validation_loss: likewise.
        validation_score: likewise.
    """

    training_loss: float
    training_score: float
    validation_loss: float | None
    validation_score: float | None


@dataclass(frozen=True)
class PhaseRecord:
    """A phase as it went.

    Attributes:
        first_epoch: counted over the whole run, from 1.
        learning_stages: names of the stages that learned with the head.
    """

    first_epoch: int
    learning_stages: FailFastTuple[str]


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class ValidationResult:
    """How well the network that was kept classifies the validation images.

    Attributes:
        score: the figure that ``metric`` names, from 0 to 1.
        metric: "accuracy" or "mean average precision".
        correct: number of correctly classified images.
        total: number of images.
        confusion: a row for each true class and a column for each predicted one; with several labels as
            ``Evaluation.confusion``.
    """

    score: float
    metric: str
    correct: int
    total: int
    confusion: Confusion = ()

    def __post_init__(self) -> None:
        if not (0 <= self.correct <= self.total and 0 <= self.score <= 1):
            raise ValueError(f"{self.correct} of {self.total} right, with a score of {self.score}, cannot be.")


@renamed_attributes(
    images="class_counts",
    learned="num_training_images",
    stretches="phases",
    kept="checkpoint",
    chosen="selected_on_validation",
)
@dataclass(frozen=True)
class Record:
    """One training, as its model remembers it.

    Attributes:
        plan: that was followed.
        class_counts: images of each class in the order of the model's, validation images included.
        num_training_images: that were learned from.
        epochs: their metrics.
        phases: as they went.
        checkpoint: "between", "best" or "last" as ``Plan.checkpoint``; or "frozen" or "reference", restored instead.
        epoch: whose weights were kept, or towards whose weights was interpolated.
        result: on the validation images.
        reference: that of an LDA head on the frozen features.
        seconds: that the training took.
        selected_on_validation: whether the epoch was selected on the images of ``result``, which is then too good.
        refitted: whether the model learned again from all images; the result is from before.
        verdict: whether unfreezing was worth it, in a sentence.
    """

    plan: Plan
    class_counts: Mapping[str, int]
    num_training_images: int
    epochs: FailFastTuple[EpochRecord]
    phases: FailFastTuple[PhaseRecord]
    checkpoint: str
    epoch: int
    result: ValidationResult
    reference: ValidationResult | None
    seconds: float
    selected_on_validation: bool = False
    refitted: bool = False
    verdict: str = ""

    def __post_init__(self) -> None:
        """Check what a file may have wrong before anything is drawn from it."""
        rows, width = self.result.confusion, len(self.class_counts)
        single_label = all(len(row) == width and all(isinstance(count, int) for count in row) for row in rows)
        multi_label = all([len(pair) if isinstance(pair, tuple) else 0 for pair in row] == [2, 2] for row in rows)
        if rows and (len(rows) != width or not (single_label or multi_label)):
            raise ValueError(f"A confusion matrix of {len(rows)} rows does not fit {width} classes.")
        if self.checkpoint not in RECORD_CHECKPOINTS or not self.phases or not self.epochs:
            raise ValueError("A training has a phase, an epoch and something that was kept.")

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """Names of the stages that learned in the network that was kept."""
        if self.checkpoint in ("frozen", "reference"):
            return ()
        if self.refitted:  # its epoch is that of the validated run
            return self.phases[-1].learning_stages
        begun = [phase for phase in self.phases if phase.first_epoch <= self.epoch]
        return begun[-1].learning_stages if begun else ()

    def with_checkpoint(self, checkpoint: str, result: ValidationResult) -> Record:
        """The same training, after "frozen" or "reference" was restored."""
        return replace(self, checkpoint=checkpoint, result=result, selected_on_validation=False)
