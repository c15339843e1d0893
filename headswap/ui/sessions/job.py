"""Running trainings: each a thread of its own that the page only watches.

A lost connection, a reload or a closed tab ends an event of the page, never a training. Knows nothing of Gradio.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from headswap.common import system_memory
from headswap.common.errors import InputError
from headswap.common.limits import limits
from headswap.data.dataset import LabelledImages
from headswap.features import inference
from headswap.features.frozen_pass import FrozenPass
from headswap.networks.classifier import Classifier, StageOutline
from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference, Step
from headswap.training.plan import Plan
from headswap.training.race import Lap, Won

Told = Event | Lap | Won
Teaching = Generator[Told, None, None]

LOOKS = 0.5  # seconds after which whoever waits for a place looks whether to go on waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetching:
    """How far the download of the weights is."""

    done: int  # bytes
    total: int  # or 0 where nobody says how many


@dataclass(frozen=True)
class Run:
    """What has been told of a training so far: all that a drawing of it needs."""

    state: str = "starting"  # then "running", and at the end "finished", "stopped" or "failed"
    place: int = 0  # in the queue of those who wait until others have learned; 0 once it is its turn
    late: bool = False  # stopped, because it took longer than a training may
    fetched: Fetching | None = None
    read: FrozenPass | None = None
    reference: Reference | None = None
    phases: tuple[PhaseBegins, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    step: Step | None = None
    kept: Kept | None = None
    problem: str = ""
    laps: tuple[Lap, ...] = ()  # of a race of heads, without steps and models
    won: Won | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be told."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights are kept so far."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that raced, in order."""
        return tuple(dict.fromkeys(lap.head for lap in self.laps))

    @property
    def racing(self) -> bool:
        """Whether several heads still learn side by side."""
        return bool(self.laps) and not self.phases

    @property
    def leader(self) -> str:
        """The head with the best epoch so far; nothing before an epoch was over."""
        best = {head: epoch for head in self.heads if (epoch := self.of_head(head).best)}
        return max(best, key=lambda head: best[head].validation_score, default="")

    def of_head(self, head: str) -> Run:
        """The run of one of the heads that raced."""
        told = [lap.event for lap in self.laps if lap.head == head]
        phases = tuple(event for event in told if isinstance(event, PhaseBegins))
        return replace(self, phases=phases, epochs=tuple(event for event in told if isinstance(event, Epoch)))

    def told(self, event: Told | Fetching) -> Run:
        """The run after one more event."""
        match event:
            case Fetching():
                return replace(self, fetched=event)
            case FrozenPass():
                return replace(self, state="running", read=event)
            case Reference():
                return replace(self, reference=event)
            case PhaseBegins():
                return replace(self, phases=(*self.phases, event))
            case Lap(event=Step()):
                return replace(self, step=event.event)
            case Lap():
                return replace(self, laps=(*self.laps, replace(event, model=None)))
            case Won():
                return replace(self.of_head(event.head), won=event)
            case Step():
                return replace(self, step=event)
            case Epoch():
                return replace(self, epochs=(*self.epochs, event))
            case Kept():
                return replace(self, state="finished", kept=event)


@dataclass(frozen=True)
class Lesson:
    """What a training learns from and how: all that is needed to learn again."""

    images: LabelledImages
    plan: Plan


class Turns:
    """The processor's time, first come, first served: one event of one training at a time.

    Trainings that all compute at once on two cores are slower than those that take turns, and nobody's curve stands
    still meanwhile. Beyond ``limits().trainings`` of them each would crawl, and memory would end, so the rest queue.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._answering = threading.Lock()
        self._news = threading.Condition()
        self._queue: list[object] = []  # those who learn, and behind them those who wait to

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn; it ends with the block."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            self._waiting[0].set()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.popleft()
                if self._waiting:
                    self._waiting[0].set()

    @property
    def idle(self) -> bool:
        """Whether nobody trains, waits or computes now."""
        return not self._queue and not self._waiting

    @contextmanager
    def beside(self) -> Iterator[None]:
        """For an answer, which never waits for a training: only one answer is computed at a time."""
        with self._answering:
            yield

    @contextmanager
    def place(self, wait: Callable[[int], None]) -> Iterator[None]:
        """A place among those who learn; it is free again after the block.

        Args:
            wait: called once and again meanwhile, with the place in the queue, from one on; may raise to give up.
        """
        mine = object()
        with self._news:
            self._queue.append(mine)
        try:
            with self._news:
                while (behind := self._queue.index(mine) - limits().trainings) >= 0:
                    wait(behind + 1)
                    self._news.wait(LOOKS)
            yield
        finally:
            with self._news:
                self._queue.remove(mine)
                self._news.notify_all()


class _Stopped(Exception):
    """Ends the waiting for a place, or a download, that somebody stopped."""


class _Late(Exception):
    """Ends a training that took longer than it may."""


class Job:
    """One training in a thread of its own."""

    def __init__(
        self,
        make_model: Callable[[Callable[[int, int], None]], Classifier],
        train: Callable[[Classifier], Generator[Event, None, None]],
        turns: Turns,
        lesson: Lesson | None = None,
        former: Job | None = None,
    ) -> None:
        """Begin at once.

        Args:
            make_model: called in the thread, with a function to tell of a download.
            train: then called with the model.
            turns: shared by all jobs.
            lesson: held until ``forget``, for whoever wants to learn again.
            former: the training that this one repeats, to go back to if nothing comes of it.
        """
        self.lesson, self.former = lesson, former
        self.forgotten = False  # its images are no longer those of its visitor
        self.model: Classifier | None = None
        self.outline: tuple[StageOutline, ...] = ()
        self.run = Run()
        self._racers: dict[str, Classifier] = {}
        self._turns = turns
        self._stopping = threading.Event()
        self._news = threading.Condition()
        given = [make_model, train]  # these two hold the images
        self._thread = threading.Thread(target=self._work, args=(given,), daemon=True, name="training")
        self._thread.start()

    def stop(self) -> None:
        """Ask the training to stop; it keeps its best weights. Returns at once."""
        self._stopping.set()

    def forget(self) -> None:
        """Let go of the images, so that nothing can be learned from them again."""
        self.lesson, self.forgotten = None, True
        if self.former:
            self.former.forget()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the training has ended."""
        self._thread.join(seconds)

    def watch(self, every: float) -> Iterator[Run]:
        """The run whenever there is news of it, at most once in ``every`` seconds; the last one has ended."""
        seen = self.run
        yield seen
        while not seen.ended:
            with self._news:
                self._news.wait_for(lambda: self.run.ended, timeout=every)
                news = self.run is not seen
                seen = self.run
            if news:
                yield seen

    def _work(self, given: list[Callable[..., Any]]) -> None:
        try:
            self._through(*given)
        finally:
            given.clear()
            if self.forgotten:
                inference.forget()
            system_memory.trim()

    def _through(self, make_model: Callable[..., Classifier], train: Callable[..., Teaching]) -> None:
        try:
            with self._turns.place(self._wait):
                self._tell(replace(self.run, place=0))
                self._learn(make_model, train)
        except _Stopped:
            self._tell(replace(self._led(), state="stopped"))
        except _Late:
            self._tell(replace(self._led(), state="stopped", late=True))
        except InputError as error:
            self._tell(replace(self.run, state="failed", problem=str(error)))
        except Exception as error:
            log.exception("A training ended with an error")
            text = f"The training ended with an error ({type(error).__name__}: {error}). What was there before is kept."
            self._tell(replace(self.run, state="failed", problem=text))
        else:
            if not self.run.ended:
                self._tell(replace(self._led(), state="stopped"))

    def _learn(self, make_model: Callable[..., Classifier], train: Callable[..., Teaching]) -> None:
        model = make_model(self._fetched)  # takes no turn: a download is no work for the processor
        with self._turns.turn():
            self.outline = model.outline()
        self.model = model
        with closing(train(model)) as events:
            self._follow(events)

    def _led(self) -> Run:
        """The run as it stands; of a race that is not decided, that of the head which leads."""
        leader = self.run.leader if self.run.racing else ""
        if not leader:
            return self.run
        self.model = self._racers[leader]
        return self.run.of_head(leader)

    def _wait(self, place: int) -> None:
        if self._stopping.is_set():
            raise _Stopped
        if place != self.run.place:
            self._tell(replace(self.run, place=place))

    def _fetched(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._tell(self.run.told(Fetching(done, total)))

    def _follow(self, events: Teaching) -> None:
        end = time.monotonic() + 60 * limits().minutes
        while not self._stopping.is_set():
            if time.monotonic() > end:
                raise _Late
            with self._turns.turn():
                event = next(events, None)
            if event is None:
                return
            if isinstance(event, Lap) and event.model is not None:
                self._racers[event.head] = event.model
            elif isinstance(event, Won):
                self.model, self._racers = event.model, {}
            self._tell(self.run.told(event))

    def _tell(self, run: Run) -> None:
        with self._news:
            self.run = run
            self._news.notify_all()
