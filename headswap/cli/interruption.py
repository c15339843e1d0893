"""Handles Ctrl+C during a training: the first press asks to stop, the second ends at once.

Knows nothing of what is trained and of how anything is shown.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class InterruptHandler:
    """Context manager that replaces the handler of Ctrl+C (SIGINT).

    A press raises ``KeyboardInterrupt``, as usual. After ``defer`` the first press is only noted, so that no step is
    interrupted half-way, and the second raises. In other threads than the main one, which receive no signals, and where
    the signal is ignored, as behind ``nohup``, nothing changes.

    Attributes:
        is_interrupted: whether Ctrl+C was pressed.
        message: the message of ``KeyboardInterrupt``, shown to the user.
    """

    def __init__(self, message: str = "") -> None:
        self.is_interrupted: bool = False
        self.message: str = message
        self._is_deferred = False
        self._previous_handler: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> InterruptHandler:
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and handler not in (signal.SIG_IGN, None):
            self._previous_handler = signal.signal(signal.SIGINT, self._handle_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def defer(self, message: str) -> None:
        """From now on only note the first press; the second raises with ``message``."""
        self._is_deferred, self.message = True, message

    def raise_immediately(self, message: str) -> None:
        """From now on the first press raises again, with ``message``."""
        self._is_deferred, self.message = False, message

    def until_interrupted(self, events: Generator[T, None, None]) -> Iterator[T]:
        """Yield events until a press is noted, and then close their generator."""
        for event in events:
            yield event
            if self.is_interrupted:
                events.close()
                return

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        was_interrupted, self.is_interrupted = self.is_interrupted, True
        if was_interrupted or not self._is_deferred:
            raise KeyboardInterrupt(self.message)
