"""A run played again, once it is over: a slider over its epochs, and what was taken for what after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.text import format_percent
from headswap.networks.classifier import ACCURACY
from headswap.training.events import Epoch
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.session import Session
from headswap.ui.views import confusion_matrix


@dataclass(frozen=True)
class EpochPanel:
    """The components."""

    container: gr.Column
    epoch_slider: gr.Slider
    epoch_summary: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What ``show`` gives, in order."""
        return [self.container, self.epoch_slider, self.epoch_summary]


def build() -> EpochPanel:
    """The components, without events."""
    with gr.Column(visible=False) as room:
        slider = gr.Slider(1, 2, step=1, label="Look at an epoch again", elem_id="look")
        build_note("look")
        told = gr.HTML(elem_id="looked", apply_default_css=False)
    return EpochPanel(room, slider, told)


def refresh(visitor: Session) -> tuple[Any, ...]:
    """The slider at the last epoch, where a run is over that has several: values for ``Replay.shown``."""
    epochs = replayable_epochs(visitor.job)
    if len(epochs) < 2:
        return gr.Column(visible=False), gr.skip(), ""
    return gr.Column(visible=True), gr.Slider(value=epochs[-1].number, maximum=epochs[-1].number), ""


def replayable_epochs(job: Job | None) -> tuple[Epoch, ...]:
    """The epochs of a run that is over and whose answers are known."""
    run = job.run if job and job.model is not None else Run()
    return run.epochs if run.has_ended and all(epoch.predictions for epoch in run.epochs) else ()


def render_epoch(epoch: Epoch, classes: Sequence[str]) -> str:
    """How an epoch's network answered the validation images: a sentence and the confusion matrix."""
    score = format_percent(epoch.correct / epoch.total)
    if epoch.metric != ACCURACY:
        score = f"{epoch.metric} {epoch.validation_score:.2f}"
    words = (
        f"After epoch {epoch.number}: <b>{epoch.correct} of {epoch.total} validation images right, {score}</b>; loss "
        f"{epoch.validation_loss:.2f}, and {epoch.training_loss:.2f} on the images that were learned from."
    )
    return f'<p class="hs-sentence" role="status">{words}</p>{_render_confusion(epoch, classes)}'


def _render_confusion(epoch: Epoch, classes: Sequence[str]) -> str:
    counts = epoch.predictions.confusion_matrix().tolist()
    if epoch.metric == ACCURACY:
        return confusion_matrix.render_confusion_matrix(classes, counts, clickable=False)
    errors = confusion_matrix.list_label_errors(classes, counts)
    return confusion_matrix.render_pair_list(
        errors, None, "The labels that were missed or called wrongly", clickable=False
    )
