"""The third step: the strip, a sentence, two curves, Train and Stop. Draws what a run tells; computes nothing of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from headswap.common.errors import InputError
from headswap.features.inference import EngineSpec
from headswap.training.plan import HEAD_PHASE, Plan
from headswap.ui.panels import epoch_slider, held_out_samples, lr_finder, runs_table, stage_strip
from headswap.ui.panels.help_notes import build_note
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
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.steps import model as model_step
from headswap.ui.views.html import render_problem_card
from headswap.ui.views.network import render_network
from headswap.ui.views.run_charts import render_run_charts
from headswap.ui.views.run_text import describe_learning_stages, render_run_status

CHART_INTERVAL = 0.2  # seconds between two drawings of the curves
MAX_STAGES = 14  # of any network, until one is known
STATUS_INTERVAL = 1.0  # seconds between two sentences, so that a screen reader can follow
NO_GPU_MESSAGE = "No GPU could be borrowed just now, so the processor reads the images."
START_CHOICES = [("A new head, as the Model step says", False), ("The model that you have: it learns on", True)]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainStep:
    """The step's components."""

    stage_strip: gr.HTML
    status: gr.HTML
    charts: gr.HTML
    train_button: gr.Button
    stop_button: gr.Button
    keep_frozen_button: gr.Button
    keep_reference_button: gr.Button
    keep_trained_button: gr.Button
    refit_button: gr.Button
    race_button: gr.Button
    problem: gr.HTML
    head_epochs: gr.Slider
    unfrozen_stages: gr.Slider
    unfrozen_epochs: gr.Slider
    head_lr: gr.Number
    lr_panel: lr_finder.LrFinderPanel
    start_from: gr.Radio
    script_accordion: gr.Accordion
    script: gr.Code
    next_button: gr.Button
    runs_panel: runs_table.RunsPanel
    epoch_panel: epoch_slider.EpochPanel
    samples_html: gr.HTML

    @property
    def watch_outputs(self) -> list[gr.components.Component]:
        """What ``watch`` draws, in order."""
        return [self.stage_strip, self.status, self.charts]

    @property
    def plan_sliders(self) -> list[gr.Slider]:
        """The sliders of the plan, in order."""
        return [self.head_epochs, self.unfrozen_stages, self.unfrozen_epochs]

    @property
    def refresh_outputs(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [*self.watch_outputs, *self.plan_sliders, *self.control_outputs]

    @property
    def control_outputs(self) -> list[gr.components.Component]:
        """What ``state`` gives, in order."""
        return [*self.button_outputs, self.samples_html, *self.epoch_panel.outputs, *self.runs_panel.outputs]

    @property
    def button_outputs(self) -> list[gr.Button]:
        """What ``buttons`` gives, in order."""
        return [
            self.train_button,
            self.stop_button,
            self.next_button,
            self.keep_frozen_button,
            self.keep_reference_button,
            self.keep_trained_button,
            self.refit_button,
            self.race_button,
        ]


def build() -> TrainStep:
    """The step's components, without events."""
    drawing = stage_strip.build_stage_strip("train-strip")
    build_note("train-strip")
    words = gr.HTML(elem_id="train-sentence", apply_default_css=False)
    going_on = gr.Radio(START_CHOICES, value=False, label="Begin with", visible=False, elem_id="going-on")
    build_note("going-on")
    with gr.Row(equal_height=False):
        start = _build_button("Train", "train", elem_classes="hs-go")
        heads = _build_button("Race the heads", "race")
        stop = _build_button("Stop and keep the best", "stop")
    problem = gr.HTML(elem_id="train-problem", apply_default_css=False)
    charts = gr.HTML(render_run_charts(Run()), elem_id="charts", apply_default_css=False)
    build_note("charts")
    held_back = held_out_samples.build("train-tries")
    with gr.Row(elem_id="instead"):
        frozen = gr.Button("Keep the frozen network instead", visible=False, elem_id="keep-frozen")
        reference = gr.Button("Keep the head solved at once instead", visible=False, elem_id="keep-reference")
        own = gr.Button(visible=False, elem_id="keep-own")
        again = gr.Button("Learn again from all images", visible=False, elem_id="again")
    build_note("instead")
    looking = epoch_slider.build()
    table = runs_table.build()
    with gr.Accordion("More", open=False):
        head_epochs = _build_slider(1, 200, "Epochs in which only the head learns", "head-epochs")
        stages = _build_slider(0, MAX_STAGES, "Then so many of the last stages learn, too", "stages")
        stage_epochs = _build_slider(1, 100, "Epochs in which they learn", "stage-epochs")
        label = "Highest learning rate while only the head learns"
        head_rate = gr.Number(HEAD_PHASE.head_lr, minimum=1e-6, maximum=1, step=1e-4, label=label, elem_id="head-rate")
        build_note("head-rate")
        rate_test = lr_finder.build()
    with gr.Accordion("The same in plain PyTorch: the lesson to take home", open=False, elem_id="lesson") as lesson:
        script = gr.Code(language="python", interactive=False, max_lines=32, show_label=False, elem_id="script")
        build_note("script")
    onward = gr.Button("Go on and test it", interactive=False, elem_id="onward-test")
    instead = (frozen, reference, own, again)
    more = (head_epochs, stages, stage_epochs, head_rate, rate_test)
    begin = (start, stop, *instead, heads, problem, *more, going_on)
    return TrainStep(drawing, words, charts, *begin, lesson, script, onward, table, looking, held_back)


def _build_button(words: str, elem_id: str, **looks: str) -> gr.Button:
    with gr.Column(min_width=200):
        button = gr.Button(words, elem_id=elem_id, interactive=False, **looks)
        build_note(elem_id)
    return button


def _build_slider(least: int, most: int, label: str, elem_id: str) -> gr.Slider:
    slider = gr.Slider(least, most, step=1, label=label, elem_id=elem_id)
    build_note(elem_id)
    return slider


def refresh(visitor: Session) -> tuple[Any, ...]:
    """What the step shows before a training: the network, the suggested plan, what is still missing.

    Returns:
        Values for ``drawings``, ``head_epochs``, ``stages``, ``stage_epochs`` and what ``state`` gives.
    """
    if visitor.is_training:
        return *(gr.skip(),) * 3, *_running_plan_sliders(visitor), *refresh_controls(visitor)
    if visitor.job and visitor.job.model:
        return *render_training(visitor), *_running_plan_sliders(visitor), *refresh_controls(visitor)
    model, wanting = build_starting_model(visitor), visitor.untrainable_reason or explain_cannot_resume(visitor)
    if wanting:
        missing = f"<p class='hs-sentence'>{escape(wanting)}</p>"
        return (
            model_step.render_chosen_network(visitor, model),
            missing,
            render_run_charts(Run()),
            gr.skip(),
            gr.skip(),
            gr.skip(),
            *refresh_controls(visitor),
        )
    plan = suggest_session_plan(visitor, model)
    return (
        model_step.render_chosen_network(visitor, model),
        _plan_text(plan),
        render_run_charts(Run()),
        *_plan_slider_updates(plan, len(model.freezable_stages)),
        *refresh_controls(visitor),
    )


def set_unfrozen_stages(visitor: Session, num_stages: int | None) -> tuple[Any, ...]:
    """So many of the last stages are to learn; values for ``strip`` and ``sentence``.

    The charts of a training that is over stay; the strip shows what the next one will do.
    """
    if visitor.is_training or num_stages is None:
        return gr.skip(), gr.skip()
    visitor.num_unfrozen_stages = max(0, int(num_stages))
    model = build_starting_model(visitor)
    wanting = visitor.untrainable_reason or explain_cannot_resume(visitor)
    if wanting:
        return model_step.render_chosen_network(visitor, model), gr.skip()
    job, trained = visitor.job, visitor.trained_in_current_job
    result = (
        render_run_status(job.run, trained, job.previous_job is not None) if trained else ""
    )  # which a look at the strip costs nobody
    return model_step.render_chosen_network(visitor, model), result + _plan_text(suggest_session_plan(visitor, model))


def click_stage(visitor: Session, event_data: object) -> tuple[Any, ...]:
    """A block of the strip was pressed; values for what ``ask`` gives and ``stages``."""
    drawings = set_unfrozen_stages(visitor, model_step.parse_num_stages(event_data))
    if visitor.is_training or visitor.num_unfrozen_stages is None:
        return *drawings, gr.skip()
    model = build_starting_model(visitor)
    return *drawings, gr.Slider(value=count_unfrozen_stages(visitor, model), maximum=len(model.freezable_stages))


def _plan_text(plan: Plan) -> str:
    _, unfrozen = get_head_and_unfrozen_phases(plan)
    alone = unfrozen.learning_stages == 0
    order = "the head learns" if alone else f"the head learns first, then {describe_learning_stages(unfrozen)} too"
    return f"<p class='hs-sentence'>{f'Press Train: {order}. {escape(plan.advice)}'.strip()}</p>"


def update_start_choice(visitor: Session) -> gr.Radio:
    """What the next training can begin with."""
    return gr.Radio(
        value=visitor.resume_training and visitor.trained_model is not None, visible=visitor.trained_model is not None
    )


def set_start_choice(visitor: Session, resume: bool) -> tuple[Any, ...]:
    """Begin with a new head, or with what was trained; values for what ``prepare`` gives and ``going_on``."""
    visitor.set_resume_training(bool(resume))
    return *refresh(visitor), update_start_choice(visitor)


def _running_plan_sliders(visitor: Session) -> tuple[Any, ...]:
    """The sliders as they stood when the training began: a page that is loaded again knows nothing of them."""
    job = visitor.job
    lesson = job.training_setup or (job.previous_job.training_setup if job.previous_job else None)
    if lesson is None:
        return (gr.skip(),) * 3
    most = len(job.outline) or MAX_STAGES
    head, stages, unfrozen = _plan_slider_updates(lesson.plan, most)
    if visitor.num_unfrozen_stages is not None and not visitor.is_training:
        stages = gr.Slider(value=min(visitor.num_unfrozen_stages, most), maximum=most)
    return head, stages, unfrozen


def _plan_slider_updates(plan: Plan, num_stages: int) -> tuple[gr.Slider, gr.Slider, gr.Slider]:
    head, unfrozen = get_head_and_unfrozen_phases(plan)
    stages = num_stages if unfrozen.learning_stages is None else unfrozen.learning_stages
    return gr.Slider(value=head.epochs), gr.Slider(value=stages, maximum=num_stages), gr.Slider(value=unfrozen.epochs)


def refresh_controls(visitor: Session) -> tuple[Any, ...]:
    """``TrainStep.state``: what can be pressed and looked at now, and what the runs so far came to."""
    offered = "" if visitor.is_training else held_out_samples.render_samples(visitor)
    return *refresh_buttons(visitor), offered, *epoch_slider.refresh(visitor), *runs_table.refresh(visitor)


def refresh_buttons(visitor: Session) -> tuple[Any, ...]:
    """``TrainStep.buttons`` as this visitor can use them now."""
    ready = not visitor.is_training and not visitor.untrainable_reason
    repeats = visitor.is_training and visitor.job.previous_job
    trained = visitor.trained_in_current_job
    offered = trained.available_candidates if trained else ()
    unfrozen = trained and trained.trained_stages_of_run
    return (
        gr.Button(interactive=ready),
        gr.Button(
            "Stop and keep what was there before" if repeats else "Stop and keep the best",
            interactive=visitor.is_training,
        ),
        gr.Button(
            interactive=visitor.trained_model is not None, variant="primary" if visitor.trained_model else "secondary"
        ),
        gr.Button(visible="frozen" in offered),
        gr.Button(visible="reference" in offered),
        gr.Button(f"Keep the {'unfrozen network' if unfrozen else 'trained head'} after all", visible="own" in offered),
        gr.Button(visible=_can_refit(visitor)),
        gr.Button(interactive=ready),
    )


def _can_refit(visitor: Session) -> bool:
    trained = visitor.trained_in_current_job
    if trained is None or visitor.job.training_setup is None:
        return False
    return trained.run.kept is not None and not trained.run.kept.refitted and not trained.active_candidate


def start_training(visitor: Session, scheduler: Scheduler, *plan_values: float | None) -> tuple[Any, ...]:
    """Begin a training in a job of its own.

    Args:
        asked: the fields of ``Asked``, in order.

    Returns:
        Values for ``problem`` and ``state``.
    """
    problem = visitor.untrainable_reason or explain_cannot_resume(visitor)
    return _start_job(
        visitor, problem, lambda: next_training.start_training_job(visitor, scheduler, TrainingRequest(*plan_values))
    )


def start_race(visitor: Session, scheduler: Scheduler, *plan_values: float | None) -> tuple[Any, ...]:
    """Begin a race of heads in a job of its own; takes and gives what ``start`` does."""
    return _start_job(
        visitor,
        visitor.untrainable_reason,
        lambda: next_training.start_race_job(visitor, scheduler, TrainingRequest(*plan_values)),
    )


def precompute_on_gpu(visitor: Session, scheduler: Scheduler, engine: EngineSpec) -> Iterator[str]:
    """Let an engine that belongs to this event read the images before the training begins; values for ``sentence``."""
    try:
        for told in next_training.precompute_with_engine(visitor, scheduler, engine):
            yield render_run_status(Run("running", frozen_pass=told))
    except Exception as error:  # a GPU that is lent can be refused in many ways, and nothing depends on it
        log.warning("No GPU was lent: %s", error)
        yield f'<p class="hs-sentence">{NO_GPU_MESSAGE}</p>'
    else:
        yield gr.skip()  # an event that tells nothing empties what it could have drawn


def _start_job(visitor: Session, problem: str, make_job: Callable[[], Job]) -> tuple[Any, ...]:
    """Begin what ``make`` makes, unless something runs or stands in its way; values for ``problem`` and ``state``."""
    if visitor.is_training:
        return gr.skip(), *refresh_controls(visitor)
    if problem:
        return render_problem_card(problem), *refresh_controls(visitor)
    try:
        begun = visitor.start_job(make_job)
    except (InputError, ValueError) as error:
        return render_problem_card(str(error)), *refresh_controls(visitor)
    return "" if begun else gr.skip(), *refresh_controls(visitor)


def stop_training(visitor: Session) -> None:
    """Ask the training to stop; the watching event draws what it kept."""
    if visitor.job:
        visitor.job.stop()


def restore_candidate(visitor: Session, candidate_name: str) -> tuple[Any, ...]:
    """Put "frozen", "reference" or "own" into the model that answers; values for ``drawings`` and ``state``."""
    visitor.restore_candidate(candidate_name)
    if visitor.job is None or visitor.job.model is None:
        return *(gr.skip(),) * 3, *refresh_controls(visitor)
    return *render_training(visitor), *refresh_controls(visitor)


def start_refit(visitor: Session, scheduler: Scheduler) -> tuple[Any, ...]:
    """Begin to learn from all images, in a job of its own with a network of its own; values for ``problem``
    and ``state``."""
    if _can_refit(visitor):
        former = visitor.job
        visitor.start_job(lambda: next_training.start_refit_job(former, scheduler))
    return "", *refresh_controls(visitor)


def watch_training(visitor: Session) -> Iterator[tuple[Any, ...]]:
    """Draw the visitor's training until it ends; values for ``drawings``. The end takes over what was learned."""
    job = visitor.job
    if job is None:
        yield gr.skip(), gr.skip(), gr.skip()  # an event that tells nothing empties what it could have drawn
        return
    spoken_at, drawn_phases, repeats = 0.0, -1, job.previous_job is not None
    for run in job.watch(CHART_INTERVAL):
        if run.has_ended:
            visitor.adopt_trained_model(job)
            yield _final_outputs(visitor, job, repeats)
            return
        row: list[Any] = [gr.skip(), gr.skip(), render_run_charts(run)]
        if len(run.phases) != drawn_phases and job.model is not None:
            row[0], drawn_phases = render_training_strip(job), len(run.phases)
        if time.monotonic() - spoken_at > STATUS_INTERVAL:
            row[1], spoken_at = render_run_status(run, is_refit=repeats), time.monotonic()
        yield tuple(row)


def _final_outputs(visitor: Session, job: Job, is_refit: bool) -> tuple[Any, ...]:
    """What stands there at last; of a repetition of which nothing came, what was there before it, and why."""
    if visitor.job is not None and visitor.job.run is job.run and job.model is not None:
        return render_training(visitor)
    words = render_run_status(job.run, is_refit=is_refit)
    former = visitor.job if is_refit else None
    if former is not None and visitor.trained_in_current_job:
        return (
            render_training_strip(former, visitor.trained_model),
            words,
            render_run_charts(former.run, visitor.trained_model),
        )
    return render_training_strip(job) if job.model is not None else gr.skip(), words, render_run_charts(job.run)


def render_training(visitor: Session) -> tuple[str, str, str]:
    """The visitor's training as it stands: values for ``drawings``."""
    job, trained = visitor.job, visitor.trained_in_current_job
    return (
        render_training_strip(job, trained),
        render_run_status(job.run, trained, job.previous_job is not None),
        render_run_charts(job.run, trained),
    )


def render_training_strip(job: Job, trained: TrainedModel | None = None) -> str:
    """The strip of a training as its present phase has it, or of what is kept instead of what it has learned."""
    phases, pressing = job.run.phases, "asks" if job.run.has_ended else "waits"
    if not phases:
        return render_network(job.model, job.outline, (), interaction=pressing)
    if trained and trained.active_candidate:
        kept_bytes = next((phase.kept_bytes for phase in phases if not phase.learning_stages), None)
        return render_network(job.model, job.outline, (), kept_bytes, pressing)
    return render_network(job.model, job.outline, phases[-1].learning_stages, phases[-1].kept_bytes, pressing)


def show_epoch(visitor: Session, epoch_number: int) -> tuple[str, str, str]:
    """The training that is over as it stood after an epoch: values for ``strip``, ``charts`` and what is told of it."""
    job = visitor.job
    epoch = next((epoch for epoch in epoch_slider.replayable_epochs(job) if epoch.number == epoch_number), None)
    if epoch is None:
        return gr.skip(), gr.skip(), ""
    begins = [phase for phase in job.run.phases if phase.first_epoch <= epoch_number][-1]
    drawing = render_network(job.model, job.outline, begins.learning_stages, begins.kept_bytes, "asks")
    charts = render_run_charts(job.run, visitor.trained_in_current_job, epoch_number)
    return drawing, charts, epoch_slider.render_epoch(epoch, job.model.classes)
