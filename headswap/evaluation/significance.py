"""Whether unfreezing was worth it: a paired comparison on answers that did not choose.

Where the epoch was chosen by the validation images, it is chosen on one half of them and judged on the other, and the
other way round. Knows nothing of networks: marks of right and wrong in, a sentence out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from headswap.common.deprecation import renamed_attributes

SIGNIFICANCE_LEVEL = 0.05  # a difference that chance alone gives more rarely than this is called more than chance
NUM_BOOTSTRAP_SAMPLES = 2000  # of the bootstrap


class PredictionHistory:
    """Answers on the validation images: of one network, or of one for each epoch."""

    def __init__(self) -> None:
        self._correct_masks: list[Tensor] = []
        self._per_image_losses: list[Tensor] = []

    @property
    def is_empty(self) -> bool:
        return not self._correct_masks

    def add(self, correct_mask: Tensor, per_image_loss: Tensor) -> None:
        """One network's answers: bool ``[N]`` and float ``[N]``, the loss of each image."""
        self._correct_masks.append(correct_mask)
        self._per_image_losses.append(per_image_loss)

    def discard_all_but_last(self) -> None:
        """Nothing is chosen: the last network is the only one in question."""
        del self._correct_masks[:-1], self._per_image_losses[:-1]

    def cross_fit(self, half: Tensor) -> Tensor:
        """bool ``[N]``: each image's answer by the network that the other half of the images, ``~half``, chose."""
        told = torch.empty_like(self._correct_masks[0])
        for judged in (half, ~half):
            told[judged] = self._correct_masks[self._best(~judged)][judged]
        return told

    def _best(self, selection_mask: Tensor) -> int:
        """The one with most right, of equals the one with the lowest loss."""
        marks = [
            (int(right[selection_mask].sum()), -float(loss[selection_mask].sum()))
            for right, loss in zip(self._correct_masks, self._per_image_losses, strict=True)
        ]
        return max(range(len(marks)), key=marks.__getitem__)


@renamed_attributes(of="total")
@dataclass(frozen=True)
class UnfreezingComparison:
    """The frozen network against the unfrozen one, on the same images."""

    total: int
    frozen: int  # right before unfreezing
    unfrozen: int  # and after it
    better: int  # answers that changed from wrong to right
    worse: int  # and from right to wrong
    p: float  # exact McNemar (1947): how often chance alone changes answers as unevenly
    interval: tuple[float, float]  # of the difference in accuracy, 19 times of 20: paired bootstrap (Efron 1979)
    seconds: float  # that unfreezing cost

    @property
    def sentence(self) -> str:
        """For a beginner."""
        cost = f" It cost {max(1, round(self.seconds))} s."
        if not self.better and not self.worse:
            return f"On {self.total} validation images unfreezing changed nothing for the better or the worse.{cost}"
        changed = (
            f"On {self.total} validation images unfreezing changed {_pluralize_answers(self.better)} for the better and "
            f"{self.worse} for the worse: "
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
        frozen: of the epochs that are candidates; one, where nothing is chosen.
        unfrozen: likewise, on the same images.
        groups: images of the same group stay in the same half.
        seconds: that unfreezing cost.
        seed: of the halves and of the bootstrap.
    """
    half = _split_half(groups, seed)
    before, after = frozen.cross_fit(half), unfrozen.cross_fit(half)
    better, worse = int((after & ~before).sum()), int((before & ~after).sum())
    return UnfreezingComparison(
        len(before),
        int(before.sum()),
        int(after.sum()),
        better,
        worse,
        mcnemar_p_value(better, worse),
        _bootstrap_interval(after.float() - before.float(), seed),
        seconds,
    )


def mcnemar_p_value(better: int, worse: int) -> float:
    """The two-sided probability that fair coins fall as unevenly as ``better`` to ``worse``."""
    n = better + worse
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(better, worse) + 1)) / 2**n)


def _split_half(groups: Sequence[int], seed: int) -> Tensor:
    """bool ``[N]``: one half of the images, groups whole."""
    sizes = Counter(groups)
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    chosen, inside = set(), 0
    for group in sorted(order, key=lambda group: -sizes[group]):  # stable, so that equal ones stay shuffled
        if 2 * inside + sizes[group] <= len(groups):
            chosen.add(group)
            inside += sizes[group]
    return torch.tensor([group in chosen for group in groups])


def _bootstrap_interval(differences: Tensor, seed: int) -> tuple[float, float]:
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(differences), (NUM_BOOTSTRAP_SAMPLES, len(differences)), generator=chance)
    low, high = differences[drawn].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def _pluralize_answers(count: int) -> str:
    return f"{count} answer" if count == 1 else f"{count} answers"
