"""The tab bar of the steps: which tabs are enabled, and the hint for the next step. Knows no step."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from headswap.ui.sessions.session import Session

FIRST_STEP_TEXT = (
    "<b>First</b> add images of two kinds or more, or try the sample. Then Train opens, and Test once it has learned."
)


@dataclass(frozen=True)
class StepTabs:
    """The tabs, and the hint above them."""

    next_step: gr.HTML
    tabs: gr.Tabs
    images: gr.Tab
    model: gr.Tab
    train: gr.Tab
    test: gr.Tab
    keep: gr.Tab

    @property
    def outputs(self) -> list[Block]:
        """What a ``StepTabsUpdate`` changes."""
        return [self.next_step, self.train, self.test]


@dataclass(frozen=True)
class StepTabsUpdate:
    """New values of components of ``StepTabs``, by their names."""

    next_step: str
    train: gr.Tab
    test: gr.Tab


def build_step_tabs() -> StepTabs:
    """The tab bar with empty tabs, without events."""
    next_step = gr.HTML(_render_next_step(FIRST_STEP_TEXT), elem_id="next", apply_default_css=False)
    with gr.Tabs(elem_id="steps", overflow_behavior="wrap") as tabs:
        images, model = gr.Tab("1 Images", id="images"), gr.Tab("2 Model", id="model")
        train, test = (gr.Tab(name, id=name[2:].lower(), interactive=False) for name in ("3 Train", "4 Test"))
        keep = gr.Tab("5 Keep", id="keep")
    return StepTabs(next_step, tabs, images, model, train, test, keep)


def update_step_tabs(session: Session) -> StepTabsUpdate:
    """Enable the tabs that the session can use, and say what comes next."""
    can_train = not session.untrainable_reason or session.job is not None
    return StepTabsUpdate(
        _render_next_step(_describe_next_step(session)),
        train=gr.Tab(interactive=can_train),
        test=gr.Tab(interactive=session.trained_model is not None),
    )


def _describe_next_step(session: Session) -> str:
    has_model = session.trained_model is not None
    if session.is_training:
        model_text = "The model from before answers under Test meanwhile."
        return f"<b>It is learning.</b> {model_text if has_model else 'Test opens when it is over.'}"
    if has_model and session.images and not session.untrainable_reason and session.job is None:
        return "<b>Next</b> train it on these images. Until then the model from before answers under Test."
    if has_model:
        more = " To teach it more, add images in the first step." if session.images is None else ""
        if session.images and session.untrainable_reason:
            more = " To train again, see in the first step what is missing."
        return f"<b>Next</b> show it new images under Test, and take it along under Keep.{more}"
    if session.images is None:
        return FIRST_STEP_TEXT
    if session.untrainable_reason:
        return "<b>First</b> the images have to be such as can be learned from: the first step says what is missing."
    return "<b>Next</b> train it: the defaults are good. Under Model you can choose another network or another head."


def _render_next_step(text: str) -> str:
    return f'<p class="hs-next" role="status" aria-live="polite">{text}</p>'
