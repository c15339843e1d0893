"""A page with the picker alone: what it is sent becomes a line of a journal. Images of the class "slow" are read until
somebody presses Stop. Run as ``python -m tests.helpers.picker_page journal``."""

import json
import os
import sys
import threading
import time

import gradio as gr

from headswap.ui.app.page import build_theme
from headswap.ui.panels.browser_events import parse_images_upload
from headswap.ui.panels.picker import build_picker
from headswap.ui.views.theme import read_css

MOST = 600


def build(journal):
    stopped = threading.Event()

    def read(sent: gr.EventData):
        event = parse_images_upload(sent)
        uploads = [[upload.name, str(upload.path), upload.burst] for upload in event.uploads]
        with open(journal, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"files": uploads, "label": sent.label, "add": sent.add}) + "\n")
        stopped.clear()
        yield gr.HTML(progress="Half of it is <b>read</b>")
        if sent.label == "slow":
            stopped.wait(60)
        yield gr.HTML(finished=time.monotonic_ns(), loaded=True)

    with gr.Blocks(analytics_enabled=False) as page, gr.Tabs():
        with gr.Tab("Images"), gr.Row():
            with gr.Column(scale=2, min_width=300):
                drop = build_picker()
            with gr.Column(scale=3, min_width=300):
                gr.Markdown("What was understood")
        with gr.Tab("Other"):
            gr.Markdown("Another step")
        drop.submit(read, None, drop, show_progress="hidden")
        drop.stop(stopped.set, None, None)
    return page


if __name__ == "__main__":
    os.environ["HEADSWAP_MAX_IMAGES"] = str(MOST)
    build(sys.argv[1]).queue(default_concurrency_limit=None).launch(
        theme=build_theme(), head=f"<style>{read_css()}</style>", footer_links=[], ssr_mode=False
    )
