"""Events of the Keep step: exporting the model, pushing it to the Hub, and opening a saved one."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from headswap.ui.app.events.binder import EventBinder
from headswap.ui.app.lan import LOOPBACK_HOSTS
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.steps import keep as keep_step
from headswap.ui.steps.keep import KeepStep


def bind_keep_step(binder: EventBinder, keeping: KeepStep) -> None:
    """Bind all controls of the step."""
    binder.bind(binder.step_tabs.keep.select, keep_step.refresh, outputs=keeping.refresh_outputs, components=keeping)
    for format_name, button in keeping.format_buttons.items():
        _bind_export(binder, keeping, format_name, button)
    _bind_push(binder, keeping)
    opened = binder.bind(
        keeping.model_file.upload,
        keep_step.open_model,
        [keeping.model_file],
        [keeping.open_status, keeping.name],
        show_progress="full",
    )
    binder.update_tabs_after(
        binder.bind(opened.then, keep_step.refresh, outputs=keeping.refresh_outputs, components=keeping)
    )


def _bind_export(binder: EventBinder, keeping: KeepStep, format_name: str, button: gr.Button) -> None:
    def export(session: Session, scheduler: Scheduler, name: str, include_images: bool) -> Iterator[tuple[object, str]]:
        yield gr.skip(), keep_step.EXPORTING_HTML
        yield keep_step.export_model(session, scheduler, format_name, name, include_images)

    exported = binder.bind(
        button.click,
        binder.with_scheduler(export),
        [keeping.name, keeping.include_images],
        [keeping.download_button, keeping.export_status],
    )
    exported.then(None, keeping.download_button, None, js=keep_step.CLICK_DOWNLOAD_JS)


def _bind_push(binder: EventBinder, keeping: KeepStep) -> None:
    def push(  # Gradio fills in the request, and the token of whoever has logged in
        ticket: str | None,
        repo_id: str,
        repo_type: str,
        name: str,
        include_images: bool,
        request: gr.Request | None = None,
        token: gr.OAuthToken | None = None,
    ) -> str:
        session = binder.find_session(ticket)
        user_token = token.token if token else None
        allowed = user_token is not None or (binder.local_only and request is not None and is_local_request(request))
        return keep_step.push_model(
            session, binder.scheduler, repo_id, repo_type, name, include_images, user_token, allowed
        )

    inputs = [binder.ticket, keeping.repo_id, keeping.repo_type, keeping.name, keeping.include_images]
    keeping.push_button.click(push, inputs, keeping.push_status)


def is_local_request(request: gr.Request) -> bool:
    """Whether an event comes from a browser on this very computer and through no proxy."""
    host = (request.headers.get("host") or "").rsplit(":", 1)[0].strip("[]")
    is_proxied = any(name.lower().startswith(("x-forwarded", "forwarded", "via")) for name in request.headers)
    client = request.client
    return bool(client) and client.host in LOOPBACK_HOSTS and host in LOOPBACK_HOSTS and not is_proxied
