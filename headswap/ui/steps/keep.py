"""Keep step: exports the trained model in several formats, pushes it to the Hub, and opens saved models.

Each file is loaded again and compared with the model before it is offered; how is the business of ``export``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from headswap.common.errors import InputError
from headswap.common.text import format_bytes, format_count, join_names
from headswap.data.dataset import LabelledImages
from headswap.export.deploy import onnx_kit, space_kit
from headswap.export.hub import push_to_hub
from headswap.export.model_card import format_result
from headswap.export.model_file import MODEL_FILE_SUFFIX, load_and_verify
from headswap.export.script import eject
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.ui.panels.backbone_table import license_text
from headswap.ui.panels.export_formats import EXPORT_FORMATS, ExportSource
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.chosen_network import build_meta_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.views.html import render_problem_card
from headswap.ui.views.network import backbone_title, count_head_parameters, head_title, render_network

DEFAULT_NAME = "my-model"
EXPORTING_HTML = (
    '<p class="hs-card hs-hint" role="status">Making the file, and comparing its answers with the model.</p>'
)
MAX_NAME_LENGTH = 60  # characters
NO_MODEL_MESSAGE = "No model has learned anything yet. Press Train in the third step, or open a model that you kept."
LOGIN_REQUIRED_MESSAGE = (
    "Log in first: this computer's own token is only for who sits at it. Or download the page of its own and push it "
    "yourself."
)
# Clicks the download link as soon as the file is there; the delay lets the link get its URL first.
CLICK_DOWNLOAD_JS = "(file) => { if (file) setTimeout(() => document.querySelector('#made-file').click(), 150); }"


@dataclass(frozen=True)
class KeepStep:
    """The step's components.

    Attributes:
        format_buttons: The download buttons by their names in ``EXPORT_FORMATS``.
    """

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
    def refresh_outputs(self) -> list[Block]:
        """The components that a ``KeepUpdate`` sets."""
        return [self.stage_strip, self.summary, *self.format_buttons.values(), self.push_button]


@dataclass(frozen=True)
class KeepUpdate:
    """New values of components, by name."""

    stage_strip: str
    summary: str
    format_buttons: Mapping[str, gr.Button]
    push_button: gr.Button


def build(can_push: bool, has_login: bool) -> KeepStep:
    """Build the components, without events.

    Args:
        can_push: Whether anybody may push to the Hub from here.
        has_login: Whether users log in to the Hub and push as themselves.
    """
    strip = gr.HTML(elem_id="keep-strip", apply_default_css=False)
    summary = gr.HTML(elem_id="keep-card", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            name = gr.Textbox(DEFAULT_NAME, label="What to call it", max_length=MAX_NAME_LENGTH, elem_id="model-name")
        with gr.Column(min_width=280):
            include_images = gr.Checkbox(
                False,
                label="Let some of my images go along",
                info="Small ones, as examples. Without the tick no image leaves this page; drawn ones check the files.",
                elem_id="along",
            )
            build_note("along")
    format_buttons = _build_format_buttons()
    export_status = gr.HTML(elem_id="made", apply_default_css=False)
    download_button = gr.DownloadButton(visible="hidden", elem_id="made-file")
    repo_id, repo_type, push_button, push_status = _build_push_form(can_push, has_login)
    with gr.Accordion("Open a model that you kept", open=False, elem_id="open-model"):
        model_file = gr.File(
            file_types=[MODEL_FILE_SUFFIX], label=f"A {MODEL_FILE_SUFFIX} file", elem_id="opening", height=120
        )
        open_status = gr.HTML(elem_id="opened", apply_default_css=False)
    return KeepStep(
        stage_strip=strip,
        summary=summary,
        name=name,
        include_images=include_images,
        format_buttons=format_buttons,
        export_status=export_status,
        download_button=download_button,
        repo_id=repo_id,
        repo_type=repo_type,
        push_button=push_button,
        push_status=push_status,
        model_file=model_file,
        open_status=open_status,
    )


def _build_format_buttons() -> dict[str, gr.Button]:
    buttons = {}
    with gr.Row(elem_id="ways", equal_height=True):
        for key, export_format in EXPORT_FORMATS.items():
            with gr.Column(min_width=230, elem_classes="hs-way"):
                gr.HTML(f"<h3>{export_format.title}</h3><p>{export_format.description}</p>", apply_default_css=False)
                buttons[key] = gr.Button("Download", elem_id=f"take-{key}", interactive=False)
    build_note("ways")
    return buttons


def _build_push_form(can_push: bool, has_login: bool) -> tuple[gr.Textbox, gr.Radio, gr.Button, gr.HTML]:
    with gr.Accordion("Push it to the Hugging Face hub", open=False, visible=can_push):
        if has_login:
            gr.LoginButton()
        repo_id = gr.Textbox(label="Repository", placeholder="your-name/flowers", elem_id="repository")
        repo_type = gr.Radio(
            [("As a model: the file, ONNX and the card", "model"), ("As a page of its own, a Space", "space")],
            value="model",
            label="As what",
            elem_id="kind",
        )
        button = gr.Button("Push, so that only you see it", elem_id="push", interactive=False)
        status = gr.HTML(elem_id="pushed", apply_default_css=False)
    return repo_id, repo_type, button, status


def refresh(session: Session) -> KeepUpdate:
    """Show the trained model and enable what can be done with it."""
    trained = session.trained_model
    if trained is None:
        model = build_meta_network(session.choice, session.classes)
        trained_stages: tuple[str, ...] = ()
        summary = f'<p class="hs-sentence">{NO_MODEL_MESSAGE}</p>'
    else:
        model, trained_stages, summary = trained.model, trained.trained_stages, _render_summary(trained)
    return KeepUpdate(
        stage_strip=render_network(model, model.summarize_stages(), trained_stages),
        summary=summary,
        format_buttons={name: gr.Button(interactive=trained is not None) for name in EXPORT_FORMATS},
        push_button=gr.Button(interactive=trained is not None),
    )


def export_model(
    session: Session, scheduler: Scheduler, format_name: str, name: str, include_images: bool
) -> tuple[str | None, str]:
    """Export the model to a file and compare that with the model.

    Returns:
        New values of ``download_button`` and ``export_status``.
    """
    trained = session.trained_model
    if trained is None:
        return None, render_problem_card(NO_MODEL_MESSAGE)
    try:
        with scheduler.compute_slot():
            path, proof = _export_file(session, trained.model, format_name, name, include_images)
    except InputError as error:
        return None, render_problem_card(str(error))
    size = format_bytes(path.stat().st_size)
    return str(path), _render_done(f"<b>{escape(path.name)}</b>, {size}. {escape(proof)}")


def push_model(
    session: Session,
    scheduler: Scheduler,
    repo_id: str,
    repo_type: str,
    name: str,
    include_images: bool,
    token: str | None,
    is_allowed: bool,
) -> str:
    """Push the model, or a Space with it, to the Hub.

    Args:
        session: Holds the model.
        scheduler: Grants the time to export it.
        repo_id: "user/repository".
        repo_type: "model" or "space".
        name: What the model is called.
        include_images: Whether some of the images may go along.
        token: The user's own token; None for that of this computer.
        is_allowed: Whether the user may push with that token.

    Returns:
        The new value of ``push_status``.
    """
    trained = session.trained_model
    if trained is None:
        return render_problem_card(NO_MODEL_MESSAGE)
    if not is_allowed:
        return render_problem_card(LOGIN_REQUIRED_MESSAGE)
    images = _training_images(session) if include_images else None
    is_space = repo_type == "space"
    try:
        with scheduler.compute_slot():
            kit = (space_kit if is_space else onnx_kit)(trained.model, clean_file_stem(name), images)
            files = dict(kit.files)
            if repo_type == "model":
                path, _ = _export_file(session, trained.model, "headswap", name, include_images)
                files[path.name] = path.read_bytes()
        url = escape(push_to_hub(files, repo_id.strip(), space=is_space, token=token))
    except InputError as error:
        return render_problem_card(str(error))
    return _render_done(f'Pushed to <a href="{url}">{url}</a>.')


def open_model(session: Session, path: str | None) -> tuple[str | dict[str, Any], str | dict[str, Any]]:
    """Load a saved model in place of the trained one.

    Returns:
        New values of ``open_status`` and ``name``.
    """
    if path is None:
        return gr.skip(), gr.skip()
    if session.is_training:
        return render_problem_card("A training runs; stop it or wait for its end, then open the model."), gr.skip()
    try:
        model, damage = load_and_verify(path)
    except InputError as error:
        return render_problem_card(str(error)), gr.skip()
    session.use_loaded_model(model)
    known = escape(join_names(model.classes, max_names=8))
    warning = render_problem_card(damage) if damage else ""
    done = _render_done(
        f"Opened: it knows {known}. Test it in the fourth step. To teach it more, choose images in the first step, "
        "those of a new class too, and press Train: it learns on."
    )
    return warning + done, Path(path).name.removesuffix(MODEL_FILE_SUFFIX)[:MAX_NAME_LENGTH]


def render_script(session: Session) -> str:
    """The last training as a script of plain PyTorch, or a comment that says why there is none."""
    if session.trained_model is None:
        return f"# {NO_MODEL_MESSAGE}"
    model = session.trained_model.model
    try:
        return eject(model, _matching_images(session, model))
    except InputError as error:
        return f"# {error}"


def clean_file_stem(name: str) -> str:
    """Turn what a user has typed into a file name without suffix."""
    return re.sub(r"[^\w-]+", " ", name).strip(" -")[:MAX_NAME_LENGTH] or DEFAULT_NAME


def _export_file(
    session: Session, model: Classifier, format_name: str, name: str, include_images: bool
) -> tuple[Path, str]:
    source = ExportSource(
        model, session.ensure_export_dir(), clean_file_stem(name), _matching_images(session, model), include_images
    )
    return EXPORT_FORMATS[format_name].export_file(source)


def _training_images(session: Session) -> LabelledImages | None:
    """The images that the model was trained on, while they are there."""
    setup = session.job.training_setup if session.job else None
    return setup.images if setup else session.images


def _matching_images(session: Session, model: Classifier) -> LabelledImages | None:
    """The training images, unless they have other classes than the model."""
    images = _training_images(session)
    return images if images and set(images.classes) == set(model.classes) else None


def _render_done(html: str) -> str:
    return f'<p class="hs-card hs-hint" role="status">{html}</p>'


def _render_summary(trained: TrainedModel) -> str:
    model, record = trained.model, trained.model.record
    backbone = find_backbone(model.backbone)
    head = f"{head_title(model)}, {format_count(count_head_parameters(model), 'weight')}"
    stages = trained.trained_stages
    facts = {
        "Backbone": f"{backbone_title(model.backbone)}; its weights come under {license_text(backbone)}",
        "Head": head,
        "Classes": join_names(model.classes, max_names=12),
        "Learned": f"the head and the stages {join_names(stages)}" if stages else "the head",
        "Accuracy": format_result(record.result) if record else "nothing is known of it",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<dl class="hs-card hs-facts">{rows}</dl>'
