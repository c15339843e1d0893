"""Training jobs: a thread per training and its observable state, independent of any page event.

A lost connection, a reload or a closed tab ends a page event, never a training.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from headswap.common import system_memory
from headswap.common.errors import InputError
from headswap.common.limits import get_limits
from headswap.data.dataset import LabelledImages
from headswap.features import inference
from headswap.networks.classifier import Classifier, StageSummary
from headswap.training.plan import Plan
from headswap.training.race import Lap, Won
from headswap.ui.sessions.run import EventGenerator, Fetching, Run
from headswap.ui.sessions.scheduler import Scheduler

DownloadCallback = Callable[[int, int], None]  # called with the bytes so far and in total
ModelFactory = Callable[[DownloadCallback], Classifier]
TrainFunction = Callable[[Classifier], EventGenerator]

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSetup:
    """The images and the plan of a training, from which it can be repeated."""

    images: LabelledImages
    plan: Plan


class _StopRequested(Exception):
    """Leaves the queue or ends a download when the user stops the job."""


class _TimeLimitExceeded(Exception):
    """Ends a training that has reached the time limit."""


class Job:
    """One training in a thread of its own.

    Attributes:
        run: The state so far; replaced by a new object at each event.
        model: The model that is trained; None until it has been built.
        outline: Names, shapes and sizes of the model's stages; empty until it has been built.
        training_setup: What the training can be repeated from; None once the images have been released.
        previous_job: The job that this one repeats.
        images_replaced: Whether the session has other images by now.
    """

    def __init__(
        self,
        make_model: ModelFactory,
        train: TrainFunction,
        scheduler: Scheduler,
        training_setup: TrainingSetup | None = None,
        previous_job: Job | None = None,
    ) -> None:
        """Start the thread at once.

        Args:
            make_model: Builds the model in the thread; receives a callback for the progress of a download.
            train: Called with the model; yields the events of the training.
            scheduler: Shared by all jobs.
            training_setup: Kept until ``release_images``, to repeat the training.
            previous_job: The training that this one repeats, restored if this one is stopped or fails.
        """
        self.training_setup: TrainingSetup | None = training_setup
        self.previous_job: Job | None = previous_job
        self.images_replaced: bool = False
        self.model: Classifier | None = None
        self.outline: tuple[StageSummary, ...] = ()
        self.run: Run = Run()
        self._race_models: dict[str, Classifier] = {}
        self._scheduler = scheduler
        self._stop_requested = threading.Event()
        self._run_changed = threading.Condition()
        callables = [(make_model, train)]  # a list that the thread empties, because these refer to the images
        self._thread = threading.Thread(target=self._thread_main, args=(callables,), daemon=True, name="training")
        self._thread.start()

    def stop(self) -> None:
        """Ask the training to stop and to keep its best weights. Returns at once."""
        self._stop_requested.set()

    def release_images(self) -> None:
        """Drop the references to the images, after which the training cannot be repeated."""
        self.training_setup, self.images_replaced = None, True
        if self.previous_job:
            self.previous_job.release_images()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the training has ended, or for so many seconds."""
        self._thread.join(seconds)

    def watch(self, interval: float) -> Iterator[Run]:
        """Yield the run whenever it has changed, at most once every ``interval`` seconds; the last one has ended."""
        seen = self.run
        yield seen
        while not seen.has_ended:
            with self._run_changed:
                self._run_changed.wait_for(lambda: self.run.has_ended, timeout=interval)
                changed = self.run is not seen
                seen = self.run
            if changed:
                yield seen

    def _thread_main(self, callables: list[tuple[ModelFactory, TrainFunction]]) -> None:
        try:
            self._run_to_end(*callables[0])
        finally:
            callables.clear()
            if self.images_replaced:
                inference.clear_engine_cache()
            system_memory.release_freed_memory()

    def _run_to_end(self, make_model: ModelFactory, train: TrainFunction) -> None:
        try:
            with self._scheduler.training_slot(self._on_queue_wait):
                self._publish_run(replace(self.run, queue_position=0))
                self._build_and_train(make_model, train)
        except _StopRequested:
            self._publish_run(replace(self._select_leading_run(), state="stopped"))
        except _TimeLimitExceeded:
            self._publish_run(replace(self._select_leading_run(), state="stopped", timed_out=True))
        except InputError as error:
            self._publish_run(replace(self.run, state="failed", problem=str(error)))
        except Exception as error:
            logger.exception("A training ended with an error")
            text = f"The training ended with an error ({type(error).__name__}: {error}). What was there before is kept."
            self._publish_run(replace(self.run, state="failed", problem=text))
        else:
            if not self.run.has_ended:
                self._publish_run(replace(self._select_leading_run(), state="stopped"))

    def _build_and_train(self, make_model: ModelFactory, train: TrainFunction) -> None:
        model = make_model(self._on_download_progress)  # without a compute slot, because it may download
        with self._scheduler.compute_slot():
            self.outline = model.summarize_stages()
        self.model = model
        with closing(train(model)) as events:
            self._consume_events(events)

    def _select_leading_run(self) -> Run:
        """The run; of an undecided race the leading head's, whose model becomes the job's model."""
        leader = self.run.leading_head if self.run.is_racing else ""
        if not leader:
            return self.run
        self.model = self._race_models[leader]
        return self.run.for_head(leader)

    def _on_queue_wait(self, position: int) -> None:
        if self._stop_requested.is_set():
            raise _StopRequested
        if position != self.run.queue_position:
            self._publish_run(replace(self.run, queue_position=position))

    def _on_download_progress(self, done: int, total: int) -> None:
        if self._stop_requested.is_set():
            raise _StopRequested
        self._publish_run(self.run.with_event(Fetching(done, total)))

    def _consume_events(self, events: EventGenerator) -> None:
        deadline = time.monotonic() + 60 * get_limits().minutes
        while not self._stop_requested.is_set():
            if time.monotonic() > deadline:
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
