"""Draws a training while it runs and once it has ended: the stage strip, a status sentence and the curves.

Draws what a run says and computes nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from headswap.ui.sessions.job import Job
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.views.network import render_network
from headswap.ui.views.run_charts import render_run_charts
from headswap.ui.views.run_text import render_run_status

CHART_INTERVAL = 0.2  # seconds between two drawings of the curves
STATUS_INTERVAL = 1.0  # seconds between two sentences, so that a screen reader can follow


@dataclass(frozen=True)
class RunView:
    """The components, which stand apart from each other in the Train step."""

    stage_strip: gr.HTML
    status: gr.HTML
    charts: gr.HTML

    @property
    def outputs(self) -> list[gr.HTML]:
        """What a ``RunUpdate`` changes."""
        return [self.stage_strip, self.status, self.charts]


@dataclass(frozen=True)
class RunUpdate:
    """New values of components of ``RunView``, by their names; None leaves one as it is."""

    stage_strip: str | None = None
    status: str | None = None
    charts: str | None = None


def watch_training(session: Session) -> Iterator[RunUpdate]:
    """Draw the session's training until it ends; then the session adopts the trained model."""
    job = session.job
    if job is None:
        yield RunUpdate()  # Gradio clears the outputs of an event that yields nothing
        return
    status_at, num_drawn_phases, is_refit = 0.0, -1, job.previous_job is not None
    for run in job.watch(CHART_INTERVAL):
        if run.has_ended:
            session.adopt_trained_model(job)
            yield _draw_end(session, job, is_refit)
            return
        strip = status = None
        if len(run.phases) != num_drawn_phases and job.model is not None:
            strip, num_drawn_phases = render_training_strip(job), len(run.phases)
        if time.monotonic() - status_at > STATUS_INTERVAL:
            status, status_at = render_run_status(run, is_refit=is_refit), time.monotonic()
        yield RunUpdate(strip, status, render_run_charts(run))


def draw_training(job: Job, trained_model: TrainedModel | None) -> RunUpdate:
    """Draw a training as it stands.

    Args:
        job: the training.
        trained_model: what the session adopted of it; None while it runs.
    """
    return RunUpdate(
        render_training_strip(job, trained_model),
        render_run_status(job.run, trained_model, job.previous_job is not None),
        render_run_charts(job.run, trained_model),
    )


def render_training_strip(job: Job, trained_model: TrainedModel | None = None) -> str | None:
    """The strip of a training in its current phase, or of the candidate that is kept in place of its result.

    Returns:
        None while the network is not built yet.
    """
    if job.model is None:
        return None
    phases, interaction = job.run.phases, "asks" if job.run.has_ended else "waits"
    if not phases:
        return render_network(job.model, job.outline, (), interaction=interaction)
    if trained_model and trained_model.active_candidate:
        kept_bytes = next((phase.kept_bytes for phase in phases if not phase.learning_stages), None)
        return render_network(job.model, job.outline, (), kept_bytes, interaction)
    last = phases[-1]
    return render_network(job.model, job.outline, last.learning_stages, last.kept_bytes, interaction)


def draw_epoch(job: Job, trained_model: TrainedModel | None, epoch_number: int) -> RunUpdate:
    """Draw a training that has ended as it was after an epoch.

    Args:
        job: the training.
        trained_model: what the session adopted of it.
        epoch_number: of an epoch that the run has.
    """
    strip = None
    if job.model is not None:
        phase = [phase for phase in job.run.phases if phase.first_epoch <= epoch_number][-1]
        strip = render_network(job.model, job.outline, phase.learning_stages, phase.kept_bytes, "asks")
    return RunUpdate(strip, charts=render_run_charts(job.run, trained_model, epoch_number))


def _draw_end(session: Session, job: Job, is_refit: bool) -> RunUpdate:
    """Draw a training that has ended; in place of a refit without a result, the training before it, and why."""
    if session.job is not None and session.job.run is job.run and job.model is not None:
        return draw_training(session.job, session.trained_in_current_job)
    status = render_run_status(job.run, is_refit=is_refit)
    former, trained_model = session.job, session.trained_in_current_job
    if is_refit and former is not None and trained_model:
        return RunUpdate(
            render_training_strip(former, trained_model), status, render_run_charts(former.run, trained_model)
        )
    return RunUpdate(render_training_strip(job), status, render_run_charts(job.run))


def draw_no_training(stage_strip: str, status: str) -> RunUpdate:
    """Draw empty charts beside the strip and the status of a training that has not started."""
    return RunUpdate(stage_strip, status, render_run_charts(Run()))
