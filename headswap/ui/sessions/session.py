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
from headswap.common.limits import get_limits
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.evaluation.evaluate import Evaluation
from headswap.features import inference
from headswap.features.precompute import PrecomputedFeatures
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import get_head_options
from headswap.training.checkpoints import restore
from headswap.training.events import Candidate, ClassificationMetrics
from headswap.ui.sessions.job import Job, Run
from headswap.ui.sessions.run_summary import RunSummary


@dataclass(frozen=True)
class ModelChoice:
    """The backbone and the head that a visitor has chosen."""

    backbone: str
    head: str
    head_options: dict[str, object] = field(default_factory=dict)
    crop: str = "centre"
    pretrained: bool = True

    @property
    def with_linear_head(self) -> ModelChoice:
        """The part of it that frozen stages depend on: the same choice with the plainest head."""
        return replace(self, head="linear", head_options={})


@dataclass(frozen=True)
class TrainedModel:
    """A model with the run that taught it, and which of the networks that the run passed it holds now.

    One that was opened from a file has no run; what its record says is then all that is known.
    """

    model: Classifier
    run: Run | None = None
    active_candidate: str = ""  # "frozen" or "reference", kept in place of what the run itself kept
    own_candidate: Candidate | None = field(default=None, repr=False)  # the way back from there
    run_number: int = field(default=0, compare=False)  # of its run among the visitor's; 0 where it is none of them

    @property
    def trained_stages(self) -> tuple[str, ...]:
        """The stages that have learned, besides the head, in what the model holds now."""
        return () if self.active_candidate else self.trained_stages_of_run

    @property
    def trained_stages_of_run(self) -> tuple[str, ...]:
        """The stages that have learned, besides the head, in what the run itself kept."""
        if self.run is None:
            return self.model.record.learning_stages if self.model.record else ()
        kept, phases = self.run.kept, self.run.phases
        if kept and kept.refitted:  # its epoch is that of the honest run
            return phases[-1].learning_stages
        number = kept.epoch if kept else self.run.best_epoch.number
        return [phase for phase in phases if phase.first_epoch <= number][-1].learning_stages

    @property
    def validation_metrics(self) -> ClassificationMetrics | None:
        """How what the model holds now answered the validation images; None of a file that does not say."""
        if self.run is None:
            told = self.model.record and self.model.record.result
            return told and ClassificationMetrics(told.score, told.metric, told.correct, told.total, nan)
        kept, best = self.run.kept, self.run.best_epoch
        if self.active_candidate:
            return kept.candidates[self.active_candidate].validation_metrics
        if kept:
            return ClassificationMetrics(kept.score, kept.metric, kept.correct, kept.total, nan)
        return best.validation_metrics

    @property
    def available_candidates(self) -> tuple[str, ...]:
        """What can be kept in place of what the model holds now: "frozen", "reference" or "own"."""
        kept = self.run and self.run.kept
        if kept is None or kept.refitted:
            return ()
        reference = kept.candidates.get("reference")
        could = {
            "frozen": "frozen" in kept.candidates and bool(self.trained_stages_of_run),
            "reference": reference is not None and reference.validation_metrics.correct > kept.correct,
            "own": bool(self.active_candidate),
        }
        return tuple(name for name, can in could.items() if can and name != self.active_candidate)

    def with_candidate(self, name: str) -> TrainedModel:
        """The same with what is ``offered`` under this name put into its model."""
        if name == "own":
            restore(self.model, self.own_candidate)
            return replace(self, active_candidate="", own_candidate=None)
        offer = self.run.kept.candidates[name]
        model = self.model
        own = self.own_candidate or Candidate(
            None, copy.deepcopy(model.head), self._clone_weights(offer.weights), model.record, model.seen
        )
        restore(self.model, offer)
        return replace(self, active_candidate=name, own_candidate=own)

    def _clone_weights(self, parameter_names: Iterable[str]) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: state[name].clone() for name in parameter_names}


@dataclass(frozen=True)
class ImagePrediction:
    """What a model said to one new image, or why that could not be read."""

    name: str
    data_url: str = ""  # as a data: address
    ranked_probabilities: tuple[tuple[str, float], ...] = ()  # classes and probabilities, the most likely first
    labels: tuple[str, ...] | None = None  # where it may carry several
    problem: str = ""
    true_label: str = ""  # what it is known to show


@dataclass(frozen=True)
class PredictionBatch:
    """What one model said to new images, of which there may have been more."""

    trained_model: TrainedModel
    predictions: tuple[ImagePrediction, ...]
    num_images: int


@dataclass(frozen=True, eq=False)
class ErrorAnalysis:
    """How one model answered images whose classes are known, and which of its answers are being looked at."""

    trained_model: TrainedModel
    images: LabelledImages  # those that could be read, in the order of the evaluation
    evaluation: Evaluation
    subset: str  # "validation", "learned" for the visitor's own, most of which it has learned from, or "test"
    unreadable: tuple[tuple[str, str], ...] = ()  # (name, reason)
    selected_cell: tuple[int, int] | None = None


def find_untrainable_reason(images: LabelledImages, seen: SeenImages = NO_SEEN_IMAGES) -> str:
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
class Session:
    """What one tab of a browser has here."""

    images: LabelledImages | None = None
    choice: ModelChoice = field(
        default_factory=lambda: ModelChoice(DEFAULT_BACKBONE, "linear", get_head_options("linear"))
    )
    job: Job | None = None
    trained_model: TrainedModel | None = None  # the last model that learned something
    run_summaries: tuple[RunSummary, ...] = ()  # what trainings with these images came to
    previous_images: LabelledImages | None = None  # the images before the last change, which can be undone
    expanded_class: str | None = None  # the class whose images are all shown
    num_unfrozen_stages: int | None = None  # so many of the last ones are to learn, if that was asked for
    resume_training: bool = False  # the next training goes on with what was trained, instead of a new head
    is_measuring_speed: bool = False  # the backbones' times on this machine are being measured
    predictions: PredictionBatch | None = None  # what the model said to new images
    error_analysis: ErrorAnalysis | None = None  # what it gets wrong
    precomputed_features: PrecomputedFeatures | None = (
        None  # the frozen pass of these images, begun while nobody trained
    )
    export_dir: tempfile.TemporaryDirectory | None = None  # where files lie that are taken along
    uploads: set[Path] = field(default_factory=set)  # read where they were uploaded to; they go with the visitor
    tabs: set[str] = field(default_factory=set)
    away_since: float | None = None
    is_released: bool = field(default=False, compare=False)  # let go of; nothing begins for it any more
    choice_lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    # Of what must not happen twice or in between, whoever presses at the same moment.
    _state_lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...] | int:
        """The names of the classes; three for a first drawing while there are no images."""
        return self.images.classes if self.images else 3

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.images is not None and self.images.multi_label

    @property
    def is_training(self) -> bool:
        """Whether a training runs."""
        return self.job is not None and not self.job.run.has_ended

    @property
    def untrainable_reason(self) -> str:
        """What is missing before the images can be learned from, in a sentence; nothing where they can."""
        if self.images is None:
            return "There are no images yet. Choose images in the first step, and the training can begin."
        return find_untrainable_reason(self.images, self.seen)

    @property
    def seen(self) -> SeenImages:
        """Which images the next training's model knows before it."""
        return self.trained_model.model.seen if self.resume_training and self.trained_model else NO_SEEN_IMAGES

    @property
    def held_out_images(self) -> LabelledImages | None:
        """The images that were held back from the training of what answers, while they are there."""
        job, trained = self.job, self.trained_model
        if job is None or trained is None or trained.run is not job.run or job.training_setup is None:
            return None
        images, plan = job.training_setup.images, job.training_setup.plan
        return trained.model.seen.split(images, plan.validation_fraction, plan.seed)[1]

    def start_job(self, make_job: Callable[[], Job]) -> Job | None:
        """Begin a training with what ``make`` makes, unless one runs: of presses at the same moment one wins.

        Returns:
            The training that has begun; None where none has.

        Raises:
            Exception: whatever ``make`` raises; then nothing has begun.
        """
        with self._state_lock:
            if self.is_training or self.is_released:
                return None
            self.job = make_job()
            return self.job

    def restore_candidate(self, name: str) -> None:
        """Put what the last training offers under this name into the model that answers, unless it has it already."""
        with self._state_lock:
            if self.trained_in_current_job and name in self.trained_model.available_candidates:
                self.trained_model = self.trained_model.with_candidate(name)

    @property
    def trained_in_current_job(self) -> TrainedModel | None:
        """What was learned in the training that stands on the page, once it is over."""
        trained, job = self.trained_model, self.job
        return trained if trained and job and trained.run is job.run else None

    def try_start_measuring(self) -> bool:
        """Whether the backbones may be measured now, because nobody does so already; then they are being measured."""
        with self._state_lock:
            mine = not self.is_measuring_speed
            self.is_measuring_speed = True
            return mine

    def set_resume_training(self, enabled: bool) -> None:
        """The next training goes on with what was trained, or begins with a new head; not while one runs."""
        with self._state_lock:
            if not self.is_training:
                self.resume_training, self.job = enabled, None

    def set_images(self, images: LabelledImages) -> None:
        """New images in place of the old ones; a training that runs keeps its own until it ends."""
        shared = self.images is not None and self.images.shares_files_with(images)
        self.previous_images = self.images
        if not shared:
            self.error_analysis, self.num_unfrozen_stages = None, None
        self._replace_images(images)

    def undo_image_change(self) -> None:
        """The images as they were before the last change."""
        if self.previous_images is not None:
            self._replace_images(self.previous_images)
            self.previous_images = None

    def clear_images(self) -> None:
        """No images; their files go with the training that still uses them."""
        self.previous_images = self.error_analysis = None
        self._replace_images(None)

    def _replace_images(self, images: LabelledImages | None) -> None:
        self.images, self.precomputed_features, self.run_summaries = (
            images,
            None,
            (),
        )  # figures of other images cannot be compared
        if images is None or self.expanded_class not in images.classes:
            self.expanded_class = None
        if self.job:
            self.job.release_images()
        self._discard_finished_job()

    def set_choice(self, choice: ModelChoice) -> None:
        """Another backbone or head, for the next training."""
        if choice != self.choice:
            if choice.backbone != self.choice.backbone:
                self.num_unfrozen_stages = None  # it counted the stages of another network
            if choice.with_linear_head != self.choice.with_linear_head:
                self.precomputed_features = None
            self.choice, self.resume_training = choice, False
            self._discard_finished_job()

    def _discard_finished_job(self) -> None:
        """Curves of other images or another network would mislead; the model that learned by them stays."""
        with self._state_lock:
            if not self.is_training:
                self.job = None

    def adopt_trained_model(self, job: Job) -> None:
        """What a training that has ended has taught is what answers from now on."""
        with self._state_lock:  # two tabs may watch the same one
            if self.job is not job:
                return
            if job.run.kept or (job.run.state == "stopped" and job.run.best_epoch):
                if self.trained_model is None or self.trained_model.run is not job.run:
                    self.trained_model = TrainedModel(job.model, job.run, run_number=self._record_run(job))
                job.previous_job = None
            elif job.previous_job:
                self.job = job.previous_job

    def _record_run(self, job: Job) -> int:
        """Remember what a training with these images came to, and give its number; 0 for one with other images."""
        if job.images_replaced:
            return 0
        run, mine = job.run, type(job.model.head).__name__.lower()
        for head in run.heads:
            theirs = replace(run.for_head(head), kept=None)
            if head != mine and theirs.epochs:
                self.run_summaries = (
                    *self.run_summaries,
                    RunSummary.from_run(len(self.run_summaries) + 1, job.model, theirs, head),
                )
        self.run_summaries = (*self.run_summaries, RunSummary.from_run(len(self.run_summaries) + 1, job.model, run))
        return self.run_summaries[-1].number

    def use_loaded_model(self, model: Classifier) -> None:
        """A model from a file is what answers from now on, and what the next training goes on with."""
        self.trained_model, self.resume_training = TrainedModel(model), True
        self._discard_finished_job()

    def ensure_export_dir(self) -> Path:
        """A folder for files that are taken along; it goes with the visitor."""
        self.export_dir = self.export_dir or tempfile.TemporaryDirectory(prefix="headswap-")
        return Path(self.export_dir.name)

    def release(self) -> None:
        """Stop what runs and let go of the rest; files and memory follow with the last reference to them."""
        with self._state_lock:
            self.is_released = True
            if self.job:
                self.job.stop()
                self.job.release_images()
            self.images = self.previous_images = self.job = self.trained_model = self.predictions = (
                self.error_analysis
            ) = self.precomputed_features = None
            self.run_summaries = ()
        if self.export_dir:
            self.export_dir.cleanup()
            self.export_dir = None
        for upload in self.uploads:
            upload.unlink(missing_ok=True)
        self.uploads.clear()


class SessionRegistry:
    """The visitors by ticket. Safe to call from several threads."""

    def __init__(self, patience: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``patience``: seconds for which an absent visitor's things are kept; ``limits().away`` by default."""
        self._idle_timeout = 60.0 * get_limits().away if patience is None else patience
        self._clock = clock
        self._lock = threading.Lock()
        self._by_ticket: dict[str, Session] = {}
        self._expiry_thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._by_ticket)

    def open_tab(self, ticket: str | None, tab: str) -> str:
        """A tab is there, with the ticket that it remembers; returns that ticket, or a new one if it is not known."""
        with self._lock:
            if ticket not in self._by_ticket:
                ticket = secrets.token_urlsafe(16)
                self._by_ticket[ticket] = Session()
            visitor = self._by_ticket[ticket]
            visitor.tabs.add(tab)
            visitor.away_since = None
            return ticket

    def close_tab(self, tab: str) -> None:
        """A tab is gone; perhaps it is only being loaded again."""
        with self._lock:
            for visitor in self._by_ticket.values():
                visitor.tabs.discard(tab)
                if not visitor.tabs and visitor.away_since is None:
                    visitor.away_since = self._clock()

    @contextmanager
    def hold_session(self, ticket: str | None) -> Iterator[str]:
        """Somebody without a tab is there for as long as the block runs; the ticket is theirs, or a new one."""
        tab = secrets.token_urlsafe(16)
        ticket = self.open_tab(ticket, tab)
        try:
            yield ticket
        finally:
            self.close_tab(tab)

    def remove_session(self, ticket: str | None) -> bool:
        """Let go of a visitor at once; returns whether there was one."""
        with self._lock:
            visitor = self._by_ticket.pop(ticket, None)
        _release_sessions([visitor] if visitor else [])
        return visitor is not None

    def get_session(self, ticket: str | None) -> Session | None:
        """The visitor with this ticket; None once it was let go of."""
        with self._lock:
            return self._by_ticket.get(ticket)

    def list_active(self) -> list[Session]:
        """Those whose page is open."""
        with self._lock:
            return [visitor for visitor in self._by_ticket.values() if visitor.tabs]

    def expire_idle(self) -> int:
        """Let go of everybody who has been away for too long; returns how many those were."""
        with self._lock:
            long_gone = [
                ticket
                for ticket, visitor in self._by_ticket.items()
                if visitor.away_since is not None and self._clock() - visitor.away_since > self._idle_timeout
            ]
            leaving = [self._by_ticket.pop(ticket) for ticket in long_gone]
        _release_sessions(leaving)
        return len(leaving)

    def start_expiry_thread(self, interval: float = 30.0) -> None:
        """Sweep every so many seconds for as long as the program runs, and give back the memory that nobody uses."""

        def work() -> None:
            while True:
                time.sleep(interval)
                self.expire_idle()
                system_memory.release_freed_memory()

        self._expiry_thread = threading.Thread(target=work, daemon=True, name="sweeper")
        self._expiry_thread.start()


def _release_sessions(sessions: Sequence[Session]) -> None:
    """Of these, of copies of what their models were, and of the memory that all of it took."""
    for visitor in sessions:
        visitor.release()
    if sessions:
        inference.clear_engine_cache()
        gc.collect()
        system_memory.release_freed_memory()
