"""Table and chart that compare the validation results of the session's runs."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from headswap.common.text import format_duration, format_percent
from headswap.networks.classifier import ACCURACY
from headswap.training.events import ClassificationMetrics
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.run_summary import RunSummary
from headswap.ui.sessions.session import Session
from headswap.ui.views import line_chart
from headswap.ui.views.network import HEAD_TITLES, backbone_title

MAX_CURVES = 5  # the active run, and the newest of the others
CANDIDATE_LABELS = {"frozen": "the frozen network kept", "reference": "the head solved at once kept"}


@dataclass(frozen=True)
class RunsPanel:
    """The panel's components."""

    container: gr.Column
    table: gr.Dataframe
    chart: gr.HTML

    @property
    def outputs(self) -> list[Block]:
        """The components that a ``RunsPanelUpdate`` sets."""
        return [self.container, self.table, self.chart]


@dataclass(frozen=True)
class RunsPanelUpdate:
    """New values of all components, by name."""

    container: gr.Column
    table: gr.Dataframe
    chart: str


def build() -> RunsPanel:
    """Build the components, without events."""
    with gr.Column(visible=False, elem_id="runs") as container:
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
    return RunsPanel(container, table, chart)


def refresh(session: Session) -> RunsPanelUpdate:
    """Show the session's runs."""
    if not session.run_summaries:
        return RunsPanelUpdate(gr.Column(visible=False), gr.Dataframe(value=None), "")
    return RunsPanelUpdate(gr.Column(visible=True), gr.Dataframe(value=table_rows(session)), render_curves(session))


def active_run_number(session: Session) -> int:
    """The number of the run that trained the current model; 0 where none of the runs did."""
    return session.trained_model.run_number if session.trained_model else 0


def table_rows(session: Session) -> list[list[str]]:
    """A row for each run: the active one first, then the newest."""
    return [_table_row(run, session) for run in _sorted_runs(session)]


def _sorted_runs(session: Session) -> list[RunSummary]:
    active_number = active_run_number(session)
    return sorted(session.run_summaries, key=lambda run: (run.number != active_number, -run.number))


def _table_row(summary: RunSummary, session: Session) -> list[str]:
    number, schedule, metrics = str(summary.number), summary.schedule_text, summary.validation_metrics
    if session.trained_model and summary.number == session.trained_model.run_number:
        number += ", answers now"
        if candidate := session.trained_model.active_candidate:
            schedule += f"; {CANDIDATE_LABELS[candidate]}"
            metrics = session.trained_model.validation_metrics or metrics
    return [
        number,
        backbone_title(summary.backbone),
        HEAD_TITLES.get(summary.head, summary.head),
        schedule,
        format_metrics(metrics),
        format_duration(summary.seconds),
    ]


def format_metrics(metrics: ClassificationMetrics) -> str:
    """The validation accuracy with its confidence interval, preceded by the score where that is another metric."""
    low, high = metrics.interval
    accuracy = (
        f"{metrics.correct} of {metrics.total}, {format_percent(metrics.correct / metrics.total)} "
        f"({format_percent(low)} to {format_percent(high)})"
    )
    return accuracy if metrics.metric == ACCURACY else f"{metrics.metric} {metrics.score:.2f}; {accuracy}"


def render_curves(session: Session) -> str:
    """The validation curves of the runs in one chart; empty while there are fewer than two."""
    runs = [run for run in _sorted_runs(session) if run.validation_curve][:MAX_CURVES]
    if len(runs) < 2:
        return ""
    active_number = active_run_number(session)
    series = tuple(
        line_chart.Series(
            f"run {run.number}",
            run.validation_curve,
            "validation" if run.number == active_number else f"other{i % 4}",
        )
        for i, run in enumerate(runs)
    )
    metric = runs[0].validation_metrics.metric.capitalize()
    ends = ", ".join(
        f"run {run.number} ({HEAD_TITLES.get(run.head, run.head)}) {format_percent(run.validation_curve[-1][1])}"
        for run in runs
    )
    return line_chart.render_line_chart(
        line_chart.LineChart(
            f"{metric} on the validation images, run by run",
            (),
            series,
            max(run.validation_curve[-1][0] for run in runs),
            is_percent=True,
            labels_at_right=True,
            alt_text=f"{metric} on the validation images after the last epoch: {ends}.",
        )
    )
