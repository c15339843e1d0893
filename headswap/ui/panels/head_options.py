"""Form for the options of each head: a group of controls per head, of which the chosen head's is visible.

Built from the signatures of the registered heads. Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gradio as gr

from headswap.common.errors import InputError
from headswap.networks.head_registry import HEADS, get_head_options
from headswap.networks.heads import ACTIVATIONS
from headswap.ui.panels.help_notes import NOTES, build_note

OptionControl = gr.Slider | gr.Number | gr.Checkbox | gr.Dropdown | gr.Textbox

MAX_LAYER_WIDTH = 8192  # units of a layer that the page allows
MAX_HIDDEN_LAYERS = 8
MAX_OPTION_VALUES = {"layers": 4}  # of other whole numbers
OPTION_LABELS = {
    "dropout": "Dropout: share of the features left out at each step",
    "bottleneck_dim": "Width of the bottleneck",
    "activation": "Activation",
    "dim": "Width of the attention",
    "layers": "Layers of attention",
    "hidden_dims": "Widths of the hidden layers, with commas",
}


@dataclass(frozen=True)
class HeadOptionsForm:
    """The components.

    Attributes:
        groups: by head.
        controls: by head and option, in the order in which ``parse_head_options`` takes their values.
    """

    groups: Mapping[str, gr.Group]
    controls: Mapping[tuple[str, str], OptionControl]


def build() -> HeadOptionsForm:
    """The components, without events."""
    groups: dict[str, gr.Group] = {}
    controls: dict[tuple[str, str], OptionControl] = {}
    for head in HEADS:
        with gr.Group(visible=head == next(iter(HEADS))) as groups[head]:
            for option, default in get_head_options(head).items():
                controls[head, option] = _build_control(option, default, elem_id=f"{head}-{option}")
                if f"{head}-{option}" in NOTES:  # a head that somebody has registered brings none
                    build_note(f"{head}-{option}")
    return HeadOptionsForm(groups, controls)


def parse_head_options(head: str, option_values: Sequence[object]) -> dict[str, object]:
    """The options of one head, out of the values of all controls.

    Raises:
        InputError: if a field of this head is empty, or its widths are no list of numbers.
    """
    fields = [(name, option, default) for name in HEADS for option, default in get_head_options(name).items()]
    options: dict[str, object] = {}
    for (name, option, default), value in zip(fields, option_values, strict=True):
        if name == head:
            if value is None:
                raise InputError(f"The field '{OPTION_LABELS.get(option, option)}' is empty; give it a value.")
            options[option] = _parse_widths(str(value)) if isinstance(default, tuple) else value
    return options


def _build_control(option: str, default: object, elem_id: str) -> OptionControl:
    """A control for an option, by the type of its default."""
    label = OPTION_LABELS.get(option, option)
    match default:
        case bool():
            return gr.Checkbox(default, label=label, elem_id=elem_id)
        case float() if option == "dropout":
            return gr.Slider(0, 0.9, value=default, step=0.05, label=label, elem_id=elem_id)
        case float():
            return gr.Number(default, label=label, elem_id=elem_id)
        case int():
            least, most = min(1, default), max(default, MAX_OPTION_VALUES.get(option, MAX_LAYER_WIDTH))
            return gr.Number(default, precision=0, minimum=least, maximum=most, label=label, elem_id=elem_id)
        case str() if default not in ACTIVATIONS:
            return gr.Textbox(default, label=label, elem_id=elem_id)
        case str():
            return gr.Dropdown(list(ACTIVATIONS), value=default, label=label, elem_id=elem_id)
        case tuple() | list():
            return gr.Textbox(", ".join(map(str, default)), label=label, elem_id=elem_id)
    raise TypeError(f"The page has no control for the option {option} with the default {default!r}.")


def _parse_widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        widths = ()
    if not 0 < len(widths) <= MAX_HIDDEN_LAYERS or not all(1 <= width <= MAX_LAYER_WIDTH for width in widths):
        raise InputError(
            f"The widths '{text}' are not numbers from 1 to {MAX_LAYER_WIDTH} with commas between; try 1024, 512."
        )
    return widths
