"""Train step: edits the plan, starts and stops training, race and refit jobs, and shows their charts and results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape

import gradio as gr
from gradio.blocks import Block

from headswap.common.errors import InputError
from headswap.features.inference import EngineSpec
from headswap.training.plan import Plan
from headswap.ui.panels import epoch_slider, held_out_samples, plan_form, result_buttons, run_view, runs_table
from headswap.ui.panels.browser_events import StageClick
from headswap.ui.panels.epoch_slider import EpochPanel, EpochPanelUpdate
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.plan_form import PlanForm, PlanUpdate
from headswap.ui.panels.result_buttons import ResultButtons, ResultButtonsUpdate, find_refittable_job
from headswap.ui.panels.run_view import RunUpdate, RunView
from headswap.ui.panels.runs_table import RunsPanel, RunsPanelUpdate
from headswap.ui.panels.stage_strip import build_stage_strip, render_chosen_network
from headswap.ui.sessions import next_training
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.next_training import (
    TrainingRequest,
    build_starting_model,
    count_unfrozen_stages,
    explain_cannot_resume,
    get_head_and_unfrozen_phases,
    suggest_session_plan,
)
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.views.html import render_problem_card
from headswap.ui.views.run_charts import render_run_charts
from headswap.ui.views.run_text import describe_learning_stages, render_run_status

NO_GPU_MESSAGE = "No GPU could be borrowed just now, so the processor reads the images."
START_CHOICES = [("A new head, as the Model step says", False), ("The model that you have: it learns on", True)]

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainStep:
    """The step's components."""

    run_view: RunView
    start_from: gr.Radio
    train_button: gr.Button
    race_button: gr.Button
    stop_button: gr.Button
    problem: gr.HTML
    samples_html: gr.HTML
    result_buttons: ResultButtons
    epoch_panel: EpochPanel
    runs_panel: RunsPanel
    plan_form: PlanForm
    script_accordion: gr.Accordion
    script: gr.Code
    next_button: gr.Button

    @property
    def refresh_outputs(self) -> list[Block]:
        """What ``refresh`` changes."""
        return [*self.run_view.outputs, *self.plan_form.sliders, *self.control_outputs]

    @property
    def control_outputs(self) -> list[Block]:
        """What ``refresh_controls`` changes."""
        panels = [*self.result_buttons.outputs, *self.epoch_panel.outputs, *self.runs_panel.outputs]
        buttons = [self.train_button, self.race_button, self.stop_button, self.next_button]
        return [*buttons, self.samples_html, *panels]


@dataclass(frozen=True)
class TrainUpdate:
    """New values of components of ``TrainStep``, by their names; None leaves one as it is."""

    run_view: RunUpdate | None = None
    start_from: gr.Radio | None = None
    train_button: gr.Button | None = None
    race_button: gr.Button | None = None
    stop_button: gr.Button | None = None
    problem: str | None = None
    samples_html: str | None = None
    result_buttons: ResultButtonsUpdate | None = None
    epoch_panel: EpochPanelUpdate | None = None
    runs_panel: RunsPanelUpdate | None = None
    plan_form: PlanUpdate | None = None
    next_button: gr.Button | None = None


def build() -> TrainStep:
    """The step's components, without events."""
    strip = build_stage_strip("train-strip")
    build_note("train-strip")
    status = gr.HTML(elem_id="train-sentence", apply_default_css=False)
    start_from = gr.Radio(START_CHOICES, value=False, label="Begin with", visible=False, elem_id="going-on")
    build_note("going-on")
    with gr.Row(equal_height=False):
        train = _build_button("Train", "train", "hs-go")
        race = _build_button("Race the heads", "race")
        stop = _build_button("Stop and keep the best", "stop")
    problem = gr.HTML(elem_id="train-problem", apply_default_css=False)
    charts = gr.HTML(render_run_charts(Run()), elem_id="charts", apply_default_css=False)
    build_note("charts")
    samples = held_out_samples.build("train-tries")
    buttons = result_buttons.build()
    epoch_panel = epoch_slider.build()
    runs_panel = runs_table.build()
    with gr.Accordion("More", open=False):
        form = plan_form.build()
    title = "The same in plain PyTorch: the lesson to take home"
    with gr.Accordion(title, open=False, elem_id="lesson") as script_accordion:
        script = gr.Code(language="python", interactive=False, max_lines=32, show_label=False, elem_id="script")
        build_note("script")
    return TrainStep(
        run_view=RunView(strip, status, charts),
        start_from=start_from,
        train_button=train,
        race_button=race,
        stop_button=stop,
        problem=problem,
        samples_html=samples,
        result_buttons=buttons,
        epoch_panel=epoch_panel,
        runs_panel=runs_panel,
        plan_form=form,
        script_accordion=script_accordion,
        script=script,
        next_button=gr.Button("Go on and test it", interactive=False, elem_id="onward-test"),
    )


def _build_button(label: str, elem_id: str, elem_classes: str | None = None) -> gr.Button:
    with gr.Column(min_width=200):
        button = gr.Button(label, elem_id=elem_id, interactive=False, elem_classes=elem_classes)
        build_note(elem_id)
    return button


def refresh(session: Session) -> TrainUpdate:
    """Show the session's training, or the suggested plan and what is missing before one can start."""
    job = session.job
    if session.is_training:
        return replace(refresh_controls(session), plan_form=plan_form.show_job_plan(session))
    if job and job.model:
        drawn = run_view.draw_training(job, session.trained_in_current_job)
        return replace(refresh_controls(session), run_view=drawn, plan_form=plan_form.show_job_plan(session))
    model = build_starting_model(session)
    strip = render_chosen_network(session, model)
    if reason := _explain_cannot_train(session):
        drawn = run_view.draw_no_training(strip, f"<p class='hs-sentence'>{escape(reason)}</p>")
        return replace(refresh_controls(session), run_view=drawn)
    plan = suggest_session_plan(session, model)
    return replace(
        refresh_controls(session),
        run_view=run_view.draw_no_training(strip, _plan_text(plan)),
        plan_form=plan_form.show_plan(plan, len(model.freezable_stages)),
    )


def set_unfrozen_stages(session: Session, num_stages: float | None) -> TrainUpdate:
    """Set how many of the last stages the next training unfreezes.

    The charts of a training that has ended stay; the strip shows the next training.
    """
    if session.is_training or num_stages is None:
        return TrainUpdate()
    session.num_unfrozen_stages = max(0, int(num_stages))
    model = build_starting_model(session)
    strip = render_chosen_network(session, model)
    if _explain_cannot_train(session):
        return TrainUpdate(run_view=RunUpdate(strip))
    status, job, trained = _plan_text(suggest_session_plan(session, model)), session.job, session.trained_in_current_job
    if job and trained:  # the result stays readable
        status = render_run_status(job.run, trained, job.previous_job is not None) + status
    return TrainUpdate(run_view=RunUpdate(strip, status))


def click_stage(session: Session, click: StageClick | None) -> TrainUpdate:
    """Unfreeze the stages from the one that was clicked on, and move the slider along."""
    update = set_unfrozen_stages(session, click.num_stages if click else None)
    if session.is_training or session.num_unfrozen_stages is None:
        return update
    model = build_starting_model(session)
    slider = gr.Slider(value=count_unfrozen_stages(session, model), maximum=len(model.freezable_stages))
    return replace(update, plan_form=PlanUpdate(unfrozen_stages=slider))


def _explain_cannot_train(session: Session) -> str:
    """Why no training can start, in a sentence; "" where one can."""
    return session.untrainable_reason or explain_cannot_resume(session)


def _plan_text(plan: Plan) -> str:
    _, unfrozen = get_head_and_unfrozen_phases(plan)
    order = "the head learns"
    if unfrozen.learning_stages != 0:
        order += f" first, then {describe_learning_stages(unfrozen)} too"
    return f"<p class='hs-sentence'>{f'Press Train: {order}. {escape(plan.advice)}'.strip()}</p>"


def update_start_choice(session: Session) -> gr.Radio:
    """Offer to resume the trained model, where there is one."""
    has_model = session.trained_model is not None
    return gr.Radio(value=session.resume_training and has_model, visible=has_model)


def set_start_choice(session: Session, resume: bool) -> TrainUpdate:
    """Start the next training from a new head, or resume the trained model."""
    session.set_resume_training(bool(resume))
    return replace(refresh(session), start_from=update_start_choice(session))


def refresh_controls(session: Session) -> TrainUpdate:
    """Show what can be used now, the held-out samples, the epochs and the runs."""
    ready = not session.is_training and not session.untrainable_reason
    is_refit = session.is_training and session.job is not None and session.job.previous_job is not None
    stop_text = "Stop and keep what was there before" if is_refit else "Stop and keep the best"
    has_model = session.trained_model is not None
    return TrainUpdate(
        train_button=gr.Button(interactive=ready),
        race_button=gr.Button(interactive=ready),
        stop_button=gr.Button(stop_text, interactive=session.is_training),
        next_button=gr.Button(interactive=has_model, variant="primary" if has_model else "secondary"),
        result_buttons=result_buttons.refresh(session),
        samples_html="" if session.is_training else held_out_samples.render_samples(session),
        epoch_panel=epoch_slider.refresh(session),
        runs_panel=runs_table.refresh(session),
    )


def start_training(
    session: Session,
    scheduler: Scheduler,
    head_epochs: float,
    unfrozen_stages: float,
    unfrozen_epochs: float,
    head_lr: float | None = None,
) -> TrainUpdate:
    """Start a training in a job of its own.

    Args:
        session: whose images and network are trained.
        scheduler: shared by all jobs.
        head_epochs: epochs in which only the head is trained.
        unfrozen_stages: how many of the last stages are trained after that.
        unfrozen_epochs: epochs in which they are trained.
        head_lr: the highest learning rate while only the head is trained; None for the usual one.
    """
    request = TrainingRequest(head_epochs, unfrozen_stages, unfrozen_epochs, head_lr)
    return _start_job(
        session,
        _explain_cannot_train(session),
        lambda: next_training.start_training_job(session, scheduler, request),
    )


def start_race(
    session: Session,
    scheduler: Scheduler,
    head_epochs: float,
    unfrozen_stages: float,
    unfrozen_epochs: float,
    head_lr: float | None = None,
) -> TrainUpdate:
    """Start a race of heads in a job of its own; the arguments are those of ``start_training``."""
    request = TrainingRequest(head_epochs, unfrozen_stages, unfrozen_epochs, head_lr)
    return _start_job(
        session, session.untrainable_reason, lambda: next_training.start_race_job(session, scheduler, request)
    )


def start_refit(session: Session, scheduler: Scheduler) -> TrainUpdate:
    """Start to train on all images, in a job and with a network of its own."""
    if finished := find_refittable_job(session):
        session.start_job(lambda: next_training.start_refit_job(finished, scheduler))
    return replace(refresh_controls(session), problem="")


def _start_job(session: Session, problem: str, make_job: Callable[[], Job]) -> TrainUpdate:
    """Start a job unless one runs, or show why it cannot start."""
    if session.is_training:
        return refresh_controls(session)
    started = None
    if not problem:
        try:
            started = session.start_job(make_job)
        except (InputError, ValueError) as error:
            problem = str(error)
    if problem:
        return replace(refresh_controls(session), problem=render_problem_card(problem))
    return replace(refresh_controls(session), problem="" if started else None)


def precompute_on_gpu(session: Session, scheduler: Scheduler, engine: EngineSpec) -> Iterator[RunUpdate]:
    """Compute the frozen pass before a training, with an engine that only this event may use."""
    try:
        for progress in next_training.precompute_with_engine(session, scheduler, engine):
            yield RunUpdate(status=render_run_status(Run("running", frozen_pass=progress)))
    except Exception as error:  # a GPU that is lent can be refused in many ways, and nothing depends on it
        logger.warning("No GPU was lent: %s", error)
        yield RunUpdate(status=f'<p class="hs-sentence">{NO_GPU_MESSAGE}</p>')
    else:
        yield RunUpdate()  # Gradio clears the outputs of an event that yields nothing


def stop_training(session: Session) -> None:
    """Ask the training to stop; the event that watches it draws the end."""
    if session.job:
        session.job.stop()


def restore_candidate(session: Session, candidate_name: str) -> TrainUpdate:
    """Put the candidate "frozen", "reference" or "own" into the model that predicts."""
    session.restore_candidate(candidate_name)
    drawn = None
    if session.job is not None and session.job.model is not None:
        drawn = run_view.draw_training(session.job, session.trained_in_current_job)
    return replace(refresh_controls(session), run_view=drawn)


def show_epoch(session: Session, epoch_number: int) -> TrainUpdate:
    """Show a training that has ended as it was after an epoch."""
    job = session.job
    epoch = next((epoch for epoch in epoch_slider.replayable_epochs(job) if epoch.number == epoch_number), None)
    if epoch is None or job is None or job.model is None:
        return TrainUpdate(epoch_panel=EpochPanelUpdate(epoch_summary=""))
    summary = epoch_slider.render_epoch(epoch, job.model.classes)
    return TrainUpdate(
        run_view=run_view.draw_epoch(job, session.trained_in_current_job, epoch_number),
        epoch_panel=EpochPanelUpdate(epoch_summary=summary),
    )
