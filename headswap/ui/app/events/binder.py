"""Binds events of components to handlers that receive the session of whoever caused them.

A handler is a plain function of a session and some values. Builds no component and computes nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, is_dataclass
from typing import Any, Literal

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from headswap.features.inference import EngineSpec
from headswap.ui.app import navigation
from headswap.ui.app.navigation import StepTabs
from headswap.ui.panels.updates import to_component_updates
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session

Handler = Callable[..., Any]  # takes a session and values; returns the value of one output, an update or a tuple
Progress = Literal["full", "hidden"]
Listener = Callable[..., Dependency]  # such as ``button.click`` or the ``then`` of an earlier event

SCROLL_TO_TOP_JS = "() => { window.scrollTo(0, 0); return []; }"
NOT_READY_MESSAGE = "The page is not ready yet. Press once more in a moment."
SESSION_EXPIRED_MESSAGE = "You were away for a while, so your images were let go. Reload the page to begin anew."


@dataclass(frozen=True)
class EventBinder:
    """What every event needs: the caller's session, the scheduler, and the tabs to go on to.

    Attributes:
        page: the Blocks that all components belong to.
        ticket: the key of the caller's session, the first input of every event.
        stored_ticket: the same as the browser's tab remembers it over a reload.
        sessions: all sessions by ticket.
        scheduler: shared by all that computes.
        local_only: whether the page can only be reached from this computer.
        step_tabs: the tab bar.
        engine: an inference engine that may only be used inside of the event that asks for it; None otherwise.
    """

    page: gr.Blocks
    ticket: gr.State
    stored_ticket: gr.Textbox
    sessions: SessionRegistry
    scheduler: Scheduler
    local_only: bool
    step_tabs: StepTabs
    engine: EngineSpec | None = None

    def bind(
        self,
        listener: Listener,
        handler: Handler,
        inputs: Sequence[Block] = (),
        outputs: Sequence[Block] = (),
        *,
        components: object = None,
        latest_only: bool = False,
        show_progress: Progress = "hidden",
    ) -> Dependency:
        """Bind an event to a handler that is called with the session and the values of the inputs.

        Args:
            listener: what registers the event.
            handler: called with the session and the values of ``inputs``; streams if it is a generator function.
            inputs: components whose values the handler takes, in order.
            outputs: components that the handler changes.
            components: the step or panel whose fields an update of the handler names.
            latest_only: while one event runs, the newest of those that follow waits and the others are dropped.
            show_progress: Gradio's own display over the outputs; most steps say themselves how far they are.

        Returns:
            The event, to bind another after it.
        """
        return listener(
            self.with_session(handler, components),
            [self.ticket, *inputs],
            list(outputs),
            show_progress=show_progress,
            trigger_mode="always_last" if latest_only else None,
        )

    def bind_browser_event(
        self,
        listener: Listener,
        parse: Callable[[gr.EventData], object],
        handler: Handler,
        inputs: Sequence[Block] = (),
        outputs: Sequence[Block] = (),
        *,
        components: object = None,
        show_progress: Progress = "hidden",
    ) -> Dependency:
        """Bind an event of our own scripts, whose data travels in the event and not in a component's value.

        Args:
            listener: what registers the event.
            parse: turns the data, which may be anything, into what the handler takes.
            handler: called with the session, what was parsed and the values of ``inputs``.
            inputs: components whose values the handler takes, in order.
            outputs: components that the handler changes.
            components: the step or panel whose fields an update of the handler names.
            show_progress: Gradio's own display over the outputs.

        Returns:
            The event, to bind another after it.
        """

        def event(ticket: str | None, sent: gr.EventData, *values: object) -> Any:
            return handler(self.find_session(ticket), parse(sent), *values)

        bound = _as_event(handler, event, components)
        return listener(bound, [self.ticket, *inputs], list(outputs), show_progress=show_progress)

    def with_session(self, handler: Handler, components: object = None) -> Handler:
        """A function of a ticket that calls a handler with the ticket's session."""

        def event(ticket: str | None, *values: object) -> Any:
            return handler(self.find_session(ticket), *values)

        return _as_event(handler, event, components)

    def with_scheduler(self, handler: Handler) -> Handler:
        """A handler that passes the scheduler on after the session."""

        def scheduled(session: Session, *values: object) -> Any:
            return handler(session, self.scheduler, *values)

        return _streaming_like(handler, scheduled)

    def find_session(self, ticket: str | None) -> Session:
        """The session with this ticket.

        Raises:
            gr.Error: if there is none, or none any more.
        """
        session = self.sessions.get_session(ticket)
        if session is None:
            raise gr.Error(SESSION_EXPIRED_MESSAGE if ticket else NOT_READY_MESSAGE)
        return session

    def select_tab(self, listener: Listener, step: str) -> Dependency:
        """Go on to a step, scrolled to its top."""
        return listener(lambda: gr.Tabs(selected=step), None, self.step_tabs.tabs, queue=False, js=SCROLL_TO_TOP_JS)

    def update_tabs_after(self, changed: Dependency) -> Dependency:
        """After a change, enable the tabs that can be used now and say what comes next."""
        return self.bind(
            changed.then, navigation.update_step_tabs, outputs=self.step_tabs.outputs, components=self.step_tabs
        )


def _as_event(handler: Handler, event: Callable[..., Any], components: object) -> Handler:
    """An event's function that streams if the handler does, and whose updates become dicts of components."""

    def convert(result: object) -> object:
        if is_dataclass(result) and not isinstance(result, type):
            return to_component_updates(components, result)
        return result

    return _streaming_like(handler, event, convert)


def _streaming_like(
    handler: Handler, call: Callable[..., Any], convert: Callable[[object], object] = lambda result: result
) -> Handler:
    """``call`` as a generator function if ``handler`` is one: Gradio streams nothing else."""
    if not inspect.isgeneratorfunction(handler):
        return functools.wraps(call)(lambda *values: convert(call(*values)))

    @functools.wraps(call)  # keeps the annotations, by which Gradio knows where event data belongs
    def stream(*values: object) -> Iterator[object]:
        with closing(call(*values)) as results:  # whoever cancels the event ends the handler at once
            for result in results:
                yield convert(result)

    return stream
