"""Events of the Model step: choosing a backbone, a head and their options, and measuring backbones."""

from __future__ import annotations

import gradio as gr
from gradio.events import Dependency

from headswap.ui.app.events.binder import EventBinder, Listener
from headswap.ui.panels import backbone_table
from headswap.ui.panels.browser_events import parse_backbone_row, parse_stage_click
from headswap.ui.steps import model as model_step
from headswap.ui.steps.model import ModelStep


def bind_model_step(binder: EventBinder, model: ModelStep) -> None:
    """Bind the choice of a network, the table of backbones, the stage strip, and the way to the next step."""
    table = model.backbone_panel
    backbones = (model.backbone, model.other_backbone)

    def choose(listener: Listener, latest_only: bool = False) -> Dependency:
        chosen = binder.bind(
            listener,
            model_step.choose_network,
            model.choose_inputs,
            model.choose_outputs,
            components=model,
            latest_only=latest_only,
        )
        return binder.bind(chosen.then, model_step.render_advice, outputs=[model.advice])

    def choose_and_compare(listener: Listener) -> None:
        binder.bind(choose(listener).then, backbone_table.refresh, outputs=table.outputs, components=table)

    # Either control names the backbone, so the other one is cleared first.
    for chosen, cleared in (backbones, backbones[::-1]):
        choose_and_compare(chosen.input(lambda: None, None, cleared, queue=False, trigger_mode="always_last").then)
    choose_and_compare(table.table.select(_select_backbone_of_row, None, list(backbones), show_progress="hidden").then)
    choose_and_compare(binder.step_tabs.model.select)
    others = [control.input for control in model.choose_inputs if control not in backbones]
    # One event for all controls, so that no older choice overtakes a newer one.
    choose(lambda *given, **settings: gr.on(others, *given, **settings), latest_only=True)
    binder.bind_browser_event(
        model.stage_strip.submit, parse_stage_click, model_step.click_stage, outputs=[model.stage_strip]
    )
    binder.bind(table.accordion.expand, backbone_table.refresh, outputs=table.outputs, components=table)
    binder.bind(
        table.measure_button.click,
        binder.with_scheduler(backbone_table.measure_backbones),
        outputs=table.outputs,
        components=table,
    )
    binder.bind(table.stop_button.click, backbone_table.stop_measuring)
    binder.select_tab(model.next_button.click, "train")


def _select_backbone_of_row(event: gr.SelectData) -> tuple[str | None, str | None]:
    return model_step.select_backbone(parse_backbone_row(event.row_value))
