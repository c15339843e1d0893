"""The registry of sessions by ticket, and the thread that expires idle sessions.

A browser tab remembers a ticket, by which a reload finds its session again. Closing the last tab only starts a timeout,
after which the session's training is stopped and its memory and files are released.
"""

from __future__ import annotations

import gc
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from headswap.common import system_memory
from headswap.common.limits import get_limits
from headswap.features import inference
from headswap.ui.sessions.session import Session


class SessionRegistry:
    """The sessions by ticket. Thread-safe."""

    def __init__(self, idle_timeout: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without sessions.

        Args:
            idle_timeout: Seconds for which a session without tabs is kept; ``get_limits().away`` minutes by default.
            clock: Returns the time in seconds.
        """
        self._idle_timeout = 60.0 * get_limits().away if idle_timeout is None else idle_timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._by_ticket: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_ticket)

    def open_tab(self, ticket: str | None, tab: str) -> str:
        """Register a tab with the session of its ticket; returns the ticket, or a new one if it is unknown."""
        with self._lock:
            if ticket is None or ticket not in self._by_ticket:
                ticket = secrets.token_urlsafe(16)
                self._by_ticket[ticket] = Session()
            session = self._by_ticket[ticket]
            session.tabs.add(tab)
            session.away_since = None
            return ticket

    def close_tab(self, tab: str) -> None:
        """Unregister a tab; the idle timeout of a session begins with its last one."""
        with self._lock:
            for session in self._by_ticket.values():
                session.tabs.discard(tab)
                if not session.tabs and session.away_since is None:
                    session.away_since = self._clock()

    @contextmanager
    def hold_session(self, ticket: str | None) -> Iterator[str]:
        """Keep a session from expiring during the block; yields its ticket, or a new one if it is unknown."""
        tab = secrets.token_urlsafe(16)
        ticket = self.open_tab(ticket, tab)
        try:
            yield ticket
        finally:
            self.close_tab(tab)

    def remove_session(self, ticket: str | None) -> bool:
        """Release a session at once; returns whether there was one."""
        with self._lock:
            session = None if ticket is None else self._by_ticket.pop(ticket, None)
        _release_sessions([session] if session else [])
        return session is not None

    def get_session(self, ticket: str | None) -> Session | None:
        """The session of this ticket; None if it is unknown or has been released."""
        with self._lock:
            return None if ticket is None else self._by_ticket.get(ticket)

    def list_active(self) -> list[Session]:
        """The sessions with an open tab."""
        with self._lock:
            return [session for session in self._by_ticket.values() if session.tabs]

    def expire_idle(self) -> int:
        """Release the sessions whose idle timeout has passed; returns their number."""
        with self._lock:
            expired = [
                ticket
                for ticket, session in self._by_ticket.items()
                if session.away_since is not None and self._clock() - session.away_since > self._idle_timeout
            ]
            sessions = [self._by_ticket.pop(ticket) for ticket in expired]
        _release_sessions(sessions)
        return len(sessions)

    def start_expiry_thread(self, interval: float = 30.0) -> None:
        """Expire idle sessions and release freed memory every ``interval`` seconds until the process ends."""

        def work() -> None:
            while True:
                time.sleep(interval)
                self.expire_idle()
                system_memory.release_freed_memory()

        threading.Thread(target=work, daemon=True, name="session-expiry").start()


def _release_sessions(sessions: Sequence[Session]) -> None:
    """Release these sessions, cached inference engines and the freed memory."""
    for session in sessions:
        session.release()
    if sessions:
        inference.clear_engine_cache()
        gc.collect()
        system_memory.release_freed_memory()
