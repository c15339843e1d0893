"""A run played again, once it is over: a slider over its epochs, and what was taken for what after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.text import percent
from headswap.networks.classifier import ACCURACY
from headswap.training.events import Epoch
from headswap.ui.panels.help_notes import note
from headswap.ui.sessions.job import Job, Run
from headswap.ui.sessions.session import Visitor
from headswap.ui.views import confusion_matrix


@dataclass(frozen=True)
class Replay:
    """The components."""

    room: gr.Column
    epoch: gr.Slider
    told: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        """What ``show`` gives, in order."""
        return [self.room, self.epoch, self.told]


def build() -> Replay:
    """The components, without events."""
    with gr.Column(visible=False) as room:
        slider = gr.Slider(1, 2, step=1, label="Look at an epoch again", elem_id="look")
        note("look")
        told = gr.HTML(elem_id="looked", apply_default_css=False)
    return Replay(room, slider, told)


def show(visitor: Visitor) -> tuple[Any, ...]:
    """The slider at the last epoch, where a run is over that has several: values for ``Replay.shown``."""
    epochs = to_look_at(visitor.job)
    if len(epochs) < 2:
        return gr.Column(visible=False), gr.skip(), ""
    return gr.Column(visible=True), gr.Slider(value=epochs[-1].number, maximum=epochs[-1].number), ""


def to_look_at(job: Job | None) -> tuple[Epoch, ...]:
    """The epochs of a run that is over and whose answers are known."""
    run = job.run if job and job.model is not None else Run()
    return run.epochs if run.ended and all(epoch.answers for epoch in run.epochs) else ()


def told(epoch: Epoch, classes: Sequence[str]) -> str:
    """How an epoch's network answered the validation images: a sentence and the confusion matrix."""
    score = percent(epoch.right / epoch.of)
    if epoch.metric != ACCURACY:
        score = f"{epoch.metric} {epoch.validation_score:.2f}"
    words = (
        f"After epoch {epoch.number}: <b>{epoch.right} of {epoch.of} validation images right, {score}</b>; loss "
        f"{epoch.validation_loss:.2f}, and {epoch.training_loss:.2f} on the images that were learned from."
    )
    return f'<p class="hs-sentence" role="status">{words}</p>{_confusion(epoch, classes)}'


def _confusion(epoch: Epoch, classes: Sequence[str]) -> str:
    counts = epoch.answers.confusion().tolist()
    if epoch.metric == ACCURACY:
        return confusion_matrix.draw(classes, counts, pressing=False)
    # Of each label: right and wrong where it was not to be called, wrong and right where it was.
    wrong = [
        each
        for place, (name, ((_, called), (missed, _))) in enumerate(zip(classes, counts, strict=True))
        for each in (
            confusion_matrix.Pair(f"{name}, missed", missed, (place, -1)),
            confusion_matrix.Pair(f"{name}, called wrongly", called, (-1, place)),
        )
        if each.images
    ]
    return confusion_matrix.pairs(wrong, None, "The labels that were missed or called wrongly", pressing=False)
