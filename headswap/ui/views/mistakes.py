"""Renders an error analysis as HTML: accuracy, confusion matrix, images of a cell, most confident mistakes."""

from __future__ import annotations

from html import escape

from headswap.common.text import format_count, format_percent, join_names
from headswap.data.dataset import LabelledImages
from headswap.evaluation.evaluate import Evaluation, Mistake, predict_label_mask
from headswap.training.record import SELECTION_BIAS_NOTE
from headswap.ui.sessions.state import ErrorAnalysis
from headswap.ui.views import confusion_matrix
from headswap.ui.views.html import (
    make_thumbnail_url,
    render_bar,
    render_button,
    render_hint,
    render_image,
    render_remainder,
)

MAX_MISTAKES = 12  # images in the list of the most confident mistakes
MAX_CELL_IMAGES = 24  # images of the selected cell of the confusion matrix
MAX_UNREADABLE = 5  # unreadable images that are named
THUMBNAIL_SIZE = 160  # pixels a side


def render_summary(analysis: ErrorAnalysis) -> str:
    """A card with the accuracy, its confidence interval and the baseline of always answering the largest class."""
    evaluation = analysis.evaluation
    baseline = f"always {_largest_class_text(evaluation)}"
    bars = render_bar("this model", evaluation.accuracy, evaluation.interval, decorative=True)
    bars += render_bar(baseline, evaluation.always_largest, muted=True, decorative=True)
    return (
        f'<div class="hs-card hs-judged" role="status"><p class="hs-sentence">{_describe_accuracy(analysis)}</p>'
        f"{_render_layout(analysis)}{bars}{_render_unreadable(analysis)}</div>"
    )


def render_confusion(analysis: ErrorAnalysis, current_images: LabelledImages | None) -> str:
    """The confusion matrix, or with several labels an image the list of errors, and the images of the selected cell.

    Args:
        analysis: What is rendered.
        current_images: The session's images as they are now, in which errors may have been corrected.
    """
    evaluation, cell = analysis.evaluation, analysis.selected_cell
    if evaluation.multi_label:
        errors = confusion_matrix.list_label_errors(evaluation.classes, evaluation.confusion.tolist())
        pairs = sorted(errors, key=lambda pair: -pair.num_images)
        drawing = confusion_matrix.render_pair_list(pairs, cell, "The labels that are missed or called wrongly")
    else:
        drawing = confusion_matrix.render_confusion_matrix(evaluation.classes, evaluation.confusion.tolist(), cell)
    return f'<div class="hs-confusion">{drawing}{_render_cell(analysis, current_images)}</div>'


def render_mistakes(analysis: ErrorAnalysis, current_images: LabelledImages | None) -> str:
    """The most confident mistakes, each with buttons that correct its label or remove it; arguments as above."""
    mistakes = analysis.evaluation.mistakes
    if not mistakes:
        return render_hint("None of these images is answered wrongly.")
    shown = "".join(_render_figure(analysis, current_images, each.index, each) for each in mistakes[:MAX_MISTAKES])
    advice = (
        "They are as you sent them."
        if analysis.subset == "test"
        else "Some may only have the wrong label. Relabel or remove those, then train again to use it; "
        "Undo stands in the first step."
    )
    more = render_remainder(len(mistakes), MAX_MISTAKES, "more; press a number above to see them")
    return (
        f'<p class="hs-sentence"><b>The most confident mistakes.</b> {advice}</p>'
        f'<div class="hs-mistakes">{shown}</div>{more}'
    )


def _describe_accuracy(analysis: ErrorAnalysis) -> str:
    evaluation, record = analysis.evaluation, analysis.trained_model.model.record
    low, high = evaluation.interval
    which = {
        "validation": f"{format_count(evaluation.total, 'validation image')} that were held back from learning",
        "learned": f"your {format_count(evaluation.total, 'image')}",
        "test": f"{format_count(evaluation.total, 'test image')} that you have sent for it",
    }[analysis.subset]
    all_labels, precision, selected = "", "", ""
    if evaluation.multi_label:
        all_labels = " with all their labels"
        precision = f" The mean average precision is {evaluation.mean_average_precision:.2f}."
    if analysis.subset == "validation" and record is not None and record.selected_on_validation:
        selected = f" {SELECTION_BIAS_NOTE}"
    return (
        f"Of {which}: <b>{evaluation.correct} right{all_labels}, {format_percent(evaluation.accuracy)}</b> (between "
        f"{format_percent(low)} and {format_percent(high)}). Always answering {_largest_class_text(evaluation)} would "
        f"get {format_percent(evaluation.always_largest)}.{precision}{selected} {evaluation.leakage_warning}"
    ).replace(" %", "\u00a0%")


def _largest_class_text(evaluation: Evaluation) -> str:
    return "the most frequent labels" if evaluation.multi_label else "the largest class"


def _render_layout(analysis: ErrorAnalysis) -> str:
    """How the folders or tables of an uploaded test set were interpreted."""
    report = analysis.images.report
    sentences = [*report.interpretation, *report.notes] if analysis.subset == "test" else []
    return f"<p class='hs-rest'>{escape(' '.join(sentences))}</p>" if sentences else ""


def _render_unreadable(analysis: ErrorAnalysis) -> str:
    if not analysis.unreadable:
        return ""
    listed = "; ".join(f"{name}: {reason}" for name, reason in analysis.unreadable[:MAX_UNREADABLE])
    rest = len(analysis.unreadable) - MAX_UNREADABLE
    more = f"; and {rest:,} more" if rest > 0 else ""
    return f"<p class='hs-rest'>Not counted, because they cannot be read: {escape(listed + more)}.</p>"


def _find_cell_indices(analysis: ErrorAnalysis, cell: confusion_matrix.MatrixCell) -> list[int]:
    """The indices of a cell's images, the most confident answers first."""
    true_class, predicted_class = cell
    evaluation = analysis.evaluation
    predicted = predict_label_mask(analysis.trained_model.model, evaluation.probabilities)
    column = predicted_class if predicted_class >= 0 else true_class
    indices = [
        i
        for i, labels in enumerate(analysis.images.label_sets)
        if (true_class in labels if true_class >= 0 else predicted_class not in labels)
        and bool(predicted[i, column]) == (predicted_class >= 0)
    ]
    sign = 1 if predicted_class < 0 else -1
    return sorted(indices, key=lambda i: sign * float(evaluation.probabilities[i, column].item()))


def _render_cell(analysis: ErrorAnalysis, current_images: LabelledImages | None) -> str:
    """The images of the selected cell, or a hint to select one."""
    if analysis.selected_cell is None:
        return render_hint("Press a number, and its images appear here.")
    true_class, predicted_class = analysis.selected_cell
    classes, mistakes = analysis.evaluation.classes, {each.index: each for each in analysis.evaluation.mistakes}
    if true_class < 0:
        description = f"not {classes[predicted_class]}, but called so"
    elif predicted_class < 0:
        description = f"{classes[true_class]}, but not called so"
    else:
        description = f"{classes[true_class]}, answered {classes[predicted_class]}"
    indices = _find_cell_indices(analysis, analysis.selected_cell)
    shown = "".join(_render_figure(analysis, current_images, i, mistakes.get(i)) for i in indices[:MAX_CELL_IMAGES])
    return (
        f'<section class="hs-cell" aria-label="Images of this cell"><p role="status"><b>'
        f"{format_count(len(indices), 'image')}: {escape(description)}</b></p>"
        f"<div class='hs-mistakes'>{shown}</div>{render_remainder(len(indices), MAX_CELL_IMAGES)}</section>"
    )


def _render_figure(
    analysis: ErrorAnalysis, current_images: LabelledImages | None, i: int, mistake: Mistake | None
) -> str:
    images, preprocess = analysis.images, analysis.trained_model.model.preprocess
    try:
        pixels = images.pixels(i, preprocess.resize, preprocess.interpolation)
        picture = render_image(images.names[i], make_thumbnail_url(pixels, THUMBNAIL_SIZE))
    except ValueError:  # includes InputError: the file is unreadable, or was deleted with its dataset
        picture = "<p class='hs-rest'>It cannot be read any more.</p>"
    caption = f"<figcaption>{_render_caption(analysis, i, mistake)}</figcaption>"
    return f"<figure>{picture}{caption}{_render_actions(analysis, current_images, i, mistake)}</figure>"


def _render_caption(analysis: ErrorAnalysis, i: int, mistake: Mistake | None) -> str:
    if mistake is None:
        confidence = format_percent(float(analysis.evaluation.probabilities[i].max().item()))
        return f"<b>{escape(join_names(analysis.images.label_names[i]) or 'no label')}</b>, {confidence}"
    confidence = format_percent(mistake.probability)
    true_label, predicted_label = escape(mistake.true_label or ""), escape(mistake.predicted_label or "")
    if analysis.evaluation.multi_label:
        return f"<b>{f'{predicted_label} called' if predicted_label else f'{true_label} missed'}</b>, {confidence}"
    return f"<b>{true_label}</b>, answered <b>{predicted_label}</b>, {confidence}"


def _render_actions(
    analysis: ErrorAnalysis, current_images: LabelledImages | None, i: int, mistake: Mistake | None
) -> str:
    """Buttons that relabel or remove the image, or what has been done to it."""
    if done := _describe_correction(analysis, current_images, i):
        return f'<p class="hs-done" role="status">{escape(done)} Train again to use it.</p>'
    path, name = analysis.images.paths[i], analysis.images.names[i]
    if mistake is None or analysis.subset == "test" or current_images is None or path not in current_images.paths:
        return ""
    if not analysis.evaluation.multi_label:
        relabel = f"Relabel as {mistake.predicted_label}"
    else:
        relabel = f"Add {mistake.predicted_label}" if mistake.predicted_label else f"Take {mistake.true_label} away"
    return (
        f'<span class="hs-actions">{render_button(relabel, name, do="relabel", image=path.stem)}'
        f"{render_button('Remove', name, do='remove', image=path.stem)}</span>"
    )


def _describe_correction(analysis: ErrorAnalysis, current_images: LabelledImages | None, i: int) -> str:
    """How an image has changed since the analysis, in a sentence; empty if it has not."""
    if analysis.subset == "test" or current_images is None:
        return ""
    path = analysis.images.paths[i]
    if path not in current_images.paths:
        return "Removed."
    label_names = current_images.label_names[current_images.paths.index(path)]
    if set(label_names) == set(analysis.images.label_names[i]):
        return ""
    return f"Now {join_names(label_names) or 'without a label'}."
