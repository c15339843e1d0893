"""What the model gets wrong: it answers images whose classes are known, and its mistakes can be looked at and mended.

Knows nothing of how it learned but which images were held back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.common.text import join_names
from headswap.data.dataset import LabelledImages
from headswap.data.loading import load_files_with_progress, load_images_with_progress
from headswap.data.sources import ARCHIVE_EXTENSIONS
from headswap.evaluation.evaluate import Evaluation, evaluate_probabilities
from headswap.networks.classifier import Classifier
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.picker import Upload, delete_uploads, parse_uploads
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ErrorAnalysis
from headswap.ui.static.assets import read_static
from headswap.ui.views import mistakes
from headswap.ui.views.html import render_hint, render_problem_card, render_status

BATCH_SIZE = 8  # images in one turn
PROGRESS_INTERVAL = 0.5  # seconds between two words on how far it is
SINGLE_LABEL_HEADERS = ["Class", "Precision", "Recall", "F1", "Images"]
MULTI_LABEL_HEADERS = [*SINGLE_LABEL_HEADERS, "Average precision"]
NO_MODEL_MESSAGE = "No model has learned anything yet. Press Train in the third step, then judge it."
STALE_MESSAGE = "The model has changed since. Judge it again."

TEST_SET_TEMPLATE = """
<div class="hs-set">
  <p><b>Or judge it by images that it has never seen:</b> a folder or a zip with one sub-folder for each class.
    Of one with halves, test/ judges, or else val/. It never learns from them.</p>
  <div class="hs-buttons">
    <button type="button" class="hs-button hs-set-folder">Choose a test folder</button>
    <button type="button" class="hs-button hs-set-archive">Choose a test zip</button>
  </div>
  <p class="hs-set-says" role="status" aria-live="polite"></p>
  <input type="file" class="hs-set-folder" webkitdirectory multiple hidden aria-label="A folder of test images">
  <input type="file" class="hs-set-archive" hidden aria-label="An archive of test images" accept=".zip,.tar,.gz,.tgz">
</div>
"""


@dataclass(frozen=True)
class MistakesPanel:
    """The components of this part."""

    evaluate_button: gr.Button
    test_set: gr.HTML
    summary: gr.HTML
    confusion_matrix: gr.HTML
    class_metrics: gr.Dataframe
    mistakes: gr.HTML

    @property
    def refresh_outputs(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [self.evaluate_button, *self.outputs]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What the other handlers give, in order."""
        return [self.summary, self.confusion_matrix, self.class_metrics, self.mistakes]


def build() -> MistakesPanel:
    """The components, without events."""
    asking = read_static("asking.js")
    gr.HTML("<h2>What it gets wrong</h2>", elem_id="wrong-title", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            judge = gr.Button("Judge it by the validation images", elem_id="judge", interactive=False)
            build_note("judge")
        with gr.Column(scale=3, min_width=300):
            test_set = gr.HTML(
                html_template=TEST_SET_TEMPLATE,
                js_on_load=read_static("test_set.js"),
                apply_default_css=False,
                elem_id="test-set",
                most=get_limits().images,
            )
    told = gr.HTML(elem_id="judged", apply_default_css=False)
    drawn = gr.HTML(js_on_load=asking, elem_id="matrix", apply_default_css=False)
    build_note("matrix")
    figures = gr.Dataframe(
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
    listed = gr.HTML(js_on_load=asking, elem_id="mistakes", apply_default_css=False)
    build_note("mistakes")
    return MistakesPanel(judge, test_set, told, drawn, figures, listed)


def refresh(visitor: Session) -> tuple[Any, ...]:
    """What the model can be judged by, and how it was judged if it is the same still: values for ``Judging.ready``."""
    if visitor.error_analysis and visitor.error_analysis.trained_model is not visitor.trained_model:
        visitor.error_analysis = None
    held_back, own = False, False
    if visitor.trained_model:
        held_back = visitor.held_out_images is not None
        own = visitor.images is not None and not _mismatch_reason(visitor.trained_model.model, visitor.images)
    words = "Judge it by your images" if own and not held_back else "Judge it by the validation images"
    button = gr.Button(words, interactive=held_back or own)
    if visitor.error_analysis:
        return button, *_result_outputs(visitor, visitor.error_analysis)
    return button, *_message_outputs(
        "" if held_back or own or not visitor.trained_model else render_hint(_unavailable_reason(visitor))
    )


def evaluate_held_out(visitor: Session, scheduler: Scheduler) -> Iterator[tuple[Any, ...]]:
    """Let the model answer the images that were held back, or the visitor's own; values for ``Judging.shown``."""
    if visitor.trained_model is None:
        yield _message_outputs(render_problem_card(NO_MODEL_MESSAGE))
        return
    images, whose = visitor.held_out_images, "validation"
    if images is None:
        images, whose = visitor.images, "learned"
    if images is None:
        yield _message_outputs(render_problem_card(_unavailable_reason(visitor)))
        return
    yield from _stream_evaluation(visitor, scheduler, images, whose)


def evaluate_test_set(visitor: Session, scheduler: Scheduler, event_data: object) -> Iterator[tuple[Any, ...]]:
    """The same by a folder or an archive that was sent for it; the visitor's own images stay as they are."""
    uploads: list[Upload] = []
    try:
        if visitor.trained_model is None:
            yield _message_outputs(render_problem_card(NO_MODEL_MESSAGE))
            return
        uploads.extend(parse_uploads(getattr(event_data, "files", None)))
        first = uploads[0] if len(uploads) == 1 else None
        if first and first.name.lower().endswith(ARCHIVE_EXTENSIONS):
            steps = load_images_with_progress(first.path, name=first.name, for_evaluation=True)
        else:
            steps = load_files_with_progress([(each.name, each.path, "") for each in uploads], for_evaluation=True)
        images, said = None, 0.0
        try:
            for step in steps:
                if isinstance(step, LabelledImages):
                    images = step
                elif time.monotonic() - said > PROGRESS_INTERVAL:
                    said = time.monotonic()
                    share = f"{step.done / step.total:.0%}" if step.total else f"{step.done:,} files so far"
                    yield _progress_outputs(f"Reading the test images: {share}.")
        finally:
            steps.close()
        yield from _stream_evaluation(visitor, scheduler, images, "test")
    except InputError as error:
        yield _message_outputs(render_problem_card(str(error)))
    finally:
        delete_uploads(uploads)


def handle_click(visitor: Session, event_data: object) -> tuple[Any, ...]:
    """What a press on a cell or on a mistake asks for; what no longer exists is passed over. Values for
    ``Judging.shown``."""
    judged = visitor.error_analysis
    if judged is None or judged.trained_model is not visitor.trained_model:
        return _message_outputs(render_hint(STALE_MESSAGE))
    do, key = getattr(event_data, "do", None), getattr(event_data, "image", None)
    if do == "cell":
        cell = _parse_cell(judged.evaluation, getattr(event_data, "given", None), getattr(event_data, "answered", None))
        visitor.error_analysis = replace(judged, selected_cell=None if cell == judged.selected_cell else cell)
    elif do in ("relabel", "remove"):
        _correct_image(visitor, judged, do, key)
    judged = visitor.error_analysis or judged
    return (
        gr.skip(),
        mistakes.render_confusion(judged, visitor.images),
        gr.skip(),
        mistakes.render_mistakes(judged, visitor.images),
    )


# What the model is judged by


def _mismatch_reason(model: Classifier, images: LabelledImages) -> str:
    """Why the model cannot be judged by these images, in a sentence; nothing where it can."""
    unknown = [name for name in images.classes if name not in model.classes]
    if unknown:
        return (
            f"The images show {join_names(unknown, max_names=4)}, which the model does not know: it knows "
            f"{join_names(model.classes, max_names=8)}. A test folder has a sub-folder for each of them."
        )
    if images.multi_label and not model.multi_label:
        return "Some of these images carry several labels or none, but the model always gives one."
    return ""


def _unavailable_reason(visitor: Session) -> str:
    if visitor.images is None:
        return "There are no images to judge the model by. Choose some in the first step, or a test folder here."
    return _mismatch_reason(visitor.trained_model.model, visitor.images)


def _stream_evaluation(
    visitor: Session, scheduler: Scheduler, images: LabelledImages, source: str
) -> Iterator[tuple[Any, ...]]:
    trained, said = visitor.trained_model, time.monotonic()
    model = trained.model
    if problem := _mismatch_reason(model, images):
        yield _message_outputs(render_problem_card(problem))
        return
    images = images.aligned_to(model.classes, model.multi_label)
    rows: list[Tensor] = []
    read: list[int] = []
    unreadable: list[tuple[str, str]] = []
    for first in range(0, len(images), BATCH_SIZE):
        with scheduler.compute_slot():  # in which nothing is told: whoever listens may take an hour over it
            try:
                pictures = _read_batch(
                    model, images, range(first, min(first + BATCH_SIZE, len(images))), read, unreadable
                )
            except ValueError:  # its files have been let go of meanwhile
                pictures = None
            else:
                rows.append(model.predict_proba(pictures).clone())
        if pictures is None:
            yield _message_outputs(
                render_hint("These images have been let go of. Choose them again in the first step.")
            )
            return
        if time.monotonic() - said > PROGRESS_INTERVAL:
            said = time.monotonic()
            yield _progress_outputs(
                f"The model answers: {min(first + BATCH_SIZE, len(images)):,} of {len(images):,} images."
            )
    if not read:
        yield _message_outputs(
            render_problem_card("None of these images can be read, so there is nothing to judge the model by.")
        )
        return
    images = images.subset(read)
    with scheduler.compute_slot():
        evaluation = evaluate_probabilities(model, images, torch.cat(rows))
    visitor.error_analysis = ErrorAnalysis(trained, images, evaluation, source, tuple(unreadable))
    yield _result_outputs(visitor, visitor.error_analysis)


def _read_batch(
    model: Classifier,
    images: LabelledImages,
    indices: range,
    read_indices: list[int],
    unreadable: list[tuple[str, str]],
) -> list[Tensor]:
    """The pictures at these places that can be read; notes down which those are, and of the others why not.

    Raises:
        ValueError: if their files have been let go of.
    """
    pictures = []
    for i in indices:
        try:
            pictures.append(_load_pixels(model, images, i))
            read_indices.append(i)
        except ImageReadError as error:
            unreadable.append((error.name, error.reason))
    return pictures


def _load_pixels(model: Classifier, images: LabelledImages, i: int) -> Tensor:
    return images.pixels(i, model.preprocess.resize, model.preprocess.interpolation)


# What is mended


def _correct_image(visitor: Session, analysis: ErrorAnalysis, action: str, image_key: object) -> None:
    """Change the visitor's images, and nothing else: one image shows what the model answered, or goes."""
    mistake = next((m for m in analysis.evaluation.mistakes if analysis.images.paths[m.index].stem == image_key), None)
    images = visitor.images
    if mistake is None or images is None or analysis.images.paths[mistake.index] not in images.paths:
        return
    place = images.paths.index(analysis.images.paths[mistake.index])
    if action == "remove":
        changed = images.without([place])
    elif images.multi_label:
        names = set(images.label_names[place]) ^ {mistake.predicted_label or mistake.true_label}
        changed = images.with_labels(
            [tuple(names) if i == place else each for i, each in enumerate(images.label_names)]
        )
    else:
        changed = images.relabel(place, mistake.predicted_label)
    if changed.classes:
        visitor.set_images(changed)
    else:
        visitor.clear_images()


# How it is shown


def _progress_outputs(words: str) -> tuple[Any, ...]:
    return render_status(words), gr.skip(), gr.skip(), gr.skip()


def _message_outputs(words: str) -> tuple[Any, ...]:
    return words, "", gr.Dataframe(visible=False), ""


def _result_outputs(visitor: Session, analysis: ErrorAnalysis) -> tuple[Any, ...]:
    """Values for ``Judging.shown``."""
    return (
        mistakes.render_summary(analysis),
        mistakes.render_confusion(analysis, visitor.images),
        _update_class_metrics(analysis.evaluation),
        mistakes.render_mistakes(analysis, visitor.images),
    )


def _parse_cell(evaluation: Evaluation, given: object, answer: object) -> tuple[int, int] | None:
    """A cell as the browser names it, if there is one."""
    try:
        cell = int(str(given)), int(str(answer))
    except ValueError:
        return None
    least = -1 if evaluation.multi_label else 0
    fits = all(least <= place < len(evaluation.classes) for place in cell)
    return cell if fits and (cell.count(-1) == 1 if evaluation.multi_label else True) else None


def _update_class_metrics(evaluation: Evaluation) -> gr.Dataframe:
    rows = []
    for c in evaluation.per_class:
        row: list[Any] = [c.name, *(f"{figure:.2f}" for figure in (c.precision, c.recall, c.f1)), c.support]
        if evaluation.multi_label:
            row.append("–" if c.average_precision != c.average_precision else f"{c.average_precision:.2f}")
        rows.append(row)
    headers = MULTI_LABEL_HEADERS if evaluation.multi_label else SINGLE_LABEL_HEADERS
    kinds = ["str", *["str"] * 3, "number", *["str"] * (len(headers) - 5)]
    return gr.Dataframe(value=rows, headers=headers, datatype=kinds, visible=True)
