"""The way through the page: its steps as tabs, which of them are open now, and what comes next. Knows no step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.ui.sessions.session import Session

FIRST_STEP_TEXT = (
    "<b>First</b> add images of two kinds or more, or try the sample. Then Train opens, and Test once it has learned."
)


@dataclass(frozen=True)
class StepTabs:
    """The row of steps, and the sentence above it."""

    next_step: gr.HTML
    tabs: gr.Tabs
    images: gr.Tab
    model: gr.Tab
    train: gr.Tab
    test: gr.Tab
    keep: gr.Tab

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What ``stand`` gives, in order."""
        return [self.next_step, self.train, self.test]


def build_step_tabs() -> StepTabs:
    """The row, each step still empty, without events."""
    sentence = gr.HTML(_render_next_step(FIRST_STEP_TEXT), elem_id="next", apply_default_css=False)
    with gr.Tabs(elem_id="steps", overflow_behavior="wrap") as tabs:
        images, model = gr.Tab("1 Images", id="images"), gr.Tab("2 Model", id="model")
        train, test = (gr.Tab(name, id=name[2:].lower(), interactive=False) for name in ("3 Train", "4 Test"))
        keep = gr.Tab("5 Keep", id="keep")
    return StepTabs(sentence, tabs, images, model, train, test, keep)


def update_step_tabs(visitor: Session) -> tuple[Any, ...]:
    """How far this visitor has come: values for ``Way.shown``."""
    learned = visitor.trained_model is not None
    train = not visitor.untrainable_reason or visitor.job is not None
    return _render_next_step(_describe_next_step(visitor)), gr.Tab(interactive=train), gr.Tab(interactive=learned)


def _describe_next_step(visitor: Session) -> str:
    learned = visitor.trained_model is not None
    if visitor.is_training:
        meanwhile = "The model from before answers under Test meanwhile." if learned else "Test opens when it is over."
        return f"<b>It is learning.</b> {meanwhile}"
    if learned and visitor.images and not visitor.untrainable_reason and visitor.job is None:
        return "<b>Next</b> train it on these images. Until then the model from before answers under Test."
    if learned:
        more = " To teach it more, add images in the first step." if visitor.images is None else ""
        if visitor.images and visitor.untrainable_reason:
            more = " To train again, see in the first step what is missing."
        return f"<b>Next</b> show it new images under Test, and take it along under Keep.{more}"
    if visitor.images is None:
        return FIRST_STEP_TEXT
    if visitor.untrainable_reason:
        return "<b>First</b> the images have to be such as can be learned from: the first step says what is missing."
    return "<b>Next</b> train it: the defaults are good. Under Model you can choose another network or another head."


def _render_next_step(words: str) -> str:
    return f'<p class="hs-next" role="status" aria-live="polite">{words}</p>'
