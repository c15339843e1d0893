"""Slider over the epochs of a finished run, with the metrics and the confusion matrix of the selected epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from headswap.common.text import format_percent
from headswap.networks.classifier import ACCURACY
from headswap.training.events import Epoch
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.session import Session
from headswap.ui.views.confusion_matrix import list_label_errors, render_confusion_matrix, render_pair_list


@dataclass(frozen=True)
class EpochPanel:
    """The panel's components."""

    container: gr.Column
    epoch_slider: gr.Slider
    epoch_summary: gr.HTML

    @property
    def outputs(self) -> list[Block]:
        """The components that an ``EpochPanelUpdate`` sets."""
        return [self.container, self.epoch_slider, self.epoch_summary]


@dataclass(frozen=True)
class EpochPanelUpdate:
    """New values of components, by name; None leaves one as it is."""

    container: gr.Column | None = None
    epoch_slider: gr.Slider | None = None
    epoch_summary: str | None = None


def build() -> EpochPanel:
    """Build the components, without events."""
    with gr.Column(visible=False) as container:
        slider = gr.Slider(1, 2, step=1, label="Look at an epoch again", elem_id="look")
        build_note("look")
        summary = gr.HTML(elem_id="looked", apply_default_css=False)
    return EpochPanel(container, slider, summary)


def refresh(session: Session) -> EpochPanelUpdate:
    """Set the slider to the last epoch; hide it unless a run with several epochs has ended."""
    epochs = replayable_epochs(session.job)
    if len(epochs) < 2:
        return EpochPanelUpdate(gr.Column(visible=False), epoch_summary="")
    last = epochs[-1].number
    return EpochPanelUpdate(gr.Column(visible=True), gr.Slider(value=last, maximum=last), "")


def replayable_epochs(job: Job | None) -> tuple[Epoch, ...]:
    """The epochs of a run that has ended and kept the predictions of each."""
    run = job.run if job and job.model is not None else Run()
    return run.epochs if run.has_ended and all(epoch.predictions for epoch in run.epochs) else ()


def render_epoch(epoch: Epoch, classes: Sequence[str]) -> str:
    """The validation metrics of an epoch in a sentence, and its confusion matrix."""
    score = format_percent(epoch.correct / epoch.total)
    if epoch.metric != ACCURACY:
        score = f"{epoch.metric} {epoch.validation_score:.2f}"
    sentence = (
        f"After epoch {epoch.number}: <b>{epoch.correct} of {epoch.total} validation images right, {score}</b>; loss "
        f"{epoch.validation_loss:.2f}, and {epoch.training_loss:.2f} on the images that were learned from."
    )
    return f'<p class="hs-sentence" role="status">{sentence}</p>{_render_confusion(epoch, classes)}'


def _render_confusion(epoch: Epoch, classes: Sequence[str]) -> str:
    if epoch.predictions is None:
        return ""
    counts = epoch.predictions.confusion_matrix().tolist()
    if epoch.metric == ACCURACY:
        return render_confusion_matrix(classes, counts, clickable=False)
    errors = list_label_errors(tuple(classes), counts)
    return render_pair_list(errors, None, "The labels that were missed or called wrongly", clickable=False)
