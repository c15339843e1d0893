"""Precomputes frozen features for idle sessions in a background thread, so that a training starts at once.

Nothing is downloaded for it, and the features of a few sessions are kept at most.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from weakref import ref

from headswap.common import devices
from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.features.precompute import PrecomputedFeatures
from headswap.networks.catalogue import find_backbone
from headswap.training.api import start_frozen_pass
from headswap.ui.sessions.chosen_network import build_seeded_network
from headswap.ui.sessions.next_training import suggest_session_plan
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ModelChoice

MAX_PRECOMPUTED_SESSIONS = 4  # sessions whose features are kept
IDLE_POLL_SECONDS = 0.5  # between two checks while there is nothing to do

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _PrecomputeKey:
    """What a session's frozen features depend on; refers weakly to the session and to its images."""

    session: ref[Session]
    images: ref[LabelledImages]
    choice: ModelChoice  # with a linear head, since frozen features do not depend on the head
    num_unfrozen_stages: int | None

    def matches(self, session: Session) -> bool:
        """Whether the session still needs these features."""
        same_data = self.session() is session and self.images() is session.images
        return same_data and (self.choice, self.num_unfrozen_stages) == (
            session.choice.with_linear_head,
            session.num_unfrozen_stages,
        )


class BackgroundPrecompute:
    """Starts and continues the frozen passes of active sessions while the scheduler is idle."""

    def __init__(self, sessions: SessionRegistry, scheduler: Scheduler) -> None:
        self._sessions, self._scheduler = sessions, scheduler
        self._started_keys: list[_PrecomputeKey] = []  # the newest last

    def start_thread(self) -> None:
        """Call ``run_once`` repeatedly until the process ends."""

        def work() -> None:
            while True:
                try:
                    busy = self.run_once()
                except Exception:  # one session's error must not end the thread that serves all
                    logger.exception("Precomputing frozen features failed")
                    busy = False
                if not busy:
                    time.sleep(IDLE_POLL_SECONDS)

        threading.Thread(target=work, daemon=True, name="precompute").start()

    def run_once(self) -> bool:
        """Start or continue one session's frozen pass for a moment; returns whether there was anything to do."""
        self._drop_stale()
        if devices.select_device().type != "cpu" or not self._scheduler.is_idle:
            return False
        for session in self._sessions.list_active():
            if self._needs_work(session):
                with self._scheduler.compute_slot():
                    self._advance_pass(session)
                return True
        return False

    def _needs_work(self, session: Session) -> bool:
        if session.images is None or session.is_training or session.resume_training:
            return False
        if self._find_key(session):
            return session.precomputed_features is not None and not session.precomputed_features.is_done
        return not find_backbone(session.choice.backbone).needs_download

    def _find_key(self, session: Session) -> _PrecomputeKey | None:
        return next((key for key in self._started_keys if key.matches(session)), None)

    def _advance_pass(self, session: Session) -> None:
        """Start or continue a pass; in a compute slot, so that no training continues the same pass meanwhile."""
        if session.is_training:
            return
        images, key = session.images, self._find_key(session)
        try:
            if key is None and images is not None:
                choice = session.choice.with_linear_head
                self._started_keys.append(
                    _PrecomputeKey(ref(session), ref(images), choice, session.num_unfrozen_stages)
                )
                if not session.untrainable_reason:  # after the key was stored: with many images it takes a second
                    session.precomputed_features = self._start_pass(session, images)
            elif session.precomputed_features is not None:
                session.precomputed_features.compute_next()
        except (InputError, ValueError):  # the next training reports it to the user
            session.precomputed_features = None

    def _start_pass(self, session: Session, images: LabelledImages) -> PrecomputedFeatures:
        choice, unlimited = session.choice.with_linear_head, Scheduler()  # this thread holds the compute slot already
        model = build_seeded_network(choice, images, unlimited, lambda done, total: None)
        return start_frozen_pass(model, images, suggest_session_plan(session, model), session.precomputed_features)

    def _drop_stale(self) -> None:
        """Forget keys that no session needs any more, and drop the oldest features beyond the maximum."""
        needed = [
            (key, session)
            for key in self._started_keys
            if (session := key.session()) is not None and key.matches(session)
        ]
        for _, session in needed[:-MAX_PRECOMPUTED_SESSIONS]:
            session.precomputed_features = None
        self._started_keys = [key for key, _ in needed]
