"""The fourth step: new images in, their classes with probabilities out. Knows nothing of how the model learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from headswap.common.errors import ImageReadError, InputError
from headswap.common.text import join_names, sanitize
from headswap.data.decoding import read_pixels
from headswap.data.sources import IMAGE_EXTENSIONS
from headswap.networks.classifier import Classifier
from headswap.ui.panels import held_out_samples, mistakes
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.mistakes import MistakesPanel
from headswap.ui.panels.picker import delete_uploads, parse_uploads
from headswap.ui.sessions.chosen_network import build_meta_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ImagePrediction, PredictionBatch
from headswap.ui.static.assets import read_static
from headswap.ui.views.answers import render_answers, render_empty_answers
from headswap.ui.views.html import make_thumbnail_url, render_problem_card
from headswap.ui.views.network import backbone_title, head_title, render_network

MAX_IMAGES = 300  # images at once
NO_MODEL_MESSAGE = (
    "No model has learned anything yet. Press Train in the third step, or open one that you kept in the fifth."
)
DROP_AGAIN_MESSAGE = "No model has learned anything yet. Press Train in the third step, then drop the images again."
CONFIDENCE_THRESHOLD = 0.6  # of two classes one always gets a half
CAMERA_CONSTRAINTS = {"video": {"width": {"ideal": 320}, "height": {"ideal": 240}}}
CAMERA_INTERVAL = 1.0  # seconds between two looks of the camera


@dataclass(frozen=True)
class TestStep:
    """The step's components."""

    __test__ = False  # not a test, whatever pytest thinks of the name

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
    def refresh_outputs(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [self.stage_strip, self.status, self.samples_html, self.threshold]


def build() -> TestStep:
    """The step's components, without events."""
    drawing = gr.HTML(elem_id="test-strip", apply_default_css=False)
    state = gr.HTML(elem_id="test-state", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
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
            build_note("new-images")
            held_back = held_out_samples.build("test-tries")
            unsure = gr.Slider(
                0, 1, CONFIDENCE_THRESHOLD, step=0.05, label="Below this the answer is 'not sure'", elem_id="unsure"
            )
            build_note("unsure")
        with gr.Column(scale=3, min_width=300):
            answers = gr.HTML(
                render_empty_answers(),
                js_on_load=read_static("pasting.js"),
                elem_id="answers",
                apply_default_css=False,
            )
    judged = mistakes.build()
    onward = gr.Button("Go on and take it along", variant="primary", elem_id="onward-keep")
    return TestStep(drawing, state, files, camera, held_back, unsure, answers, judged, onward)


def refresh(visitor: Session) -> tuple[Any, ...]:
    """The model that would answer, and what can be tried: values for ``TestStep.ready``."""
    if visitor.trained_model is None:
        missing = f"<p class='hs-sentence'>{NO_MODEL_MESSAGE}</p>"
        model = build_meta_network(visitor.choice, visitor.classes)
        return render_network(model, model.summarize_stages(), ()), missing, "", gr.Slider(visible=True)
    model, figures = visitor.trained_model.model, visitor.trained_model.validation_metrics
    it = "before it learned again from all images, it" if model.record and model.record.refitted else "it"
    rightly = "with all their labels" if model.multi_label else "rightly"
    named = f"; {it} named {figures.correct} of {figures.total} validation images {rightly}" if figures else ""
    words = (
        f"<p class='hs-sentence'>{backbone_title(model.backbone)} answers through its {head_title(model)} head{named}. "
        f"It knows <b>{escape(join_names(model.classes, max_names=8))}</b> and nothing else.</p>"
    )
    # Of several labels each has a threshold of its own.
    strip = render_network(model, model.summarize_stages(), visitor.trained_model.trained_stages)
    return strip, words, held_out_samples.render_samples(visitor), gr.Slider(visible=not model.multi_label)


def predict_files(
    visitor: Session, scheduler: Scheduler, paths: Sequence[str] | None, threshold: float = CONFIDENCE_THRESHOLD
) -> str:
    """The answers for uploaded images, as HTML; an image that cannot be read says so in its place."""
    return _predict_all(visitor, scheduler, [(Path(path).name, Path(path)) for path in paths or ()], threshold)


def predict_pasted(
    visitor: Session, scheduler: Scheduler, event_data: object, threshold: float = CONFIDENCE_THRESHOLD
) -> str:
    """The answers for images that were pasted, which are let go of once they have been read."""
    uploads: list[Any] = []
    try:
        uploads.extend(parse_uploads(getattr(event_data, "files", None)))
        named = [(sanitize(Path(upload.name).name) or "pasted", upload.path) for upload in uploads]
        return _predict_all(visitor, scheduler, named, threshold)
    except InputError as error:
        return render_problem_card(str(error))
    finally:
        delete_uploads(uploads)


def predict_sample(
    visitor: Session, scheduler: Scheduler, event_data: object, threshold: float = CONFIDENCE_THRESHOLD
) -> Any:
    """The answer for an image that was held back and pressed."""
    found = held_out_samples.find_sample(visitor, event_data)
    if found is None:
        return gr.skip()
    shows, path = found
    with scheduler.inference_slot():
        answer = _predict_image(visitor.trained_model.model, f"An image of {shows}", path)
    visitor.predictions = PredictionBatch(visitor.trained_model, (replace(answer, true_label=shows),), 1)
    return render_answers(visitor.predictions, threshold)


def refresh_answers(
    visitor: Session, scheduler: Scheduler, paths: Sequence[str] | None, threshold: float = CONFIDENCE_THRESHOLD
) -> Any:
    """The answers again, if another model gave those that are shown."""
    if visitor.predictions is None or visitor.predictions.trained_model is visitor.trained_model:
        return gr.skip()
    return predict_files(visitor, scheduler, paths, threshold)


def rerender_answers(visitor: Session, threshold: float) -> Any:
    """The same answers with another border of what is sure."""
    if visitor.predictions is None:
        return gr.skip()
    return render_answers(visitor.predictions, threshold)


def predict_frame(
    visitor: Session, scheduler: Scheduler, frame: Image.Image | None, threshold: float = CONFIDENCE_THRESHOLD
) -> Any:
    """The answer to what the camera sees now."""
    if frame is None:
        return gr.skip()
    if visitor.trained_model is None:
        return render_problem_card(NO_MODEL_MESSAGE)
    with scheduler.inference_slot():
        answer = _predict_image(visitor.trained_model.model, "what the camera sees", frame)
    visitor.predictions = PredictionBatch(visitor.trained_model, (answer,), 1)
    return render_answers(visitor.predictions, threshold)


def _predict_all(
    visitor: Session, scheduler: Scheduler, named_paths: Sequence[tuple[str, Path]], threshold: float
) -> str:
    if not named_paths:
        visitor.predictions = None
        return render_empty_answers()
    trained, answers = visitor.trained_model, []
    if trained is None:
        return render_problem_card(DROP_AGAIN_MESSAGE)
    for name, path in named_paths[:MAX_IMAGES]:
        with scheduler.inference_slot():
            answers.append(_predict_image(trained.model, name, path))
    visitor.predictions = PredictionBatch(trained, tuple(answers), len(named_paths))
    return render_answers(visitor.predictions, threshold)


def _predict_image(model: Classifier, name: str, image_source: Path | Image.Image) -> ImagePrediction:
    try:
        pixels = read_pixels(image_source, model.preprocess.resize, model.preprocess.interpolation)
    except ImageReadError as error:
        return ImagePrediction(name, problem=str(ImageReadError(name, error.reason)))
    except InputError as error:
        return ImagePrediction(name, problem=str(error))
    labels = tuple(model.predict_labels(pixels)) if model.multi_label else None
    return ImagePrediction(name, make_thumbnail_url(pixels, 160), tuple(model.predict(pixels)), labels)
