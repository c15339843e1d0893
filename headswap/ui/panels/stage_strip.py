"""Strip of a network's stages whose blocks can be clicked."""

from __future__ import annotations

import gradio as gr

from headswap.ui.panels.scripted_html import build_scripted_html


def build_stage_strip(elem_id: str) -> gr.HTML:
    """Build the strip; its ``submit`` event carries what ``parse_stage_click`` parses."""
    return build_scripted_html("strip.js", elem_id)
