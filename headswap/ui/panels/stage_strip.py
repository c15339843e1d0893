"""The strip of stages as a component whose blocks can be pressed."""

from __future__ import annotations

import gradio as gr

from headswap.ui.static.assets import read_static


def build_stage_strip(elem_id: str) -> gr.HTML:
    """A strip whose blocks can be pressed; what a press asks for comes with ``submit``."""
    script = read_static("strip.js")
    return gr.HTML(js_on_load=script, elem_id=elem_id, apply_default_css=False)
