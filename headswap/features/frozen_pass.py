"""Runs images through the frozen stages once, and reports the progress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter

from headswap.features.cache import FeatureCache

EVENT_INTERVAL_SECONDS = 0.1  # between two events of a frozen pass or of training steps


class Throttle:
    """Limits events to one in ``EVENT_INTERVAL_SECONDS``."""

    def __init__(self) -> None:
        self._last = -math.inf

    def should_emit(self) -> bool:
        """Whether an event is due; if so, the interval begins anew."""
        now = monotonic()
        if now - self._last < EVENT_INTERVAL_SECONDS:
            return False
        self._last = now
        return True


@dataclass(frozen=True)
class FrozenPass:
    """The progress of images through the frozen stages.

    Attributes:
        done: number of views that are computed.
        total: number of views of all images.
        seconds: since the pass began.
    """

    done: int
    total: int
    seconds: float

    @property
    def views_per_second(self) -> float:
        """The mean rate so far."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def left(self) -> float:
        """Seconds until it is done, at this rate."""
        return (self.total - self.done) / max(self.views_per_second, 1e-9)


def run_frozen_pass(caches: Sequence[FeatureCache], boundaries: Iterable[int]) -> Iterator[FrozenPass]:
    """Fill several caches at these boundaries, with one common progress."""
    began, done_before, throttle = perf_counter(), 0, Throttle()
    total = sum(cache.num_samples for cache in caches)
    for cache in caches:
        for done_here in cache.compute(boundaries):
            done = done_before + done_here
            if throttle.should_emit() or done == total:
                yield FrozenPass(done, total, perf_counter() - began)
        done_before += cache.num_samples
