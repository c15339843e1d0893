"""Tests whether unfreezing changed the accuracy: cross-fitted paired comparison, McNemar's test, bootstrap interval.

Where the epoch was selected on the validation images, it is selected on one half of them and scored on the other, and
vice versa (cross-fitting). Knows nothing of networks: masks of correct images in, a sentence out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headswap.common.deprecation import renamed_attributes

SIGNIFICANCE_LEVEL = 0.05  # of McNemar's test
NUM_BOOTSTRAP_SAMPLES = 2000


class PredictionHistory:
    """The correctness and losses of predictions on the validation images, of one network or one for each epoch."""

    def __init__(self) -> None:
        self._correct_masks: list[Tensor] = []
        self._per_image_losses: list[Tensor] = []

    @property
    def is_empty(self) -> bool:
        """Whether no network was added."""
        return not self._correct_masks

    def add(self, correct_mask: Tensor, per_image_loss: Tensor) -> None:
        """Add the predictions of one network: bool ``[N]`` and float ``[N]``."""
        self._correct_masks.append(correct_mask)
        self._per_image_losses.append(per_image_loss)

    def discard_all_but_last(self) -> None:
        """Leave only the last network, where no epoch is selected."""
        del self._correct_masks[:-1], self._per_image_losses[:-1]

    def cross_fit(self, half: Tensor) -> Tensor:
        """Score each half of the images by the network that is best on the other half.

        Args:
            half: bool ``[N]``, the images of one half.

        Returns:
            bool ``[N]``, which images are classified correctly.
        """
        correct = torch.empty_like(self._correct_masks[0])
        for scored in (half, ~half):
            correct[scored] = self._correct_masks[self._select_best(~scored)][scored]
        return correct

    def _select_best(self, selection_mask: Tensor) -> int:
        """The index of the network with most correct images; among equals, the one with the lowest loss."""
        scores = [
            (int(correct[selection_mask].sum()), -float(loss[selection_mask].sum()))
            for correct, loss in zip(self._correct_masks, self._per_image_losses, strict=True)
        ]
        return max(range(len(scores)), key=scores.__getitem__)


@renamed_attributes(of="total")
@dataclass(frozen=True)
class UnfreezingComparison:
    """The frozen network against the unfrozen one, on the same images.

    Attributes:
        total: number of images.
        frozen: correct before unfreezing.
        unfrozen: correct after it.
        better: images that changed from wrong to correct.
        worse: images that changed from correct to wrong.
        p: the p-value of the exact test of McNemar (1947).
        interval: 95 % confidence interval of the difference in accuracy, by a paired bootstrap (Efron 1979).
        seconds: duration of the unfrozen phases.
    """

    total: int
    frozen: int
    unfrozen: int
    better: int
    worse: int
    p: float
    interval: tuple[float, float]
    seconds: float

    @property
    def sentence(self) -> str:
        """The result in words, for a beginner."""
        cost = f" It cost {max(1, round(self.seconds))} s."
        if not self.better and not self.worse:
            return f"On {self.total} validation images unfreezing changed nothing for the better or the worse.{cost}"
        answers = f"{self.better} answer" if self.better == 1 else f"{self.better} answers"
        changed = (
            f"On {self.total} validation images unfreezing changed {answers} for the better and {self.worse} for the "
            "worse: "
        )
        if self.p > SIGNIFICANCE_LEVEL:
            return f"{changed}that is chance.{cost}"
        low, high = sorted(abs(100 * end) for end in self.interval)
        how = "more than chance" if self.better > self.worse else "more than chance, and a loss"
        return f"{changed}that is {how}, {low:.0f} to {high:.0f} points of accuracy.{cost}"


def compare_unfreezing(
    frozen: PredictionHistory, unfrozen: PredictionHistory, groups: Sequence[int], seconds: float, seed: int = 0
) -> UnfreezingComparison:
    """Compare the epochs before unfreezing with those after it.

    Args:
        frozen: predictions of the epochs to select from; of one, where none is selected.
        unfrozen: likewise, on the same images.
        groups: of each image; images of the same group stay in the same half.
        seconds: duration of the unfrozen phases.
        seed: of the halves and of the bootstrap.
    """
    half = _split_half(groups, seed)
    before, after = frozen.cross_fit(half), unfrozen.cross_fit(half)
    better, worse = int((after & ~before).sum()), int((before & ~after).sum())
    return UnfreezingComparison(
        total=len(before),
        frozen=int(before.sum()),
        unfrozen=int(after.sum()),
        better=better,
        worse=worse,
        p=mcnemar_p_value(better, worse),
        interval=_bootstrap_interval(after.float() - before.float(), seed),
        seconds=seconds,
    )


def mcnemar_p_value(better: int, worse: int) -> float:
    """The two-sided p-value of McNemar's exact test: a binomial test of the changed predictions against one half."""
    if not better and not worse:
        return 1.0
    from scipy.stats import binomtest  # its import takes 1.3 seconds of CPU time

    return float(binomtest(better, better + worse).pvalue)


def _split_half(groups: Sequence[int], seed: int) -> Tensor:
    """Select one half of the images, whole groups: bool ``[N]``."""
    sizes = Counter(groups)
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    selected, num_selected = set(), 0
    for group in sorted(order, key=lambda group: -sizes[group]):  # stable, so that equal ones stay shuffled
        if 2 * num_selected + sizes[group] <= len(groups):
            selected.add(group)
            num_selected += sizes[group]
    return torch.tensor([group in selected for group in groups])


def _bootstrap_interval(differences: Tensor, seed: int) -> tuple[float, float]:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(len(differences), (NUM_BOOTSTRAP_SAMPLES, len(differences)), generator=generator)
    low, high = differences[indices].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high
