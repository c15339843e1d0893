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
from headswap.ui.app.events import LOOPBACK, Wiring
from headswap.ui.app.same_origin import OwnPagesOnly
from headswap.ui.panels import help_notes
from headswap.ui.sessions.background import Warming
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Visitors
from headswap.ui.static.assets import LOGO, read_static
from headswap.ui.steps import images as images_step
from headswap.ui.steps import keep, test, train
from headswap.ui.steps import model as model_step
from headswap.ui.views import theme

KEEP_UPLOADS = (600, 3600)  # seconds: how often to look, and how old a new image for the Test step may become
FORGET = (
    '<button type="button" class="hs-button" data-do="forget everything" data-sure="Really forget everything?" '
    'title="Your images, your model and your files, at once">Forget everything</button>'
)
HOLDS_FILES = (gr.File, gr.DownloadButton, gr.UploadButton, gr.Image)


def build(visitors: Visitors, alone: bool = False, turns: Turns | None = None) -> gr.Blocks:
    """The page, for visitors of this registry; ``alone`` if nobody but this very computer can reach it."""
    turns = turns or Turns()
    on_space = "SPACE_ID" in os.environ
    with gr.Blocks(title="headswap", analytics_enabled=False, delete_cache=KEEP_UPLOADS) as page:
        with gr.Row(elem_id="heading", equal_height=False):
            gr.HTML(_title(), elem_id="title", apply_default_css=False)
            help_notes.switch()
            forget = gr.HTML(
                FORGET,
                js_on_load=read_static("classes.js"),
                elem_id="forget",
                min_width=0,
                apply_default_css=False,
            )
        ticket = gr.State(None)
        memory = gr.Textbox(visible="hidden", elem_id="memory", label="memory")
        steps = navigation.build()
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
                keeping = keep.build(pushing=alone or on_space, login=on_space)
        wiring = Wiring(page, ticket, memory, visitors, turns, alone, steps, zerogpu.engine())
        wiring.images(images)
        wiring.model(model)
        wiring.train(training, images)
        wiring.test(testing, images, training)
        wiring.keep(keeping)
        wiring.come_and_go(images, training)
        wiring.forget(forget, [each for each in page.blocks.values() if isinstance(each, HOLDS_FILES)])
        api.offer(page, visitors, turns)
    return page


def launch(invite: Callable[[int], None] | None = None, **settings: Any) -> None:
    """Start the page for as long as the program runs.

    Args:
        invite: called with the port once the page answers.
        settings: go to Gradio's ``launch`` and win over what is set here.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    system_memory.share_heaps()
    gc.freeze()  # half a million objects of the libraries, which need not be looked through again and again
    visitors, turns = Visitors(), Turns()
    visitors.sweep_in_background()
    Warming(visitors, turns).in_background()
    alone = settings.get("server_name", "127.0.0.1") in LOOPBACK and not settings.get("share")
    alone = alone and not os.environ.keys() & {"SPACE_ID", "GRADIO_SHARE", "GRADIO_SERVER_NAME"}
    page = build(visitors, alone, turns).queue(default_concurrency_limit=None)
    page.launch(
        **{
            "theme": look(),
            "head": f"<style>{theme.css()}</style>",
            "footer_links": [],
            "favicon_path": LOGO if LOGO.is_file() else None,
            "max_threads": 200,  # each watching event holds one
            "max_file_size": "1gb",
            "state_session_capacity": 300,
            "run_history": False,  # it would keep one pupil's pictures for the next
            "ssr_mode": False,
            "app_kwargs": {"middleware": [Middleware(OwnPagesOnly)]},
            **({"prevent_thread_lock": True, "quiet": True} if invite else {}),
            **settings,
        }
    )
    if invite:
        invite(page.server_port)
        page.block_thread()


def _title() -> str:
    drawing = LOGO.read_text(encoding="utf-8") if LOGO.is_file() else ""
    logo = f'<span class="hs-logo" aria-hidden="true">{drawing}</span>'
    return f"<h1>{logo}headswap</h1><p>Show a trained network your pictures, and watch it learn to tell them apart.</p>"


def _end(*_: object) -> None:
    """Being told to end is as Ctrl+C: what visitors sent goes with the program, and is not left lying on the disk."""
    raise KeyboardInterrupt


def look() -> gr.themes.Base:
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
