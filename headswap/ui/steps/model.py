"""The second step: which backbone, which head. The strip answers to the choice before any weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import torch

from headswap.common.errors import InputError
from headswap.common.text import format_count, format_duration, format_millions, join_names
from headswap.data.decoding import read_pixels
from headswap.networks.catalogue import DEFAULT_BACKBONE, backbones, explain_download_refusal, find_backbone
from headswap.networks.classifier import Classifier, attach_head
from headswap.networks.heads import ACTIVATIONS, HEADS, describe_head, get_head_options
from headswap.networks.stage import count_parameters
from headswap.training.advice import describe_dataset_fit
from headswap.ui.panels import backbone_table
from headswap.ui.panels.backbone_table import FEATURED_BACKBONES, BackbonePanel, license_text, max_reading_seconds
from headswap.ui.panels.help_notes import NOTES, build_note
from headswap.ui.panels.stage_strip import build_stage_strip
from headswap.ui.sessions.chosen_network import build_meta_network, measure_seconds_per_image
from headswap.ui.sessions.job import Run
from headswap.ui.sessions.next_training import count_unfrozen_stages
from headswap.ui.sessions.session import ModelChoice, Session
from headswap.ui.views.html import make_thumbnail_url, render_problem_card
from headswap.ui.views.network import HEAD_TITLES, backbone_title, count_head_parameters, head_title, render_network

NUM_PREVIEW_IMAGES = 6  # images in the preview of what the network sees
CROP_LABELS = {"centre": "The centre, as its weights were trained", "fit": "The whole image, squeezed to a square"}
MAX_LAYER_WIDTH = 8192  # units of a layer that the page allows
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
class ModelStep:
    """The step's components; ``options`` are those of all heads, ``(head, option)`` to component."""

    stage_strip: gr.HTML
    choice_text: gr.HTML
    advice: gr.HTML
    backbone: gr.Radio
    other_backbone: gr.Dropdown
    head: gr.Radio
    crop: gr.Radio
    pretrained: gr.Checkbox
    input_preview: gr.HTML
    option_groups: dict[str, gr.Group]
    option_controls: dict[tuple[str, str], gr.components.Component]
    problem: gr.HTML
    backbone_panel: BackbonePanel
    next_button: gr.Button

    @property
    def choose_inputs(self) -> list[gr.components.Component]:
        """What ``choose`` takes, in order."""
        return [
            self.backbone,
            self.other_backbone,
            self.head,
            self.crop,
            self.pretrained,
            *self.option_controls.values(),
        ]


def build() -> ModelStep:
    """The step's components, without events."""
    drawing = build_stage_strip("model-strip")
    sentence = gr.HTML(elem_id="model-sentence", apply_default_css=False)
    advice = gr.HTML(elem_id="model-advice", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            offered = {name: _backbone_choice_label(name) for name in FEATURED_BACKBONES}
            backbone = _build_radio(offered, "Backbone: what has already learned to see", "backbone")
            other = _build_backbone_dropdown()
            build_note("backbone")
            crop = _build_radio(CROP_LABELS, "What it sees of an image", "crop")
            build_note("crop")
            shown = gr.HTML(elem_id="seen", apply_default_css=False)
        with gr.Column(min_width=300):
            head = _build_radio(
                {name: _head_choice_label(name) for name in HEADS}, "Head: what will learn your classes", "head"
            )
            build_note("head")
            with gr.Accordion("More", open=False):
                pretrained = gr.Checkbox(
                    True, label="Begin with what the backbone has learned from ImageNet", elem_id="pretrained"
                )
                build_note("pretrained")
                groups, options = _build_option_groups()
    problem = gr.HTML(elem_id="model-problem", apply_default_css=False)
    compared = backbone_table.build()
    onward = gr.Button("Go on to the training", variant="primary", elem_id="onward-train")
    choices = (backbone, other, head, crop, pretrained)
    return ModelStep(drawing, sentence, advice, *choices, shown, groups, options, problem, compared, onward)


def _build_radio(titles: Mapping[str, str], label: str, elem_id: str) -> gr.Radio:
    """A choice below each other, the first of it chosen."""
    choices = [(title, name) for name, title in titles.items()]
    return gr.Radio(choices, value=choices[0][1], label=label, elem_id=elem_id, elem_classes="hs-column")


def _build_backbone_dropdown() -> gr.Dropdown:
    return gr.Dropdown(
        [(_backbone_choice_label(row.name), row.name) for row in backbones() if row.name not in FEATURED_BACKBONES],
        value=None,
        label="Or another one: any of torchvision's, or timm/ and a name of timm's",
        allow_custom_value=True,
        elem_id="other-backbone",
    )


def _build_option_groups() -> tuple[dict[str, gr.Group], dict[tuple[str, str], gr.components.Component]]:
    """A group of controls for each head, of which one is shown; and the controls by head and option."""
    groups, options = {}, {}
    for name in HEADS:
        with gr.Group(visible=name == next(iter(HEADS))) as groups[name]:
            for option, default in get_head_options(name).items():
                options[name, option] = _build_option_control(option, default, elem_id=f"{name}-{option}")
                if f"{name}-{option}" in NOTES:  # a head that somebody has registered brings none
                    build_note(f"{name}-{option}")
    return groups, options


def choose_network(
    visitor: Session,
    backbone: str | None,
    other_backbone: str | None,
    head: str,
    crop: str,
    pretrained: bool,
    *option_values: Any,
) -> tuple[Any, ...]:
    """Remember the choice and draw it.

    Returns:
        Values for ``strip``, ``sentence``, ``problem``, ``seen``, ``head`` and each of ``groups``.
    """
    shown = [gr.Group(visible=name == head) for name in HEADS]
    try:
        choice = ModelChoice(
            other_backbone or backbone or DEFAULT_BACKBONE,
            head,
            _parse_head_options(head, option_values),
            crop,
            pretrained,
        )
        if refusal := explain_download_refusal(find_backbone(choice.backbone)):
            raise InputError(refusal)
        model = build_meta_network(choice, visitor.classes, visitor.multi_label)
    except (InputError, ValueError) as error:
        return gr.skip(), gr.skip(), render_problem_card(str(error)), gr.skip(), gr.skip(), *shown
    visitor.set_choice(choice)
    told = render_resume_notice(visitor) + describe_choice(model, choice)
    return (
        render_chosen_network(visitor, model),
        told,
        "",
        render_input_preview(visitor, model),
        _update_head_choices(model, option_values),
        *shown,
    )


def click_stage(visitor: Session, event_data: object) -> str:
    """A block was pressed: learning is wanted from there on. Gives a value for ``strip``."""
    if not visitor.is_training:
        visitor.num_unfrozen_stages = parse_num_stages(event_data)
    return render_chosen_network(visitor, build_meta_network(visitor.choice, visitor.classes))


def parse_num_stages(event_data: object) -> int | None:
    """How many of the last stages are to learn, as a press says; None for what no press sends."""
    number = getattr(event_data, "learning", None)
    return number if isinstance(number, int) and number >= 0 else None


def render_chosen_network(visitor: Session, model: Classifier) -> str:
    """The strip of a network that has yet to learn, with what the visitor wants of it."""
    outline = model.summarize_stages()
    learning = [stage.name for stage in outline[len(outline) - count_unfrozen_stages(visitor, model) :]]
    return render_network(model, outline, learning, interaction="waits" if visitor.is_training else "asks")


def render_advice(visitor: Session) -> str:
    """What the visitor's images promise with the choice, and how long this machine needs to read them."""
    if visitor.images is None:
        return ""
    try:
        promised = describe_dataset_fit(
            visitor.images, build_meta_network(visitor.choice, visitor.classes, visitor.multi_label)
        )
        reading = _reading_time_text(visitor)
    except (InputError, ValueError):  # which the first step and the choice itself have said
        return ""
    read = f"Reading the images through the frozen stages, once, {reading}."
    return f'<p class="hs-hint">{escape(promised)} {_frozen_accuracy_text(visitor)} {read}</p>'


def _reading_time_text(visitor: Session) -> str:
    """How long this machine takes to read the visitor's images: as it did for the last training, or at most."""
    run = _last_run(visitor)
    if run and run.frozen_pass and run.frozen_pass.done == run.frozen_pass.total:
        return f"took this machine <b>{format_duration(run.frozen_pass.seconds)}</b> the last time"
    bound = max_reading_seconds(visitor.images, measure_seconds_per_image(visitor.choice.backbone))
    return f"takes this machine <b>{format_duration(bound)} at most</b>"


def _last_run(visitor: Session) -> Run | None:
    """What is known of a training that had the chosen backbone and these images."""
    job = visitor.job
    return job.run if job and job.model and job.model.backbone == visitor.choice.backbone else None


def _frozen_accuracy_text(visitor: Session) -> str:
    """How far the frozen features go with these images, as the last training has measured, or how the next one will."""
    run = _last_run(visitor)
    if run is None or run.reference is None:
        return (
            "Whether yours do is not known beforehand: each training first solves a head at once on the frozen "
            "features, the dashed line of its curves, and what that names rightly shows how far they go."
        )
    right, of = run.reference.validation_metrics.correct, run.reference.validation_metrics.total
    left = f"{of - right} {'is' if of - right == 1 else 'are'} left"
    rest = f"{left} to gain by unfreezing" if right < of else "unfreezing has nothing left to gain there"
    return (
        "How far the frozen features go with yours was measured by a head that was solved at once on them: it named "
        f"<b>{right} of {of}</b> validation images rightly, so {rest}."
    )


def render_input_preview(visitor: Session, model: Classifier) -> str:
    """What the network gets to see of some of the visitor's images."""
    if visitor.images is None:
        return ""
    wanted, count = model.preprocess, len(visitor.images)
    places = sorted({count * i // NUM_PREVIEW_IMAGES for i in range(min(NUM_PREVIEW_IMAGES, count))})
    # Read anew: asking the images for another size would empty their store.
    read = (read_pixels(visitor.images.paths[i], wanted.resize, wanted.interpolation) for i in places)
    pictures = "".join(f'<img alt="" src="{make_thumbnail_url(wanted.crop_to_square(pixels))}">' for pixels in read)
    return f'<p class="hs-hint">What the network sees of your images:</p><div class="hs-thumbs">{pictures}</div>'


def describe_choice(model: Classifier, choice: ModelChoice) -> str:
    """What the choice means, in a sentence."""
    row = find_backbone(choice.backbone)
    if not choice.pretrained:
        return (
            '<p class="hs-card hs-wrong hs-sentence"><b>Random weights.</b> This backbone has seen nothing yet: a few '
            "images a class cannot teach it to see, and a frozen random stage stays random. It is here to compare.</p>"
        )
    body = count_parameters(model) - count_head_parameters(model)
    licence = f"Its weights come under {escape(license_text(row))}." if row.has_weights else ""
    size = "" if row.megabytes is None else f" ({row.megabytes:.0f} MB)"
    download = (
        f"They are fetched{size} when you press Train; the EfficientNets need no download."
        if row.needs_download
        else ""
    )
    return (
        f'<p class="hs-sentence">The backbone brings <b>{format_millions(body)} weights</b> that have seen ImageNet; the new '
        f"head adds <b>{format_count(count_head_parameters(model), 'weight')}</b> for {format_count(len(model.classes), 'class', 'classes')}, "
        f"and learns first. {' '.join(filter(None, (licence, download, escape(model.note))))}</p>"
    )


def render_resume_notice(visitor: Session) -> str:
    """That the next training goes on with what the visitor has, where it does, and what a choice here would change."""
    if not visitor.resume_training or visitor.trained_model is None:
        return ""
    model = visitor.trained_model.model
    return (
        '<p class="hs-card hs-hint" id="model-going-on"><b>The next training goes on with the model that you have</b>: '
        f"{escape(backbone_title(model.backbone))} with the head {escape(head_title(model))} for "
        f"{escape(join_names(model.classes, max_names=8))}. What is drawn and chosen here would be a new one: it begins once "
        "you choose something else here, or <i>A new head</i> in the Train step.</p>"
    )


def _head_choice_label(name: str, num_weights_text: str = "") -> str:
    """A head in the choice: its name, its sentence, and its weights where they are known."""
    return f"{HEAD_TITLES.get(name, name.capitalize())}{num_weights_text and f', {num_weights_text}'} — {describe_head(name)}"


def _update_head_choices(model: Classifier, option_values: Sequence[Any]) -> gr.Radio:
    """The choice of heads with the weights that each would have on this backbone, with the options as they stand."""
    return gr.Radio([(_head_choice_label(name, _head_size_text(model, name, option_values)), name) for name in HEADS])


def _head_size_text(model: Classifier, head: str, option_values: Sequence[Any]) -> str:
    """How many weights this head would have; nothing where it cannot be."""
    try:
        with torch.device("meta"):
            return format_count(
                count_head_parameters(attach_head(model, head, **_parse_head_options(head, option_values))), "weight"
            )
    except (InputError, ValueError):  # said once it is chosen
        return ""


def _backbone_choice_label(name: str) -> str:
    row = find_backbone(name)
    weights = "" if row.million_weights is None else f"{row.million_weights:.1f} million weights"
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.0f} % on ImageNet"
    size = "" if row.megabytes is None else f"{row.megabytes:.0f} MB "
    where = (f"{size}to download" if row.needs_download else "on this machine") if row.has_weights else "no weights"
    limits = "not for commercial use" if row.is_non_commercial else ""
    return f"{backbone_title(name)} — {', '.join(filter(None, (weights, accuracy, where, limits)))}"


def select_backbone(table_row: list[Any]) -> tuple[str | None, str | None]:
    """The values of ``backbone`` and ``other`` after a row of the table was pressed."""
    name = table_row[0]
    return (name, None) if name in FEATURED_BACKBONES else (None, name)


def _build_option_control(option: str, default: Any, elem_id: str) -> gr.components.Component:
    told = {"label": OPTION_LABELS.get(option, option), "elem_id": elem_id}
    if isinstance(default, float):
        return gr.Slider(0, 0.9, value=default, step=0.05, **told)
    if isinstance(default, int):
        return gr.Number(
            default, precision=0, minimum=1, maximum=MAX_OPTION_VALUES.get(option, MAX_LAYER_WIDTH), **told
        )
    if isinstance(default, str):
        return gr.Dropdown(list(ACTIVATIONS), value=default, **told)
    return gr.Textbox(", ".join(map(str, default)), **told)


def _parse_head_options(head: str, option_values: Sequence[Any]) -> dict[str, Any]:
    """This head's options out of those of all heads; widths in a text become numbers."""
    keys = [(name, option) for name in HEADS for option in get_head_options(name)]
    mine = {option: value for (name, option), value in zip(keys, option_values, strict=True) if name == head}
    for option, value in mine.items():
        if value is None:
            raise InputError(f"The field '{OPTION_LABELS.get(option, option)}' is empty; give it a value.")
    return {option: _parse_widths(value) if option.endswith("dims") else value for option, value in mine.items()}


def _parse_widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        widths = ()
    if not widths or not all(1 <= width <= MAX_LAYER_WIDTH for width in widths) or len(widths) > 8:
        raise InputError(
            f"The widths '{text}' are not numbers from 1 to {MAX_LAYER_WIDTH} with commas between; try 1024, 512."
        )
    return widths
