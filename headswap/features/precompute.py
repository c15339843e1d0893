"""A frozen pass that begins before anybody trains, and is given to every training that it suits.

Frozen stages give the same for the same picture whatever learns on top of them. So a pass can begin as soon as images
and backbone are known, rest and go on, and serve one training after another. Knows nothing of heads and of losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter

from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass, run_frozen_pass
from headswap.networks.classifier import Classifier
from headswap.networks.stage import fingerprint_modules


class PrecomputedFeatures:
    """The pass of what is learned from and of what is held back. Two may not go on with it at once.

    Attributes:
        boundaries: where something is kept in the end.
        last: how far it is.
    """

    def __init__(
        self,
        model: Classifier,
        caches: Sequence[FeatureCache],
        boundaries: Iterable[int],
        previous: PrecomputedFeatures | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: whose stages stand still for as long as the pass goes on.
            halves: of this model, nothing kept yet.
            boundaries: where they are to be filled.
            former: a pass of the same images through the same stages, whose work is not done again.
        """
        self.boundaries = frozenset(boundaries)
        self._caches, self._deepest_boundary = list(caches), max(self.boundaries)
        self._stages_fingerprint = _fingerprint_stages(model, self._deepest_boundary)
        if previous and previous.is_valid_for(caches):
            self._share_buffers(caches, previous)
        total = sum(half.num_samples for half in self._caches)
        done = total if all(self.boundaries <= set(half.boundaries) for half in self._caches) else 0
        self.progress = FrozenPass(done, total, previous.progress.seconds if previous and done else 0.0)
        self._events = run_frozen_pass(self._caches, self.boundaries)

    @property
    def is_done(self) -> bool:
        """Whether everything is kept."""
        return self.progress.done == self.progress.total

    def compute_next(self) -> FrozenPass | None:
        """Compute for about a tenth of a second; None once it is over.

        Raises:
            InputError: if an image's file has been damaged or lost, or there is no room.
        """
        if self.is_done:
            return None
        began = perf_counter()
        done = FrozenPass(
            self.progress.total, self.progress.total, 0.0
        )  # nothing is told of a half that was kept already
        told = next(self._events, done)
        # It may have rested meanwhile, so only the time that it has worked counts.
        self.progress = replace(told, seconds=self.progress.seconds + perf_counter() - began)
        if self.is_done:
            next(self._events, None)  # what was computed is kept only at the very end
        return self.progress

    def is_valid_for(self, caches: Sequence[FeatureCache]) -> bool:
        """Whether these would keep the very same: the same views of the same images from equal stages."""
        return len(caches) == len(self._caches) and all(
            mine.has_same_inputs(theirs)
            and _fingerprint_stages(mine.model, self._deepest_boundary) == self._stages_fingerprint
            for mine, theirs in zip(caches, self._caches, strict=True)
        )

    def finish_into(self, caches: Sequence[FeatureCache], boundaries: Iterable[int]) -> Iterator[FrozenPass]:
        """Go on to the end, and let these have what was kept; nothing happens where they are others.

        Args:
            halves: of a training.
            wanted: its boundaries. Where a pass that is not over keeps others, beginning anew costs less.
        """
        if not self.is_valid_for(caches) or not (self.is_done or set(boundaries) <= self.boundaries):
            return
        while told := self.compute_next():
            yield told
        self._share_buffers(caches, self)
        yield self.progress

    @staticmethod
    def _share_buffers(caches: Sequence[FeatureCache], source: PrecomputedFeatures) -> None:
        for mine, theirs in zip(caches, source._caches, strict=True):
            mine.share_buffers(theirs)


def fill_caches(
    caches: Sequence[FeatureCache], boundaries: Iterable[int], precomputed: PrecomputedFeatures | None = None
) -> Iterator[FrozenPass]:
    """Fill all of them, after what was done beforehand."""
    if precomputed is not None:
        yield from precomputed.finish_into(caches, boundaries)
    yield from run_frozen_pass(caches, boundaries)


def _fingerprint_stages(model: Classifier, boundary: int) -> str:
    """What the parts are and weigh that an image passes before the deepest boundary."""
    return fingerprint_modules(model.feature_stages[:boundary])
