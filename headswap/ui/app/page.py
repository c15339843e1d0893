"""The page: its steps in order, how it looks, and how it is started. What happens when is in ``wiring.py``."""

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
from headswap.ui.app.events import LOOPBACK_HOSTS, EventBinder
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

UPLOAD_CACHE_SECONDS = (600, 3600)  # seconds: how often to look, and how old a new image for the Test step may become
FORGET_BUTTON_HTML = (
    '<button type="button" class="hs-button" data-do="forget everything" data-sure="Really forget everything?" '
    'title="Your images, your model and your files, at once">Forget everything</button>'
)
FILE_COMPONENTS = (gr.File, gr.DownloadButton, gr.UploadButton, gr.Image)


def build_page(sessions: SessionRegistry, local_only: bool = False, scheduler: Scheduler | None = None) -> gr.Blocks:
    """The page, for visitors of this registry; ``alone`` if nobody but this very computer can reach it."""
    scheduler = scheduler or Scheduler()
    on_space = "SPACE_ID" in os.environ
    with gr.Blocks(title="headswap", analytics_enabled=False, delete_cache=UPLOAD_CACHE_SECONDS) as page:
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
        memory = gr.Textbox(visible="hidden", elem_id="memory", label="memory")
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
        wiring = EventBinder(
            page, ticket, memory, sessions, scheduler, local_only, steps, zerogpu.create_zerogpu_engine()
        )
        wiring.bind_images_step(images)
        wiring.bind_model_step(model)
        wiring.bind_train_step(training, images)
        wiring.bind_test_step(testing, images, training)
        wiring.bind_keep_step(keeping)
        wiring.bind_session_lifecycle(images, training)
        wiring.bind_forget_button(forget, [each for each in page.blocks.values() if isinstance(each, FILE_COMPONENTS)])
        api.register_endpoints(page, sessions, scheduler)
    return page


def launch(on_ready: Callable[[int], None] | None = None, **settings: Any) -> None:
    """Start the page for as long as the program runs.

    Args:
        invite: called with the port once the page answers.
        settings: go to Gradio's ``launch`` and win over what is set here.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _handle_sigterm)
    system_memory.limit_malloc_arenas()
    gc.freeze()  # half a million objects of the libraries, which need not be looked through again and again
    visitors, turns = SessionRegistry(), Scheduler()
    visitors.start_expiry_thread()
    BackgroundPrecompute(visitors, turns).start_thread()
    alone = settings.get("server_name", "127.0.0.1") in LOOPBACK_HOSTS and not settings.get("share")
    alone = alone and not os.environ.keys() & {"SPACE_ID", "GRADIO_SHARE", "GRADIO_SERVER_NAME"}
    page = build_page(visitors, alone, turns).queue(default_concurrency_limit=None)
    page.launch(
        **{
            "theme": build_theme(),
            "head": f"<style>{theme.read_css()}</style>",
            "footer_links": [],
            "favicon_path": LOGO_PATH if LOGO_PATH.is_file() else None,
            "max_threads": 200,  # each watching event holds one
            "max_file_size": "1gb",
            "state_session_capacity": 300,
            "run_history": False,  # it would keep one pupil's pictures for the next
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
    drawing = LOGO_PATH.read_text(encoding="utf-8") if LOGO_PATH.is_file() else ""
    logo = f'<span class="hs-logo" aria-hidden="true">{drawing}</span>'
    return f"<h1>{logo}headswap</h1><p>Show a trained network your pictures, and watch it learn to tell them apart.</p>"


def _handle_sigterm(*_: object) -> None:
    """Being told to end is as Ctrl+C: what visitors sent goes with the program, and is not left lying on the disk."""
    raise KeyboardInterrupt


def build_theme() -> gr.themes.Base:
    """Gradio's default with its contrast failures mended, and orange for what starts learning."""
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
