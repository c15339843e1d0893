"""Model step: chooses a backbone, a head and their options, and previews the resulting network.

The preview is built without weights, so that nothing is downloaded before a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr
import torch
from gradio.blocks import Block

from headswap.common.errors import InputError
from headswap.common.text import format_count, format_duration, format_millions, join_names
from headswap.data.dataset import LabelledImages
from headswap.data.decoding import read_pixels
from headswap.networks.adaptation import attach_head
from headswap.networks.catalogue import DEFAULT_BACKBONE, backbones, explain_download_refusal, find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS, describe_head
from headswap.networks.stage import count_parameters
from headswap.training.advice import describe_dataset_fit
from headswap.ui.panels import backbone_table, head_options
from headswap.ui.panels.backbone_table import FEATURED_BACKBONES, BackbonePanel, license_text, max_reading_seconds
from headswap.ui.panels.browser_events import StageClick
from headswap.ui.panels.head_options import HeadOptionsForm, OptionControl, parse_head_options
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.stage_strip import build_stage_strip, render_chosen_network
from headswap.ui.sessions.chosen_network import build_meta_network, count_flops_per_image, measure_seconds_per_image
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ModelChoice
from headswap.ui.views.html import make_thumbnail_url, render_problem_card
from headswap.ui.views.network import HEAD_TITLES, backbone_title, count_head_parameters, head_title

ChoiceControl = gr.Radio | gr.Checkbox | OptionControl

NUM_PREVIEW_IMAGES = 6
MAX_HEAD_WEIGHT_COUNTS = 1024  # somebody who moves a slider of an option makes one at each value
_head_weight_counts: dict[tuple[object, ...], int] = {}
CROP_LABELS = {"centre": "The centre, as its weights were trained", "fit": "The whole image, squeezed to a square"}


@dataclass(frozen=True)
class ModelStep:
    """The step's components."""

    stage_strip: gr.HTML
    choice_text: gr.HTML
    advice: gr.HTML
    backbone: gr.Radio
    other_backbone: gr.Dropdown
    head: gr.Radio
    crop: gr.Radio
    pretrained: gr.Checkbox
    input_preview: gr.HTML
    head_options: HeadOptionsForm
    problem: gr.HTML
    backbone_panel: BackbonePanel
    next_button: gr.Button

    @property
    def option_groups(self) -> Mapping[str, gr.Group]:
        """The groups of controls of the heads' options, by head."""
        return self.head_options.groups

    @property
    def choose_inputs(self) -> list[ChoiceControl]:
        """What ``choose_network`` takes, in order."""
        return [
            self.backbone,
            self.other_backbone,
            self.head,
            self.crop,
            self.pretrained,
            *self.head_options.controls.values(),
        ]

    @property
    def choose_outputs(self) -> list[Block]:
        """What ``choose_network`` changes."""
        shown = [self.stage_strip, self.choice_text, self.problem, self.input_preview, self.head]
        return [*shown, *self.option_groups.values()]


@dataclass(frozen=True)
class ModelUpdate:
    """New values of components of ``ModelStep``, by their names; None leaves one as it is."""

    problem: str
    option_groups: dict[str, gr.Group]  # by head
    stage_strip: str | None = None
    choice_text: str | None = None
    input_preview: str | None = None
    head: gr.Radio | None = None


def build() -> ModelStep:
    """The step's components, without events."""
    stage_strip = build_stage_strip("model-strip")
    choice_text = gr.HTML(elem_id="model-sentence", apply_default_css=False)
    advice = gr.HTML(elem_id="model-advice", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            titles = {name: _backbone_choice_label(name) for name in FEATURED_BACKBONES}
            backbone = _build_radio(titles, "Backbone: what has already learned to see", "backbone")
            other_backbone = _build_backbone_dropdown()
            build_note("backbone")
            crop = _build_radio(CROP_LABELS, "What it sees of an image", "crop")
            build_note("crop")
            input_preview = gr.HTML(elem_id="seen", apply_default_css=False)
        with gr.Column(min_width=300):
            titles = {name: _head_choice_label(name) for name in HEADS}
            head = _build_radio(titles, "Head: what will learn your classes", "head")
            build_note("head")
            with gr.Accordion("More", open=False):
                pretrained = gr.Checkbox(
                    True, label="Begin with what the backbone has learned from ImageNet", elem_id="pretrained"
                )
                build_note("pretrained")
                options = head_options.build()
    problem = gr.HTML(elem_id="model-problem", apply_default_css=False)
    backbone_panel = backbone_table.build()
    return ModelStep(
        stage_strip=stage_strip,
        choice_text=choice_text,
        advice=advice,
        backbone=backbone,
        other_backbone=other_backbone,
        head=head,
        crop=crop,
        pretrained=pretrained,
        input_preview=input_preview,
        head_options=options,
        problem=problem,
        backbone_panel=backbone_panel,
        next_button=gr.Button("Go on to the training", variant="primary", elem_id="onward-train"),
    )


def _build_radio(titles: Mapping[str, str], label: str, elem_id: str) -> gr.Radio:
    """A column of choices, the first of which is chosen."""
    choices: list[str | int | float | tuple[str, str | int | float]] = [(title, name) for name, title in titles.items()]
    return gr.Radio(choices, value=next(iter(titles)), label=label, elem_id=elem_id, elem_classes="hs-column")


def _build_backbone_dropdown() -> gr.Dropdown:
    return gr.Dropdown(
        [(_backbone_choice_label(row.name), row.name) for row in backbones() if row.name not in FEATURED_BACKBONES],
        value=None,
        label="Or another one: any of torchvision's, or timm/ and a name of timm's",
        allow_custom_value=True,
        elem_id="other-backbone",
    )


def choose_network(
    session: Session,
    backbone: str | None,
    other_backbone: str | None,
    head: str,
    crop: str,
    pretrained: bool,
    *option_values: object,
) -> ModelUpdate:
    """Remember the choice and preview its network; a choice that cannot be is explained and not remembered.

    Args:
        session: whose choice it is.
        backbone: one of those that are offered; None where another one is named.
        other_backbone: the name of another backbone, which wins.
        head: the name of the head.
        crop: how images become squares.
        pretrained: whether to start from pretrained weights.
        option_values: the values of all controls of the head options.
    """
    groups = {name: gr.Group(visible=name == head) for name in HEADS}
    with session.choice_lock:  # or an older choice, slower to draw, would win over a newer one
        try:
            choice = ModelChoice(
                other_backbone or backbone or DEFAULT_BACKBONE,
                head,
                parse_head_options(head, option_values),
                crop,
                pretrained,
            )
            if refusal := explain_download_refusal(find_backbone(choice.backbone)):
                raise InputError(refusal)
            model = build_meta_network(choice, session.classes, session.multi_label)
        except (InputError, ValueError) as error:
            return ModelUpdate(render_problem_card(str(error)), groups)
        session.set_choice(choice)
        return ModelUpdate(
            problem="",
            option_groups=groups,
            stage_strip=render_chosen_network(session, model),
            choice_text=render_resume_notice(session) + describe_choice(model, choice),
            input_preview=render_input_preview(session, model),
            head=_update_head_choices(model, option_values),
        )


def click_stage(session: Session, click: StageClick | None) -> str:
    """Unfreeze the stages from the one that was clicked on; gives the strip."""
    if not session.is_training:
        session.num_unfrozen_stages = click.num_stages if click else None
    return render_chosen_network(session, build_meta_network(session.choice, session.classes))


def render_advice(session: Session) -> str:
    """What to expect of the session's images with the chosen network, and how long the frozen pass takes."""
    if session.images is None:
        return ""
    try:
        model = build_meta_network(session.choice, session.classes, session.multi_label)
        expectation = describe_dataset_fit(session.images, model)
        reading = _reading_time_text(session, session.images)
    except (InputError, ValueError):  # already explained by the Images step or by the choice itself
        return ""
    read = f"Reading the images through the frozen stages, once, {reading}."
    return f'<p class="hs-hint">{escape(expectation)} {_frozen_accuracy_text(session)} {read}</p>'


def _reading_time_text(session: Session, images: LabelledImages) -> str:
    """How long the frozen pass takes: the time measured in the last training, or an upper bound."""
    run = _last_run(session)
    if run and run.frozen_pass and run.frozen_pass.done == run.frozen_pass.total:
        return f"took this machine <b>{format_duration(run.frozen_pass.seconds)}</b> the last time"
    backbone = session.choice.backbone
    bound = max_reading_seconds(images, measure_seconds_per_image(backbone), count_flops_per_image(backbone))
    return f"takes this machine <b>{format_duration(bound)} at most</b>"


def _last_run(session: Session) -> Run | None:
    """The last training's run, if it had the chosen backbone and these images."""
    job = session.job
    return job.run if job and job.model and job.model.backbone == session.choice.backbone else None


def _frozen_accuracy_text(session: Session) -> str:
    """How accurate a head solved on the frozen features was, or that the next training will measure it."""
    run = _last_run(session)
    if run is None or run.reference is None:
        return (
            "Whether yours do is not known beforehand: each training first solves a head at once on the frozen "
            "features, the dashed line of its curves, and what that names rightly shows how far they go."
        )
    correct, total = run.reference.validation_metrics.correct, run.reference.validation_metrics.total
    left = f"{total - correct} {'is' if total - correct == 1 else 'are'} left"
    rest = f"{left} to gain by unfreezing" if correct < total else "unfreezing has nothing left to gain there"
    return (
        "How far the frozen features go with yours was measured by a head that was solved at once on them: it named "
        f"<b>{correct} of {total}</b> validation images rightly, so {rest}."
    )


def render_input_preview(session: Session, model: Classifier) -> str:
    """Some of the session's images as the network's preprocessing crops them."""
    if session.images is None:
        return ""
    images, preprocess = session.images, model.preprocess
    indices = sorted({len(images) * i // NUM_PREVIEW_IMAGES for i in range(min(NUM_PREVIEW_IMAGES, len(images)))})
    # Read from the files: asking the images for another size would empty their store.
    read = (read_pixels(images.paths[i], preprocess.resize, preprocess.interpolation) for i in indices)
    thumbnails = "".join(
        f'<img alt="" src="{make_thumbnail_url(preprocess.crop_to_square(pixels))}">' for pixels in read
    )
    return f'<p class="hs-hint">What the network sees of your images:</p><div class="hs-thumbs">{thumbnails}</div>'


def describe_choice(model: Classifier, choice: ModelChoice) -> str:
    """The number of weights of the backbone and of the head, the licence, and the download."""
    row = find_backbone(choice.backbone)
    if not choice.pretrained:
        return (
            '<p class="hs-card hs-wrong hs-sentence"><b>Random weights.</b> This backbone has seen nothing yet: a few '
            "images a class cannot teach it to see, and a frozen random stage stays random. It is here to compare.</p>"
        )
    num_backbone_weights = count_parameters(model) - count_head_parameters(model)
    head_weights = format_count(count_head_parameters(model), "weight")
    classes = format_count(len(model.classes), "class", "classes")
    license_sentence = f"Its weights come under {escape(license_text(row))}." if row.has_weights else ""
    size = "" if row.megabytes is None else f" ({row.megabytes:.0f} MB)"
    download = (
        f"They are fetched{size} when you press Train; the EfficientNets need no download."
        if row.needs_download
        else ""
    )
    return (
        f'<p class="hs-sentence">The backbone brings <b>{format_millions(num_backbone_weights)} weights</b> that have '
        f"seen ImageNet; the new head adds <b>{head_weights}</b> for {classes}, and learns first. "
        f"{' '.join(filter(None, (license_sentence, download, escape(model.note))))}</p>"
    )


def render_resume_notice(session: Session) -> str:
    """Explains that the next training resumes the trained model, if it does, and what a choice here would change."""
    if not session.resume_training or session.trained_model is None:
        return ""
    model = session.trained_model.model
    return (
        '<p class="hs-card hs-hint" id="model-going-on"><b>The next training goes on with the model that you have</b>: '
        f"{escape(backbone_title(model.backbone))} with the head {escape(head_title(model))} for "
        f"{escape(join_names(model.classes, max_names=8))}. What is drawn and chosen here would be a new one: it "
        "begins once you choose something else here, or <i>A new head</i> in the Train step.</p>"
    )


def _head_choice_label(name: str, num_weights_text: str = "") -> str:
    """A head's title, number of weights where it is known, and description."""
    title = HEAD_TITLES.get(name, name.capitalize())
    return f"{title}{num_weights_text and f', {num_weights_text}'} — {describe_head(name)}"


def _update_head_choices(model: Classifier, option_values: Sequence[object]) -> gr.Radio:
    """The choice of heads, with the number of weights that each would have on this backbone."""
    return gr.Radio([(_head_choice_label(name, _head_size_text(model, name, option_values)), name) for name in HEADS])


def _head_size_text(model: Classifier, head: str, option_values: Sequence[object]) -> str:
    """How many weights a head would have on this backbone; "" where its options are not valid."""
    try:
        options = parse_head_options(head, option_values)
        # All that the number depends on: a head that takes the last map needs a forward pass to learn its shape.
        key = (model.backbone, model.preprocess.size, len(model.classes), model.multi_label, HEADS[head], repr(options))
        if key not in _head_weight_counts:
            with torch.device("meta"):
                preview = attach_head(model, head, **options)
            if len(_head_weight_counts) >= MAX_HEAD_WEIGHT_COUNTS:
                _head_weight_counts.clear()
            _head_weight_counts[key] = count_head_parameters(preview)
        return format_count(_head_weight_counts[key], "weight")
    except (InputError, ValueError):  # explained once this head is chosen
        return ""


def _backbone_choice_label(name: str) -> str:
    row = find_backbone(name)
    weights = "" if row.million_weights is None else f"{row.million_weights:.1f} million weights"
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.0f} % on ImageNet"
    size = "" if row.megabytes is None else f"{row.megabytes:.0f} MB "
    where = (f"{size}to download" if row.needs_download else "on this machine") if row.has_weights else "no weights"
    limits = "not for commercial use" if row.is_non_commercial else ""
    return f"{backbone_title(name)} — {', '.join(filter(None, (weights, accuracy, where, limits)))}"


def select_backbone(name: str) -> tuple[str | None, str | None]:
    """The values of ``backbone`` and ``other_backbone`` after a click on a row of the table."""
    return (name, None) if name in FEATURED_BACKBONES else (None, name or None)
