"""What happens when: every event of the page, a step after the other, bound to its handler and to whose it is.

A handler is a plain function of a visitor and some values. Builds no component and computes nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from headswap.features.inference import EngineSpec
from headswap.ui.app import navigation
from headswap.ui.app.navigation import StepTabs
from headswap.ui.panels import backbone_table, lr_finder, mistakes
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.steps import images as images_step
from headswap.ui.steps import keep as keep_step
from headswap.ui.steps import model as model_step
from headswap.ui.steps import test as test_step
from headswap.ui.steps import train as train_step
from headswap.ui.steps.images import ImagesStep
from headswap.ui.steps.keep import KeepStep
from headswap.ui.steps.model import ModelStep
from headswap.ui.steps.test import TestStep
from headswap.ui.steps.train import TrainStep

READ_TICKET_JS = "() => sessionStorage.getItem('headswap')"
STORE_TICKET_JS = "(ticket) => { sessionStorage.setItem('headswap', ticket); return ticket; }"
RESET_PAGE_JS = "() => { sessionStorage.removeItem('headswap'); location.reload(); }"
HIDE_PROGRESS = {"show_progress": "hidden"}  # each step says itself how far it is
LATEST_ONLY = HIDE_PROGRESS | {"trigger_mode": "always_last"}  # what was set while it was heard is not lost
SCROLL_TO_TOP = {"queue": False, "js": "() => { window.scrollTo(0, 0); return []; }"}  # a step is seen from its top
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
NOT_READY_MESSAGE = "The page is not ready yet. Press once more in a moment."
SESSION_EXPIRED_MESSAGE = "You were away for a while, so your images were let go. Reload the page to begin anew."


@dataclass(frozen=True)
class EventBinder:
    """What every event needs: whose it is, whose turn it is, and where to go on."""

    page: gr.Blocks
    ticket: gr.State
    stored_ticket: gr.Textbox
    sessions: SessionRegistry
    scheduler: Scheduler
    local_only: bool  # nobody but this very computer can reach the page
    step_tabs: StepTabs
    engine: EngineSpec | None = None  # that belongs to the event which asks for it

    def bind_images_step(self, images: ImagesStep) -> None:
        """The first step: images come, are put right, and go."""
        understood = images.outputs
        reading = [
            images.sample_button.click(
                self._with_session(images_step.load_sample), self.ticket, understood, **HIDE_PROGRESS
            ),
            images.picker.submit(
                _with_event_data(self._with_session(images_step.load_uploads)), self.ticket, understood, **HIDE_PROGRESS
            ),
        ]
        images.picker.stop(
            self._with_session(images_step.refresh), self.ticket, understood, cancels=reading, **HIDE_PROGRESS
        )
        edited = images.dataset_summary.submit(
            _with_event_data(self._with_session(images_step.edit_dataset)), self.ticket, understood, **HIDE_PROGRESS
        )
        for changed in (*reading, edited):
            self._then_update_tabs(changed)
        images.next_button.click(*self._select_tab("model"), **SCROLL_TO_TOP)

    def bind_model_step(self, model: ModelStep) -> None:
        """The second step: a backbone and a head are chosen."""
        chosen = [
            model.stage_strip,
            model.choice_text,
            model.problem,
            model.input_preview,
            model.head,
            *model.option_groups.values(),
        ]

        def in_turn(visitor: Session, *values: Any) -> tuple[Any, ...]:
            with visitor.choice_lock:  # or an older choice, slower to draw, would win over a newer one
                return model_step.choose_network(visitor, *values)

        choose = self._with_session(in_turn), [self.ticket, *model.choose_inputs], chosen
        advise = self._with_session(model_step.render_advice), self.ticket, model.advice
        compared = model.backbone_panel
        compare = self._with_session(backbone_table.refresh), self.ticket, compared.outputs
        networks = (model.backbone, model.other_backbone)
        # One of both names the network, so the other is cleared first.
        for named, cleared in (networks, networks[::-1]):
            named.input(lambda: None, None, cleared, queue=False, trigger_mode="always_last").then(
                *choose, **HIDE_PROGRESS
            ).then(*advise, **HIDE_PROGRESS).then(*compare, **HIDE_PROGRESS)
        compared.table.select(_get_picked_backbone, None, networks, **HIDE_PROGRESS).then(
            *choose, **HIDE_PROGRESS
        ).then(*advise, **HIDE_PROGRESS).then(*compare, **HIDE_PROGRESS)
        gr.on(
            [control.input for control in model.choose_inputs if control not in networks],
            *choose,
            **LATEST_ONLY,  # one event for all of them, so that no older choice overtakes a newer one
        ).then(*advise, **HIDE_PROGRESS)
        self.step_tabs.model.select(*choose, **HIDE_PROGRESS).then(*advise, **HIDE_PROGRESS).then(
            *compare, **HIDE_PROGRESS
        )
        model.stage_strip.submit(
            _with_event_data(self._with_session(model_step.click_stage)),
            self.ticket,
            model.stage_strip,
            **HIDE_PROGRESS,
        )

        def measure(visitor: Session) -> Iterator[tuple[object, ...]]:  # no lambda: Gradio streams only generators
            yield from backbone_table.measure_backbones(visitor, self.scheduler)

        compared.accordion.expand(*compare, **HIDE_PROGRESS)
        compared.measure_button.click(self._with_session(measure), self.ticket, compared.outputs, **HIDE_PROGRESS)
        compared.stop_button.click(
            self._with_session(backbone_table.stop_measuring), self.ticket, None, **HIDE_PROGRESS
        )
        model.next_button.click(*self._select_tab("train"), **SCROLL_TO_TOP)

    def bind_train_step(self, training: TrainStep, images: ImagesStep) -> None:
        """The third step: a training begins, is watched and stops."""
        prepare = self._with_session(train_step.refresh), self.ticket, training.refresh_outputs
        self.step_tabs.train.select(*prepare, **HIDE_PROGRESS).then(
            self._with_session(train_step.update_start_choice), self.ticket, training.start_from, **HIDE_PROGRESS
        )
        asked = [*training.plan_sliders, training.head_lr]
        at_once = self._after_gpu_pass(images.train_now_button.click(*prepare, **HIDE_PROGRESS).then, training)
        for pressed, begin, given in (
            (self._after_gpu_pass(training.train_button.click, training), train_step.start_training, asked),
            (at_once, train_step.start_training, asked),
            (self._after_gpu_pass(training.race_button.click, training), train_step.start_race, asked),
            (training.refit_button.click, train_step.start_refit, []),
        ):
            begun = pressed(
                self._with_session(lambda visitor, *values, begin=begin: begin(visitor, self.scheduler, *values)),
                [self.ticket, *given],
                [training.problem, *training.control_outputs],
                **HIDE_PROGRESS,
            )
            # From the first step the page goes on once the training has begun, so that nothing waits to be pressed.
            shown = begun.then(*self._select_tab("train"), **SCROLL_TO_TOP) if pressed is at_once else begun
            self._then_watch(self._then_update_tabs(shown), training)
        training.stop_button.click(self._with_session(train_step.stop_training), self.ticket, None, **HIDE_PROGRESS)
        training.next_button.click(*self._select_tab("test"), **SCROLL_TO_TOP)
        self._bind_plan_controls(training)
        self._bind_result_controls(training)

    def _bind_plan_controls(self, training: TrainStep) -> None:
        """What the next training begins with, how many stages learn, and how fast."""
        shown = [training.stage_strip, training.status]
        training.stage_strip.submit(
            _with_event_data(self._with_session(train_step.click_stage)),
            self.ticket,
            [*shown, training.unfrozen_stages],
            **HIDE_PROGRESS,
        )
        training.unfrozen_stages.input(
            self._with_session(train_step.set_unfrozen_stages),
            [self.ticket, training.unfrozen_stages],
            shown,
            **LATEST_ONLY,
        )
        training.start_from.input(
            self._with_session(train_step.set_start_choice),
            [self.ticket, training.start_from],
            [*training.refresh_outputs, training.start_from],
            **LATEST_ONLY,
        )

        def find_rate(visitor: Session) -> Iterator[str]:  # no lambda: Gradio streams only what is a generator itself
            yield from lr_finder.find_learning_rate(visitor, self.scheduler)

        training.lr_panel.find_button.click(
            self._with_session(find_rate), self.ticket, training.lr_panel.result, **HIDE_PROGRESS
        )

    def _bind_result_controls(self, training: TrainStep) -> None:
        """What a training came to is looked at again, exchanged for another network of it, or read as a script."""
        for button, name in (
            (training.keep_frozen_button, "frozen"),
            (training.keep_reference_button, "reference"),
            (training.keep_trained_button, "own"),
        ):
            button.click(
                self._with_session(lambda visitor, name=name: train_step.restore_candidate(visitor, name)),
                self.ticket,
                [*training.watch_outputs, *training.control_outputs],
                **HIDE_PROGRESS,
            )
        training.epoch_panel.epoch_slider.input(
            self._with_session(train_step.show_epoch),
            [self.ticket, training.epoch_panel.epoch_slider],
            [training.stage_strip, training.charts, training.epoch_panel.epoch_summary],
            **LATEST_ONLY,
        )
        training.script_accordion.expand(
            self._with_session(keep_step.render_script), self.ticket, training.script, **HIDE_PROGRESS
        )

    def bind_test_step(self, testing: TestStep, images: ImagesStep, training: TrainStep) -> None:
        """The fourth step: new images get their answers, and what the model gets wrong is looked at and mended."""
        parts = testing.mistakes_panel
        given = [self.ticket, testing.files, testing.threshold]

        def with_turns(handler: Callable[..., Any]) -> Callable[..., Any]:
            return self._with_session(lambda visitor, *values: handler(visitor, self.scheduler, *values))

        def judge(visitor: Session) -> Iterator[tuple[Any, ...]]:  # no lambdas: Gradio streams only generators
            yield from mistakes.evaluate_held_out(visitor, self.scheduler)

        def judge_by(visitor: Session, sent: object) -> Iterator[tuple[Any, ...]]:
            yield from mistakes.evaluate_test_set(visitor, self.scheduler, sent)

        def paste(ticket: str | None, unsure: float, sent: gr.EventData) -> str:
            return with_turns(test_step.predict_pasted)(ticket, sent, unsure)

        def try_one(ticket: str | None, unsure: float, sent: gr.EventData) -> str:
            return with_turns(test_step.predict_sample)(ticket, sent, unsure)

        self.step_tabs.test.select(
            self._with_session(test_step.refresh), self.ticket, testing.refresh_outputs, **HIDE_PROGRESS
        ).then(self._with_session(mistakes.refresh), self.ticket, parts.refresh_outputs, **HIDE_PROGRESS).then(
            with_turns(test_step.refresh_answers), given, testing.answers, **HIDE_PROGRESS
        )
        testing.files.change(with_turns(test_step.predict_files), given, testing.answers)
        testing.answers.submit(paste, [self.ticket, testing.threshold], testing.answers)
        testing.samples_html.submit(try_one, [self.ticket, testing.threshold], testing.answers, **HIDE_PROGRESS)
        testing.next_button.click(*self._select_tab("keep"), **SCROLL_TO_TOP)
        tried = training.samples_html.submit(
            try_one, [self.ticket, testing.threshold], testing.answers, **HIDE_PROGRESS
        )
        tried.then(*self._select_tab("test"), **SCROLL_TO_TOP)
        testing.threshold.change(
            self._with_session(test_step.rerender_answers),
            [self.ticket, testing.threshold],
            testing.answers,
            **LATEST_ONLY,
        )
        testing.camera.stream(
            with_turns(test_step.predict_frame),
            [self.ticket, testing.camera, testing.threshold],
            testing.answers,
            stream_every=test_step.CAMERA_INTERVAL,
            **HIDE_PROGRESS,
        )
        parts.evaluate_button.click(self._with_session(judge), self.ticket, parts.outputs, **HIDE_PROGRESS)
        parts.test_set.submit(
            _with_event_data(self._with_session(judge_by)), self.ticket, parts.outputs, **HIDE_PROGRESS
        )
        for drawing in (parts.confusion_matrix, parts.mistakes):
            mended = drawing.submit(
                _with_event_data(self._with_session(mistakes.handle_click)), self.ticket, parts.outputs, **HIDE_PROGRESS
            )
            self._then_update_tabs(
                mended.then(self._with_session(images_step.refresh), self.ticket, images.outputs, **HIDE_PROGRESS)
            )

    def bind_keep_step(self, keeping: KeepStep) -> None:
        """The fifth step: the model is taken along, pushed, or opened again."""
        self.step_tabs.keep.select(
            self._with_session(keep_step.refresh), self.ticket, keeping.refresh_outputs, **HIDE_PROGRESS
        )
        for key, button in keeping.format_buttons.items():

            def take(visitor: Session, name: str, along: bool, key: str = key) -> Iterator[tuple[Any, str]]:
                yield gr.skip(), keep_step.EXPORTING_HTML
                yield keep_step.export_model(visitor, self.scheduler, key, name, along)

            button.click(
                self._with_session(take),
                [self.ticket, keeping.name, keeping.include_images],
                [keeping.download_button, keeping.export_status],
                **HIDE_PROGRESS,
            ).then(None, keeping.download_button, None, js=keep_step.CLICK_DOWNLOAD_JS)

        def push(  # Gradio fills in who asks, and the token of whoever has logged in
            ticket: str | None,
            repository: str,
            kind: str,
            name: str,
            along: bool,
            request: gr.Request = None,
            token: gr.OAuthToken | None = None,
        ) -> str:
            theirs = token.token if token else None
            allowed = theirs is not None or (self.local_only and is_local_request(request))
            return self._with_session(keep_step.push_model)(
                ticket, self.scheduler, repository, kind, name, along, theirs, allowed
            )

        asked = [self.ticket, keeping.repo_id, keeping.repo_type, keeping.name, keeping.include_images]
        keeping.push_button.click(push, asked, keeping.push_status)
        opened = keeping.model_file.upload(
            self._with_session(keep_step.open_model),
            [self.ticket, keeping.model_file],
            [keeping.open_status, keeping.name],
        )
        self._then_update_tabs(
            opened.then(self._with_session(keep_step.refresh), self.ticket, keeping.refresh_outputs, **HIDE_PROGRESS)
        )

    def bind_session_lifecycle(self, images: ImagesStep, training: TrainStep) -> None:
        """A tab arrives, comes back after a reload, and leaves."""

        def arrive(remembered: str | None, request: gr.Request) -> tuple[str, str]:
            mine = self.sessions.open_tab(remembered, request.session_hash)
            return mine, mine

        def leave(request: gr.Request) -> None:
            self.sessions.close_tab(request.session_hash)

        self.page.unload(leave)
        arrived = self.page.load(
            arrive, self.stored_ticket, [self.ticket, self.stored_ticket], js=READ_TICKET_JS, **HIDE_PROGRESS
        )
        arrived = arrived.then(None, self.stored_ticket, None, js=STORE_TICKET_JS)
        welcomed = arrived.then(self._with_session(images_step.refresh), self.ticket, images.outputs, **HIDE_PROGRESS)
        prepared = self._then_update_tabs(welcomed).then(
            self._with_session(train_step.refresh), self.ticket, training.refresh_outputs, **HIDE_PROGRESS
        )
        self._then_watch(prepared, training)

    def bind_forget_button(self, button: gr.HTML, files: Sequence[gr.components.Component]) -> None:
        """Everything of this visitor goes at once, and the page begins anew; ``files`` may hold some of theirs."""

        def note(visitor: Session, *held: Any) -> None:
            visitor.uploads |= set(list_uploaded_files(held))

        def forget_everything(ticket: str | None) -> None:
            self.sessions.remove_session(ticket)

        # Noted by an event of its own: where a file has gone already, the rest goes nevertheless.
        button.submit(self._with_session(note), [self.ticket, *files], None, **HIDE_PROGRESS).then(
            forget_everything, self.ticket, None, **HIDE_PROGRESS
        ).then(None, None, None, js=RESET_PAGE_JS)

    def _select_tab(self, step: str) -> tuple[Any, ...]:
        """What goes on to a step, seen from its top."""
        return lambda: gr.Tabs(selected=step), None, self.step_tabs.tabs

    def _after_gpu_pass(self, on_event: Callable[..., Any], training: TrainStep) -> Callable[..., Any]:
        """What follows a press: at once, or where a GPU is lent to events, after it has read the images."""
        if self.engine is None:
            return on_event

        def borrow(visitor: Session) -> Iterator[str]:  # no lambda: Gradio streams only what is a generator itself
            yield from train_step.precompute_on_gpu(visitor, self.scheduler, self.engine)

        return on_event(self._with_session(borrow), self.ticket, training.status, **HIDE_PROGRESS).then

    def _then_watch(self, begun: Any, training: TrainStep) -> None:
        """A training that has begun is watched to its end, and then all that depends on it stands anew."""
        over = begun.then(
            self._with_session(train_step.watch_training), self.ticket, training.watch_outputs, **HIDE_PROGRESS
        )
        over = over.then(
            self._with_session(train_step.refresh_controls), self.ticket, training.control_outputs, **HIDE_PROGRESS
        )
        self._then_update_tabs(over)

    def _then_update_tabs(self, changed: Any) -> Any:
        """After a change the steps that can be used now are open, and the page says what comes next."""
        return changed.then(
            self._with_session(navigation.update_step_tabs), self.ticket, self.step_tabs.outputs, **HIDE_PROGRESS
        )

    def _with_session(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A handler of a visitor as one of a ticket; a generator stays one."""

        def find(ticket: str | None) -> Session:
            visitor = self.sessions.get_session(ticket)
            if visitor is None:
                raise gr.Error(SESSION_EXPIRED_MESSAGE if ticket else NOT_READY_MESSAGE)
            return visitor

        if inspect.isgeneratorfunction(handler):

            def event(ticket: str | None, *values: Any) -> Any:
                yield from handler(find(ticket), *values)
        else:

            def event(ticket: str | None, *values: Any) -> Any:
                return handler(find(ticket), *values)

        return event


def is_local_request(request: gr.Request) -> bool:
    """Whether an event comes from a browser on this very computer, and through nobody's hands."""
    host = (request.headers.get("host") or "").rsplit(":", 1)[0].strip("[]")
    handed_on = any(name.lower().startswith(("x-forwarded", "forwarded", "via")) for name in request.headers)
    return bool(request.client) and request.client.host in LOOPBACK_HOSTS and host in LOOPBACK_HOSTS and not handed_on


def list_uploaded_files(component_values: Iterable[Any]) -> Iterator[Path]:
    """Those of the files that components hold which lie in Gradio's own folder, and so are its to remove."""
    home = Path(get_upload_folder()).resolve()
    for value in component_values:
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path and Path(path).resolve().is_relative_to(home):
                yield Path(path)


def _get_picked_backbone(event: gr.SelectData) -> tuple[str | None, str | None]:
    return model_step.select_backbone(event.row_value)


def _with_event_data(handler: Callable[..., Any]) -> Callable[..., Any]:
    """What our own components send travels in the event, not in a value."""
    if inspect.isgeneratorfunction(handler):

        def event(ticket: str | None, sent: gr.EventData) -> Any:
            yield from handler(ticket, sent)
    else:

        def event(ticket: str | None, sent: gr.EventData) -> Any:
            return handler(ticket, sent)

    return event
