"""What ``train`` and its like return: a generator of events that says so as long as nobody has run it.

Knows nothing of what the events tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class EventStream(Generator[T, None, None]):
    """Events one by one, as they happen: nothing is computed before the first is asked for.

    Loop over it, or call ``run`` for the last event alone. ``close`` ends it early, as for any generator. One that is
    let go of although nobody has asked for an event warns, since nothing of what was meant has happened.
    """

    def __init__(self, call: str, events: Generator[T, None, None]) -> None:
        """``call`` is what the user wrote, such as "headswap.refit(...)"."""
        self._call, self._events, self._state = call, events, "not run"
        self._last: T | None = None

    def send(self, value: None) -> T:
        """The next event, as ``next`` gives it."""
        begun = self._state
        self._state = "running"
        try:
            self._last = self._events.send(value)
        except StopIteration:
            self._state = begun if begun in ("finished", "closed") else "finished"
            raise
        except BaseException:
            self._state = "closed"
            raise
        return self._last

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> T:
        """As for any generator."""
        error = kind if value is None else value
        if traceback is not None and isinstance(error, BaseException):
            error = error.with_traceback(traceback)
        self._state = "closed"
        return self._events.throw(error)

    def close(self) -> None:
        """End it now. What was learned so far stays as the function says that returned it."""
        if self._state != "finished":
            self._state = "closed"
        self._events.close()

    def run(self) -> T:
        """Run to the end; the last event, which is the result.

        Raises:
            RuntimeError: if it was closed or failed before its end, so that there is no result.
        """
        for _ in self:
            pass
        if self._state != "finished" or self._last is None:
            raise RuntimeError(f"{self._call} was ended before it was through, so it has no result. Call it again.")
        return self._last

    def __repr__(self) -> str:
        said = {"not run": "not run yet; loop over it, or call .run()"}.get(self._state, self._state)
        return f"<{self._call}: {said}>"

    def __del__(self) -> None:
        if getattr(self, "_state", "") == "not run":
            warnings.warn(
                f"{self._call} was never run, so nothing happened: loop over it, or call .run() for its last event.",
                RuntimeWarning,
                stacklevel=2,
            )
