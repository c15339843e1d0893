"""A run played again, once it is over: a slider over its epochs, and what was taken for what after each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from headswap.events import Epoch
from headswap.metrics import ACCURACY
from headswap.ui.jobs import Job, Run
from headswap.ui.notes import note
from headswap.ui.visitors import Visitor
from headswap.ui.wording import percent

MOST_CLASSES = 12  # whose confusions fit into a table
MOST_PAIRS = 12  # of more classes, so many confusions


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
    """How an epoch's network answered the validation images: a sentence and a small table."""
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
    if epoch.metric != ACCURACY:
        rows = [(name, [pair[1][1], pair[1][0], pair[0][1]]) for name, pair in zip(classes, counts, strict=True)]
        return _table("label", ("called rightly", "missed", "called wrongly"), rows, [0] * len(rows))
    if len(classes) <= MOST_CLASSES:
        return _table("shows", classes, list(zip(classes, counts, strict=True)), list(range(len(classes))), "taken for")
    wrong = [(n, a, b) for a, row in enumerate(counts) for b, n in enumerate(row) if n and a != b]
    most = sorted(wrong, key=lambda each: -each[0])[:MOST_PAIRS]
    pairs = "".join(f"<li>{escape(classes[a])} taken for {escape(classes[b])}: {n}</li>" for n, a, b in most)
    return f'<ul class="hs-replayed-pairs">{pairs}</ul>'


def _table(
    corner: str, columns: Sequence[str], rows: Sequence[tuple[str, list[int]]], right: list[int], above: str = ""
) -> str:
    """Counts, of which one in each row says what was right; a zero says nothing."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    over = f'<tr><td></td><th colspan="{len(columns)}" scope="colgroup">{above}</th></tr>' if above else ""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_cell, counts, _rights(counts, place)))}</tr>'
        for (name, counts), place in zip(rows, right, strict=True)
    )
    return (
        f'<div class="hs-scroll"><table class="hs-replayed"><thead>{over}<tr><th scope="col">{corner}</th>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _rights(counts: Sequence[int], place: int) -> list[bool]:
    return [index == place for index in range(len(counts))]


def _cell(number: int, right: bool) -> str:
    looks = "" if not number else ' class="hs-head"' if right else ' class="hs-wrong"'
    return f"<td{looks}>{number or '·'}</td>"
