"""While nobody trains, the frozen pass of whoever has chosen images and a backbone begins quietly, a moment at a time.

So Train starts at once. Nothing is downloaded for it, and a few visitors' passes are kept at most. Knows no Gradio.
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
from headswap.ui.sessions.job import Scheduler
from headswap.ui.sessions.next_training import suggest_session_plan
from headswap.ui.sessions.session import ModelChoice, Session, SessionRegistry

MAX_PRECOMPUTED_SESSIONS = 4  # visitors whose passes are kept
IDLE_POLL_SECONDS = 0.5  # seconds between two looks whether anybody's pass could begin

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _PrecomputeKey:
    """For what a pass was begun, or why not; images and visitor are not kept by it."""

    visitor: ref[Session]
    images: ref[LabelledImages]
    choice: ModelChoice
    num_unfrozen_stages: int | None

    def matches(self, visitor: Session) -> bool:
        """Whether the visitor wants the same still. Heads read the same, so another head is no other choice."""
        same = self.visitor() is visitor and self.images() is visitor.images
        return same and (self.choice, self.num_unfrozen_stages) == (
            visitor.choice.with_linear_head,
            visitor.num_unfrozen_stages,
        )


class BackgroundPrecompute:
    """Begins frozen passes while the machine is idle."""

    def __init__(self, visitors: SessionRegistry, turns: Scheduler) -> None:
        self._sessions, self._scheduler = visitors, turns
        self._started_keys: list[_PrecomputeKey] = []  # the newest last

    def start_thread(self) -> None:
        """Look and go on for as long as the program runs."""

        def work() -> None:
            while True:
                try:
                    busy = self.run_once()
                except Exception:  # of one visitor, who may have gone meanwhile; the others are still there
                    logger.exception("Beginning a frozen pass beforehand failed")
                    busy = False
                if not busy:
                    time.sleep(IDLE_POLL_SECONDS)

        threading.Thread(target=work, daemon=True, name="warming").start()

    def run_once(self) -> bool:
        """Go on for a moment with one visitor's pass, or begin one; whether there was anything to do."""
        self._drop_stale()
        if devices.select_device().type != "cpu" or not self._scheduler.is_idle:
            return False
        for visitor in self._sessions.list_active():
            if self._needs_work(visitor):
                with self._scheduler.compute_slot():
                    self._advance_pass(visitor)
                return True
        return False

    def _needs_work(self, visitor: Session) -> bool:
        if visitor.images is None or visitor.is_training or visitor.resume_training:
            return False
        if any(begun.matches(visitor) for begun in self._started_keys):
            return visitor.precomputed_features is not None and not visitor.precomputed_features.is_done
        return not find_backbone(visitor.choice.backbone).needs_download

    def _advance_pass(self, visitor: Session) -> None:
        """In a turn, so that no training goes on with the same pass."""
        if visitor.is_training:
            return
        images = visitor.images
        begun = next((begun for begun in self._started_keys if begun.matches(visitor)), None)
        try:
            if begun is None and images is not None:
                self._started_keys.append(
                    _PrecomputeKey(
                        ref(visitor), ref(images), visitor.choice.with_linear_head, visitor.num_unfrozen_stages
                    )
                )
                if not visitor.untrainable_reason:  # asked once, after it was noted: of many images it costs a second
                    visitor.precomputed_features = self._start_pass(visitor, images)
            elif visitor.precomputed_features is not None:
                visitor.precomputed_features.compute_next()
        except (InputError, ValueError):  # a training will say what is wrong, to somebody who looks
            visitor.precomputed_features = None

    def _start_pass(self, visitor: Session, images: LabelledImages) -> PrecomputedFeatures:
        choice = visitor.choice.with_linear_head
        model = build_seeded_network(choice, images, Scheduler(), lambda done, total: None)  # this is a turn already
        return start_frozen_pass(model, images, suggest_session_plan(visitor, model), visitor.precomputed_features)

    def _drop_stale(self) -> None:
        """Of what nobody wants any more, and of the oldest passes beyond a few."""
        kept = [begun for begun in self._started_keys if (visitor := begun.visitor()) and begun.matches(visitor)]
        for begun in kept[:-MAX_PRECOMPUTED_SESSIONS]:
            begun.visitor().precomputed_features = None
        self._started_keys = kept
