"""The second step: which backbone, which head. The strip answers to the choice before any weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import torch

from headswap.common.errors import InputError
from headswap.common.text import count, listed, million, seconds
from headswap.data.decoding import read_pixels
from headswap.networks.catalogue import DEFAULT, backbones, find, too_large
from headswap.networks.classifier import Classifier, crown
from headswap.networks.heads import ACTIVATIONS, HEADS, head_options, head_sentence
from headswap.networks.stage import count_weights
from headswap.training.plan import outlook
from headswap.ui.panels import backbone_table
from headswap.ui.panels.backbone_table import OFFERED, Comparison, reading_bound, terms
from headswap.ui.panels.help_notes import NOTES, note
from headswap.ui.panels.stage_strip import pressed_strip
from headswap.ui.sessions.chosen_network import measured, preview
from headswap.ui.sessions.job import Run
from headswap.ui.sessions.next_training import wanted_stages
from headswap.ui.sessions.session import Choice, Visitor
from headswap.ui.views.html import problem_card, thumbnail
from headswap.ui.views.network import TITLES, draw, head_title, head_weights, title

SEEN = 6  # images in the preview of what the network sees
CROPS = {"centre": "The centre, as its weights were trained", "fit": "The whole image, squeezed to a square"}
WIDEST = 8192  # units of a layer that the page allows
MOST = {"layers": 4}  # of other whole numbers
LABELS = {
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

    strip: gr.HTML
    sentence: gr.HTML
    advice: gr.HTML
    backbone: gr.Radio
    other: gr.Dropdown
    head: gr.Radio
    crop: gr.Radio
    pretrained: gr.Checkbox
    seen: gr.HTML
    groups: dict[str, gr.Group]
    options: dict[tuple[str, str], gr.components.Component]
    problem: gr.HTML
    comparison: Comparison
    onward: gr.Button

    @property
    def choices(self) -> list[gr.components.Component]:
        """What ``choose`` takes, in order."""
        return [self.backbone, self.other, self.head, self.crop, self.pretrained, *self.options.values()]


def build() -> ModelStep:
    """The step's components, without events."""
    drawing = pressed_strip("model-strip")
    sentence = gr.HTML(elem_id="model-sentence", apply_default_css=False)
    advice = gr.HTML(elem_id="model-advice", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            offered = {name: _backbone_title(name) for name in OFFERED}
            backbone = _radio(offered, "Backbone: what has already learned to see", "backbone")
            other = _other_backbones()
            note("backbone")
            crop = _radio(CROPS, "What it sees of an image", "crop")
            note("crop")
            shown = gr.HTML(elem_id="seen", apply_default_css=False)
        with gr.Column(min_width=300):
            head = _radio({name: _head_title(name) for name in HEADS}, "Head: what will learn your classes", "head")
            note("head")
            with gr.Accordion("More", open=False):
                pretrained = gr.Checkbox(
                    True, label="Begin with what the backbone has learned from ImageNet", elem_id="pretrained"
                )
                note("pretrained")
                groups, options = _head_options()
    problem = gr.HTML(elem_id="model-problem", apply_default_css=False)
    compared = backbone_table.build()
    onward = gr.Button("Go on to the training", variant="primary", elem_id="onward-train")
    choices = (backbone, other, head, crop, pretrained)
    return ModelStep(drawing, sentence, advice, *choices, shown, groups, options, problem, compared, onward)


def _radio(titles: Mapping[str, str], label: str, elem_id: str) -> gr.Radio:
    """A choice below each other, the first of it chosen."""
    choices = [(title, name) for name, title in titles.items()]
    return gr.Radio(choices, value=choices[0][1], label=label, elem_id=elem_id, elem_classes="hs-column")


def _other_backbones() -> gr.Dropdown:
    return gr.Dropdown(
        [(_backbone_title(row.name), row.name) for row in backbones() if row.name not in OFFERED],
        value=None,
        label="Or another one: any of torchvision's, or timm/ and a name of timm's",
        allow_custom_value=True,
        elem_id="other-backbone",
    )


def _head_options() -> tuple[dict[str, gr.Group], dict[tuple[str, str], gr.components.Component]]:
    """A group of controls for each head, of which one is shown; and the controls by head and option."""
    groups, options = {}, {}
    for name in HEADS:
        with gr.Group(visible=name == next(iter(HEADS))) as groups[name]:
            for option, default in head_options(name).items():
                options[name, option] = _control(option, default, elem_id=f"{name}-{option}")
                if f"{name}-{option}" in NOTES:  # a head that somebody has registered brings none
                    note(f"{name}-{option}")
    return groups, options


def choose(
    visitor: Visitor, backbone: str | None, other: str | None, head: str, crop: str, pretrained: bool, *values: Any
) -> tuple[Any, ...]:
    """Remember the choice and draw it.

    Returns:
        Values for ``strip``, ``sentence``, ``problem``, ``seen``, ``head`` and each of ``groups``.
    """
    shown = [gr.Group(visible=name == head) for name in HEADS]
    try:
        choice = Choice(other or backbone or DEFAULT, head, _options(head, values), crop, pretrained)
        if refusal := too_large(find(choice.backbone)):
            raise InputError(refusal)
        model = preview(choice, visitor.classes, visitor.multi_label)
    except (InputError, ValueError) as error:
        return gr.skip(), gr.skip(), problem_card(str(error)), gr.skip(), gr.skip(), *shown
    visitor.choose(choice)
    told = going_on(visitor) + sentence(model, choice)
    return drawn(visitor, model), told, "", seen(visitor, model), _weighed(model, values), *shown


def ask(visitor: Visitor, sent: object) -> str:
    """A block was pressed: learning is wanted from there on. Gives a value for ``strip``."""
    if not visitor.training:
        visitor.stages = asked(sent)
    return drawn(visitor, preview(visitor.choice, visitor.classes))


def asked(sent: object) -> int | None:
    """How many of the last stages are to learn, as a press says; None for what no press sends."""
    number = getattr(sent, "learning", None)
    return number if isinstance(number, int) and number >= 0 else None


def drawn(visitor: Visitor, model: Classifier) -> str:
    """The strip of a network that has yet to learn, with what the visitor wants of it."""
    outline = model.outline()
    learning = [stage.name for stage in outline[len(outline) - wanted_stages(visitor, model) :]]
    return draw(model, outline, learning, pressing="waits" if visitor.training else "asks")


def advise(visitor: Visitor) -> str:
    """What the visitor's images promise with the choice, and how long this machine needs to read them."""
    if visitor.images is None:
        return ""
    try:
        promised = outlook(visitor.images, preview(visitor.choice, visitor.classes, visitor.multi_label))
        reading = _reading(visitor)
    except (InputError, ValueError):  # which the first step and the choice itself have said
        return ""
    read = f"Reading the images through the frozen stages, once, {reading}."
    return f'<p class="hs-hint">{escape(promised)} {_reach(visitor)} {read}</p>'


def _reading(visitor: Visitor) -> str:
    """How long this machine takes to read the visitor's images: as it did for the last training, or at most."""
    run = _last_run(visitor)
    if run and run.read and run.read.done == run.read.total:
        return f"took this machine <b>{seconds(run.read.seconds)}</b> the last time"
    bound = reading_bound(visitor.images, measured(visitor.choice.backbone))
    return f"takes this machine <b>{seconds(bound)} at most</b>"


def _last_run(visitor: Visitor) -> Run | None:
    """What is known of a training that had the chosen backbone and these images."""
    job = visitor.job
    return job.run if job and job.model and job.model.backbone == visitor.choice.backbone else None


def _reach(visitor: Visitor) -> str:
    """How far the frozen features go with these images, as the last training has measured, or how the next one will."""
    run = _last_run(visitor)
    if run is None or run.reference is None:
        return (
            "Whether yours do is not known beforehand: each training first solves a head at once on the frozen "
            "features, the dashed line of its curves, and what that names rightly shows how far they go."
        )
    right, of = run.reference.figures.right, run.reference.figures.of
    left = f"{of - right} {'is' if of - right == 1 else 'are'} left"
    rest = f"{left} to gain by unfreezing" if right < of else "unfreezing has nothing left to gain there"
    return (
        "How far the frozen features go with yours was measured by a head that was solved at once on them: it named "
        f"<b>{right} of {of}</b> validation images rightly, so {rest}."
    )


def seen(visitor: Visitor, model: Classifier) -> str:
    """What the network gets to see of some of the visitor's images."""
    if visitor.images is None:
        return ""
    wanted, count = model.preprocess, len(visitor.images)
    places = sorted({count * i // SEEN for i in range(min(SEEN, count))})
    # Read anew: asking the images for another size would empty their store.
    read = (read_pixels(visitor.images.paths[i], wanted.resize, wanted.interpolation) for i in places)
    pictures = "".join(f'<img alt="" src="{thumbnail(wanted.square(pixels))}">' for pixels in read)
    return f'<p class="hs-hint">What the network sees of your images:</p><div class="hs-thumbs">{pictures}</div>'


def sentence(model: Classifier, choice: Choice) -> str:
    """What the choice means, in a sentence."""
    row = find(choice.backbone)
    if not choice.pretrained:
        return (
            '<p class="hs-card hs-wrong hs-sentence"><b>Random weights.</b> This backbone has seen nothing yet: a few '
            "images a class cannot teach it to see, and a frozen random stage stays random. It is here to compare.</p>"
        )
    body = count_weights(model) - head_weights(model)
    licence = f"Its weights come under {escape(terms(row))}." if row.has_weights else ""
    size = "" if row.megabytes is None else f" ({row.megabytes:.0f} MB)"
    download = (
        f"They are fetched{size} when you press Train; the EfficientNets need no download."
        if row.needs_download
        else ""
    )
    return (
        f'<p class="hs-sentence">The backbone brings <b>{million(body)} weights</b> that have seen ImageNet; the new '
        f"head adds <b>{count(head_weights(model), 'weight')}</b> for {count(len(model.classes), 'class', 'classes')}, "
        f"and learns first. {' '.join(filter(None, (licence, download, escape(model.note))))}</p>"
    )


def going_on(visitor: Visitor) -> str:
    """That the next training goes on with what the visitor has, where it does, and what a choice here would change."""
    if not visitor.going_on or visitor.trained is None:
        return ""
    model = visitor.trained.model
    return (
        '<p class="hs-card hs-hint" id="model-going-on"><b>The next training goes on with the model that you have</b>: '
        f"{escape(title(model.backbone))} with the head {escape(head_title(model))} for "
        f"{escape(listed(model.classes, most=8))}. What is drawn and chosen here would be a new one: it begins once "
        "you choose something else here, or <i>A new head</i> in the Train step.</p>"
    )


def _head_title(name: str, weights: str = "") -> str:
    """A head in the choice: its name, its sentence, and its weights where they are known."""
    return f"{TITLES.get(name, name.capitalize())}{weights and f', {weights}'} — {head_sentence(name)}"


def _weighed(model: Classifier, values: Sequence[Any]) -> gr.Radio:
    """The choice of heads with the weights that each would have on this backbone, with the options as they stand."""
    return gr.Radio([(_head_title(name, _weights(model, name, values)), name) for name in HEADS])


def _weights(model: Classifier, head: str, values: Sequence[Any]) -> str:
    """How many weights this head would have; nothing where it cannot be."""
    try:
        with torch.device("meta"):
            return count(head_weights(crown(model, head, **_options(head, values))), "weight")
    except (InputError, ValueError):  # said once it is chosen
        return ""


def _backbone_title(name: str) -> str:
    row = find(name)
    weights = "" if row.million_weights is None else f"{row.million_weights:.1f} million weights"
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.0f} % on ImageNet"
    size = "" if row.megabytes is None else f"{row.megabytes:.0f} MB "
    where = (f"{size}to download" if row.needs_download else "on this machine") if row.has_weights else "no weights"
    limits = "not for commercial use" if row.non_commercial else ""
    return f"{title(name)} — {', '.join(filter(None, (weights, accuracy, where, limits)))}"


def pick(row: list[Any]) -> tuple[str | None, str | None]:
    """The values of ``backbone`` and ``other`` after a row of the table was pressed."""
    name = row[0]
    return (name, None) if name in OFFERED else (None, name)


def _control(option: str, default: Any, elem_id: str) -> gr.components.Component:
    told = {"label": LABELS.get(option, option), "elem_id": elem_id}
    if isinstance(default, float):
        return gr.Slider(0, 0.9, value=default, step=0.05, **told)
    if isinstance(default, int):
        return gr.Number(default, precision=0, minimum=1, maximum=MOST.get(option, WIDEST), **told)
    if isinstance(default, str):
        return gr.Dropdown(list(ACTIVATIONS), value=default, **told)
    return gr.Textbox(", ".join(map(str, default)), **told)


def _options(head: str, values: Sequence[Any]) -> dict[str, Any]:
    """This head's options out of those of all heads; widths in a text become numbers."""
    keys = [(name, option) for name in HEADS for option in head_options(name)]
    mine = {option: value for (name, option), value in zip(keys, values, strict=True) if name == head}
    for option, value in mine.items():
        if value is None:
            raise InputError(f"The field '{LABELS.get(option, option)}' is empty; give it a value.")
    return {option: _widths(value) if option.endswith("dims") else value for option, value in mine.items()}


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        widths = ()
    if not widths or not all(1 <= width <= WIDEST for width in widths) or len(widths) > 8:
        raise InputError(f"The widths '{text}' are not numbers from 1 to {WIDEST} with commas between; try 1024, 512.")
    return widths
