"""Wraps a generator of events: iterate it, or call ``run`` for the last event; warns if it was never started.

Knows nothing of what the events say.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from types import TracebackType
from typing import TypeVar, overload

T = TypeVar("T")


class EventStream(Generator[T, None, None]):
    """Events as they happen; nothing is computed before the first one is requested.

    Iterate it, or call ``run`` for the last event alone. ``close`` ends it early, as for any generator. One that is
    deleted before any event was requested warns, since nothing was done.
    """

    def __init__(self, call: str, events: Generator[T, None, None]) -> None:
        """Wrap a generator.

        Args:
            call: what the user wrote, such as "headswap.refit(...)", for messages.
            events: not started yet.
        """
        self._call, self._events, self._state = call, events, "not run"
        self._last: T | None = None

    def send(self, value: None) -> T:
        """The next event, as ``next`` gives it."""
        state_before = self._state
        self._state = "running"
        try:
            self._last = self._events.send(value)
        except StopIteration:
            self._state = state_before if state_before in ("finished", "closed") else "finished"
            raise
        except BaseException:
            self._state = "closed"
            raise
        return self._last

    @overload
    def throw(self, typ: type[BaseException], val: object = None, tb: TracebackType | None = None, /) -> T: ...
    @overload
    def throw(self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /) -> T: ...
    def throw(
        self, typ: type[BaseException] | BaseException, val: object = None, tb: TracebackType | None = None, /
    ) -> T:
        """Raise an exception in the generator, as for any generator."""
        if isinstance(typ, BaseException):
            error = typ
        elif isinstance(val, BaseException):
            error = val
        else:
            error = typ() if val is None else typ(val)
        self._state = "closed"
        return self._events.throw(error if tb is None else error.with_traceback(tb))

    def close(self) -> None:
        """End it now; what was learned so far stays as the function documents that returned it."""
        if self._state != "finished":
            self._state = "closed"
        self._events.close()

    def run(self) -> T:
        """Run to the end, and return the last event, which is the result.

        Raises:
            RuntimeError: if it was closed or failed before its end, so that there is no result.
        """
        for _ in self:
            pass
        if self._state != "finished" or self._last is None:
            raise RuntimeError(f"{self._call} was ended before it was through, so it has no result. Call it again.")
        return self._last

    def __repr__(self) -> str:
        state = "not run yet; loop over it, or call .run()" if self._state == "not run" else self._state
        return f"<{self._call}: {state}>"

    def __del__(self) -> None:
        if getattr(self, "_state", "") == "not run":
            warnings.warn(
                f"{self._call} was never run, so nothing happened: loop over it, or call .run() for its last event.",
                RuntimeWarning,
                stacklevel=2,
            )
