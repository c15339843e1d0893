"""The fourth step: new images in, their classes with probabilities out. Knows nothing of how the model learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr

from headswap.errors import InputError
from headswap.model import Classifier
from headswap.pixels import read_pixels
from headswap.ui.cards import problem_card, thumbnail
from headswap.ui.model_step import draw, head_title, preview, title
from headswap.ui.visitors import Visitor
from headswap.ui.wording import listed, percent

MOST = 50  # images at once
BARS = 6  # for each image
NOTHING = "No model has learned anything yet. Press Train in the third step, or open one that you kept in the fifth."
UNSURE = 0.5  # a class that gets less than half is a guess


@dataclass(frozen=True)
class TestStep:
    """The step's components."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    strip: gr.HTML
    state: gr.HTML
    files: gr.File
    answers: gr.HTML


def build() -> TestStep:
    """The step's components, without events."""
    drawing = gr.HTML(elem_id="test-strip", apply_default_css=False)
    state = gr.HTML(elem_id="test-state", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            files = gr.File(
                file_count="multiple",
                file_types=["image"],
                label="Drop new images here",
                elem_id="new-images",
                height=180,
            )
        with gr.Column(scale=3, min_width=300):
            answers = gr.HTML(_hint(), elem_id="answers", apply_default_css=False)
    return TestStep(drawing, state, files, answers)


def _hint() -> str:
    return '<p class="hs-card hs-hint">The answers appear here: a bar for each class, and how sure the model is.</p>'


def prepare(visitor: Visitor) -> tuple[str, str]:
    """The model that would answer: values for ``strip`` and ``state``."""
    if visitor.trained is None:
        missing = f"<p class='hs-sentence'>{NOTHING}</p>"
        model = preview(visitor.choice, visitor.classes)
        return draw(model, model.outline(), ()), missing
    model, figures = visitor.trained.model, visitor.trained.figures
    it = "before it learned again from all images, it" if model.record and model.record.refitted else "it"
    rightly = "with all their labels" if model.multi_label else "rightly"
    named = f"; {it} named {figures.right} of {figures.of} validation images {rightly}" if figures else ""
    return draw(model, model.outline(), visitor.trained.learned), (
        f"<p class='hs-sentence'>{title(model.backbone)} answers through its {head_title(model)} head{named}. "
        f"It knows <b>{escape(listed(model.classes, most=8))}</b> and nothing else.</p>"
    )


def classify(visitor: Visitor, paths: Sequence[str] | None) -> str:
    """The answers for uploaded images, as HTML; an image that cannot be read says so in its place."""
    if not paths:
        return _hint()
    if visitor.trained is None:
        return problem_card(
            "No model has learned anything yet. Press Train in the third step, then drop the images again."
        )
    shown = "".join(_answer(visitor.trained.model, Path(path)) for path in paths[:MOST])
    more = f"<p class='hs-sentence'>The first {MOST} of {len(paths)} images.</p>" if len(paths) > MOST else ""
    return f'<div role="status">{more}{shown}</div>'


def _answer(model: Classifier, path: Path) -> str:
    try:
        pixels = read_pixels(path, model.preprocess.resize, model.preprocess.interpolation)
    except InputError as error:
        return problem_card(str(error))
    ranked = model.predict(pixels)
    verdict = _verdict(ranked, model.labels(pixels) if model.multi_label else None)
    bars = "".join(_bar(name, probability) for name, probability in ranked[:BARS])
    rest = len(ranked) - BARS
    more = f"<p class='hs-rest'>and {rest} less likely</p>" if rest > 0 else ""
    return (
        f'<article class="hs-card hs-answer"><img alt="{escape(path.name)}" src="{thumbnail(pixels, 160)}">'
        f'<div><p class="hs-verdict">{verdict}</p>{bars}{more}</div></article>'
    )


def _verdict(ranked: Sequence[tuple[str, float]], labels: Sequence[str] | None) -> str:
    if labels is not None:
        return escape(listed(labels)) or "None of the labels"
    best, share = ranked[0]
    return f"{escape(best)}, {percent(share)}" if share >= UNSURE else f"Not sure; perhaps {escape(best)}"


def _bar(name: str, probability: float) -> str:
    return (
        f'<div class="hs-bar-row"><span class="hs-bar-name">{escape(name)}</span>'
        f'<span class="hs-bar-track"><span style="width:{probability:.1%}"></span></span>'
        f'<span class="hs-bar-figure">{percent(probability)}</span></div>'
    )
