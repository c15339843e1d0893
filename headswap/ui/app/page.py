"""Assembles the Gradio page from its steps and launches it; its events are bound in ``events``."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from headswap.common import system_memory
from headswap.ui.app import api, navigation, zerogpu
from headswap.ui.app.events.binder import EventBinder
from headswap.ui.app.events.images import bind_images_step
from headswap.ui.app.events.keep import bind_keep_step
from headswap.ui.app.events.model import bind_model_step
from headswap.ui.app.events.session import bind_forget_button, bind_session_lifecycle
from headswap.ui.app.events.test import bind_test_step
from headswap.ui.app.events.train import bind_train_step
from headswap.ui.app.lan import LOOPBACK_ADDRESS, LOOPBACK_HOSTS
from headswap.ui.app.same_origin import SameOriginMiddleware
from headswap.ui.panels import help_notes
from headswap.ui.sessions.background import BackgroundPrecompute
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.static.assets import LOGO_PATH, read_static
from headswap.ui.steps import images as images_step
from headswap.ui.steps import keep, test, train
from headswap.ui.steps import model as model_step
from headswap.ui.views import theme

UPLOAD_CACHE_SECONDS = (600, 3600)  # how often to look, and the greatest age of an image for the Test step
FORGET_BUTTON_HTML = (
    '<button type="button" class="hs-button" data-do="forget everything" data-sure="Really forget everything?" '
    'title="Your images, your model and your files, at once">Forget everything</button>'
)
FILE_COMPONENTS = (gr.File, gr.DownloadButton, gr.UploadButton, gr.Image)


def build_page(sessions: SessionRegistry, local_only: bool = False, scheduler: Scheduler | None = None) -> gr.Blocks:
    """Build the page with all its events and endpoints.

    Args:
        sessions: the registry of those who use it.
        local_only: whether the page can only be reached from this computer.
        scheduler: shared by all that computes; a new one by default.
    """
    scheduler = scheduler or Scheduler()
    on_space = "SPACE_ID" in os.environ
    page = gr.Blocks(title="headswap", analytics_enabled=False, delete_cache=UPLOAD_CACHE_SECONDS)
    with page:
        with gr.Row(elem_id="heading", equal_height=False):
            gr.HTML(_render_title(), elem_id="title", apply_default_css=False)
            help_notes.build_notes_switch()
            forget = gr.HTML(
                FORGET_BUTTON_HTML,
                js_on_load=read_static("classes.js"),
                elem_id="forget",
                min_width=0,
                apply_default_css=False,
            )
        ticket = gr.State(None)
        stored_ticket = gr.Textbox(visible="hidden", elem_id="memory", label="memory")
        steps = navigation.build_step_tabs()
        with steps.tabs:
            with steps.images:
                images = images_step.build()
            with steps.model:
                model = model_step.build()
            with steps.train:
                training = train.build()
            with steps.test:
                testing = test.build()
            with steps.keep:
                keeping = keep.build(can_push=local_only or on_space, has_login=on_space)
        engine = zerogpu.create_zerogpu_engine()
        binder = EventBinder(page, ticket, stored_ticket, sessions, scheduler, local_only, steps, engine)
        bind_images_step(binder, images)
        bind_model_step(binder, model)
        bind_train_step(binder, training, images)
        bind_test_step(binder, testing, images, training)
        bind_keep_step(binder, keeping)
        bind_session_lifecycle(binder, images, training)
        files = [block for block in page.blocks.values() if isinstance(block, FILE_COMPONENTS)]
        bind_forget_button(binder, forget, files)
        api.register_endpoints(page, sessions, scheduler)
    return page


def launch(on_ready: Callable[[int], None] | None = None, **settings: Any) -> None:
    """Start the page and block until the program ends.

    Args:
        on_ready: called with the port once the page answers.
        settings: passed to Gradio's ``launch``; they win over what is set here.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _handle_sigterm)
    system_memory.limit_malloc_arenas()
    gc.freeze()  # half a million objects of the libraries, which the garbage collector need not visit again
    sessions, scheduler = SessionRegistry(), Scheduler()
    sessions.start_expiry_thread()
    BackgroundPrecompute(sessions, scheduler).start_thread()
    local_only = settings.get("server_name", LOOPBACK_ADDRESS) in LOOPBACK_HOSTS and not settings.get("share")
    local_only = local_only and not os.environ.keys() & {"SPACE_ID", "GRADIO_SHARE", "GRADIO_SERVER_NAME"}
    page = build_page(sessions, local_only, scheduler).queue(default_concurrency_limit=None)
    page.launch(
        **{
            "theme": build_theme(),
            "head": f"<style>{theme.read_css()}</style>",
            "footer_links": [],
            "favicon_path": LOGO_PATH if LOGO_PATH.is_file() else None,
            "max_threads": 200,  # each event that watches a training holds one
            "max_file_size": "1gb",
            "state_session_capacity": 300,
            "run_history": False,  # would keep one pupil's images for the next
            "ssr_mode": False,
            "app_kwargs": {"middleware": [Middleware(SameOriginMiddleware)]},
            **({"prevent_thread_lock": True, "quiet": True} if on_ready else {}),
            **settings,
        }
    )
    if on_ready:
        on_ready(page.server_port)
        page.block_thread()


def _render_title() -> str:
    svg = LOGO_PATH.read_text(encoding="utf-8") if LOGO_PATH.is_file() else ""
    logo = f'<span class="hs-logo" aria-hidden="true">{svg}</span>'
    return f"<h1>{logo}headswap</h1><p>Show a trained network your pictures, and watch it learn to tell them apart.</p>"


def _handle_sigterm(*_: object) -> None:
    """End as by Ctrl+C, so that uploaded files are deleted."""
    raise KeyboardInterrupt


def build_theme() -> gr.themes.Base:
    """Gradio's default theme with sufficient contrast."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
    )
