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
from headswap.features.precompute import Beforehand
from headswap.networks.catalogue import find
from headswap.training.trainer import begin_pass
from headswap.ui.sessions.chosen_network import network
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.next_training import wanted_plan
from headswap.ui.sessions.session import Choice, Visitor, Visitors

MOST = 4  # visitors whose passes are kept
LOOKS = 0.5  # seconds between two looks whether anybody's pass could begin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Begun:
    """For what a pass was begun, or why not; images and visitor are not kept by it."""

    visitor: ref[Visitor]
    images: ref[LabelledImages]
    choice: Choice
    stages: int | None

    def still(self, visitor: Visitor) -> bool:
        """Whether the visitor wants the same still. Heads read the same, so another head is no other choice."""
        same = self.visitor() is visitor and self.images() is visitor.images
        return same and (self.choice, self.stages) == (visitor.choice.seeing, visitor.stages)


class Warming:
    """Begins frozen passes while the machine is idle."""

    def __init__(self, visitors: Visitors, turns: Turns) -> None:
        self._visitors, self._turns = visitors, turns
        self._begun: list[_Begun] = []  # the newest last

    def in_background(self) -> None:
        """Look and go on for as long as the program runs."""

        def work() -> None:
            while True:
                try:
                    busy = self.step()
                except Exception:  # of one visitor, who may have gone meanwhile; the others are still there
                    log.exception("Beginning a frozen pass beforehand failed")
                    busy = False
                if not busy:
                    time.sleep(LOOKS)

        threading.Thread(target=work, daemon=True, name="warming").start()

    def step(self) -> bool:
        """Go on for a moment with one visitor's pass, or begin one; whether there was anything to do."""
        self._let_go()
        if devices.best().type != "cpu" or not self._turns.idle:
            return False
        for visitor in self._visitors.here():
            if self._wants(visitor):
                with self._turns.turn():
                    self._go_on(visitor)
                return True
        return False

    def _wants(self, visitor: Visitor) -> bool:
        if visitor.images is None or visitor.training or visitor.going_on:
            return False
        if any(begun.still(visitor) for begun in self._begun):
            return visitor.beforehand is not None and not visitor.beforehand.over
        return not find(visitor.choice.backbone).needs_download

    def _go_on(self, visitor: Visitor) -> None:
        """In a turn, so that no training goes on with the same pass."""
        if visitor.training:
            return
        images = visitor.images
        begun = next((begun for begun in self._begun if begun.still(visitor)), None)
        try:
            if begun is None and images is not None:
                self._begun.append(_Begun(ref(visitor), ref(images), visitor.choice.seeing, visitor.stages))
                if not visitor.wanting:  # asked once, after it was noted: of many images it costs a second
                    visitor.beforehand = self._begin(visitor, images)
            elif visitor.beforehand is not None:
                visitor.beforehand.go_on()
        except (InputError, ValueError):  # a training will say what is wrong, to somebody who looks
            visitor.beforehand = None

    def _begin(self, visitor: Visitor, images: LabelledImages) -> Beforehand:
        choice = visitor.choice.seeing
        model = network(choice, images, Turns(), lambda done, total: None)  # this is a turn already
        return begin_pass(model, images, wanted_plan(visitor, model), visitor.beforehand)

    def _let_go(self) -> None:
        """Of what nobody wants any more, and of the oldest passes beyond a few."""
        kept = [begun for begun in self._begun if (visitor := begun.visitor()) and begun.still(visitor)]
        for begun in kept[:-MOST]:
            begun.visitor().beforehand = None
        self._begun = kept
