"""Shares the processor between training jobs and predictions: compute slots in turns, and a queue for trainings.

Knows nothing of what is computed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headswap.common.limits import get_limits

QUEUE_POLL_SECONDS = 0.5  # seconds between two calls of ``on_wait`` while a training is queued


class Scheduler:
    """Hands out the processor first come, first served, shared by all sessions.

    Trainings that all compute at once are slower than trainings that take turns, so whatever computes holds a compute
    slot meanwhile: a training for one event at a time. Downloads and predictions need no compute slot. At most
    ``get_limits().trainings`` trainings run at once, which also bounds their memory; further ones are queued.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compute_waiters: deque[threading.Event] = deque()  # the first one holds the slot
        self._inference_lock = threading.Lock()
        self._queue_changed = threading.Condition()
        self._queue: list[object] = []  # running trainings, then queued ones

    @property
    def is_idle(self) -> bool:
        """Whether no training runs or is queued, and nothing is computed."""
        return not self._queue and not self._compute_waiters

    @contextmanager
    def compute_slot(self) -> Iterator[None]:
        """Wait for the compute slot and hold it for the block."""
        turn = threading.Event()
        with self._lock:
            self._compute_waiters.append(turn)
            self._compute_waiters[0].set()
        turn.wait()
        try:
            yield
        finally:
            with self._lock:
                self._compute_waiters.popleft()
                if self._compute_waiters:
                    self._compute_waiters[0].set()

    @contextmanager
    def inference_slot(self) -> Iterator[None]:
        """Wait for other predictions, but never for a training, and hold the inference slot for the block."""
        with self._inference_lock:
            yield

    @contextmanager
    def training_slot(self, on_wait: Callable[[int], None]) -> Iterator[None]:
        """Queue until fewer trainings run than are allowed, and count as one of them for the block.

        Args:
            on_wait: Called repeatedly with the position in the queue, from 1; may raise to leave the queue.
        """
        entry = object()
        with self._queue_changed:
            self._queue.append(entry)
        try:
            with self._queue_changed:
                while (position := self._queue.index(entry) - get_limits().trainings + 1) > 0:
                    on_wait(position)
                    self._queue_changed.wait(QUEUE_POLL_SECONDS)
            yield
        finally:
            with self._queue_changed:
                self._queue.remove(entry)
                self._queue_changed.notify_all()
