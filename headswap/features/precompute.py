"""A frozen pass that begins before anybody trains, and is given to every training that it suits.

Frozen stages give the same for the same picture whatever learns on top of them. So a pass can begin as soon as images
and backbone are known, rest and go on, and serve one training after another. Knows nothing of heads and of losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter

from headswap.features.cache import Activations
from headswap.features.frozen_pass import FrozenPass, frozen_pass
from headswap.networks.classifier import Classifier
from headswap.networks.stage import fingerprint


class Beforehand:
    """The pass of what is learned from and of what is held back. Two may not go on with it at once.

    Attributes:
        boundaries: where something is kept in the end.
        last: how far it is.
    """

    def __init__(
        self,
        model: Classifier,
        halves: Sequence[Activations],
        boundaries: Iterable[int],
        former: Beforehand | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: whose stages stand still for as long as the pass goes on.
            halves: of this model, nothing kept yet.
            boundaries: where they are to be filled.
            former: a pass of the same images through the same stages, whose work is not done again.
        """
        self.boundaries = frozenset(boundaries)
        self._halves, self._depth = list(halves), max(self.boundaries)
        self._stages = _stages(model, self._depth)
        if former and former.suits(halves):
            self._take(halves, former)
        total = sum(half.total for half in self._halves)
        done = total if all(self.boundaries <= set(half.boundaries) for half in self._halves) else 0
        self.last = FrozenPass(done, total, former.last.seconds if former and done else 0.0)
        self._events = frozen_pass(self._halves, self.boundaries)

    @property
    def over(self) -> bool:
        """Whether everything is kept."""
        return self.last.done == self.last.total

    def go_on(self) -> FrozenPass | None:
        """Compute for about a tenth of a second; None once it is over.

        Raises:
            InputError: if an image's file has been damaged or lost, or there is no room.
        """
        if self.over:
            return None
        began = perf_counter()
        done = FrozenPass(self.last.total, self.last.total, 0.0)  # nothing is told of a half that was kept already
        told = next(self._events, done)
        # It may have rested meanwhile, so only the time that it has worked counts.
        self.last = replace(told, seconds=self.last.seconds + perf_counter() - began)
        if self.over:
            next(self._events, None)  # what was computed is kept only at the very end
        return self.last

    def suits(self, halves: Sequence[Activations]) -> bool:
        """Whether these would keep the very same: the same views of the same images from equal stages."""
        return len(halves) == len(self._halves) and all(
            mine.reads_like(theirs) and _stages(mine.model, self._depth) == self._stages
            for mine, theirs in zip(halves, self._halves, strict=True)
        )

    def given_to(self, halves: Sequence[Activations], wanted: Iterable[int]) -> Iterator[FrozenPass]:
        """Go on to the end, and let these have what was kept; nothing happens where they are others.

        Args:
            halves: of a training.
            wanted: its boundaries. Where a pass that is not over keeps others, beginning anew costs less.
        """
        if not self.suits(halves) or not (self.over or set(wanted) <= self.boundaries):
            return
        while told := self.go_on():
            yield told
        self._take(halves, self)
        yield self.last

    @staticmethod
    def _take(halves: Sequence[Activations], kept: Beforehand) -> None:
        for mine, theirs in zip(halves, kept._halves, strict=True):
            mine.adopt(theirs)


def first_pass(
    halves: Sequence[Activations], boundaries: Iterable[int], beforehand: Beforehand | None = None
) -> Iterator[FrozenPass]:
    """Fill all of them, after what was done beforehand."""
    if beforehand is not None:
        yield from beforehand.given_to(halves, boundaries)
    yield from frozen_pass(halves, boundaries)


def _stages(model: Classifier, depth: int) -> str:
    """What the parts are and weigh that an image passes before the deepest boundary."""
    return fingerprint(model.sequence[:depth])
