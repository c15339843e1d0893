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
from headswap.common.plain_data import plain_answers, plain_event
from headswap.data.checks import findings
from headswap.data.dataset import plain_report
from headswap.data.decoding import read_pixels
from headswap.data.loading import loading
from headswap.data.sources import ARCHIVES
from headswap.networks.catalogue import DEFAULT, find, too_large
from headswap.training.events import Event
from headswap.training.plan import Plan
from headswap.training.trainer import train
from headswap.ui.panels.picker import Upload, received
from headswap.ui.sessions.chosen_network import network, preview
from headswap.ui.sessions.job import Fetching, Job, Lesson, Run, Turns
from headswap.ui.sessions.session import Choice, Visitor, Visitors

VERBS = ("load_images", "train", "predict", "forget")
SUGGESTED = "suggested"
NEWS = 0.1  # seconds between two looks for news of a training
GONE = "This ticket is not known, or was let go of. Load the images again."


@dataclass(frozen=True)
class Verbs:
    """What a program can ask for."""

    visitors: Visitors
    turns: Turns

    def load_images(self, archive: dict, ticket: str = "") -> tuple[str, dict]:
        """Load a zip or a tar.gz with one folder for each class.

        Args:
            archive: the uploaded file, ``handle_file("leaves.zip")`` in Python.
            ticket: to put these images in place of earlier ones; without it somebody new arrives.

        Returns:
            The ticket for all that follows, and what was read: images, classes, understood, notes, skipped, findings.
        """
        with _explained(), self._present(ticket, new=not ticket) as (mine, visitor):
            upload = _uploaded(archive, visitor)
            if not upload.path.name.lower().endswith(ARCHIVES):
                raise InputError(f"{upload.name} is no archive. Send a zip or a tar.gz with a folder for each class.")
            with closing(loading(upload.path, name=upload.name)) as steps:
                for images in steps:  # noqa: B007, the last of them is what was loaded
                    pass
            visitor.take(images)
            return mine, {
                **plain_report(images),
                "findings": [str(finding) for finding in findings(images)],
            }

    def train(
        self, ticket: str, backbone: str = DEFAULT, head: str = "linear", plan: str = SUGGESTED
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
        with _explained(), self._present(ticket) as (_, visitor):
            job = visitor.begin(lambda: self._job(visitor, Choice(backbone, head), plan))
            if job is None:
                raise InputError("A training runs already with this ticket. Wait for its end, or load images anew.")
            try:
                yield from _told(job)
            finally:
                job.stop()
                if job.run.ended:
                    visitor.take_over(job)

    def predict(self, ticket: str, image: dict) -> list[dict]:
        """Classify an image with the model that was trained.

        Args:
            ticket: as ``load_images`` gave it.
            image: the uploaded file, ``handle_file("new.jpg")`` in Python.

        Returns:
            A list of {class, probability}, likeliest first.
        """
        with _explained(), self._present(ticket) as (_, visitor):
            upload = _uploaded(image, visitor)
            if visitor.job and visitor.job.run.ended:
                visitor.take_over(visitor.job)
            if visitor.trained is None:
                raise InputError("No model has learned anything yet. Train one first.")
            model = visitor.trained.model
            pixels = read_pixels(upload.path, model.preprocess.resize, model.preprocess.interpolation)
            with self.turns.beside():
                return plain_answers(model.predict(pixels))

    def forget(self, ticket: str) -> bool:
        """Let go of the images, the model and the ticket at once.

        Args:
            ticket: as ``load_images`` gave it.

        Returns:
            Whether there was anything to let go of.
        """
        return self.visitors.forget(ticket)

    @contextmanager
    def _present(self, ticket: str, new: bool = False) -> Iterator[tuple[str, Visitor]]:
        if not new and (not isinstance(ticket, str) or self.visitors.find(ticket) is None):
            raise InputError(GONE)
        with self.visitors.present(None if new else ticket) as mine:
            visitor = self.visitors.find(mine)
            try:
                yield mine, visitor
            except BaseException:
                if new:
                    self.visitors.forget(mine)  # nobody will ever know this ticket
                raise

    def _job(self, visitor: Visitor, choice: Choice, plan: str) -> Job:
        if visitor.wanting:
            raise InputError(visitor.wanting)
        if refusal := too_large(find(choice.backbone)):
            raise InputError(refusal)
        images = visitor.images
        drawn = preview(choice, images.classes, images.multi_label)
        going = Plan.suggest(images, drawn) if plan == SUGGESTED else Plan.named(plan)
        visitor.choose(choice)
        return Job(
            lambda progress: network(choice, images, self.turns, progress),
            lambda model: train(model, images, going),
            self.turns,
            Lesson(images, going),
        )


def offer(page: gr.Blocks, visitors: Visitors, turns: Turns) -> None:
    """The verbs as endpoints of the page while it is being built, and nothing else of it."""
    for event in page.fns.values():
        event.api_visibility = "private"
    verbs = Verbs(visitors, turns)
    for name in VERBS:
        gr.api(getattr(verbs, name), api_name=name)


def news(before: Run, now: Run) -> Iterator[Event | Fetching]:
    """What was told between two looks at a run, in its order."""
    if now.fetched is not before.fetched:
        yield now.fetched
    if now.read is not before.read and not before.reference:
        yield now.read
    if now.reference is not before.reference:
        yield now.reference
    phases, epochs = now.phases[len(before.phases) :], now.epochs[len(before.epochs) :]
    begun = [(phase.first_epoch, 0, phase) for phase in phases]
    over = [(epoch.number, 1, epoch) for epoch in epochs]
    for _, _, event in sorted(begun + over, key=lambda row: row[:2]):
        yield event
    if now.read is not before.read and before.reference:  # once more, at the boundary of a later phase
        yield now.read
    if now.step is not before.step and not (epochs and now.step.epoch <= epochs[-1].number):
        yield now.step
    if now.kept is not before.kept:
        yield now.kept


def _told(job: Job) -> Iterator[dict[str, Any]]:
    seen = Run()
    for run in job.watch(NEWS):
        for event in news(seen, run):
            yield plain_event(event)
        seen = run
    if seen.state == "failed":
        raise InputError(seen.problem)
    if seen.state == "stopped":
        yield {"event": "Stopped", "best": plain_event(seen.best) if seen.best else None}


def _uploaded(file: object, visitor: Visitor) -> Upload:
    """A file that a program sent: inside the upload folder, or refused; it is removed with the visitor."""
    known = file if isinstance(file, dict) else {}
    path = known.get("path")
    name = known.get("orig_name") or str(path or "").replace("\\", "/").rsplit("/", 1)[-1]
    [upload] = received([{"name": name, "path": path}])
    visitor.uploads.add(upload.path)
    return upload


@contextmanager
def _explained() -> Iterator[None]:
    """What was wrong with the input reaches whoever sent it, in words."""
    try:
        yield
    except ValueError as error:  # an InputError among them
        raise gr.Error(str(error), print_exception=False) from error
