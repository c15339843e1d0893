"""HTTP API of the page: load images, train, predict and forget, as endpoints for Gradio's client or plain requests.

``load_images`` returns a ticket for the other calls. It belongs to a session like that of any tab, which expires ten
minutes after it was last used. Knows no components of the page.
"""

# No ``from __future__ import annotations`` here: Gradio reads the return types as they stand.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import api

from headswap.common.errors import InputError
from headswap.common.plain_data import event_to_dict, predictions_to_dicts
from headswap.data.checks import check
from headswap.data.dataset import load_report_to_dict
from headswap.data.decoding import read_pixels
from headswap.data.loading import load_images
from headswap.data.sources import ARCHIVE_EXTENSIONS
from headswap.networks.catalogue import DEFAULT_BACKBONE, explain_download_refusal, find_backbone
from headswap.training.api import train
from headswap.training.events import Event
from headswap.training.plan import Plan
from headswap.ui.panels.browser_events import Upload, parse_uploads
from headswap.ui.sessions.chosen_network import build_meta_network, build_seeded_network
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.run import Fetching, Run
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ModelChoice

API_FUNCTION_NAMES = ("load_images", "train", "predict", "forget")
SUGGESTED_PLAN = "suggested"
PROGRESS_POLL_SECONDS = 0.1  # at most one event of a training is missed less than this after another
UNKNOWN_TICKET_MESSAGE = "This ticket is not known, or was let go of. Load the images again."


@dataclass(frozen=True)
class ApiFunctions:
    """The functions behind the endpoints; their docstrings are shown in the API's documentation."""

    sessions: SessionRegistry
    scheduler: Scheduler

    def load_images(self, archive: dict[str, Any], ticket: str = "") -> tuple[str, dict[str, Any]]:
        """Load a zip or a tar.gz with one folder for each class.

        Args:
            archive: the uploaded file, ``handle_file("leaves.zip")`` in Python.
            ticket: to put these images in place of earlier ones; without it somebody new arrives.

        Returns:
            The ticket for all that follows, and what was read: images, classes, understood, notes, skipped, findings.
        """
        with _raise_gradio_errors(), self._open_session(ticket, new=not ticket) as (session_ticket, session):
            upload = _receive_upload(archive, session)
            if not upload.path.name.lower().endswith(ARCHIVE_EXTENSIONS):
                raise InputError(f"{upload.name} is no archive. Send a zip or a tar.gz with a folder for each class.")
            images = load_images(upload.path, name=upload.name)
            session.set_images(images)
            return session_ticket, {
                **load_report_to_dict(images),
                "findings": [str(finding) for finding in check(images)],
            }

    def train(
        self, ticket: str, backbone: str = DEFAULT_BACKBONE, head: str = "linear", plan: str = SUGGESTED_PLAN
    ) -> Iterator[dict[str, Any]]:
        """Train a network on the images that were loaded, and stream its events; of a full training the last is Kept.

        Args:
            ticket: as ``load_images`` gave it.
            backbone: a network by its name, such as resnet18.
            head: linear, bottleneck, mlp, attention or lda.
            plan: suggested, head only, freeze then unfreeze, gradual or from the start.

        Returns:
            One event after another: Fetching, FrozenPass, Reference, PhaseBegins, Step, Epoch, Kept; Stopped in place
            of Kept if the training was stopped or took too long. Whoever stops listening stops the training, and its
            best weights are kept.
        """
        with _raise_gradio_errors(), self._open_session(ticket) as (_, session):
            job = session.start_job(lambda: self._make_training_job(session, ModelChoice(backbone, head), plan))
            if job is None:
                raise InputError("A training runs already with this ticket. Wait for its end, or load images anew.")
            try:
                yield from _stream_events(job)
            finally:
                job.stop()
                if job.run.has_ended:
                    session.adopt_trained_model(job)

    def predict(self, ticket: str, image: dict[str, Any]) -> list[dict[str, Any]]:
        """Classify an image with the model that was trained.

        Args:
            ticket: as ``load_images`` gave it.
            image: the uploaded file, ``handle_file("new.jpg")`` in Python.

        Returns:
            A list of {class, probability}, likeliest first.
        """
        with _raise_gradio_errors(), self._open_session(ticket) as (_, session):
            upload = _receive_upload(image, session)
            if session.job and session.job.run.has_ended:
                session.adopt_trained_model(session.job)
            if session.trained_model is None:
                raise InputError("No model has learned anything yet. Train one first.")
            model = session.trained_model.model
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
        """Hold a session for the duration of a call.

        Args:
            ticket: of the session.
            new: whether to start a session, which is removed again if the call fails.
        """
        if not new and (not isinstance(ticket, str) or self.sessions.get_session(ticket) is None):
            raise InputError(UNKNOWN_TICKET_MESSAGE)
        with self.sessions.hold_session(None if new else ticket) as session_ticket:
            session = self.sessions.get_session(session_ticket)
            if session is None:  # removed in the meantime
                raise InputError(UNKNOWN_TICKET_MESSAGE)
            try:
                yield session_ticket, session
            except BaseException:
                if new:
                    self.sessions.remove_session(session_ticket)  # nobody will ever know this ticket
                raise

    def _make_training_job(self, session: Session, choice: ModelChoice, plan_name: str) -> Job:
        images = session.images
        if session.untrainable_reason or images is None:
            raise InputError(session.untrainable_reason)
        if refusal := explain_download_refusal(find_backbone(choice.backbone)):
            raise InputError(refusal)
        preview = build_meta_network(choice, images.classes, images.multi_label)
        plan = Plan.suggest(images, preview) if plan_name == SUGGESTED_PLAN else Plan.from_name(plan_name)
        session.set_choice(choice)
        return Job(
            lambda progress: build_seeded_network(choice, images, self.scheduler, progress),
            lambda model: train(model, images, plan),
            self.scheduler,
            TrainingSetup(images, plan),
        )


def register_endpoints(page: gr.Blocks, sessions: SessionRegistry, scheduler: Scheduler) -> None:
    """Make the API functions the only endpoints of a page that is being built."""
    for event in page.fns.values():
        event.api_visibility = "private"
    functions = ApiFunctions(sessions, scheduler)
    for name in API_FUNCTION_NAMES:
        api(getattr(functions, name), api_name=name)


def list_new_events(before: Run, now: Run) -> Iterator[Event | Fetching]:
    """The events between two states of a run, in their order."""
    if now.download is not None and now.download is not before.download:
        yield now.download
    frozen_pass = None if now.frozen_pass is before.frozen_pass else now.frozen_pass
    if frozen_pass is not None and not before.reference:
        yield frozen_pass
    if now.reference is not None and now.reference is not before.reference:
        yield now.reference
    phases, epochs = now.phases[len(before.phases) :], now.epochs[len(before.epochs) :]
    starts: list[tuple[int, int, Event]] = [(phase.first_epoch, 0, phase) for phase in phases]
    ends: list[tuple[int, int, Event]] = [(epoch.number, 1, epoch) for epoch in epochs]
    for _, _, event in sorted(starts + ends, key=lambda row: row[:2]):
        yield event
    if frozen_pass is not None and before.reference:  # a second one, at the boundary of a later phase
        yield frozen_pass
    step = None if now.step is before.step else now.step
    if step is not None and not (epochs and step.epoch <= epochs[-1].number):
        yield step
    if now.kept is not None and now.kept is not before.kept:
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


def _receive_upload(file: object, session: Session) -> Upload:
    """Parse a file that a program has uploaded; it is removed with the session.

    Raises:
        InputError: if it does not lie in the upload folder.
    """
    fields = file if isinstance(file, dict) else {}
    path = fields.get("path")
    name = fields.get("orig_name") or str(path or "").replace("\\", "/").rsplit("/", 1)[-1]
    [upload] = parse_uploads([{"name": name, "path": path}])
    session.uploads.add(upload.path)
    return upload


@contextmanager
def _raise_gradio_errors() -> Iterator[None]:
    """Turn errors of the input into errors that Gradio sends to the caller."""
    try:
        yield
    except ValueError as error:  # an InputError among them
        raise gr.Error(str(error), print_exception=False) from error
