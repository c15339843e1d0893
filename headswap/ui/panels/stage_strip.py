"""The stage strip as a component whose blocks can be clicked, and as the session's chosen network shows it."""

from __future__ import annotations

import gradio as gr

from headswap.networks.classifier import Classifier
from headswap.ui.panels.scripted_html import build_scripted_html
from headswap.ui.sessions.next_training import count_unfrozen_stages
from headswap.ui.sessions.session import Session
from headswap.ui.views.network import render_network


def build_stage_strip(elem_id: str) -> gr.HTML:
    """Build the strip; its ``submit`` event carries what ``parse_stage_click`` parses."""
    return build_scripted_html("strip.js", elem_id)


def render_chosen_network(session: Session, model: Classifier) -> str:
    """Draw a network that is not trained yet, with the stages that the session's next training unfreezes."""
    stages = model.summarize_stages()
    unfrozen = [stage.name for stage in stages[len(stages) - count_unfrozen_stages(session, model) :]]
    return render_network(model, stages, unfrozen, interaction="waits" if session.is_training else "asks")
