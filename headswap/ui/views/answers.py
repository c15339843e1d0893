"""Renders a model's predictions for new images as HTML: a card with probability bars for each image, and a CSV."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from headswap.common.text import format_count, format_percent, join_names
from headswap.ui.sessions.state import ImagePrediction, PredictionBatch
from headswap.ui.views.html import (
    render_bar,
    render_csv_link,
    render_hint,
    render_image,
    render_problem_card,
    render_remainder,
)

MAX_SHOWN_IMAGES = 50  # images with probability bars; the CSV holds all of them
MAX_BARS = 6  # classes shown for each image


def render_empty_answers() -> str:
    """The hint in place of answers while there are none."""
    return render_hint("The answers appear here: a bar for each class, and how sure the model is.")


def render_answers(batch: PredictionBatch, threshold: float) -> str:
    """A card for each image, and above several of them their number and a CSV to download.

    Args:
        batch: The predictions of one model.
        threshold: Probability below which the answer is shown as "not sure"; unused for several labels an image.
    """
    shown = batch.predictions[:MAX_SHOWN_IMAGES]
    readable = [prediction for prediction in batch.predictions if prediction.ranked_probabilities]
    heading = ""
    if len(readable) > 1:
        link = render_csv_link("answers.csv", *_build_csv_table(readable, threshold))
        heading = (
            f'<div class="hs-heading"><p class="hs-sentence">{_describe_counts(batch, len(readable))}</p>{link}</div>'
        )
    return f'<div role="status">{heading}{"".join(_render_prediction(each, threshold) for each in shown)}</div>'


def _describe_counts(batch: PredictionBatch, num_readable: int) -> str:
    num_predicted, sentences = len(batch.predictions), []
    if batch.num_images > num_predicted:
        sentences.append(f"The first {num_predicted} of {batch.num_images:,} images were answered.")
    if num_predicted > MAX_SHOWN_IMAGES:
        sentences.append(f"The first {MAX_SHOWN_IMAGES} of {num_predicted} are shown; the table has all of them.")
    else:
        sentences.append(f"{format_count(num_readable, 'image')} answered.")
    return " ".join(sentences)


def _build_csv_table(
    predictions: Sequence[ImagePrediction], threshold: float
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the CSV, with the classes sorted by name."""
    names = sorted(name for name, _ in predictions[0].ranked_probabilities)
    rows = []
    for prediction in predictions:
        probabilities = dict(prediction.ranked_probabilities)
        best, probability = prediction.ranked_probabilities[0]
        if prediction.labels is not None:
            answer = ";".join(prediction.labels)
        else:
            answer = best if probability >= threshold else "not sure"
        columns = (f"{probabilities[name]:.4f}" for name in names)
        rows.append((prediction.name, answer, best, f"{probability:.4f}", *columns))
    return ("file", "answer", "most likely", "its probability", *names), rows


def _render_prediction(prediction: ImagePrediction, threshold: float) -> str:
    if prediction.problem:
        return render_problem_card(prediction.problem)
    ranked = prediction.ranked_probabilities
    bars = "".join(render_bar(name, probability) for name, probability in ranked[:MAX_BARS])
    more = render_remainder(len(ranked), MAX_BARS, "less likely")
    if prediction.true_label:
        more += f"<p class='hs-rest'>Its label says <b>{escape(prediction.true_label)}</b>.</p>"
    return (
        f'<article class="hs-card hs-answer">{render_image(prediction.name, prediction.data_url)}'
        f'<div><p class="hs-verdict">{_describe_answer(prediction, threshold)}</p>{bars}{more}</div></article>'
    )


def _describe_answer(prediction: ImagePrediction, threshold: float) -> str:
    if prediction.labels is not None:
        return escape(join_names(prediction.labels)) or "None of the labels"
    best, probability = prediction.ranked_probabilities[0]
    if probability < threshold:
        return f"Not sure; perhaps {escape(best)}"
    return f"{escape(best)}, {format_percent(probability)}"
