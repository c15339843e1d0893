"""Whose images, model and training these are: a registry of visitors, and the sweeper that lets go of them.

A browser's tab holds a ticket, and a reload brings it back. A closed tab only notes since when its visitor is away;
after some minutes the sweeper stops what runs and frees what is heavy. Knows nothing of Gradio.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headswap.catalogue import DEFAULT
from headswap.images import LabelledImages
from headswap.model import Classifier
from headswap.ui.jobs import Job, Run

PATIENCE = 600.0  # seconds for which an absent visitor's things are kept


@dataclass(frozen=True)
class Choice:
    """The backbone and the head that a visitor has chosen."""

    backbone: str
    head: str
    options: dict[str, object] = field(default_factory=dict)
    crop: str = "centre"
    pretrained: bool = True


@dataclass(frozen=True)
class Trained:
    """A model with the run that taught it."""

    model: Classifier
    run: Run

    @property
    def learned(self) -> tuple[str, ...]:
        """The stages that had learned, besides the head, when the kept epoch was over."""
        best = self.run.best
        begun = [phase for phase in self.run.phases if phase.first_epoch <= best.number]
        return begun[-1].learning_stages


@dataclass
class Visitor:
    """What one tab of a browser has here."""

    images: LabelledImages | None = None
    choice: Choice = Choice(DEFAULT, "linear")
    job: Job | None = None
    trained: Trained | None = None  # the last model that learned something
    tabs: set[str] = field(default_factory=set)
    away_since: float | None = None

    @property
    def classes(self) -> tuple[str, ...] | int:
        """The names of the classes; three for a first drawing while there are no images."""
        return self.images.classes if self.images else 3

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.images is not None and self.images.multi_label

    @property
    def training(self) -> bool:
        """Whether a training runs."""
        return self.job is not None and not self.job.run.ended

    def take(self, images: LabelledImages) -> None:
        """New images in place of the old ones; a training that runs keeps its own until it ends."""
        self.images = images
        self._forget_what_was_drawn()

    def choose(self, choice: Choice) -> None:
        """Another backbone or head, for the next training."""
        if choice != self.choice:
            self.choice = choice
            self._forget_what_was_drawn()

    def _forget_what_was_drawn(self) -> None:
        """Curves of other images or another network would mislead; the model that learned by them stays."""
        if not self.training:
            self.job = None

    def let_go(self) -> None:
        """Stop what runs and let go of the rest; files and memory follow with the last reference to them."""
        if self.job:
            self.job.stop()
        self.images = self.job = self.trained = None


class Visitors:
    """The visitors by ticket. Safe to call from several threads."""

    def __init__(self, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, clock
        self._lock = threading.Lock()
        self._by_ticket: dict[str, Visitor] = {}
        self._swept_by: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._by_ticket)

    def arrive(self, ticket: str | None, tab: str) -> str:
        """A tab is there, with the ticket that it remembers; returns that ticket, or a new one if it is not known."""
        with self._lock:
            if ticket not in self._by_ticket:
                ticket = secrets.token_urlsafe(16)
                self._by_ticket[ticket] = Visitor()
            visitor = self._by_ticket[ticket]
            visitor.tabs.add(tab)
            visitor.away_since = None
            return ticket

    def leave(self, tab: str) -> None:
        """A tab is gone; perhaps it is only being loaded again."""
        with self._lock:
            for visitor in self._by_ticket.values():
                visitor.tabs.discard(tab)
                if not visitor.tabs and visitor.away_since is None:
                    visitor.away_since = self._clock()

    def find(self, ticket: str | None) -> Visitor | None:
        """The visitor with this ticket; None once it was let go of."""
        with self._lock:
            return self._by_ticket.get(ticket)

    def sweep(self) -> int:
        """Let go of everybody who has been away for too long; returns how many those were."""
        with self._lock:
            long_gone = [
                ticket
                for ticket, visitor in self._by_ticket.items()
                if visitor.away_since is not None and self._clock() - visitor.away_since > self._patience
            ]
            leaving = [self._by_ticket.pop(ticket) for ticket in long_gone]
        for visitor in leaving:
            visitor.let_go()
        return len(leaving)

    def sweep_in_background(self, every: float = 30.0) -> None:
        """Sweep every so many seconds for as long as the program runs."""

        def work() -> None:
            while True:
                time.sleep(every)
                self.sweep()

        self._swept_by = threading.Thread(target=work, daemon=True, name="sweeper")
        self._swept_by.start()
