"""The second step: which backbone, which head. The strip answers to the choice before any weight is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from headswap.catalogue import BUNDLED, DEFAULT, backbones, find, too_large
from headswap.errors import InputError
from headswap.heads import ACTIVATIONS, HEADS, head_options, head_sentence
from headswap.images import LabelledImages
from headswap.model import Classifier, StageOutline, adapt, crown
from headswap.parts import count_weights
from headswap.pixels import read_pixels
from headswap.plan import outlook, stages_to_unfreeze, views_of
from headswap.ui import strip
from headswap.ui.cards import problem_card, thumbnail
from headswap.ui.jobs import Turns
from headswap.ui.visitors import Choice, Visitor
from headswap.ui.wording import count, million, seconds

SEEN = 6  # images in the preview of what the network sees
OFFERED = (*BUNDLED, "resnet18", "vgg16")
TITLES = {"mlp": "MLP", "lda": "LDA"}
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
MEASURING = threading.Lock()
SEED = 0  # of what is random in a new network: the same choices give the same curve


@dataclass(frozen=True)
class ModelStep:
    """The step's components; ``options`` are those of all heads, ``(head, option)`` to component."""

    strip: gr.HTML
    sentence: gr.HTML
    advice: gr.HTML
    backbone: gr.Radio
    other: gr.Dropdown
    table: gr.Dataframe
    head: gr.Radio
    crop: gr.Radio
    pretrained: gr.Checkbox
    seen: gr.HTML
    groups: dict[str, gr.Group]
    options: dict[tuple[str, str], gr.components.Component]
    problem: gr.HTML
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
    titles = {name: f"{TITLES.get(name, name.capitalize())} — {head_sentence(name)}" for name in HEADS}
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            offered = {name: _backbone_title(name) for name in OFFERED}
            backbone = _radio(offered, "Backbone: what has already learned to see", "backbone")
            other = _other_backbones()
            crop = _radio(CROPS, "What it sees of an image", "crop")
            shown = gr.HTML(elem_id="seen", apply_default_css=False)
        with gr.Column(min_width=300):
            head = _radio(titles, "Head: what will learn your classes", "head")
            with gr.Accordion("More", open=False):
                pretrained = gr.Checkbox(True, label="Begin with what the backbone has learned from ImageNet")
                groups, options = _head_options()
    problem = gr.HTML(elem_id="model-problem", apply_default_css=False)
    with gr.Accordion("Compare all backbones", open=False):
        table = _comparison()
    onward = gr.Button("Go on to the training", variant="primary", elem_id="onward-train")
    choices = (backbone, other, table, head, crop, pretrained)
    return ModelStep(drawing, sentence, advice, *choices, shown, groups, options, problem, onward)


def pressed_strip(elem_id: str) -> gr.HTML:
    """A strip whose blocks can be pressed; what a press asks for comes with ``submit``."""
    script = Path(__file__).with_name("strip.js").read_text(encoding="utf-8")
    return gr.HTML(js_on_load=script, elem_id=elem_id, apply_default_css=False)


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
                options[name, option] = _control(option, default)
    return groups, options


def _comparison() -> gr.Dataframe:
    return gr.Dataframe(
        [_row(row.name) for row in backbones()],
        headers=["backbone", "family", "million weights", "% on ImageNet", "pixels", "MB", "licence", "weights"],
        interactive=False,
        label="Press a heading to sort, a row to choose",
        elem_id="backbones",
        max_height=420,
    )


def choose(
    visitor: Visitor, backbone: str | None, other: str | None, head: str, crop: str, pretrained: bool, *values: Any
) -> tuple[Any, ...]:
    """Remember the choice and draw it.

    Returns:
        Values for ``strip``, ``sentence``, ``problem``, ``seen`` and each of ``groups``.
    """
    shown = [gr.Group(visible=name == head) for name in HEADS]
    try:
        choice = Choice(other or backbone or DEFAULT, head, _options(head, values), crop, pretrained)
        if refusal := too_large(find(choice.backbone)):
            raise InputError(refusal)
        model = preview(choice, visitor.classes, visitor.multi_label)
    except (InputError, ValueError) as error:
        return gr.skip(), gr.skip(), problem_card(str(error)), gr.skip(), *shown
    visitor.choose(choice)
    return drawn(visitor, model), sentence(model, choice), "", seen(visitor, model), *shown


def ask(visitor: Visitor, sent: object) -> str:
    """A block was pressed: learning is wanted from there on. Gives a value for ``strip``."""
    if not visitor.training:
        visitor.stages = asked(sent)
    return drawn(visitor, preview(visitor.choice, visitor.classes))


def asked(sent: object) -> int | None:
    """How many of the last stages are to learn, as a press says; None for what no press sends."""
    number = getattr(sent, "learning", None)
    return number if isinstance(number, int) and number >= 0 else None


def wanted(visitor: Visitor, model: Classifier) -> int:
    """How many of the last stages learn in the end: as the visitor asked for, or as is usual."""
    usual = stages_to_unfreeze(model)
    return usual if visitor.stages is None else min(visitor.stages, len(model.countable))


def drawn(visitor: Visitor, model: Classifier) -> str:
    """The strip of a network that has yet to learn, with what the visitor wants of it."""
    outline = model.outline()
    learning = [stage.name for stage in outline[len(outline) - wanted(visitor, model) :]]
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
    return f'<p class="hs-hint">{escape(promised)} Reading the images through the frozen stages, once, {reading}.</p>'


def _reading(visitor: Visitor) -> str:
    """How long this machine takes to read the visitor's images: as it did for the last training, or at most."""
    job, backbone = visitor.job, visitor.choice.backbone
    read = job.run.read if job and job.model and job.model.backbone == backbone else None
    if read and read.done == read.total:
        return f"took this machine <b>{seconds(read.seconds)}</b> the last time"
    learned, checked = map(len, visitor.images.split())
    pace = measured(backbone)
    views = learned * views_of(learned + checked, pace) + checked
    # The engines that read them are up to four times faster than the network as it stands.
    return f"takes this machine <b>{seconds(views * pace)} at most</b>"


@lru_cache(maxsize=64)
def measured(backbone: str) -> float:
    """Seconds that a picture takes through a network of this name on this machine, measured once."""
    with MEASURING:  # one at a time, for the time's sake and for memory's
        model = preview(Choice(backbone, "linear", pretrained=False), 2)
        if next(model.parameters()).is_meta:
            model.to_empty(device="cpu")
            for tensor in chain(model.parameters(), model.buffers()):
                tensor.detach().zero_()  # what was in memory before could be numbers that are slow to compute with
        return min(model.pace() for _ in range(3))


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


def make(
    choice: Choice,
    classes: Sequence[str] | int,
    multi_label: bool = False,
    pretrained: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Classifier:
    """The chosen network with its weights, which may have to be downloaded first."""
    return adapt(
        choice.backbone,
        classes,
        choice.head,
        pretrained=pretrained and choice.pretrained,
        multi_label=multi_label,
        crop=choice.crop,
        progress=progress,
        **choice.options,
    )


def network(choice: Choice, images: LabelledImages, turns: Turns, progress: Callable[[int, int], None]) -> Classifier:
    """The chosen network; what is random in it is the same each time."""
    # A download takes no turn. What is drawn does: others who train draw from the same source meanwhile.
    learned = make(choice, images.classes, images.multi_label, progress=progress) if choice.pretrained else None
    with turns.turn(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        if learned:
            return crown(learned, choice.head, **choice.options)
        return make(choice, images.classes, images.multi_label)


def preview(choice: Choice, classes: Sequence[str] | int, multi_label: bool = False) -> Classifier:
    """The chosen network without its weights' numbers: quick to build and as large as its names."""
    try:
        with torch.device("meta"):
            return make(choice, classes, multi_label, pretrained=False)
    except (NotImplementedError, RuntimeError):  # RegNets compute with tensors while they are built
        return make(choice, classes, multi_label, pretrained=False)


def draw(
    model: Classifier,
    outline: Sequence[StageOutline],
    learning: Sequence[str],
    kept_bytes: int | None = None,
    pressing: str = "",
) -> str:
    """The strip of a model: its stages, those named in ``learning`` in the colour of what learns, and its head."""
    blocks = [strip.Block(s.name, s.shape, s.weights, "learning" if s.name in learning else "still") for s in outline]
    head = strip.Block(type(model.head).__name__.lower(), (len(model.classes),), head_weights(model), "head")
    return strip.draw(strip.Strip((*blocks, head), kept_bytes, pressing))


def head_weights(model: Classifier) -> int:
    """How many numbers the head has to learn."""
    return count_weights(model.head)


def sentence(model: Classifier, choice: Choice) -> str:
    """What the choice means, in a sentence."""
    row = find(choice.backbone)
    if not choice.pretrained:
        return (
            '<p class="hs-card hs-wrong hs-sentence"><b>Random weights.</b> This backbone has seen nothing yet: a few '
            "images a class cannot teach it to see, and a frozen random stage stays random. It is here to compare.</p>"
        )
    body = count_weights(model) - head_weights(model)
    download = (
        f" Its weights ({row.megabytes:.0f} MB) are fetched when you press Train; the EfficientNets need no download."
        if row.needs_download
        else ""
    )
    return (
        f'<p class="hs-sentence">The backbone brings <b>{million(body)} weights</b> that have seen ImageNet; the new '
        f"head adds <b>{count(head_weights(model), 'weight')}</b> for {count(len(model.classes), 'class', 'classes')}, "
        f"and learns first.{download} {escape(model.note)}</p>"
    )


def title(name: str) -> str:
    """A backbone's name as its paper writes it."""
    return name.replace("efficientnet_lite", "EfficientNet-Lite").replace("resnet", "ResNet-").replace("vgg", "VGG-")


def head_title(model: Classifier) -> str:
    """What to call a model's head."""
    name = type(model.head).__name__.lower()
    return TITLES.get(name, name)


def _backbone_title(name: str) -> str:
    row = find(name)
    where = f"{row.megabytes:.0f} MB to download" if row.needs_download else "on this machine"
    terms = ", not for commercial use" if row.non_commercial else ""
    return (
        f"{title(name)} — {row.million_weights:.1f} million weights, {row.accuracy:.0f} % on ImageNet, {where}{terms}"
    )


def _row(name: str) -> list[str | float]:
    row = find(name)
    where = "to download" if row.needs_download else "on this machine"
    licence = row.licence + " (not commercial)" * row.non_commercial
    weights, accuracy = round(row.million_weights, 1), round(row.accuracy, 1)
    return [name, row.family, weights, accuracy, row.side, round(row.megabytes), licence, where]


def pick(row: list[Any]) -> tuple[str | None, str | None]:
    """The values of ``backbone`` and ``other`` after a row of the table was pressed."""
    name = row[0]
    return (name, None) if name in OFFERED else (None, name)


def _control(option: str, default: Any) -> gr.components.Component:
    label = LABELS.get(option, option)
    if isinstance(default, float):
        return gr.Slider(0, 0.9, value=default, step=0.05, label=label)
    if isinstance(default, int):
        return gr.Number(default, precision=0, minimum=1, maximum=MOST.get(option, WIDEST), label=label)
    if isinstance(default, str):
        return gr.Dropdown(list(ACTIVATIONS), value=default, label=label)
    return gr.Textbox(", ".join(map(str, default)), label=label)


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
