"""The fifth step: the trained model as something to use, share, read and repeat; and one that was kept, opened again.

Each file is compared with the model before it is offered. Knows nothing of formats.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from types import MappingProxyType

import gradio as gr

from headswap.common.atomic import atomic_write_bytes
from headswap.common.errors import InputError
from headswap.common.text import format_bytes, format_count, join_names
from headswap.data.dataset import LabelledImages
from headswap.export.deploy import onnx_kit, space_kit, zip_folder
from headswap.export.forms import EXPORT_FORMS, ExportForm, ExportInputs
from headswap.export.hub import push_to_hub
from headswap.export.model_card import format_result
from headswap.export.model_file import MODEL_FILE_SUFFIX, load_and_verify, save
from headswap.export.script import eject
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.ui.panels.backbone_table import license_text
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.chosen_network import build_meta_network
from headswap.ui.sessions.job import Scheduler
from headswap.ui.sessions.session import Session, TrainedModel
from headswap.ui.views.html import render_problem_card
from headswap.ui.views.network import backbone_title, count_head_parameters, head_title, render_network

DEFAULT_NAME = "my model"
EXPORTING_HTML = (
    '<p class="hs-card hs-hint" role="status">Making the file, and comparing its answers with the model.</p>'
)
MAX_NAME_LENGTH = 60  # characters of a name
NO_MODEL_MESSAGE = "No model has learned anything yet. Press Train in the third step, or open a model that you kept."
LOGIN_REQUIRED_MESSAGE = (
    "Log in first: this computer's own token is only for who sits at it. Or download the page of its own and push it "
    "yourself."
)
# Pressed by the page itself as soon as the file is made; by then the link has its address.
CLICK_DOWNLOAD_JS = "(file) => { if (file) setTimeout(() => document.querySelector('#made-file').click(), 150); }"


@dataclass(frozen=True)
class ExportFormat:
    """A way to take a model along."""

    title: str
    description: str
    export_file: Callable[[Classifier, Path, str, LabelledImages | None, LabelledImages | None], tuple[Path, str]]


@dataclass(frozen=True)
class KeepStep:
    """The step's components; ``ways`` are the buttons by their names in ``WAYS``."""

    stage_strip: gr.HTML
    summary: gr.HTML
    name: gr.Textbox
    include_images: gr.Checkbox
    format_buttons: dict[str, gr.Button]
    export_status: gr.HTML
    download_button: gr.DownloadButton
    repo_id: gr.Textbox
    repo_type: gr.Radio
    push_button: gr.Button
    push_status: gr.HTML
    model_file: gr.File
    open_status: gr.HTML

    @property
    def refresh_outputs(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [self.stage_strip, self.summary, *self.format_buttons.values(), self.push_button]


def build(can_push: bool, has_login: bool) -> KeepStep:
    """The step's components, without events.

    Args:
        pushing: whether anybody here may push to the hub.
        login: whether visitors push as themselves, by a login of their own.
    """
    drawing = gr.HTML(elem_id="keep-strip", apply_default_css=False)
    card = gr.HTML(elem_id="keep-card", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            name = gr.Textbox(DEFAULT_NAME, label="What to call it", max_length=MAX_NAME_LENGTH, elem_id="model-name")
        with gr.Column(min_width=280):
            along = gr.Checkbox(
                False,
                label="Let some of my images go along",
                info="Small ones, as examples. Without the tick no image leaves this page; drawn ones check the files.",
                elem_id="along",
            )
            build_note("along")
    ways = {}
    with gr.Row(elem_id="ways", equal_height=True):
        for key, way in EXPORT_FORMATS.items():
            with gr.Column(min_width=230, elem_classes="hs-way"):
                gr.HTML(f"<h3>{way.title}</h3><p>{way.description}</p>", apply_default_css=False)
                ways[key] = gr.Button("Download", elem_id=f"take-{key}", interactive=False)
    build_note("ways")
    made = gr.HTML(elem_id="made", apply_default_css=False)
    file = gr.DownloadButton(visible="hidden", elem_id="made-file")
    with gr.Accordion("Push it to the Hugging Face hub", open=False, visible=can_push):
        if has_login:
            gr.LoginButton()
        repository = gr.Textbox(label="Repository", placeholder="your-name/flowers", elem_id="repository")
        kind = gr.Radio(
            [("As a model: the file, ONNX and the card", "model"), ("As a page of its own, a Space", "space")],
            value="model",
            label="As what",
            elem_id="kind",
        )
        push_button = gr.Button("Push, so that only you see it", elem_id="push", interactive=False)
        pushed = gr.HTML(elem_id="pushed", apply_default_css=False)
    with gr.Accordion("Open a model that you kept", open=False, elem_id="open-model"):
        opening = gr.File(
            file_types=[MODEL_FILE_SUFFIX], label=f"A {MODEL_FILE_SUFFIX} file", elem_id="opening", height=120
        )
        opened = gr.HTML(elem_id="opened", apply_default_css=False)
    return KeepStep(
        drawing, card, name, along, ways, made, file, repository, kind, push_button, pushed, opening, opened
    )


def refresh(visitor: Session) -> tuple[object, ...]:
    """What there is to take along: values for ``KeepStep.shown``."""
    trained = visitor.trained_model
    buttons = [gr.Button(interactive=trained is not None) for _ in (*EXPORT_FORMATS, "push")]
    if trained is None:
        model = build_meta_network(visitor.choice, visitor.classes)
        return (
            render_network(model, model.summarize_stages(), ()),
            f'<p class="hs-sentence">{NO_MODEL_MESSAGE}</p>',
            *buttons,
        )
    return (
        render_network(trained.model, trained.model.summarize_stages(), trained.trained_stages),
        _render_summary(trained),
        *buttons,
    )


def export_model(
    visitor: Session, scheduler: Scheduler, format_name: str, name: str, include_images: bool
) -> tuple[str | None, str]:
    """Make a file and compare it with the model; values for ``file`` and ``made``."""
    if visitor.trained_model is None:
        return None, render_problem_card(NO_MODEL_MESSAGE)
    try:
        with scheduler.compute_slot():
            path, proof = _export_file(visitor, format_name, name, include_images)
    except InputError as error:
        return None, render_problem_card(str(error))
    said = f"<b>{escape(path.name)}</b>, {format_bytes(path.stat().st_size)}. {escape(proof)}"
    return str(path), f'<p class="hs-card hs-hint" role="status">{said}</p>'


def push_model(
    visitor: Session,
    scheduler: Scheduler,
    repo_id: str,
    repo_type: str,
    name: str,
    include_images: bool,
    token: str | None,
    is_allowed: bool,
) -> str:
    """Push the model, or a page of its own; the value of ``pushed``.

    Args:
        token: the visitor's own; without one that of this computer is used.
        allowed: whether the visitor may push by it.
    """
    if visitor.trained_model is None or not is_allowed:
        return render_problem_card(LOGIN_REQUIRED_MESSAGE if visitor.trained_model else NO_MODEL_MESSAGE)
    model, images, stem = (
        visitor.trained_model.model,
        _training_images(visitor) if include_images else None,
        clean_file_stem(name),
    )
    try:
        with scheduler.compute_slot():
            kit = (space_kit if repo_type == "space" else onnx_kit)(model, stem, images)
            files = dict(kit.files)
            if repo_type == "model":
                path, _ = _export_file(visitor, "headswap", name, include_images)
                files[path.name] = path.read_bytes()
        address = push_to_hub(files, repo_id.strip(), space=repo_type == "space", token=token)
    except InputError as error:
        return render_problem_card(str(error))
    return f'<p class="hs-card hs-hint" role="status">Pushed to <a href="{escape(address)}">{escape(address)}</a>.</p>'


def open_model(visitor: Session, path: str | None) -> tuple[str, str]:
    """A model from its file in place of what was trained; values for ``opened`` and ``name``."""
    if path is None:
        return gr.skip(), gr.skip()
    if visitor.is_training:
        return render_problem_card("A training runs; stop it or wait for its end, then open the model."), gr.skip()
    try:
        model, damage = load_and_verify(path)
    except InputError as error:
        return render_problem_card(str(error)), gr.skip()
    visitor.use_loaded_model(model)
    known = escape(join_names(model.classes, max_names=8))
    warning = render_problem_card(damage) if damage else ""
    return (
        f'{warning}<p class="hs-card hs-hint" role="status">Opened: it knows {known}. Test it in the fourth step. To '
        "teach it more, choose images in the first step, those of a new class too, and press Train: it learns on.</p>",
        Path(path).name.removesuffix(MODEL_FILE_SUFFIX)[:MAX_NAME_LENGTH],
    )


def render_script(visitor: Session) -> str:
    """What was just learned as a script of plain PyTorch, for reading; or why there is none, as a comment."""
    if visitor.trained_model is None:
        return f"# {NO_MODEL_MESSAGE}"
    try:
        return eject(visitor.trained_model.model, _matching_images(visitor))
    except InputError as error:
        return f"# {error}"


def clean_file_stem(name: str) -> str:
    """A name as a file's, whatever somebody has typed."""
    return re.sub(r"[^\w-]+", " ", name).strip(" -")[:MAX_NAME_LENGTH] or DEFAULT_NAME


def _export_file(visitor: Session, format_name: str, name: str, include_images: bool) -> tuple[Path, str]:
    known = _matching_images(visitor)
    return EXPORT_FORMATS[format_name].export_file(
        visitor.trained_model.model,
        visitor.ensure_export_dir(),
        clean_file_stem(name),
        known if include_images else None,
        known,
    )


def _training_images(visitor: Session) -> LabelledImages | None:
    """The images that the model learned from, while they are there."""
    lesson = visitor.job.training_setup if visitor.job else None
    return lesson.images if lesson else visitor.images


def _matching_images(visitor: Session) -> LabelledImages | None:
    images = _training_images(visitor)
    return images if images and set(images.classes) == set(visitor.trained_model.model.classes) else None


def _render_summary(trained: TrainedModel) -> str:
    model, record = trained.model, trained.model.record
    row = find_backbone(model.backbone)
    weights = f"{head_title(model)}, {format_count(count_head_parameters(model), 'weight')}"
    stages = trained.trained_stages
    facts = {
        "Backbone": f"{backbone_title(model.backbone)}; its weights come under {license_text(row)}",
        "Head": weights,
        "Classes": join_names(model.classes, max_names=12),
        "Learned": f"the head and the stages {join_names(stages)}" if stages else "the head",
        "Accuracy": format_result(record.result) if record else "nothing is known of it",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<dl class="hs-card hs-facts">{rows}</dl>'


def _export_headswap(
    model: Classifier, directory: Path, stem: str, sample_images: LabelledImages | None, _: object
) -> tuple[Path, str]:
    path = directory / f"{stem}{MODEL_FILE_SUFFIX}"
    return path, save(model, path, sample_images).sentence


def _export_registered(
    form: ExportForm,
    model: Classifier,
    directory: Path,
    stem: str,
    sample_images: LabelledImages | None,
    training_images: LabelledImages | None,
) -> tuple[Path, str]:
    """A form that is a folder becomes one zip, because a browser downloads one file."""
    inputs = ExportInputs(stem, sample_images, training_images)
    if form.suffix:
        path, parity = form.export(model, directory, inputs)
    else:
        path = directory / f"{stem}-{form.name}.zip"
        with tempfile.TemporaryDirectory() as temporary:
            folder, parity = form.export(model, temporary, inputs)
            atomic_write_bytes(path, zip_folder(folder))
    return path, parity or form.requirements


EXPORT_FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "headswap": ExportFormat(
            "The model", "One file to open here again, to test it, to teach it more.", _export_headswap
        ),
        **{
            form.name: ExportFormat(form.title, form.description, partial(_export_registered, form))
            for form in EXPORT_FORMS.values()
        },
    }
)
