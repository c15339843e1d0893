"""Beneath the charts of the third step: this visitor's runs side by side, as a table and as curves in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.text import format_duration, format_percent
from headswap.networks.classifier import ACCURACY
from headswap.training.events import ClassificationMetrics
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.run_summary import RunSummary
from headswap.ui.sessions.session import Session
from headswap.ui.views import line_chart
from headswap.ui.views.network import HEAD_TITLES, backbone_title

MAX_CURVES = 5  # of the newest runs, and the one whose model answers
CANDIDATE_LABELS = {"frozen": "the frozen network kept", "reference": "the head solved at once kept"}


@dataclass(frozen=True)
class RunsPanel:
    """The components."""

    container: gr.Column
    table: gr.Dataframe
    chart: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What ``show`` gives, in order."""
        return [self.container, self.table, self.chart]


def build() -> RunsPanel:
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
        build_note("runs-table")
        chart = gr.HTML(elem_id="runs-chart", apply_default_css=False)
    return RunsPanel(room, table, chart)


def refresh(visitor: Session) -> tuple[Any, ...]:
    """The visitor's runs: values for ``Runs.shown``."""
    if not visitor.run_summaries:
        return gr.Column(visible=False), gr.Dataframe(value=None), ""
    return gr.Column(visible=True), gr.Dataframe(value=table_rows(visitor)), render_curves(visitor)


def active_run_number(visitor: Session) -> int:
    """The number of the run whose model answers now; 0 where it is none of them."""
    return visitor.trained_model.run_number if visitor.trained_model else 0


def table_rows(visitor: Session) -> list[list[str]]:
    """A row for each run: the one whose model answers first, then the newest."""
    now = active_run_number(visitor)
    return [_table_row(ran, visitor, ran.number == now) for ran in _sort_runs(visitor.run_summaries, now)]


def _sort_runs(runs: Sequence[RunSummary], active_number: int) -> list[RunSummary]:
    return sorted(runs, key=lambda ran: (ran.number != active_number, -ran.number))


def _table_row(summary: RunSummary, visitor: Session, is_active: bool) -> list[str]:
    instead = visitor.trained_model.active_candidate if is_active else ""
    figures = visitor.trained_model.validation_metrics if instead else summary.validation_metrics
    return [
        f"{summary.number}, answers now" if is_active else str(summary.number),
        backbone_title(summary.backbone),
        HEAD_TITLES.get(summary.head, summary.head),
        f"{summary.schedule_text}; {CANDIDATE_LABELS[instead]}" if instead else summary.schedule_text,
        _accuracy_text(figures),
        format_duration(summary.seconds),
    ]


def _accuracy_text(figures: ClassificationMetrics) -> str:
    low, high = figures.interval
    between = f"{figures.correct} of {figures.total}, {format_percent(figures.correct / figures.total)} ({format_percent(low)} to {format_percent(high)})"
    return between if figures.metric == ACCURACY else f"{figures.metric} {figures.score:.2f}; {between}"


def render_curves(visitor: Session) -> str:
    """The runs' validation curves over one another; nothing while there are fewer than two."""
    now = active_run_number(visitor)
    runs = [ran for ran in _sort_runs(visitor.run_summaries, now) if ran.validation_curve][:MAX_CURVES]
    if len(runs) < 2:
        return ""
    metric = runs[0].validation_metrics.metric
    named = [(f"run {ran.number}", HEAD_TITLES.get(ran.head, ran.head), ran) for ran in runs]
    series = tuple(
        line_chart.Series(name, ran.validation_curve, "validation" if ran.number == now else f"other{place % 4}")
        for place, (name, _, ran) in enumerate(named)
    )
    ends = ", ".join(f"{name} ({head}) {format_percent(ran.validation_curve[-1][1])}" for name, head, ran in named)
    return line_chart.render_line_chart(
        line_chart.LineChart(
            f"{metric.capitalize()} on the validation images, run by run",
            (),
            series,
            max(ran.validation_curve[-1][0] for ran in runs),
            is_percent=True,
            labels_at_right=True,
            alt_text=f"{metric.capitalize()} on the validation images after the last epoch: {ends}.",
        )
    )
