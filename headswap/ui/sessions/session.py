"""Per-tab session state: images, model choice, training job, trained model and what was derived from them."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.features.precompute import PrecomputedFeatures
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import get_head_options
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.run_summary import RunSummary
from headswap.ui.sessions.state import ErrorAnalysis, ModelChoice, PredictionBatch, TrainedModel


def find_untrainable_reason(images: LabelledImages, seen: SeenImages = NO_SEEN_IMAGES) -> str:
    """Why no model can be trained on these images, in a sentence; empty if one can.

    Args:
        images: The dataset.
        seen: The images that the model knows already, if a training is to be resumed.
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
    """The state of one browser tab and its reloads.

    Attributes:
        images: The dataset.
        choice: Backbone and head for the next training.
        job: The latest training, unless the images or the choice have changed since it ended.
        trained_model: The model that predicts: of the last training that finished an epoch, or from a file.
        run_summaries: Finished trainings with these images, the oldest first.
        previous_images: The dataset before its last change, for undo.
        expanded_class: The class all of whose images are shown.
        num_unfrozen_stages: Number of last stages to unfreeze; None for the suggested number.
        resume_training: Whether the next training continues from ``trained_model`` instead of a new head.
        is_measuring_speed: Whether the backbones are being timed on this machine for this session.
        predictions: Predictions for new images.
        error_analysis: The evaluation of ``trained_model``.
        precomputed_features: The frozen pass over these images, started while the machine was idle.
        export_dir: Directory of exported files.
        uploads: Uploaded files that are deleted with the session.
        tabs: Identifiers of the open tabs.
        away_since: Time at which the last tab was closed; None while one is open.
        is_released: Whether the session has been released, after which no training starts for it.
        choice_lock: Held by handlers that read and replace ``choice``.
    """

    images: LabelledImages | None = None
    choice: ModelChoice = field(
        default_factory=lambda: ModelChoice(DEFAULT_BACKBONE, "linear", get_head_options("linear"))
    )
    job: Job | None = None
    trained_model: TrainedModel | None = None
    run_summaries: tuple[RunSummary, ...] = ()
    previous_images: LabelledImages | None = None
    expanded_class: str | None = None
    num_unfrozen_stages: int | None = None
    resume_training: bool = False
    is_measuring_speed: bool = False
    predictions: PredictionBatch | None = None
    error_analysis: ErrorAnalysis | None = None
    precomputed_features: PrecomputedFeatures | None = None
    export_dir: tempfile.TemporaryDirectory[str] | None = None
    uploads: set[Path] = field(default_factory=set)
    tabs: set[str] = field(default_factory=set)
    away_since: float | None = None
    is_released: bool = field(default=False, compare=False)
    choice_lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    # Guards the transitions of job and trained_model, which several tabs may request at once.
    _state_lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...] | int:
        """The class names; 3 as a placeholder for previews while there are no images."""
        return self.images.classes if self.images else 3

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.images is not None and self.images.multi_label

    @property
    def is_training(self) -> bool:
        """Whether a training is queued or runs."""
        return self.job is not None and not self.job.run.has_ended

    @property
    def untrainable_reason(self) -> str:
        """Why no model can be trained on the images, in a sentence; empty if one can."""
        if self.images is None:
            return "There are no images yet. Choose images in the first step, and the training can begin."
        return find_untrainable_reason(self.images, self.seen)

    @property
    def seen(self) -> SeenImages:
        """The images that the next training's model knows already."""
        return self.trained_model.model.seen if self.resume_training and self.trained_model else NO_SEEN_IMAGES

    @property
    def held_out_images(self) -> LabelledImages | None:
        """The validation images of the trained model, if it comes from the current job and the images still exist."""
        job, trained_model = self.job, self.trained_model
        if job is None or trained_model is None or trained_model.run is not job.run or job.training_setup is None:
            return None
        images, plan = job.training_setup.images, job.training_setup.plan
        return trained_model.model.seen.split(images, plan.validation_fraction, plan.seed)[1]

    @property
    def trained_in_current_job(self) -> TrainedModel | None:
        """The trained model, if it comes from the current job."""
        trained_model, job = self.trained_model, self.job
        return trained_model if trained_model and job and trained_model.run is job.run else None

    def require_images(self) -> LabelledImages:
        """The dataset.

        Raises:
            InputError: If there is none.
        """
        if self.images is None:
            raise InputError(self.untrainable_reason)
        return self.images

    def start_job(self, make_job: Callable[[], Job]) -> Job | None:
        """Start a training unless one runs; of simultaneous calls only one starts its job.

        Args:
            make_job: Creates the job; whatever it raises is passed on, and no job is replaced.

        Returns:
            The new job; None if a training runs or the session has been released.
        """
        with self._state_lock:
            if self.is_training or self.is_released:
                return None
            self.job = make_job()
            return self.job

    def restore_candidate(self, name: str) -> None:
        """Restore a candidate of the last training into the trained model, if it is available."""
        with self._state_lock:
            trained_model = self.trained_in_current_job
            if trained_model and name in trained_model.available_candidates:
                self.trained_model = trained_model.with_candidate(name)

    def try_start_measuring(self) -> bool:
        """Mark the backbones as being timed; returns False if they already are."""
        with self._state_lock:
            started = not self.is_measuring_speed
            self.is_measuring_speed = True
            return started

    def set_resume_training(self, enabled: bool) -> None:
        """Choose whether the next training continues from the trained model; ignored while a training runs."""
        with self._state_lock:
            if not self.is_training:
                self.resume_training, self.job = enabled, None

    def set_images(self, images: LabelledImages) -> None:
        """Replace the dataset; a running training keeps its own until it ends."""
        is_edited_copy = self.images is not None and self.images.shares_files_with(images)
        self.previous_images = self.images
        if not is_edited_copy:
            self.error_analysis, self.num_unfrozen_stages = None, None
        self._replace_images(images)

    def undo_image_change(self) -> None:
        """Restore the dataset as it was before its last change."""
        if self.previous_images is not None:
            self._replace_images(self.previous_images)
            self.previous_images = None

    def clear_images(self) -> None:
        """Drop the dataset; its files are deleted once no running training refers to them."""
        self.previous_images = self.error_analysis = None
        self._replace_images(None)

    def _replace_images(self, images: LabelledImages | None) -> None:
        self.images, self.precomputed_features = images, None
        self.run_summaries = ()  # metrics on different images are not comparable
        if images is None or self.expanded_class not in images.classes:
            self.expanded_class = None
        if self.job:
            self.job.release_images()
        self._discard_finished_job()

    def set_choice(self, choice: ModelChoice) -> None:
        """Choose another backbone or head for the next training."""
        if choice == self.choice:
            return
        if choice.backbone != self.choice.backbone:
            self.num_unfrozen_stages = None  # it counted the stages of another network
        if choice.with_linear_head != self.choice.with_linear_head:
            self.precomputed_features = None
        self.choice, self.resume_training = choice, False
        self._discard_finished_job()

    def _discard_finished_job(self) -> None:
        """Drop a finished job, whose curves are of other images or another network; the trained model is kept."""
        with self._state_lock:
            if not self.is_training:
                self.job = None

    def adopt_trained_model(self, job: Job) -> None:
        """Use the model of a job that has ended, or go back to the previous job if it has kept no weights."""
        with self._state_lock:  # two tabs may watch the same job
            if self.job is not job:
                return
            run = job.run
            has_kept_weights = run.kept is not None or (run.state == "stopped" and run.best_epoch is not None)
            if job.model is not None and has_kept_weights:
                if self.trained_model is None or self.trained_model.run is not run:
                    self.trained_model = TrainedModel(job.model, run, run_number=self._record_run(job, job.model))
                job.previous_job = None
            elif job.previous_job:
                self.job = job.previous_job

    def _record_run(self, job: Job, model: Classifier) -> int:
        """Append summaries of a job's run and of the heads that lost its race.

        Returns:
            The number of the run; 0 if it had other images.
        """
        if job.images_replaced:
            return 0
        run, own_head = job.run, type(model.head).__name__.lower()
        lost = {head: replace(run.for_head(head), kept=None) for head in run.heads if head != own_head}
        for head, head_run in lost.items():
            if head_run.epochs:
                self._append_summary(model, head_run, head)
        return self._append_summary(model, run)

    def _append_summary(self, model: Classifier, run: Run, head: str = "") -> int:
        summary = RunSummary.from_run(len(self.run_summaries) + 1, model, run, head)
        self.run_summaries = (*self.run_summaries, summary)
        return summary.number

    def use_loaded_model(self, model: Classifier) -> None:
        """Use a model from a file, from which the next training continues."""
        self.trained_model, self.resume_training = TrainedModel(model), True
        self._discard_finished_job()

    def ensure_export_dir(self) -> Path:
        """The directory of exported files, which is deleted with the session."""
        self.export_dir = self.export_dir or tempfile.TemporaryDirectory(prefix="headswap-")
        return Path(self.export_dir.name)

    def release(self) -> None:
        """Stop a running training, delete the session's files and drop all references to images and models."""
        with self._state_lock:
            self.is_released = True
            if self.job:
                self.job.stop()
                self.job.release_images()
            self.images = self.previous_images = self.job = self.trained_model = None
            self.predictions = self.error_analysis = self.precomputed_features = None
            self.run_summaries = ()
        if self.export_dir:
            self.export_dir.cleanup()
            self.export_dir = None
        for upload in self.uploads:
            upload.unlink(missing_ok=True)
        self.uploads.clear()
