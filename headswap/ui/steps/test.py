"""Test step: predicts uploaded, pasted, held-out or camera images and shows class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from PIL import Image

from headswap.common.errors import ImageReadError, InputError
from headswap.common.text import join_names, sanitize
from headswap.data.decoding import read_pixels
from headswap.data.sources import IMAGE_EXTENSIONS
from headswap.networks.classifier import Classifier
from headswap.ui.panels import held_out_samples, mistakes
from headswap.ui.panels.browser_events import FilesUpload, RefusedUpload, SampleClick, delete_uploads
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.mistakes import MistakesPanel
from headswap.ui.panels.scripted_html import build_scripted_html
from headswap.ui.sessions.chosen_network import build_meta_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ImagePrediction, PredictionBatch, TrainedModel
from headswap.ui.views.answers import render_answers, render_empty_answers
from headswap.ui.views.html import make_thumbnail_url, render_problem_card
from headswap.ui.views.network import backbone_title, head_title, render_network

MAX_IMAGES = 300  # images that are predicted at once
NO_MODEL_MESSAGE = (
    "No model has learned anything yet. Press Train in the third step, or open one that you kept in the fifth."
)
DROP_AGAIN_MESSAGE = "No model has learned anything yet. Press Train in the third step, then drop the images again."
CONFIDENCE_THRESHOLD = 0.6  # above 0.5, which the likelier of two classes always reaches
THUMBNAIL_SIZE = 160  # pixels a side
CAMERA_CONSTRAINTS = {"video": {"width": {"ideal": 320}, "height": {"ideal": 240}}}
CAMERA_INTERVAL = 1.0  # seconds between two frames

HtmlUpdate = str | dict[str, Any]  # new HTML, or what ``gr.skip`` returns


@dataclass(frozen=True)
class TestStep:
    """The step's components."""

    __test__ = False  # or pytest would collect the class

    stage_strip: gr.HTML
    status: gr.HTML
    files: gr.File
    camera: gr.Image
    samples_html: gr.HTML
    threshold: gr.Slider
    answers: gr.HTML
    mistakes_panel: MistakesPanel
    next_button: gr.Button

    @property
    def refresh_outputs(self) -> list[Block]:
        """The components that a ``TestUpdate`` sets."""
        return [self.stage_strip, self.status, self.samples_html, self.threshold]


@dataclass(frozen=True)
class TestUpdate:
    """New values of components, by name."""

    __test__ = False  # or pytest would collect the class

    stage_strip: str
    status: str
    samples_html: str
    threshold: gr.Slider


def build() -> TestStep:
    """Build the components, without events."""
    strip = gr.HTML(elem_id="test-strip", apply_default_css=False)
    status = gr.HTML(elem_id="test-state", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            files, camera = _build_inputs()
            build_note("new-images")
            samples = held_out_samples.build("test-tries")
            threshold = gr.Slider(
                0, 1, CONFIDENCE_THRESHOLD, step=0.05, label="Below this the answer is 'not sure'", elem_id="unsure"
            )
            build_note("unsure")
        with gr.Column(scale=3, min_width=300):
            answers = build_scripted_html(["uploading.js", "pasting.js"], "answers", render_empty_answers())
    mistakes_panel = mistakes.build()
    next_button = gr.Button("Go on and take it along", variant="primary", elem_id="onward-keep")
    return TestStep(strip, status, files, camera, samples, threshold, answers, mistakes_panel, next_button)


def _build_inputs() -> tuple[gr.File, gr.Image]:
    """Build the tabs through which new images come."""
    with gr.Tabs(elem_id="test-ways"):
        with gr.Tab("Files"):
            files = gr.File(
                file_count="multiple",
                file_types=["image", *sorted(IMAGE_EXTENSIONS)],
                label="Drop new images here, or paste them",
                elem_id="new-images",
                height=180,
            )
        with gr.Tab("Camera"):
            camera = gr.Image(
                sources=["webcam"],
                streaming=True,
                type="pil",
                format="jpeg",
                label="The camera: an answer about once a second",
                webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA_CONSTRAINTS),
                height=280,
                elem_id="test-camera",
            )
            gr.HTML(
                '<p class="hs-rest">A browser lends its camera only to this computer itself or over https.</p>',
                apply_default_css=False,
            )
    return files, camera


def refresh(session: Session) -> TestUpdate:
    """Show the current model and its held-out images."""
    trained = session.trained_model
    if trained is None:
        model = build_meta_network(session.choice, session.classes)
        return TestUpdate(
            stage_strip=render_network(model, model.summarize_stages(), ()),
            status=f"<p class='hs-sentence'>{NO_MODEL_MESSAGE}</p>",
            samples_html="",
            threshold=gr.Slider(visible=True),
        )
    model = trained.model
    return TestUpdate(
        stage_strip=render_network(model, model.summarize_stages(), trained.trained_stages),
        status=_render_model_status(trained),
        samples_html=held_out_samples.render_samples(session),
        threshold=gr.Slider(visible=not model.multi_label),  # several labels have calibrated thresholds of their own
    )


def _render_model_status(trained: TrainedModel) -> str:
    model, metrics, accuracy = trained.model, trained.validation_metrics, ""
    if metrics:
        it = "before it learned again from all images, it" if model.record and model.record.refitted else "it"
        correctly = "with all their labels" if model.multi_label else "rightly"
        accuracy = f"; {it} named {metrics.correct} of {metrics.total} validation images {correctly}"
    return (
        f"<p class='hs-sentence'>{backbone_title(model.backbone)} answers through its {head_title(model)} head"
        f"{accuracy}. It knows <b>{escape(join_names(model.classes, max_names=8))}</b> and nothing else.</p>"
    )


def predict_files(
    session: Session, scheduler: Scheduler, paths: Sequence[str] | None, threshold: float = CONFIDENCE_THRESHOLD
) -> str:
    """Predict uploaded images.

    Returns:
        The answers as HTML; an image that cannot be read gets an error in its place.
    """
    return _predict_all(session, scheduler, [(Path(path).name, Path(path)) for path in paths or ()], threshold)


def predict_pasted(
    session: Session,
    scheduler: Scheduler,
    upload: FilesUpload | RefusedUpload,
    threshold: float = CONFIDENCE_THRESHOLD,
) -> str:
    """Predict images that were pasted, and delete them."""
    if isinstance(upload, RefusedUpload):
        return render_problem_card(upload.reason)
    try:
        named_paths = [(sanitize(Path(each.name).name) or "pasted", each.path) for each in upload.uploads]
        return _predict_all(session, scheduler, named_paths, threshold)
    except InputError as error:
        return render_problem_card(str(error))
    finally:
        delete_uploads(upload.uploads)


def predict_sample(
    session: Session, scheduler: Scheduler, click: SampleClick | None, threshold: float = CONFIDENCE_THRESHOLD
) -> HtmlUpdate:
    """Predict a held-out image that was clicked."""
    sample, trained = held_out_samples.find_sample(session, click), session.trained_model
    if sample is None or trained is None:
        return _skip()
    with scheduler.inference_slot():
        prediction = _predict_image(trained.model, f"An image of {sample.label}", sample.path)
    session.predictions = PredictionBatch(trained, (replace(prediction, true_label=sample.label),), 1)
    return render_answers(session.predictions, threshold)


def predict_frame(
    session: Session, scheduler: Scheduler, frame: Image.Image | None, threshold: float = CONFIDENCE_THRESHOLD
) -> HtmlUpdate:
    """Predict a frame of the camera."""
    if frame is None:
        return _skip()
    trained = session.trained_model
    if trained is None:
        return render_problem_card(NO_MODEL_MESSAGE)
    with scheduler.inference_slot():
        prediction = _predict_image(trained.model, "what the camera sees", frame)
    session.predictions = PredictionBatch(trained, (prediction,), 1)
    return render_answers(session.predictions, threshold)


def refresh_answers(
    session: Session, scheduler: Scheduler, paths: Sequence[str] | None, threshold: float = CONFIDENCE_THRESHOLD
) -> HtmlUpdate:
    """Predict the uploaded images again if another model gave the answers that are shown."""
    if session.predictions is None or session.predictions.trained_model is session.trained_model:
        return _skip()
    return predict_files(session, scheduler, paths, threshold)


def rerender_answers(session: Session, threshold: float) -> HtmlUpdate:
    """Show the same predictions with another threshold."""
    if session.predictions is None:
        return _skip()
    return render_answers(session.predictions, threshold)


def _skip() -> dict[str, Any]:
    update: dict[str, Any] = gr.skip()
    return update


def _predict_all(
    session: Session, scheduler: Scheduler, named_paths: Sequence[tuple[str, Path]], threshold: float
) -> str:
    if not named_paths:
        session.predictions = None
        return render_empty_answers()
    trained = session.trained_model
    if trained is None:
        return render_problem_card(DROP_AGAIN_MESSAGE)
    predictions = []
    for name, path in named_paths[:MAX_IMAGES]:
        with scheduler.inference_slot():
            predictions.append(_predict_image(trained.model, name, path))
    session.predictions = PredictionBatch(trained, tuple(predictions), len(named_paths))
    return render_answers(session.predictions, threshold)


def _predict_image(model: Classifier, name: str, image_source: Path | Image.Image) -> ImagePrediction:
    try:
        pixels = read_pixels(image_source, model.preprocess.resize, model.preprocess.interpolation)
    except ImageReadError as error:
        return ImagePrediction(name, problem=str(ImageReadError(name, error.reason)))
    except InputError as error:
        return ImagePrediction(name, problem=str(error))
    labels = tuple(model.predict_labels(pixels)) if model.multi_label else None
    return ImagePrediction(name, make_thumbnail_url(pixels, THUMBNAIL_SIZE), tuple(model.predict(pixels)), labels)
