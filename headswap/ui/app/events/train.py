"""Events of the Train step: planning, starting, watching and stopping a training, and choosing what it keeps."""

from __future__ import annotations

from functools import partial

from gradio.events import Dependency

from headswap.ui.app.events.binder import EventBinder, Listener
from headswap.ui.panels import lr_finder, run_view
from headswap.ui.panels.browser_events import parse_stage_click
from headswap.ui.steps import keep as keep_step
from headswap.ui.steps import train as train_step
from headswap.ui.steps.images import ImagesStep
from headswap.ui.steps.train import TrainStep


def bind_train_step(binder: EventBinder, training: TrainStep, images: ImagesStep) -> None:
    """Bind all controls of the step, and the Images step's button that trains at once."""
    refreshed = refresh_train_step(binder, binder.step_tabs.train.select, training)
    binder.bind(refreshed.then, train_step.update_start_choice, outputs=[training.start_from])
    _bind_start_buttons(binder, training, images)
    binder.bind(training.stop_button.click, train_step.stop_training)
    binder.select_tab(training.next_button.click, "test")
    _bind_plan_controls(binder, training)
    _bind_result_controls(binder, training)


def refresh_train_step(binder: EventBinder, listener: Listener, training: TrainStep) -> Dependency:
    """Bind an event after which the step shows the session's state."""
    return binder.bind(listener, train_step.refresh, outputs=training.refresh_outputs, components=training)


def watch_training(binder: EventBinder, started: Dependency, training: TrainStep) -> None:
    """After a training has started, draw it until it ends, and then update all that depends on its result."""
    watched = binder.bind(
        started.then, run_view.watch_training, outputs=training.run_view.outputs, components=training.run_view
    )
    ended = binder.bind(
        watched.then, train_step.refresh_controls, outputs=training.control_outputs, components=training
    )
    binder.update_tabs_after(ended)


def _bind_start_buttons(binder: EventBinder, training: TrainStep, images: ImagesStep) -> None:
    refreshed = refresh_train_step(binder, images.train_now_button.click, training)
    plan = training.plan_form.inputs
    for listener, start, inputs, goes_on in (
        (_after_gpu_pass(binder, training.train_button.click, training), train_step.start_training, plan, False),
        (_after_gpu_pass(binder, refreshed.then, training), train_step.start_training, plan, True),
        (_after_gpu_pass(binder, training.race_button.click, training), train_step.start_race, plan, False),
        (training.result_buttons.refit.click, train_step.start_refit, [], False),
    ):
        started = binder.bind(
            listener,
            binder.with_scheduler(start),
            inputs,
            [training.problem, *training.control_outputs],
            components=training,
        )
        # From the Images step the page goes on once the training has started, so that nothing waits to be pressed.
        shown = binder.select_tab(started.then, "train") if goes_on else started
        watch_training(binder, binder.update_tabs_after(shown), training)


def _after_gpu_pass(binder: EventBinder, listener: Listener, training: TrainStep) -> Listener:
    """A listener that registers what follows the frozen pass on a GPU, where one is lent to the event."""
    if binder.engine is None:
        return listener
    precompute = partial(train_step.precompute_on_gpu, engine=binder.engine)
    return binder.bind(
        listener, binder.with_scheduler(precompute), outputs=[training.run_view.status], components=training.run_view
    ).then


def _bind_plan_controls(binder: EventBinder, training: TrainStep) -> None:
    """Bind what the next training starts from, how many stages it unfreezes, and its learning rate."""
    form, view = training.plan_form, training.run_view
    binder.bind_browser_event(
        view.stage_strip.submit,
        parse_stage_click,
        train_step.click_stage,
        outputs=[view.stage_strip, view.status, form.unfrozen_stages],
        components=training,
    )
    binder.bind(
        form.unfrozen_stages.input,
        train_step.set_unfrozen_stages,
        [form.unfrozen_stages],
        [view.stage_strip, view.status],
        components=training,
        latest_only=True,
    )
    binder.bind(
        training.start_from.input,
        train_step.set_start_choice,
        [training.start_from],
        [*training.refresh_outputs, training.start_from],
        components=training,
        latest_only=True,
    )
    binder.bind(
        form.lr_panel.find_button.click,
        binder.with_scheduler(lr_finder.find_learning_rate),
        outputs=[form.lr_panel.result],
    )


def _bind_result_controls(binder: EventBinder, training: TrainStep) -> None:
    """Bind what looks at an earlier epoch, keeps another candidate, or shows the training as a script."""
    for name, button in training.result_buttons.by_candidate.items():
        binder.bind(
            button.click,
            partial(train_step.restore_candidate, candidate_name=name),
            outputs=[*training.run_view.outputs, *training.control_outputs],
            components=training,
        )
    look, view = training.epoch_panel, training.run_view
    binder.bind(
        look.epoch_slider.input,
        train_step.show_epoch,
        [look.epoch_slider],
        [view.stage_strip, view.charts, look.epoch_summary],
        components=training,
        latest_only=True,
    )
    binder.bind(training.script_accordion.expand, keep_step.render_script, outputs=[training.script])
