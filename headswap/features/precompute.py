"""Computes the features of frozen stages ahead of training, incrementally, and shares them with matching runs.

Frozen stages give the same output for the same image, whatever head is trained. So a pass can begin as soon as images
and backbone are known, be paused and continued, and serve one training after another. Knows nothing of heads and of
losses.
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
    """A frozen pass of training and validation images that can be paused. Not thread-safe.

    Attributes:
        boundaries: that are filled in the end.
        progress: how far it is.
    """

    boundaries: frozenset[int]
    progress: FrozenPass

    def __init__(
        self,
        model: Classifier,
        caches: Sequence[FeatureCache],
        boundaries: Iterable[int],
        previous: PrecomputedFeatures | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: whose stages are frozen for as long as the pass lasts.
            caches: of this model, not filled yet.
            boundaries: that are to be filled.
            previous: a pass of the same images through the same stages, whose features are shared.
        """
        self.boundaries = frozenset(boundaries)
        self._caches, self._deepest_boundary = list(caches), max(self.boundaries)
        self._stages_fingerprint = _fingerprint_stages(model, self._deepest_boundary)
        if previous and previous.is_valid_for(caches):
            self._share_buffers(caches, previous)
        total = sum(cache.num_samples for cache in self._caches)
        done = total if all(self.boundaries <= set(cache.boundaries) for cache in self._caches) else 0
        self.progress = FrozenPass(done, total, previous.progress.seconds if previous and done else 0.0)
        self._events = run_frozen_pass(self._caches, self.boundaries)

    @property
    def is_done(self) -> bool:
        """Whether all boundaries are filled."""
        return self.progress.done == self.progress.total

    def compute_next(self) -> FrozenPass | None:
        """Compute for about a tenth of a second, at least a batch; None once it is over.

        Raises:
            InputError: if an image's file has been damaged or lost, or there is no room.
        """
        if self.is_done:
            return None
        began = perf_counter()
        # A cache that was filled already emits no event.
        finished = FrozenPass(self.progress.total, self.progress.total, 0.0)
        event = next(self._events, finished)
        # The pass may have been paused, so only the time of computing counts.
        self.progress = replace(event, seconds=self.progress.seconds + perf_counter() - began)
        if event.done == event.total:
            next(self._events, None)  # the caches are filled only when the generator ends
        return self.progress

    def is_valid_for(self, caches: Sequence[FeatureCache]) -> bool:
        """Whether these caches would be filled with the same: the same views of the same images by equal stages."""
        return len(caches) == len(self._caches) and all(
            mine.has_same_inputs(theirs)
            and _fingerprint_stages(mine.model, self._deepest_boundary) == self._stages_fingerprint
            for mine, theirs in zip(caches, self._caches, strict=True)
        )

    def finish_into(self, caches: Sequence[FeatureCache], boundaries: Iterable[int]) -> Iterator[FrozenPass]:
        """Compute to the end and share the features with other caches; nothing happens where it is not valid for them.

        Args:
            caches: of a training.
            boundaries: that the training needs. An unfinished pass of other boundaries is not continued, since
                beginning anew takes less time.
        """
        if not self.is_valid_for(caches) or not (self.is_done or set(boundaries) <= self.boundaries):
            return
        while event := self.compute_next():
            yield event
        self._share_buffers(caches, self)
        yield self.progress

    @staticmethod
    def _share_buffers(caches: Sequence[FeatureCache], source: PrecomputedFeatures) -> None:
        for mine, theirs in zip(caches, source._caches, strict=True):
            mine.share_buffers(theirs)


def fill_caches(
    caches: Sequence[FeatureCache], boundaries: Iterable[int], precomputed: PrecomputedFeatures | None = None
) -> Iterator[FrozenPass]:
    """Fill caches at these boundaries, with the precomputed features where they are valid."""
    if precomputed is not None:
        yield from precomputed.finish_into(caches, boundaries)
    yield from run_frozen_pass(caches, boundaries)


def _fingerprint_stages(model: Classifier, boundary: int) -> str:
    """Hash the structure and the weights of the stages before a boundary."""
    return fingerprint_modules(model.feature_stages[:boundary])
