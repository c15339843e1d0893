"""Events of a session: a tab opens, is reloaded and closes, or its user has everything deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component
from gradio.utils import get_upload_folder

from headswap.ui.app.events.binder import EventBinder
from headswap.ui.app.events.train import refresh_train_step, watch_training
from headswap.ui.sessions.session import Session
from headswap.ui.steps import images as images_step
from headswap.ui.steps.images import ImagesStep
from headswap.ui.steps.train import TrainStep

READ_TICKET_JS = "() => sessionStorage.getItem('headswap')"
STORE_TICKET_JS = "(ticket) => { sessionStorage.setItem('headswap', ticket); return ticket; }"
RESET_PAGE_JS = "() => { sessionStorage.removeItem('headswap'); location.reload(); }"


def bind_session_lifecycle(binder: EventBinder, images: ImagesStep, training: TrainStep) -> None:
    """Bind the opening of a tab, with what its session had before a reload, and its closing."""

    def arrive(stored_ticket: str | None, request: gr.Request) -> tuple[str, str]:
        ticket = binder.sessions.open_tab(stored_ticket, _tab_of(request))
        return ticket, ticket

    def leave(request: gr.Request) -> None:
        binder.sessions.close_tab(_tab_of(request))

    ticket, stored = binder.ticket, binder.stored_ticket
    binder.page.unload(leave)
    arrived = binder.page.load(arrive, stored, [ticket, stored], js=READ_TICKET_JS, show_progress="hidden")
    remembered = arrived.then(None, stored, None, js=STORE_TICKET_JS)
    welcomed = binder.bind(remembered.then, images_step.refresh, outputs=images.outputs, components=images)
    refreshed = refresh_train_step(binder, binder.update_tabs_after(welcomed).then, training)
    watch_training(binder, refreshed, training)


def bind_forget_button(binder: EventBinder, button: gr.HTML, files: Sequence[Component]) -> None:
    """Bind the button that removes a session with all its files and reloads the page.

    Args:
        binder: binds the events.
        button: the button.
        files: components that may hold files of the session.
    """

    def note_uploads(session: Session, *component_values: object) -> None:
        session.uploads |= set(list_uploaded_files(component_values))

    def forget_everything(ticket: str | None) -> None:
        binder.sessions.remove_session(ticket)

    # In an event of its own: where a file is gone already, the rest is removed nevertheless.
    noted = binder.bind(button.submit, note_uploads, files)
    removed = noted.then(forget_everything, binder.ticket, None, show_progress="hidden")
    removed.then(None, None, None, js=RESET_PAGE_JS)


def list_uploaded_files(component_values: Iterable[object]) -> Iterator[Path]:
    """Paths among the values of components that lie in Gradio's upload folder, and so may be removed."""
    upload_folder = Path(get_upload_folder()).resolve()
    for value in component_values:
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path and Path(path).resolve().is_relative_to(upload_folder):
                yield Path(path)


def _tab_of(request: gr.Request) -> str:
    """The id that Gradio gives a tab for as long as it is open."""
    return request.session_hash or ""
