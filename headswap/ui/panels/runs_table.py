"""Beneath the charts of the third step: this visitor's runs side by side, as a table and as curves in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.text import percent, seconds
from headswap.networks.classifier import ACCURACY
from headswap.training.events import Figures
from headswap.ui.panels.help_notes import note
from headswap.ui.sessions.run_summary import Ran
from headswap.ui.sessions.session import Visitor
from headswap.ui.views import line_chart
from headswap.ui.views.network import TITLES, title

MOST_CURVES = 5  # of the newest runs, and the one whose model answers
INSTEAD = {"frozen": "the frozen network kept", "reference": "the head solved at once kept"}


@dataclass(frozen=True)
class Runs:
    """The components."""

    room: gr.Column
    table: gr.Dataframe
    chart: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        """What ``show`` gives, in order."""
        return [self.room, self.table, self.chart]


def build() -> Runs:
    """The components, without events."""
    with gr.Column(visible=False, elem_id="runs") as room:
        table = gr.Dataframe(
            headers=["run", "backbone", "head", "what learned", "validation images right", "time"],
            column_widths=["144px", "164px", "114px", "264px", "284px", "84px"],
            interactive=False,
            wrap=True,
            label="Your runs with these images",
            elem_id="runs-table",
            max_height=360,
        )
        note("runs-table")
        chart = gr.HTML(elem_id="runs-chart", apply_default_css=False)
    return Runs(room, table, chart)


def show(visitor: Visitor) -> tuple[Any, ...]:
    """The visitor's runs: values for ``Runs.shown``."""
    if not visitor.runs:
        return gr.Column(visible=False), gr.Dataframe(value=None), ""
    return gr.Column(visible=True), gr.Dataframe(value=rows(visitor)), drawn(visitor)


def answering(visitor: Visitor) -> int:
    """The number of the run whose model answers now; 0 where it is none of them."""
    return visitor.trained.number if visitor.trained else 0


def rows(visitor: Visitor) -> list[list[str]]:
    """A row for each run: the one whose model answers first, then the newest."""
    now = answering(visitor)
    return [_row(ran, visitor, ran.number == now) for ran in _in_order(visitor.runs, now)]


def _in_order(runs: Sequence[Ran], now: int) -> list[Ran]:
    return sorted(runs, key=lambda ran: (ran.number != now, -ran.number))


def _row(ran: Ran, visitor: Visitor, now: bool) -> list[str]:
    instead = visitor.trained.instead if now else ""
    figures = visitor.trained.figures if instead else ran.figures
    return [
        f"{ran.number}, answers now" if now else str(ran.number),
        title(ran.backbone),
        TITLES.get(ran.head, ran.head),
        f"{ran.plan}; {INSTEAD[instead]}" if instead else ran.plan,
        _right(figures),
        seconds(ran.seconds),
    ]


def _right(told: Figures) -> str:
    low, high = told.interval
    between = f"{told.right} of {told.of}, {percent(told.right / told.of)} ({percent(low)} to {percent(high)})"
    return between if told.metric == ACCURACY else f"{told.metric} {told.score:.2f}; {between}"


def drawn(visitor: Visitor) -> str:
    """The runs' validation curves over one another; nothing while there are fewer than two."""
    now = answering(visitor)
    runs = [ran for ran in _in_order(visitor.runs, now) if ran.curve][:MOST_CURVES]
    if len(runs) < 2:
        return ""
    metric = runs[0].figures.metric
    named = [(f"run {ran.number}", TITLES.get(ran.head, ran.head), ran) for ran in runs]
    series = tuple(
        line_chart.Series(name, ran.curve, "validation" if ran.number == now else f"other{place % 4}")
        for place, (name, _, ran) in enumerate(named)
    )
    ends = ", ".join(f"{name} ({head}) {percent(ran.curve[-1][1])}" for name, head, ran in named)
    return line_chart.draw(
        line_chart.Chart(
            f"{metric.capitalize()} on the validation images, run by run",
            (),
            series,
            max(ran.curve[-1][0] for ran in runs),
            percent=True,
            aligned=True,
            said=f"{metric.capitalize()} on the validation images after the last epoch: {ends}.",
        )
    )
