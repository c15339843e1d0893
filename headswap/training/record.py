"""What a model has been through: how it was taught, and how well it answered what was held back.

Plain data that goes with the model and into its file. Knows nothing of tensors and of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from pydantic import Field

from headswap.training.plan import KEEPS, Plan

KEPT = (*KEEPS, "frozen", "reference")

T = TypeVar("T")
Several = Annotated[tuple[T, ...], Field(fail_fast=True)]  # of a million wrong ones in a file, the first is told


@dataclass(frozen=True)
class Passed:
    """An epoch as it is remembered; where nothing was held back there are no validation figures."""

    training_loss: float
    training_score: float
    validation_loss: float | None
    validation_score: float | None


@dataclass(frozen=True)
class Stretch:
    """A phase as it went: from which epoch on which stages learned with the head."""

    first_epoch: int
    learning_stages: Several[str]


@dataclass(frozen=True)
class Result:
    """How the network that was kept answered the images that were held back."""

    score: float  # what `metric` says, from 0 to 1
    metric: str  # "accuracy" or "mean average precision"
    right: int
    of: int
    # A row for each true class and a column for each answer; with several labels as `Evaluation.confusion` has it.
    confusion: Several[Several[int]] | Several[Several[Several[int]]] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.right <= self.of and 0 <= self.score <= 1):
            raise ValueError(f"{self.right} of {self.of} right, with a score of {self.score}, cannot be.")


@dataclass(frozen=True)
class Record:
    """One training, as its model remembers it."""

    plan: Plan
    images: Mapping[str, int]  # of each class in the order of the model's, those that were held back included
    learned: int  # images that were learned from
    epochs: Several[Passed]
    stretches: Several[Stretch]
    kept: str  # "between", "best" or "last" as in `Plan.keep`; or "frozen" or "reference", kept in their place
    epoch: int  # whose weights, or towards whose weights, they are
    result: Result
    reference: Result | None  # of the head that is solved at once
    seconds: float
    chosen: bool = False  # the epoch by these very images, so the result flatters
    refitted: bool = False  # afterwards on all images; the result is from before
    verdict: str = ""  # whether unfreezing was worth it, in a sentence

    def __post_init__(self) -> None:
        """What a file says must hold together before anybody draws it."""
        rows, width = self.result.confusion, len(self.images)
        one = all(len(row) == width and all(isinstance(count, int) for count in row) for row in rows)
        several = all([len(pair) if isinstance(pair, tuple) else 0 for pair in row] == [2, 2] for row in rows)
        if rows and (len(rows) != width or not (one or several)):
            raise ValueError(f"A confusion matrix of {len(rows)} rows does not fit {width} classes.")
        if self.kept not in KEPT or not self.stretches or not self.epochs:
            raise ValueError("A training has a phase, an epoch and something that was kept.")

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """The stages that have learned in what was kept."""
        if self.kept in ("frozen", "reference"):
            return ()
        if self.refitted:  # its epoch is that of the honest run
            return self.stretches[-1].learning_stages
        begun = [stretch for stretch in self.stretches if stretch.first_epoch <= self.epoch]
        return begun[-1].learning_stages if begun else ()

    def instead(self, name: str, result: Result) -> Record:
        """The same training, of which "frozen" or "reference" is kept in place of what it came to."""
        return replace(self, kept=name, result=result, chosen=False)
