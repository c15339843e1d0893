"""Evaluates the model on held-out or uploaded test images and lists its mistakes for correction.

Knows nothing of the training but which images were held out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import gradio as gr
import torch
from gradio.blocks import Block
from torch import Tensor

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.common.text import join_names
from headswap.data.dataset import LabelledImages
from headswap.evaluation.evaluate import Evaluation, evaluate_probabilities
from headswap.networks.classifier import Classifier
from headswap.ui.panels.browser_events import (
    CellClick,
    CorrectionClick,
    FilesUpload,
    RefusedUpload,
    delete_uploads,
)
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.scripted_html import build_scripted_html
from headswap.ui.panels.session_dataset import correct_image, start_loading, stream_loading
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ErrorAnalysis
from headswap.ui.static.assets import read_scripts
from headswap.ui.views import mistakes
from headswap.ui.views.html import render_hint, render_problem_card, render_status

BATCH_SIZE = 8  # images in one compute slot
PROGRESS_INTERVAL = 0.5  # seconds between two progress messages
SINGLE_LABEL_HEADERS = ["Class", "Precision", "Recall", "F1", "Images"]
MULTI_LABEL_HEADERS = [*SINGLE_LABEL_HEADERS, "Average precision"]
NO_MODEL_MESSAGE = "No model has learned anything yet. Press Train in the third step, then judge it."
NO_IMAGES_MESSAGE = "There are no images to judge the model by. Choose some in the first step, or a test folder here."
STALE_MESSAGE = "The model has changed since. Judge it again."
DELETED_MESSAGE = "These images have been let go of. Choose them again in the first step."
ALL_UNREADABLE_MESSAGE = "None of these images can be read, so there is nothing to judge the model by."

TEST_SET_TEMPLATE = """
<div class="hs-set">
  <p><b>Or judge it by images that it has never seen:</b> a folder or a zip with one sub-folder for each class.
    Of one with halves, test/ judges, or else val/. It never learns from them.</p>
  <div class="hs-buttons">
    <button type="button" class="hs-button hs-set-folder">Choose a test folder</button>
    <button type="button" class="hs-button hs-set-archive">Choose a test zip</button>
  </div>
  <p class="hs-set-status" role="status" aria-live="polite"></p>
  <input type="file" class="hs-set-folder" webkitdirectory multiple hidden aria-label="A folder of test images">
  <input type="file" class="hs-set-archive" hidden aria-label="An archive of test images" accept=".zip,.tar,.gz,.tgz">
</div>
"""


@dataclass(frozen=True)
class MistakesPanel:
    """The panel's components."""

    evaluate_button: gr.Button
    test_set: gr.HTML
    summary: gr.HTML
    confusion_matrix: gr.HTML
    class_metrics: gr.Dataframe
    mistakes: gr.HTML

    @property
    def outputs(self) -> list[Block]:
        """The components that a ``MistakesUpdate`` sets."""
        return [self.evaluate_button, self.summary, self.confusion_matrix, self.class_metrics, self.mistakes]


@dataclass(frozen=True)
class MistakesUpdate:
    """New values of components, by name; None leaves one as it is."""

    evaluate_button: gr.Button | None = None
    summary: str | None = None
    confusion_matrix: str | None = None
    class_metrics: gr.Dataframe | None = None
    mistakes: str | None = None


def build() -> MistakesPanel:
    """Build the components, without events."""
    gr.HTML("<h2>What it gets wrong</h2>", elem_id="wrong-title", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            evaluate_button = gr.Button("Judge it by the validation images", elem_id="judge", interactive=False)
            build_note("judge")
        with gr.Column(scale=3, min_width=300):
            test_set = gr.HTML(
                html_template=TEST_SET_TEMPLATE,
                js_on_load=read_scripts("uploading.js", "test_set.js"),
                apply_default_css=False,
                elem_id="test-set",
                max_files=get_limits().images,
            )
    summary = gr.HTML(elem_id="judged", apply_default_css=False)
    matrix = build_scripted_html("asking.js", "matrix")
    build_note("matrix")
    class_metrics = gr.Dataframe(
        headers=SINGLE_LABEL_HEADERS,
        interactive=False,
        visible=False,
        label="Each class against all others",
        column_widths=["150px", "104px", "88px", "72px", "84px"],
        elem_id="class-figures",
        max_height=420,
        wrap=True,
    )
    build_note("class-figures")
    mistakes_list = build_scripted_html("asking.js", "mistakes")
    build_note("mistakes")
    return MistakesPanel(evaluate_button, test_set, summary, matrix, class_metrics, mistakes_list)


def refresh(session: Session) -> MistakesUpdate:
    """Show what the model can be evaluated on, and the last analysis unless the model has changed since."""
    trained = session.trained_model
    if session.error_analysis and session.error_analysis.trained_model is not trained:
        session.error_analysis = None
    held_out = trained is not None and session.held_out_images is not None
    own = trained is not None and session.images is not None and not _mismatch_reason(trained.model, session.images)
    button = gr.Button(
        "Judge it by your images" if own and not held_out else "Judge it by the validation images",
        interactive=held_out or own,
    )
    if session.error_analysis:
        return replace(_analysis_update(session, session.error_analysis), evaluate_button=button)
    hint = "" if trained is None or held_out or own else _unavailable_reason(trained.model, session.images)
    return replace(_message_update(render_hint(hint)), evaluate_button=button)


def evaluate_held_out(session: Session, scheduler: Scheduler) -> Iterator[MistakesUpdate]:
    """Evaluate the model on the held-out images; without any, on the session's own images."""
    if session.trained_model is None:
        yield _message_update(render_problem_card(NO_MODEL_MESSAGE))
        return
    images, subset = session.held_out_images, "validation"
    if images is None:
        images, subset = session.images, "learned"
    if images is None:
        yield _message_update(render_problem_card(NO_IMAGES_MESSAGE))
        return
    yield from _stream_evaluation(session, scheduler, images, subset)


def evaluate_test_set(
    session: Session, scheduler: Scheduler, upload: FilesUpload | RefusedUpload
) -> Iterator[MistakesUpdate]:
    """Evaluate the model on an uploaded folder or archive, which is deleted afterwards; the dataset stays as it is."""
    try:
        if session.trained_model is None:
            yield _message_update(render_problem_card(NO_MODEL_MESSAGE))
            return
        if isinstance(upload, RefusedUpload):
            yield _message_update(render_problem_card(upload.reason))
            return
        images = None
        with closing(stream_loading(start_loading(upload.uploads, for_evaluation=True), PROGRESS_INTERVAL)) as steps:
            for step in steps:
                if isinstance(step, LabelledImages):
                    images = step
                else:
                    yield MistakesUpdate(summary=render_status(f"Reading the test images: {step}."))
        if images is not None:
            yield from _stream_evaluation(session, scheduler, images, "test")
    except InputError as error:
        yield _message_update(render_problem_card(str(error)))
    finally:
        if isinstance(upload, FilesUpload):
            delete_uploads(upload.uploads)


def handle_click(session: Session, click: CellClick | CorrectionClick | None) -> MistakesUpdate:
    """Select a cell of the confusion matrix, or correct an image; what no longer exists is ignored."""
    analysis = session.error_analysis
    if analysis is None or analysis.trained_model is not session.trained_model:
        return _message_update(render_hint(STALE_MESSAGE))
    match click:
        case CellClick():
            cell = click.cell if click.cell and _has_cell(analysis.evaluation, click.cell) else None
            analysis = replace(analysis, selected_cell=None if cell == analysis.selected_cell else cell)
            session.error_analysis = analysis
        case CorrectionClick():
            correct_image(session, analysis, click)
    return MistakesUpdate(
        confusion_matrix=mistakes.render_confusion(analysis, session.images),
        mistakes=mistakes.render_mistakes(analysis, session.images),
    )


# Evaluation


def _mismatch_reason(model: Classifier, images: LabelledImages) -> str:
    """Why the model cannot be evaluated on these images, in a sentence; empty where it can."""
    unknown = [name for name in images.classes if name not in model.classes]
    if unknown:
        return (
            f"The images show {join_names(unknown, max_names=4)}, which the model does not know: it knows "
            f"{join_names(model.classes, max_names=8)}. A test folder has a sub-folder for each of them."
        )
    if images.multi_label and not model.multi_label:
        return "Some of these images carry several labels or none, but the model always gives one."
    return ""


def _unavailable_reason(model: Classifier, images: LabelledImages | None) -> str:
    return NO_IMAGES_MESSAGE if images is None else _mismatch_reason(model, images)


def _stream_evaluation(
    session: Session, scheduler: Scheduler, images: LabelledImages, subset: str
) -> Iterator[MistakesUpdate]:
    """Predict all readable images batch by batch, keep the analysis in the session, and show it."""
    trained, last_report = session.trained_model, time.monotonic()
    if trained is None:
        yield _message_update(render_problem_card(NO_MODEL_MESSAGE))
        return
    model = trained.model
    if problem := _mismatch_reason(model, images):
        yield _message_update(render_problem_card(problem))
        return
    images = images.aligned_to(model.classes, model.multi_label)
    probabilities: list[Tensor] = []
    readable: list[int] = []
    unreadable: list[tuple[str, str]] = []
    for start in range(0, len(images), BATCH_SIZE):
        stop = min(start + BATCH_SIZE, len(images))
        with scheduler.compute_slot():  # nothing is yielded inside: the browser may take any time to ask for more
            try:
                pixels, failures = _read_batch(model, images, range(start, stop))
            except ValueError:  # the files were deleted meanwhile
                break
            probabilities.append(model.predict_proba(list(pixels.values())).clone())
        readable += pixels
        unreadable += failures
        if time.monotonic() - last_report > PROGRESS_INTERVAL:
            last_report = time.monotonic()
            yield MistakesUpdate(summary=render_status(f"The model answers: {stop:,} of {len(images):,} images."))
    if len(readable) + len(unreadable) < len(images):
        yield _message_update(render_hint(DELETED_MESSAGE))
        return
    if not readable:
        yield _message_update(render_problem_card(ALL_UNREADABLE_MESSAGE))
        return
    images = images.subset(readable)
    with scheduler.compute_slot():
        evaluation = evaluate_probabilities(model, images, torch.cat(probabilities))
    session.error_analysis = ErrorAnalysis(trained, images, evaluation, subset, tuple(unreadable))
    yield _analysis_update(session, session.error_analysis)


def _read_batch(
    model: Classifier, images: LabelledImages, indices: range
) -> tuple[dict[int, Tensor], list[tuple[str, str]]]:
    """Read images at the size that the model needs.

    Returns:
        The pixels of each readable image by its index, uint8 of shape (3, height, width); name and reason of the
        others.

    Raises:
        ValueError: If the files of the dataset have been deleted.
    """
    pixels, failures = {}, []
    for i in indices:
        try:
            pixels[i] = images.pixels(i, model.preprocess.resize, model.preprocess.interpolation)
        except ImageReadError as error:
            failures.append((error.name, error.reason))
    return pixels, failures


# Updates


def _message_update(summary: str) -> MistakesUpdate:
    """A message in place of all results."""
    return MistakesUpdate(summary=summary, confusion_matrix="", class_metrics=gr.Dataframe(visible=False), mistakes="")


def _analysis_update(session: Session, analysis: ErrorAnalysis) -> MistakesUpdate:
    return MistakesUpdate(
        summary=mistakes.render_summary(analysis),
        confusion_matrix=mistakes.render_confusion(analysis, session.images),
        class_metrics=_class_metrics_table(analysis.evaluation),
        mistakes=mistakes.render_mistakes(analysis, session.images),
    )


def _has_cell(evaluation: Evaluation, cell: tuple[int, int]) -> bool:
    """Whether the evaluation has this cell; with several labels an image exactly one of both indices is -1."""
    lowest = -1 if evaluation.multi_label else 0
    in_range = all(lowest <= index < len(evaluation.classes) for index in cell)
    return in_range and (not evaluation.multi_label or cell.count(-1) == 1)


def _class_metrics_table(evaluation: Evaluation) -> gr.Dataframe:
    rows: list[list[str | int]] = []
    for each in evaluation.per_class:
        scores = (f"{score:.2f}" for score in (each.precision, each.recall, each.f1))
        row: list[str | int] = [each.name, *scores, each.support]
        if evaluation.multi_label:
            row.append("–" if math.isnan(each.average_precision) else f"{each.average_precision:.2f}")
        rows.append(row)
    headers = MULTI_LABEL_HEADERS if evaluation.multi_label else SINGLE_LABEL_HEADERS
    datatypes: list[Literal["str", "number"]] = ["number" if header == "Images" else "str" for header in headers]
    return gr.Dataframe(value=rows, headers=headers, datatype=datatypes, visible=True)
