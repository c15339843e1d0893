"""Ctrl+C while something is learned: the first press asks to stop, the second ends at once.

Knows nothing of what is learned and of how anything is said.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class InterruptHandler:
    """What Ctrl+C (SIGINT) does in a block: it raises ``KeyboardInterrupt``, as always, but after ``wait`` the first
    press is only noted, so that nothing is torn in the midst of its work, and the second raises.

    Outside the main thread, where no signal arrives, and where the signal is ignored, as behind ``nohup``, nothing
    changes.

    Attributes:
        pressed: whether Ctrl+C was pressed.
        why: the words that a ``KeyboardInterrupt`` brings along, for a person.
    """

    def __init__(self, message: str = "") -> None:
        self.is_interrupted, self.message = False, message
        self._is_deferred = False
        self._previous_handler: object = None

    def __enter__(self) -> InterruptHandler:
        former = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and former not in (signal.SIG_IGN, None):
            self._previous_handler = signal.signal(signal.SIGINT, self._handle_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def defer(self, message: str) -> None:
        """From now on the first press waits until somebody looks for it; ``why`` is for the second."""
        self._is_deferred, self.message = True, message

    def raise_immediately(self, message: str) -> None:
        """From now on the first press raises again."""
        self._is_deferred, self.message = False, message

    def until_interrupted(self, events: Iterable[T]) -> Iterator[T]:
        """These events, up to a press: then the generator that they come from is closed."""
        for event in events:
            yield event
            if self.is_interrupted:
                events.close()
                return

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.is_interrupted = self.is_interrupted, True
        if again or not self._is_deferred:
            raise KeyboardInterrupt(self.message)
