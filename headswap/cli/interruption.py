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


class Interruption:
    """What Ctrl+C (SIGINT) does in a block: it raises ``KeyboardInterrupt``, as always, but after ``wait`` the first
    press is only noted, so that nothing is torn in the midst of its work, and the second raises.

    Outside the main thread, where no signal arrives, and where the signal is ignored, as behind ``nohup``, nothing
    changes.

    Attributes:
        pressed: whether Ctrl+C was pressed.
        why: the words that a ``KeyboardInterrupt`` brings along, for a person.
    """

    def __init__(self, why: str = "") -> None:
        self.pressed, self.why = False, why
        self._waiting = False
        self._former: object = None

    def __enter__(self) -> Interruption:
        former = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and former not in (signal.SIG_IGN, None):
            self._former = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)
            self._former = None

    def wait(self, why: str) -> None:
        """From now on the first press waits until somebody looks for it; ``why`` is for the second."""
        self._waiting, self.why = True, why

    def at_once(self, why: str) -> None:
        """From now on the first press raises again."""
        self._waiting, self.why = False, why

    def until(self, events: Iterable[T]) -> Iterator[T]:
        """These events, up to a press: then the generator that they come from is closed."""
        for event in events:
            yield event
            if self.pressed:
                events.close()
                return

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again, self.pressed = self.pressed, True
        if again or not self._waiting:
            raise KeyboardInterrupt(self.why)
