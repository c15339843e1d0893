"""Whose images, model and training these are: a registry of visitors, and the sweeper that lets go of them.

A browser's tab holds a ticket, and a reload brings it back. A closed tab only notes since when its visitor is away;
after some minutes the sweeper stops what runs and frees what is heavy. Knows nothing of Gradio.
"""

from __future__ import annotations

import copy
import gc
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path

from torch import Tensor

from headswap.common import system_memory
from headswap.common.errors import InputError
from headswap.common.limits import limits
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import NOTHING_SEEN, Seen
from headswap.evaluation.evaluate import Evaluation
from headswap.features import inference
from headswap.features.precompute import Beforehand
from headswap.networks.catalogue import DEFAULT
from headswap.networks.classifier import Classifier
from headswap.networks.heads import head_options
from headswap.training.checkpoints import keep
from headswap.training.events import Figures, Offer
from headswap.ui.sessions.job import Job, Run
from headswap.ui.sessions.run_summary import Ran


@dataclass(frozen=True)
class Choice:
    """The backbone and the head that a visitor has chosen."""

    backbone: str
    head: str
    options: dict[str, object] = field(default_factory=dict)
    crop: str = "centre"
    pretrained: bool = True

    @property
    def seeing(self) -> Choice:
        """The part of it that frozen stages depend on: the same choice with the plainest head."""
        return replace(self, head="linear", options={})


@dataclass(frozen=True)
class Trained:
    """A model with the run that taught it, and which of the networks that the run passed it holds now.

    One that was opened from a file has no run; what its record says is then all that is known.
    """

    model: Classifier
    run: Run | None = None
    instead: str = ""  # "frozen" or "reference", kept in place of what the run itself kept
    own: Offer | None = field(default=None, repr=False)  # the way back from there
    number: int = field(default=0, compare=False)  # of its run among the visitor's; 0 where it is none of them

    @property
    def learned(self) -> tuple[str, ...]:
        """The stages that have learned, besides the head, in what the model holds now."""
        return () if self.instead else self.learned_by_itself

    @property
    def learned_by_itself(self) -> tuple[str, ...]:
        """The stages that have learned, besides the head, in what the run itself kept."""
        if self.run is None:
            return self.model.record.learning_stages if self.model.record else ()
        kept, phases = self.run.kept, self.run.phases
        if kept and kept.refitted:  # its epoch is that of the honest run
            return phases[-1].learning_stages
        number = kept.epoch if kept else self.run.best.number
        return [phase for phase in phases if phase.first_epoch <= number][-1].learning_stages

    @property
    def figures(self) -> Figures | None:
        """How what the model holds now answered the validation images; None of a file that does not say."""
        if self.run is None:
            told = self.model.record and self.model.record.result
            return told and Figures(told.score, told.metric, told.right, told.of, nan)
        kept, best = self.run.kept, self.run.best
        if self.instead:
            return kept.offers[self.instead].figures
        if kept:
            return Figures(kept.score, kept.metric, kept.right, kept.of, nan)
        return best.figures

    @property
    def offered(self) -> tuple[str, ...]:
        """What can be kept in place of what the model holds now: "frozen", "reference" or "own"."""
        kept = self.run and self.run.kept
        if kept is None or kept.refitted:
            return ()
        reference = kept.offers.get("reference")
        could = {
            "frozen": "frozen" in kept.offers and bool(self.learned_by_itself),
            "reference": reference is not None and reference.figures.right > kept.right,
            "own": bool(self.instead),
        }
        return tuple(name for name, can in could.items() if can and name != self.instead)

    def keeping(self, name: str) -> Trained:
        """The same with what is ``offered`` under this name put into its model."""
        if name == "own":
            keep(self.model, self.own)
            return replace(self, instead="", own=None)
        offer = self.run.kept.offers[name]
        model = self.model
        own = self.own or Offer(None, copy.deepcopy(model.head), self._weights(offer.weights), model.record, model.seen)
        keep(self.model, offer)
        return replace(self, instead=name, own=own)

    def _weights(self, named: Iterable[str]) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: state[name].clone() for name in named}


@dataclass(frozen=True)
class Answer:
    """What a model said to one new image, or why that could not be read."""

    name: str
    picture: str = ""  # as a data: address
    ranked: tuple[tuple[str, float], ...] = ()  # classes and probabilities, the most likely first
    labels: tuple[str, ...] | None = None  # where it may carry several
    problem: str = ""
    shows: str = ""  # what it is known to show


@dataclass(frozen=True)
class Answers:
    """What one model said to new images, of which there may have been more."""

    by: Trained
    each: tuple[Answer, ...]
    of: int


@dataclass(frozen=True, eq=False)
class Judged:
    """How one model answered images whose classes are known, and which of its answers are being looked at."""

    by: Trained
    images: LabelledImages  # those that could be read, in the order of the evaluation
    evaluation: Evaluation
    whose: str  # "validation", "learned" for the visitor's own, most of which it has learned from, or "test"
    unreadable: tuple[tuple[str, str], ...] = ()  # (name, reason)
    cell: tuple[int, int] | None = None


def missing(images: LabelledImages, seen: Seen = NOTHING_SEEN) -> str:
    """What these images lack before they can be learned from, in a sentence; nothing where they lack nothing.

    ``seen``: which of them a model knows that is to learn on.
    """
    if len(images.classes) < 2:
        return f"There is only one class, '{images.classes[0]}'. Add another that it is to be told from."
    try:
        seen.split(images)
    except InputError as error:
        return str(error)
    return ""


@dataclass
class Visitor:
    """What one tab of a browser has here."""

    images: LabelledImages | None = None
    choice: Choice = field(default_factory=lambda: Choice(DEFAULT, "linear", head_options("linear")))
    job: Job | None = None
    trained: Trained | None = None  # the last model that learned something
    runs: tuple[Ran, ...] = ()  # what trainings with these images came to
    former: LabelledImages | None = None  # the images before the last change, which can be undone
    opened: str | None = None  # the class whose images are all shown
    stages: int | None = None  # so many of the last ones are to learn, if that was asked for
    going_on: bool = False  # the next training goes on with what was trained, instead of a new head
    measuring: bool = False  # the backbones' times on this machine are being measured
    answers: Answers | None = None  # what the model said to new images
    judged: Judged | None = None  # what it gets wrong
    beforehand: Beforehand | None = None  # the frozen pass of these images, begun while nobody trained
    made: tempfile.TemporaryDirectory | None = None  # where files lie that are taken along
    uploads: set[Path] = field(default_factory=set)  # read where they were uploaded to; they go with the visitor
    tabs: set[str] = field(default_factory=set)
    away_since: float | None = None
    gone: bool = field(default=False, compare=False)  # let go of; nothing begins for it any more
    choosing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    # Of what must not happen twice or in between, whoever presses at the same moment.
    _deciding: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

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

    @property
    def wanting(self) -> str:
        """What is missing before the images can be learned from, in a sentence; nothing where they can."""
        if self.images is None:
            return "There are no images yet. Choose images in the first step, and the training can begin."
        return missing(self.images, self.seen)

    @property
    def seen(self) -> Seen:
        """Which images the next training's model knows before it."""
        return self.trained.model.seen if self.going_on and self.trained else NOTHING_SEEN

    @property
    def held_back(self) -> LabelledImages | None:
        """The images that were held back from the training of what answers, while they are there."""
        job, trained = self.job, self.trained
        if job is None or trained is None or trained.run is not job.run or job.lesson is None:
            return None
        images, plan = job.lesson.images, job.lesson.plan
        return trained.model.seen.split(images, plan.validation, plan.seed)[1]

    def begin(self, make: Callable[[], Job]) -> Job | None:
        """Begin a training with what ``make`` makes, unless one runs: of presses at the same moment one wins.

        Returns:
            The training that has begun; None where none has.

        Raises:
            Exception: whatever ``make`` raises; then nothing has begun.
        """
        with self._deciding:
            if self.training or self.gone:
                return None
            self.job = make()
            return self.job

    def exchange(self, name: str) -> None:
        """Put what the last training offers under this name into the model that answers, unless it has it already."""
        with self._deciding:
            if self.learned_here and name in self.trained.offered:
                self.trained = self.trained.keeping(name)

    @property
    def learned_here(self) -> Trained | None:
        """What was learned in the training that stands on the page, once it is over."""
        trained, job = self.trained, self.job
        return trained if trained and job and trained.run is job.run else None

    def measure(self) -> bool:
        """Whether the backbones may be measured now, because nobody does so already; then they are being measured."""
        with self._deciding:
            mine = not self.measuring
            self.measuring = True
            return mine

    def go_on(self, with_what_was_trained: bool) -> None:
        """The next training goes on with what was trained, or begins with a new head; not while one runs."""
        with self._deciding:
            if not self.training:
                self.going_on, self.job = with_what_was_trained, None

    def take(self, images: LabelledImages) -> None:
        """New images in place of the old ones; a training that runs keeps its own until it ends."""
        shared = self.images is not None and self.images.shares_files_with(images)
        self.former = self.images
        if not shared:
            self.judged, self.stages = None, None
        self._hold(images)

    def undo(self) -> None:
        """The images as they were before the last change."""
        if self.former is not None:
            self._hold(self.former)
            self.former = None

    def forget_images(self) -> None:
        """No images; their files go with the training that still uses them."""
        self.former = self.judged = None
        self._hold(None)

    def _hold(self, images: LabelledImages | None) -> None:
        self.images, self.beforehand, self.runs = images, None, ()  # figures of other images cannot be compared
        if images is None or self.opened not in images.classes:
            self.opened = None
        if self.job:
            self.job.forget()
        self._forget_what_was_drawn()

    def choose(self, choice: Choice) -> None:
        """Another backbone or head, for the next training."""
        if choice != self.choice:
            if choice.backbone != self.choice.backbone:
                self.stages = None  # it counted the stages of another network
            if choice.seeing != self.choice.seeing:
                self.beforehand = None
            self.choice, self.going_on = choice, False
            self._forget_what_was_drawn()

    def _forget_what_was_drawn(self) -> None:
        """Curves of other images or another network would mislead; the model that learned by them stays."""
        with self._deciding:
            if not self.training:
                self.job = None

    def take_over(self, job: Job) -> None:
        """What a training that has ended has taught is what answers from now on."""
        with self._deciding:  # two tabs may watch the same one
            if self.job is not job:
                return
            if job.run.kept or (job.run.state == "stopped" and job.run.best):
                if self.trained is None or self.trained.run is not job.run:
                    self.trained = Trained(job.model, job.run, number=self._note(job))
                job.former = None
            elif job.former:
                self.job = job.former

    def _note(self, job: Job) -> int:
        """Remember what a training with these images came to, and give its number; 0 for one with other images."""
        if job.forgotten:
            return 0
        run, mine = job.run, type(job.model.head).__name__.lower()
        for head in run.heads:
            theirs = replace(run.of_head(head), kept=None)
            if head != mine and theirs.epochs:
                self.runs = (*self.runs, Ran.of(len(self.runs) + 1, job.model, theirs, head))
        self.runs = (*self.runs, Ran.of(len(self.runs) + 1, job.model, run))
        return self.runs[-1].number

    def open(self, model: Classifier) -> None:
        """A model from a file is what answers from now on, and what the next training goes on with."""
        self.trained, self.going_on = Trained(model), True
        self._forget_what_was_drawn()

    def room(self) -> Path:
        """A folder for files that are taken along; it goes with the visitor."""
        self.made = self.made or tempfile.TemporaryDirectory(prefix="headswap-")
        return Path(self.made.name)

    def let_go(self) -> None:
        """Stop what runs and let go of the rest; files and memory follow with the last reference to them."""
        with self._deciding:
            self.gone = True
            if self.job:
                self.job.stop()
                self.job.forget()
            self.images = self.former = self.job = self.trained = self.answers = self.judged = self.beforehand = None
            self.runs = ()
        if self.made:
            self.made.cleanup()
            self.made = None
        for upload in self.uploads:
            upload.unlink(missing_ok=True)
        self.uploads.clear()


class Visitors:
    """The visitors by ticket. Safe to call from several threads."""

    def __init__(self, patience: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``patience``: seconds for which an absent visitor's things are kept; ``limits().away`` by default."""
        self._patience = 60.0 * limits().away if patience is None else patience
        self._clock = clock
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

    @contextmanager
    def present(self, ticket: str | None) -> Iterator[str]:
        """Somebody without a tab is there for as long as the block runs; the ticket is theirs, or a new one."""
        tab = secrets.token_urlsafe(16)
        ticket = self.arrive(ticket, tab)
        try:
            yield ticket
        finally:
            self.leave(tab)

    def forget(self, ticket: str | None) -> bool:
        """Let go of a visitor at once; returns whether there was one."""
        with self._lock:
            visitor = self._by_ticket.pop(ticket, None)
        _let_go([visitor] if visitor else [])
        return visitor is not None

    def find(self, ticket: str | None) -> Visitor | None:
        """The visitor with this ticket; None once it was let go of."""
        with self._lock:
            return self._by_ticket.get(ticket)

    def here(self) -> list[Visitor]:
        """Those whose page is open."""
        with self._lock:
            return [visitor for visitor in self._by_ticket.values() if visitor.tabs]

    def sweep(self) -> int:
        """Let go of everybody who has been away for too long; returns how many those were."""
        with self._lock:
            long_gone = [
                ticket
                for ticket, visitor in self._by_ticket.items()
                if visitor.away_since is not None and self._clock() - visitor.away_since > self._patience
            ]
            leaving = [self._by_ticket.pop(ticket) for ticket in long_gone]
        _let_go(leaving)
        return len(leaving)

    def sweep_in_background(self, every: float = 30.0) -> None:
        """Sweep every so many seconds for as long as the program runs, and give back the memory that nobody uses."""

        def work() -> None:
            while True:
                time.sleep(every)
                self.sweep()
                system_memory.trim()

        self._swept_by = threading.Thread(target=work, daemon=True, name="sweeper")
        self._swept_by.start()


def _let_go(leaving: Sequence[Visitor]) -> None:
    """Of these, of copies of what their models were, and of the memory that all of it took."""
    for visitor in leaving:
        visitor.let_go()
    if leaving:
        inference.forget()
        gc.collect()
        system_memory.trim()
