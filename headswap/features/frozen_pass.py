"""Runs images through the frozen stages once, and tells how far it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter

from headswap.features.cache import FeatureCache

EVENT_INTERVAL_SECONDS = 0.1  # seconds between two steps, or two batches of the frozen pass, that are told


class Throttle:
    """Says ten times a second at the most that something may be told."""

    def __init__(self) -> None:
        self._last = -math.inf

    def should_emit(self) -> bool:
        now = monotonic()
        if now - self._last < EVENT_INTERVAL_SECONDS:
            return False
        self._last = now
        return True


def run_frozen_pass(caches: Sequence[FeatureCache], boundaries: Iterable[int]) -> Iterator[FrozenPass]:
    """Fill all of them, told as one progress."""
    began, before, throttle = perf_counter(), 0, Throttle()
    total = sum(half.num_samples for half in caches)
    for half in caches:
        for through in half.compute(boundaries):
            done = before + through
            if throttle.should_emit() or done == total:
                yield FrozenPass(done, total, perf_counter() - began)
        before += half.num_samples


@dataclass(frozen=True)
class FrozenPass:
    """How far the images are through the stages that stand still."""

    done: int  # of the views of all images
    total: int
    seconds: float  # since it began

    @property
    def views_per_second(self) -> float:
        """Views a second."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def left(self) -> float:
        """Seconds until it is through, at this rate."""
        return (self.total - self.done) / max(self.views_per_second, 1e-9)
