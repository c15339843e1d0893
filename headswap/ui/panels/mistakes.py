"""What the model gets wrong: it answers images whose classes are known, and its mistakes can be looked at and mended.

Knows nothing of how it learned but which images were held back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.common.text import format_count, format_percent, join_names
from headswap.data.dataset import LabelledImages
from headswap.data.loading import load_files_with_progress, load_images_with_progress
from headswap.data.sources import ARCHIVE_EXTENSIONS
from headswap.evaluation.evaluate import Evaluation, Mistake, evaluate_probabilities, predict_label_mask
from headswap.networks.classifier import Classifier
from headswap.ui.panels.browser_events import Upload, delete_uploads, parse_uploads
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.job import Scheduler
from headswap.ui.sessions.session import ErrorAnalysis, Session
from headswap.ui.static.assets import read_static
from headswap.ui.views import confusion_matrix
from headswap.ui.views.html import make_thumbnail_url, render_problem_card

BATCH_SIZE = 8  # images in one turn
PROGRESS_INTERVAL = 0.5  # seconds between two words on how far it is
MAX_MISTAKES = 12
MAX_CELL_IMAGES = 24
MAX_UNREADABLE = 5
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
    mistakes = gr.HTML(js_on_load=asking, elem_id="mistakes", apply_default_css=False)
    build_note("mistakes")
    return MistakesPanel(judge, test_set, told, drawn, figures, mistakes)


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
        "" if held_back or own or not visitor.trained_model else _render_hint(_unavailable_reason(visitor))
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
        return _message_outputs(_render_hint(STALE_MESSAGE))
    do, key = getattr(event_data, "do", None), getattr(event_data, "image", None)
    if do == "cell":
        cell = _parse_cell(judged.evaluation, getattr(event_data, "given", None), getattr(event_data, "answered", None))
        visitor.error_analysis = replace(judged, selected_cell=None if cell == judged.selected_cell else cell)
    elif do in ("relabel", "remove"):
        _correct_image(visitor, judged, do, key)
    judged = visitor.error_analysis or judged
    return gr.skip(), _render_confusion(visitor, judged), gr.skip(), _render_mistakes(visitor, judged)


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
                _render_hint("These images have been let go of. Choose them again in the first step.")
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


def _correction_text(visitor: Session, analysis: ErrorAnalysis, i: int) -> str:
    """What has become of an image that was judged, in a sentence; nothing where all is as it was."""
    if analysis.subset == "test" or visitor.images is None:
        return ""
    path = analysis.images.paths[i]
    if path not in visitor.images.paths:
        return "Removed."
    now = visitor.images.label_names[visitor.images.paths.index(path)]
    return "" if set(now) == set(analysis.images.label_names[i]) else f"Now {join_names(now) or 'without a label'}."


# How it is shown


def _progress_outputs(words: str) -> tuple[Any, ...]:
    said = f"<p class='hs-sentence' role='status' aria-live='polite'>{escape(words)}</p>"
    return said, gr.skip(), gr.skip(), gr.skip()


def _message_outputs(words: str) -> tuple[Any, ...]:
    return words, "", gr.Dataframe(visible=False), ""


def _render_hint(words: str) -> str:
    return f'<p class="hs-card hs-hint">{escape(words)}</p>' if words else ""


def _result_outputs(visitor: Session, analysis: ErrorAnalysis) -> tuple[Any, ...]:
    """Values for ``Judging.shown``."""
    return (
        _render_summary(analysis),
        _render_confusion(visitor, analysis),
        _update_class_metrics(analysis.evaluation),
        _render_mistakes(visitor, analysis),
    )


def _render_summary(analysis: ErrorAnalysis) -> str:
    evaluation, record = analysis.evaluation, analysis.trained_model.model.record
    low, high = evaluation.interval
    chose = analysis.subset == "validation" and record is not None and record.selected_on_validation
    images, all_labels = (
        format_count(evaluation.total, "image"),
        " with all their labels" if evaluation.multi_label else "",
    )
    which = {
        "validation": f"{format_count(evaluation.total, 'validation image')} that were held back from learning",
        "learned": f"your {images}",
        "test": f"{format_count(evaluation.total, 'test image')} that you have sent for it",
    }[analysis.subset]
    chosen = " They chose the epoch, so the figure flatters a little." if chose else ""
    largest = "the most frequent labels" if evaluation.multi_label else "the largest class"
    bars = _render_accuracy_bar("this model", evaluation.accuracy, (low, high)) + _render_accuracy_bar(
        f"always {largest}", evaluation.always_largest
    )
    precision = (
        f" The mean average precision is {evaluation.mean_average_precision:.2f}." if evaluation.multi_label else ""
    )
    words = (
        f"Of {which}: <b>{evaluation.correct} right{all_labels}, {format_percent(evaluation.accuracy)}</b> (between "
        f"{format_percent(low)} and {format_percent(high)}). Always answering {largest} would get "
        f"{format_percent(evaluation.always_largest)}.{precision}{chosen} {evaluation.leakage_warning}"
    ).replace(" %", "\u00a0%")
    return (
        f'<div class="hs-card hs-judged" role="status"><p class="hs-sentence">{words}</p>{_layout_text(analysis)}{bars}'
        f"{_unreadable_text(analysis)}</div>"
    )


def _render_accuracy_bar(words: str, share: float, interval: tuple[float, float] | None = None) -> str:
    likely = f'<i style="left:{interval[0]:.1%};width:{interval[1] - interval[0]:.1%}"></i>' if interval else ""
    grey = "" if interval else " hs-blind"
    return (
        f'<div class="hs-bar-row{grey}" aria-hidden="true"><span class="hs-bar-name">{words}</span>'
        f'<span class="hs-bar-track"><span style="width:{share:.1%}"></span>{likely}</span>'
        f'<span class="hs-bar-figure">{format_percent(share)}</span></div>'
    )


def _layout_text(analysis: ErrorAnalysis) -> str:
    """How a test set that was sent was understood."""
    report = analysis.images.report
    said = [*report.interpretation, *report.notes] if analysis.subset == "test" else []
    return f"<p class='hs-rest'>{escape(' '.join(said))}</p>" if said else ""


def _unreadable_text(analysis: ErrorAnalysis) -> str:
    if not analysis.unreadable:
        return ""
    said = [f"{name}: {reason}" for name, reason in analysis.unreadable[:MAX_UNREADABLE]]
    rest = len(analysis.unreadable) - len(said)
    more = f"; and {rest:,} more" if rest else ""
    return f"<p class='hs-rest'>Not counted, because they cannot be read: {escape('; '.join(said) + more)}.</p>"


def _render_confusion(visitor: Session, analysis: ErrorAnalysis) -> str:
    evaluation, cell = analysis.evaluation, analysis.selected_cell
    if evaluation.multi_label:
        found = _label_error_pairs(evaluation)
        drawing = confusion_matrix.render_pair_list(found, cell, "The labels that are missed or called wrongly")
    else:
        drawing = confusion_matrix.render_confusion_matrix(evaluation.classes, evaluation.confusion.tolist(), cell)
    return f'<div class="hs-confusion">{drawing}{_render_cell(visitor, analysis)}</div>'


def _label_error_pairs(evaluation: Evaluation) -> list[confusion_matrix.ConfusedPair]:
    found = []
    for i, ((_, called), (missed, _)) in enumerate(evaluation.confusion.tolist()):
        name = evaluation.classes[i]
        found.append(confusion_matrix.ConfusedPair(f"{name}, missed", missed, (i, -1)))
        found.append(confusion_matrix.ConfusedPair(f"{name}, called wrongly", called, (-1, i)))
    return sorted((pair for pair in found if pair.num_images), key=lambda pair: -pair.num_images)


def _parse_cell(evaluation: Evaluation, given: object, answer: object) -> tuple[int, int] | None:
    """A cell as the browser names it, if there is one."""
    try:
        cell = int(str(given)), int(str(answer))
    except ValueError:
        return None
    least = -1 if evaluation.multi_label else 0
    fits = all(least <= place < len(evaluation.classes) for place in cell)
    return cell if fits and (cell.count(-1) == 1 if evaluation.multi_label else True) else None


def _cell_indices(analysis: ErrorAnalysis, cell: tuple[int, int]) -> list[int]:
    """The images of a cell, the most confident answers first."""
    given, answer = cell
    evaluation, called = (
        analysis.evaluation,
        predict_label_mask(analysis.trained_model.model, analysis.evaluation.probabilities),
    )
    column = answer if answer >= 0 else given
    found = [
        i
        for i, labels in enumerate(analysis.images.label_sets)
        if (given in labels if given >= 0 else answer not in labels) and bool(called[i, column]) == (answer >= 0)
    ]
    sign = 1 if answer < 0 else -1
    return sorted(found, key=lambda i: sign * evaluation.probabilities[i, column].item())


def _render_cell(visitor: Session, analysis: ErrorAnalysis) -> str:
    """The images of the cell that is pressed."""
    if analysis.selected_cell is None:
        return _render_hint("Press a number, and its images appear here.")
    given, answer = analysis.selected_cell
    classes, mistakes = analysis.evaluation.classes, {m.index: m for m in analysis.evaluation.mistakes}
    if given < 0:
        words = f"not {classes[answer]}, but called so"
    elif answer < 0:
        words = f"{classes[given]}, but not called so"
    else:
        words = f"{classes[given]}, answered {classes[answer]}"
    members = _cell_indices(analysis, analysis.selected_cell)
    shown = "".join(_render_image(visitor, analysis, i, mistakes.get(i)) for i in members[:MAX_CELL_IMAGES])
    rest = len(members) - MAX_CELL_IMAGES
    more = f"<p class='hs-rest'>and {rest:,} more</p>" if rest > 0 else ""
    return (
        f'<section class="hs-cell" aria-label="Images of this cell"><p role="status"><b>'
        f"{format_count(len(members), 'image')}: {escape(words)}</b></p><div class='hs-mistakes'>{shown}</div>{more}</section>"
    )


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


def _render_mistakes(visitor: Session, analysis: ErrorAnalysis) -> str:
    found: Sequence[Mistake] = analysis.evaluation.mistakes
    if not found:
        return '<p class="hs-card hs-hint">None of these images is answered wrongly.</p>'
    shown = "".join(_render_image(visitor, analysis, mistake.index, mistake) for mistake in found[:MAX_MISTAKES])
    rest = len(found) - MAX_MISTAKES
    more = f"<p class='hs-rest'>and {rest:,} more; press a number above to see them</p>" if rest > 0 else ""
    advice = (
        "They are as you sent them."
        if analysis.subset == "test"
        else "Some may only have the wrong label. Relabel or remove those, then train again to use it; "
        "Undo stands in the first step."
    )
    return (
        f'<p class="hs-sentence"><b>The most confident mistakes.</b> {advice}</p>'
        f'<div class="hs-mistakes">{shown}</div>{more}'
    )


def _render_image(visitor: Session, analysis: ErrorAnalysis, i: int, mistake: Mistake | None) -> str:
    images, model = analysis.images, analysis.trained_model.model
    name = images.names[i]
    try:
        picture = f'<img alt="{escape(name)}" title="{escape(name)}" src="{make_thumbnail_url(_load_pixels(model, images, i), 160)}">'
    except ValueError:  # an InputError too: the file was lost, or let go of
        picture = "<p class='hs-rest'>It cannot be read any more.</p>"
    said = f"<figcaption>{_caption_text(analysis, i, mistake)}</figcaption>"
    return f"<figure>{picture}{said}{_render_actions(visitor, analysis, i, mistake)}</figure>"


def _caption_text(analysis: ErrorAnalysis, i: int, mistake: Mistake | None) -> str:
    if mistake is None:
        sure = analysis.evaluation.probabilities[i].max().item()
        return f"<b>{escape(join_names(analysis.images.label_names[i]) or 'no label')}</b>, {format_percent(sure)}"
    sure = format_percent(mistake.probability)
    if analysis.evaluation.multi_label:
        what = (
            f"{escape(mistake.predicted_label)} called"
            if mistake.predicted_label
            else f"{escape(mistake.true_label)} missed"
        )
        return f"<b>{what}</b>, {sure}"
    return f"<b>{escape(mistake.true_label)}</b>, answered <b>{escape(mistake.predicted_label)}</b>, {sure}"


def _render_actions(visitor: Session, analysis: ErrorAnalysis, i: int, mistake: Mistake | None) -> str:
    """What can be done about a mistake with one press, or what was done."""
    if done := _correction_text(visitor, analysis, i):
        return f'<p class="hs-done" role="status">{escape(done)} Train again to use it.</p>'
    path = analysis.images.paths[i]
    if mistake is None or analysis.subset == "test" or visitor.images is None or path not in visitor.images.paths:
        return ""
    if not analysis.evaluation.multi_label:
        words = f"Relabel as {mistake.predicted_label}"
    else:
        words = f"Add {mistake.predicted_label}" if mistake.predicted_label else f"Take {mistake.true_label} away"
    return (
        f'<span class="hs-actions">{_render_action_button(words, "relabel", path.stem, analysis.images.names[i])}'
        f"{_render_action_button('Remove', 'remove', path.stem, analysis.images.names[i])}</span>"
    )


def _render_action_button(words: str, action: str, image_key: str, image_name: str) -> str:
    return (
        f'<button type="button" class="hs-button" data-do="{action}" data-image="{escape(image_key)}" '
        f'aria-label="{escape(words)}: {escape(image_name)}">{escape(words)}</button>'
    )
