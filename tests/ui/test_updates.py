"""A handler's update finds its component by name, at any depth, and leaves alone what it does not name."""

from dataclasses import dataclass, fields, is_dataclass
from typing import get_args, get_type_hints

import gradio as gr
import pytest

from headswap.ui.app.navigation import StepTabs, StepTabsUpdate
from headswap.ui.panels.backbone_table import BackbonePanel, BackbonePanelUpdate
from headswap.ui.panels.epoch_slider import EpochPanel, EpochPanelUpdate
from headswap.ui.panels.plan_form import PlanForm, PlanUpdate
from headswap.ui.panels.result_buttons import ResultButtons, ResultButtonsUpdate
from headswap.ui.panels.run_view import RunUpdate, RunView
from headswap.ui.panels.runs_table import RunsPanel, RunsPanelUpdate
from headswap.ui.panels.updates import to_component_updates
from headswap.ui.steps.model import ModelStep, ModelUpdate
from headswap.ui.steps.train import TrainStep, TrainUpdate


@dataclass(frozen=True)
class Inner:
    text: object = None


@dataclass(frozen=True)
class Outer:
    inner: object = None
    groups: object = None
    title: object = None


COMPONENTS = Outer(Inner("the text"), {"a": "group a", "b": "group b"}, "the title")


def test_values_are_found_by_name_in_panels_and_in_groups():
    update = Outer(Inner("new"), {"b": True}, "")
    assert to_component_updates(COMPONENTS, update) == {"the text": "new", "group b": True, "the title": ""}


@pytest.mark.parametrize("update", [Outer(), Outer(Inner()), Outer(groups={})])
def test_an_update_of_nothing_leaves_all_outputs_as_they_are(update):
    assert to_component_updates(COMPONENTS, update) == gr.skip()


def test_an_empty_panel_beside_a_value_names_no_component():
    assert to_component_updates(COMPONENTS, Outer(Inner(), title="new")) == {"the title": "new"}


UPDATES = {
    TrainUpdate: TrainStep,
    ModelUpdate: ModelStep,
    StepTabsUpdate: StepTabs,
    RunUpdate: RunView,
    PlanUpdate: PlanForm,
    ResultButtonsUpdate: ResultButtons,
    EpochPanelUpdate: EpochPanel,
    RunsPanelUpdate: RunsPanel,
    BackbonePanelUpdate: BackbonePanel,
}


@pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.__name__)
def test_every_field_of_an_update_is_called_as_a_component(update):
    components, hints = UPDATES[update], get_type_hints(update)
    named = {field.name for field in fields(components)} | {
        name for name, value in vars(components).items() if isinstance(value, property)
    }
    assert {field.name for field in fields(update)} <= named
    for name, hint in hints.items():
        for nested in (kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)):
            assert UPDATES[nested] is get_type_hints(components)[name]
