"""The same verbs for programs: load images, train, predict and forget, by Gradio's own client or by plain requests.

Whoever loads images gets a ticket and passes it on; it is a visitor's like any other, and is let go of ten minutes
after it was last used. Knows nothing of the page's components.
"""

# Gradio reads the types of what is returned as they stand, so they may not become strings here.

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.errors import InputError
from headswap.common.plain_data import event_to_dict, predictions_to_dicts
from headswap.data.checks import check
from headswap.data.dataset import load_report_to_dict
from headswap.data.decoding import read_pixels
from headswap.data.loading import load_images_with_progress
from headswap.data.sources import ARCHIVE_EXTENSIONS
from headswap.networks.catalogue import DEFAULT_BACKBONE, explain_download_refusal, find_backbone
from headswap.training.api import train
from headswap.training.events import Event
from headswap.training.plan import Plan
from headswap.ui.panels.picker import Upload, parse_uploads
from headswap.ui.sessions.chosen_network import build_meta_network, build_seeded_network
from headswap.ui.sessions.job import Fetching, Job, Run, Scheduler, TrainingSetup
from headswap.ui.sessions.session import ModelChoice, Session, SessionRegistry

API_FUNCTION_NAMES = ("load_images", "train", "predict", "forget")
SUGGESTED_PLAN = "suggested"
PROGRESS_POLL_SECONDS = 0.1  # seconds between two looks for news of a training
UNKNOWN_TICKET_MESSAGE = "This ticket is not known, or was let go of. Load the images again."


@dataclass(frozen=True)
class ApiFunctions:
    """What a program can ask for."""

    sessions: SessionRegistry
    scheduler: Scheduler

    def load_images(self, archive: dict, ticket: str = "") -> tuple[str, dict]:
        """Load a zip or a tar.gz with one folder for each class.

        Args:
            archive: the uploaded file, ``handle_file("leaves.zip")`` in Python.
            ticket: to put these images in place of earlier ones; without it somebody new arrives.

        Returns:
            The ticket for all that follows, and what was read: images, classes, understood, notes, skipped, findings.
        """
        with _raise_gradio_errors(), self._open_session(ticket, new=not ticket) as (mine, visitor):
            upload = _receive_upload(archive, visitor)
            if not upload.path.name.lower().endswith(ARCHIVE_EXTENSIONS):
                raise InputError(f"{upload.name} is no archive. Send a zip or a tar.gz with a folder for each class.")
            with closing(load_images_with_progress(upload.path, name=upload.name)) as steps:
                for images in steps:  # noqa: B007, the last of them is what was loaded
                    pass
            visitor.set_images(images)
            return mine, {
                **load_report_to_dict(images),
                "findings": [str(finding) for finding in check(images)],
            }

    def train(
        self, ticket: str, backbone: str = DEFAULT_BACKBONE, head: str = "linear", plan: str = SUGGESTED_PLAN
    ) -> Iterator[dict]:
        """Teach a network the classes of the images that were loaded, told as it goes; the last event is Kept.

        Args:
            ticket: as ``load_images`` gave it.
            backbone: a network by its name, such as resnet18.
            head: linear, bottleneck, mlp, attention or lda.
            plan: suggested, head only, freeze then unfreeze, gradual or from the start.

        Returns:
            One event after another: FrozenPass, Reference, PhaseBegins, Step, Epoch, Kept. Whoever stops listening
            stops the training, and its best weights are kept.
        """
        with _raise_gradio_errors(), self._open_session(ticket) as (_, visitor):
            job = visitor.start_job(lambda: self._make_training_job(visitor, ModelChoice(backbone, head), plan))
            if job is None:
                raise InputError("A training runs already with this ticket. Wait for its end, or load images anew.")
            try:
                yield from _stream_events(job)
            finally:
                job.stop()
                if job.run.has_ended:
                    visitor.adopt_trained_model(job)

    def predict(self, ticket: str, image: dict) -> list[dict]:
        """Classify an image with the model that was trained.

        Args:
            ticket: as ``load_images`` gave it.
            image: the uploaded file, ``handle_file("new.jpg")`` in Python.

        Returns:
            A list of {class, probability}, likeliest first.
        """
        with _raise_gradio_errors(), self._open_session(ticket) as (_, visitor):
            upload = _receive_upload(image, visitor)
            if visitor.job and visitor.job.run.has_ended:
                visitor.adopt_trained_model(visitor.job)
            if visitor.trained_model is None:
                raise InputError("No model has learned anything yet. Train one first.")
            model = visitor.trained_model.model
            pixels = read_pixels(upload.path, model.preprocess.resize, model.preprocess.interpolation)
            with self.scheduler.inference_slot():
                return predictions_to_dicts(model.predict(pixels))

    def forget(self, ticket: str) -> bool:
        """Let go of the images, the model and the ticket at once.

        Args:
            ticket: as ``load_images`` gave it.

        Returns:
            Whether there was anything to let go of.
        """
        return self.sessions.remove_session(ticket)

    @contextmanager
    def _open_session(self, ticket: str, new: bool = False) -> Iterator[tuple[str, Session]]:
        if not new and (not isinstance(ticket, str) or self.sessions.get_session(ticket) is None):
            raise InputError(UNKNOWN_TICKET_MESSAGE)
        with self.sessions.hold_session(None if new else ticket) as mine:
            visitor = self.sessions.get_session(mine)
            try:
                yield mine, visitor
            except BaseException:
                if new:
                    self.sessions.remove_session(mine)  # nobody will ever know this ticket
                raise

    def _make_training_job(self, visitor: Session, choice: ModelChoice, plan: str) -> Job:
        if visitor.untrainable_reason:
            raise InputError(visitor.untrainable_reason)
        if refusal := explain_download_refusal(find_backbone(choice.backbone)):
            raise InputError(refusal)
        images = visitor.images
        drawn = build_meta_network(choice, images.classes, images.multi_label)
        going = Plan.suggest(images, drawn) if plan == SUGGESTED_PLAN else Plan.from_name(plan)
        visitor.set_choice(choice)
        return Job(
            lambda progress: build_seeded_network(choice, images, self.scheduler, progress),
            lambda model: train(model, images, going),
            self.scheduler,
            TrainingSetup(images, going),
        )


def register_endpoints(page: gr.Blocks, sessions: SessionRegistry, scheduler: Scheduler) -> None:
    """The verbs as endpoints of the page while it is being built, and nothing else of it."""
    for event in page.fns.values():
        event.api_visibility = "private"
    verbs = ApiFunctions(sessions, scheduler)
    for name in API_FUNCTION_NAMES:
        gr.api(getattr(verbs, name), api_name=name)


def list_new_events(before: Run, now: Run) -> Iterator[Event | Fetching]:
    """What was told between two looks at a run, in its order."""
    if now.download is not before.download:
        yield now.download
    if now.frozen_pass is not before.frozen_pass and not before.reference:
        yield now.frozen_pass
    if now.reference is not before.reference:
        yield now.reference
    phases, epochs = now.phases[len(before.phases) :], now.epochs[len(before.epochs) :]
    begun = [(phase.first_epoch, 0, phase) for phase in phases]
    over = [(epoch.number, 1, epoch) for epoch in epochs]
    for _, _, event in sorted(begun + over, key=lambda row: row[:2]):
        yield event
    if now.frozen_pass is not before.frozen_pass and before.reference:  # once more, at the boundary of a later phase
        yield now.frozen_pass
    if now.step is not before.step and not (epochs and now.step.epoch <= epochs[-1].number):
        yield now.step
    if now.kept is not before.kept:
        yield now.kept


def _stream_events(job: Job) -> Iterator[dict[str, Any]]:
    seen = Run()
    for run in job.watch(PROGRESS_POLL_SECONDS):
        for event in list_new_events(seen, run):
            yield event_to_dict(event)
        seen = run
    if seen.state == "failed":
        raise InputError(seen.problem)
    if seen.state == "stopped":
        yield {"event": "Stopped", "best": event_to_dict(seen.best_epoch) if seen.best_epoch else None}


def _receive_upload(file: object, visitor: Session) -> Upload:
    """A file that a program sent: inside the upload folder, or refused; it is removed with the visitor."""
    known = file if isinstance(file, dict) else {}
    path = known.get("path")
    name = known.get("orig_name") or str(path or "").replace("\\", "/").rsplit("/", 1)[-1]
    [upload] = parse_uploads([{"name": name, "path": path}])
    visitor.uploads.add(upload.path)
    return upload


@contextmanager
def _raise_gradio_errors() -> Iterator[None]:
    """What was wrong with the input reaches whoever sent it, in words."""
    try:
        yield
    except ValueError as error:  # an InputError among them
        raise gr.Error(str(error), print_exception=False) from error
