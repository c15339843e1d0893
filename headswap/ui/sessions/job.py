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
from headswap.common.limits import get_limits
from headswap.data.dataset import LabelledImages
from headswap.features import inference
from headswap.features.frozen_pass import FrozenPass
from headswap.networks.classifier import Classifier, StageSummary
from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference, Step
from headswap.training.plan import Plan
from headswap.training.race import Lap, Won

TrainingEvent = Event | Lap | Won
EventGenerator = Generator[TrainingEvent, None, None]

QUEUE_POLL_SECONDS = 0.5  # seconds after which whoever waits for a place looks whether to go on waiting

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetching:
    """How far the download of the weights is."""

    done: int  # bytes
    total: int  # or 0 where nobody says how many


@dataclass(frozen=True)
class Run:
    """What has been told of a training so far: all that a drawing of it needs."""

    state: str = "starting"  # then "running", and at the end "finished", "stopped" or "failed"
    queue_position: int = 0  # in the queue of those who wait until others have learned; 0 once it is its turn
    timed_out: bool = False  # stopped, because it took longer than a training may
    download: Fetching | None = None
    frozen_pass: FrozenPass | None = None
    reference: Reference | None = None
    phases: tuple[PhaseBegins, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    step: Step | None = None
    kept: Kept | None = None
    problem: str = ""
    laps: tuple[Lap, ...] = ()  # of a race of heads, without steps and models
    won: Won | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be told."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch whose weights are kept so far."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that raced, in order."""
        return tuple(dict.fromkeys(lap.head for lap in self.laps))

    @property
    def is_racing(self) -> bool:
        """Whether several heads still learn side by side."""
        return bool(self.laps) and not self.phases

    @property
    def leading_head(self) -> str:
        """The head with the best epoch so far; nothing before an epoch was over."""
        best = {head: epoch for head in self.heads if (epoch := self.for_head(head).best_epoch)}
        return max(best, key=lambda head: best[head].validation_score, default="")

    def for_head(self, head: str) -> Run:
        """The run of one of the heads that raced."""
        told = [lap.event for lap in self.laps if lap.head == head]
        phases = tuple(event for event in told if isinstance(event, PhaseBegins))
        return replace(self, phases=phases, epochs=tuple(event for event in told if isinstance(event, Epoch)))

    def with_event(self, event: TrainingEvent | Fetching) -> Run:
        """The run after one more event."""
        match event:
            case Fetching():
                return replace(self, download=event)
            case FrozenPass():
                return replace(self, state="running", frozen_pass=event)
            case Reference():
                return replace(self, reference=event)
            case PhaseBegins():
                return replace(self, phases=(*self.phases, event))
            case Lap(event=Step()):
                return replace(self, step=event.event)
            case Lap():
                return replace(self, laps=(*self.laps, replace(event, model=None)))
            case Won():
                return replace(self.for_head(event.head), won=event)
            case Step():
                return replace(self, step=event)
            case Epoch():
                return replace(self, epochs=(*self.epochs, event))
            case Kept():
                return replace(self, state="finished", kept=event)


@dataclass(frozen=True)
class TrainingSetup:
    """What a training learns from and how: all that is needed to learn again."""

    images: LabelledImages
    plan: Plan


class Scheduler:
    """The processor's time, first come, first served: one event of one training at a time.

    Trainings that all compute at once on two cores are slower than those that take turns, and nobody's curve stands
    still meanwhile. Beyond ``limits().trainings`` of them each would crawl, and memory would end, so the rest queue.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compute_waiters: deque[threading.Event] = deque()
        self._inference_lock = threading.Lock()
        self._queue_changed = threading.Condition()
        self._queue: list[object] = []  # those who learn, and behind them those who wait to

    @contextmanager
    def compute_slot(self) -> Iterator[None]:
        """Wait for the turn; it ends with the block."""
        mine = threading.Event()
        with self._lock:
            self._compute_waiters.append(mine)
            self._compute_waiters[0].set()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._compute_waiters.popleft()
                if self._compute_waiters:
                    self._compute_waiters[0].set()

    @property
    def is_idle(self) -> bool:
        """Whether nobody trains, waits or computes now."""
        return not self._queue and not self._compute_waiters

    @contextmanager
    def inference_slot(self) -> Iterator[None]:
        """For an answer, which never waits for a training: only one answer is computed at a time."""
        with self._inference_lock:
            yield

    @contextmanager
    def training_slot(self, on_wait: Callable[[int], None]) -> Iterator[None]:
        """A place among those who learn; it is free again after the block.

        Args:
            wait: called once and again meanwhile, with the place in the queue, from one on; may raise to give up.
        """
        mine = object()
        with self._queue_changed:
            self._queue.append(mine)
        try:
            with self._queue_changed:
                while (behind := self._queue.index(mine) - get_limits().trainings) >= 0:
                    on_wait(behind + 1)
                    self._queue_changed.wait(QUEUE_POLL_SECONDS)
            yield
        finally:
            with self._queue_changed:
                self._queue.remove(mine)
                self._queue_changed.notify_all()


class _StopRequested(Exception):
    """Ends the waiting for a place, or a download, that somebody stopped."""


class _TimeLimitExceeded(Exception):
    """Ends a training that took longer than it may."""


class Job:
    """One training in a thread of its own."""

    def __init__(
        self,
        make_model: Callable[[Callable[[int, int], None]], Classifier],
        train: Callable[[Classifier], Generator[Event, None, None]],
        turns: Scheduler,
        lesson: TrainingSetup | None = None,
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
        self.training_setup, self.previous_job = lesson, former
        self.images_replaced = False  # its images are no longer those of its visitor
        self.model: Classifier | None = None
        self.outline: tuple[StageSummary, ...] = ()
        self.run = Run()
        self._race_models: dict[str, Classifier] = {}
        self._scheduler = turns
        self._stop_requested = threading.Event()
        self._run_changed = threading.Condition()
        given = [make_model, train]  # these two hold the images
        self._thread = threading.Thread(target=self._thread_main, args=(given,), daemon=True, name="training")
        self._thread.start()

    def stop(self) -> None:
        """Ask the training to stop; it keeps its best weights. Returns at once."""
        self._stop_requested.set()

    def release_images(self) -> None:
        """Let go of the images, so that nothing can be learned from them again."""
        self.training_setup, self.images_replaced = None, True
        if self.previous_job:
            self.previous_job.release_images()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the training has ended."""
        self._thread.join(seconds)

    def watch(self, interval: float) -> Iterator[Run]:
        """The run whenever there is news of it, at most once in ``every`` seconds; the last one has ended."""
        seen = self.run
        yield seen
        while not seen.has_ended:
            with self._run_changed:
                self._run_changed.wait_for(lambda: self.run.has_ended, timeout=interval)
                news = self.run is not seen
                seen = self.run
            if news:
                yield seen

    def _thread_main(self, callables: list[Callable[..., Any]]) -> None:
        try:
            self._run_to_end(*callables)
        finally:
            callables.clear()
            if self.images_replaced:
                inference.clear_engine_cache()
            system_memory.release_freed_memory()

    def _run_to_end(self, make_model: Callable[..., Classifier], train: Callable[..., EventGenerator]) -> None:
        try:
            with self._scheduler.training_slot(self._on_queue_wait):
                self._publish_run(replace(self.run, queue_position=0))
                self._build_and_train(make_model, train)
        except _StopRequested:
            self._publish_run(replace(self._leading_run(), state="stopped"))
        except _TimeLimitExceeded:
            self._publish_run(replace(self._leading_run(), state="stopped", timed_out=True))
        except InputError as error:
            self._publish_run(replace(self.run, state="failed", problem=str(error)))
        except Exception as error:
            logger.exception("A training ended with an error")
            text = f"The training ended with an error ({type(error).__name__}: {error}). What was there before is kept."
            self._publish_run(replace(self.run, state="failed", problem=text))
        else:
            if not self.run.has_ended:
                self._publish_run(replace(self._leading_run(), state="stopped"))

    def _build_and_train(self, make_model: Callable[..., Classifier], train: Callable[..., EventGenerator]) -> None:
        model = make_model(self._on_download_progress)  # takes no turn: a download is no work for the processor
        with self._scheduler.compute_slot():
            self.outline = model.summarize_stages()
        self.model = model
        with closing(train(model)) as events:
            self._consume_events(events)

    def _leading_run(self) -> Run:
        """The run as it stands; of a race that is not decided, that of the head which leads."""
        leader = self.run.leading_head if self.run.is_racing else ""
        if not leader:
            return self.run
        self.model = self._race_models[leader]
        return self.run.for_head(leader)

    def _on_queue_wait(self, place: int) -> None:
        if self._stop_requested.is_set():
            raise _StopRequested
        if place != self.run.queue_position:
            self._publish_run(replace(self.run, queue_position=place))

    def _on_download_progress(self, done: int, total: int) -> None:
        if self._stop_requested.is_set():
            raise _StopRequested
        self._publish_run(self.run.with_event(Fetching(done, total)))

    def _consume_events(self, events: EventGenerator) -> None:
        end = time.monotonic() + 60 * get_limits().minutes
        while not self._stop_requested.is_set():
            if time.monotonic() > end:
                raise _TimeLimitExceeded
            with self._scheduler.compute_slot():
                event = next(events, None)
            if event is None:
                return
            if isinstance(event, Lap) and event.model is not None:
                self._race_models[event.head] = event.model
            elif isinstance(event, Won):
                self.model, self._race_models = event.model, {}
            self._publish_run(self.run.with_event(event))

    def _publish_run(self, run: Run) -> None:
        with self._run_changed:
            self.run = run
            self._run_changed.notify_all()
