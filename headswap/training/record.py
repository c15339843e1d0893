"""What a model has been through: how it was taught, and how well it answered what was held back.

Plain data that goes with the model and into its file. Knows nothing of tensors and of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from pydantic import Field

from headswap.common.deprecation import renamed_attributes
from headswap.training.plan import PLAN_CHECKPOINTS, Plan

RECORD_CHECKPOINTS = (*PLAN_CHECKPOINTS, "frozen", "reference")

T = TypeVar("T")
FailFastTuple = Annotated[tuple[T, ...], Field(fail_fast=True)]  # of a million wrong ones in a file, the first is told


@dataclass(frozen=True)
class EpochRecord:
    """An epoch as it is remembered; where nothing was held back there are no validation figures."""

    training_loss: float
    training_score: float
    validation_loss: float | None
    validation_score: float | None


@dataclass(frozen=True)
class PhaseRecord:
    """A phase as it went: from which epoch on which stages learned with the head."""

    first_epoch: int
    learning_stages: FailFastTuple[str]


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class ValidationResult:
    """How the network that was kept answered the images that were held back."""

    score: float  # what `metric` says, from 0 to 1
    metric: str  # "accuracy" or "mean average precision"
    correct: int
    total: int
    # A row for each true class and a column for each answer; with several labels as `Evaluation.confusion` has it.
    confusion: FailFastTuple[FailFastTuple[int]] | FailFastTuple[FailFastTuple[FailFastTuple[int]]] = ()

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
    """One training, as its model remembers it."""

    plan: Plan
    class_counts: Mapping[str, int]  # of each class in the order of the model's, those that were held back included
    num_training_images: int  # images that were learned from
    epochs: FailFastTuple[EpochRecord]
    phases: FailFastTuple[PhaseRecord]
    checkpoint: str  # "between", "best" or "last" as in `Plan.keep`; or "frozen" or "reference", kept in their place
    epoch: int  # whose weights, or towards whose weights, they are
    result: ValidationResult
    reference: ValidationResult | None  # of the head that is solved at once
    seconds: float
    selected_on_validation: bool = False  # the epoch by these very images, so the result flatters
    refitted: bool = False  # afterwards on all images; the result is from before
    verdict: str = ""  # whether unfreezing was worth it, in a sentence

    def __post_init__(self) -> None:
        """What a file says must hold together before anybody draws it."""
        rows, width = self.result.confusion, len(self.class_counts)
        one = all(len(row) == width and all(isinstance(count, int) for count in row) for row in rows)
        several = all([len(pair) if isinstance(pair, tuple) else 0 for pair in row] == [2, 2] for row in rows)
        if rows and (len(rows) != width or not (one or several)):
            raise ValueError(f"A confusion matrix of {len(rows)} rows does not fit {width} classes.")
        if self.checkpoint not in RECORD_CHECKPOINTS or not self.phases or not self.epochs:
            raise ValueError("A training has a phase, an epoch and something that was kept.")

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """The stages that have learned in what was kept."""
        if self.checkpoint in ("frozen", "reference"):
            return ()
        if self.refitted:  # its epoch is that of the honest run
            return self.phases[-1].learning_stages
        begun = [stretch for stretch in self.phases if stretch.first_epoch <= self.epoch]
        return begun[-1].learning_stages if begun else ()

    def with_checkpoint(self, checkpoint: str, result: ValidationResult) -> Record:
        """The same training, of which "frozen" or "reference" is kept in place of what it came to."""
        return replace(self, checkpoint=checkpoint, result=result, selected_on_validation=False)
