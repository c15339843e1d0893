"""The fifth step: the trained model as something to use, share, read and repeat; and one that was kept, opened again.

Each file is compared with the model before it is offered. Knows nothing of formats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType

import gradio as gr

from headswap.common.atomic import write
from headswap.common.errors import InputError
from headswap.common.text import count, listed, size
from headswap.data.dataset import LabelledImages
from headswap.export.deploy import onnx_kit, space
from headswap.export.hub import push
from headswap.export.model_card import told
from headswap.export.model_file import SUFFIX, opened, save
from headswap.export.onnx import export_program
from headswap.export.script import eject
from headswap.networks.catalogue import find
from headswap.networks.classifier import Classifier
from headswap.ui.panels.backbone_table import terms
from headswap.ui.panels.help_notes import note
from headswap.ui.sessions.chosen_network import preview
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Trained, Visitor
from headswap.ui.views.html import problem_card
from headswap.ui.views.network import draw, head_title, head_weights, title

NAMED = "my model"
MAKING = '<p class="hs-card hs-hint" role="status">Making the file, and comparing its answers with the model.</p>'
LONGEST = 60  # characters of a name
NOTHING = "No model has learned anything yet. Press Train in the third step, or open a model that you kept."
NOT_THEIRS = (
    "Log in first: this computer's own token is only for who sits at it. Or download the page of its own and push it "
    "yourself."
)
# Pressed by the page itself as soon as the file is made; by then the link has its address.
PRESS = "(file) => { if (file) setTimeout(() => document.querySelector('#made-file').click(), 150); }"


@dataclass(frozen=True)
class Way:
    """A way to take a model along."""

    title: str
    sentence: str
    make: Callable[[Classifier, Path, str, LabelledImages | None, LabelledImages | None], tuple[Path, str]]


@dataclass(frozen=True)
class KeepStep:
    """The step's components; ``ways`` are the buttons by their names in ``WAYS``."""

    strip: gr.HTML
    card: gr.HTML
    name: gr.Textbox
    along: gr.Checkbox
    ways: dict[str, gr.Button]
    made: gr.HTML
    file: gr.DownloadButton
    repository: gr.Textbox
    kind: gr.Radio
    push: gr.Button
    pushed: gr.HTML
    opening: gr.File
    opened: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [self.strip, self.card, *self.ways.values(), self.push]


def build(pushing: bool, login: bool) -> KeepStep:
    """The step's components, without events.

    Args:
        pushing: whether anybody here may push to the hub.
        login: whether visitors push as themselves, by a login of their own.
    """
    drawing = gr.HTML(elem_id="keep-strip", apply_default_css=False)
    card = gr.HTML(elem_id="keep-card", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            name = gr.Textbox(NAMED, label="What to call it", max_length=LONGEST, elem_id="model-name")
        with gr.Column(min_width=280):
            along = gr.Checkbox(
                False,
                label="Let some of my images go along",
                info="Small ones, as examples. Without the tick no image leaves this page; drawn ones check the files.",
                elem_id="along",
            )
            note("along")
    ways = {}
    with gr.Row(elem_id="ways", equal_height=True):
        for key, way in WAYS.items():
            with gr.Column(min_width=230, elem_classes="hs-way"):
                gr.HTML(f"<h3>{way.title}</h3><p>{way.sentence}</p>", apply_default_css=False)
                ways[key] = gr.Button("Download", elem_id=f"take-{key}", interactive=False)
    note("ways")
    made = gr.HTML(elem_id="made", apply_default_css=False)
    file = gr.DownloadButton(visible="hidden", elem_id="made-file")
    with gr.Accordion("Push it to the Hugging Face hub", open=False, visible=pushing):
        if login:
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
        opening = gr.File(file_types=[SUFFIX], label=f"A {SUFFIX} file", elem_id="opening", height=120)
        opened = gr.HTML(elem_id="opened", apply_default_css=False)
    return KeepStep(
        drawing, card, name, along, ways, made, file, repository, kind, push_button, pushed, opening, opened
    )


def prepare(visitor: Visitor) -> tuple[object, ...]:
    """What there is to take along: values for ``KeepStep.shown``."""
    trained = visitor.trained
    buttons = [gr.Button(interactive=trained is not None) for _ in (*WAYS, "push")]
    if trained is None:
        model = preview(visitor.choice, visitor.classes)
        return draw(model, model.outline(), ()), f'<p class="hs-sentence">{NOTHING}</p>', *buttons
    return draw(trained.model, trained.model.outline(), trained.learned), _card(trained), *buttons


def take(visitor: Visitor, turns: Turns, way: str, name: str, along: bool) -> tuple[str | None, str]:
    """Make a file and compare it with the model; values for ``file`` and ``made``."""
    if visitor.trained is None:
        return None, problem_card(NOTHING)
    try:
        with turns.turn():
            path, proof = _make(visitor, way, name, along)
    except InputError as error:
        return None, problem_card(str(error))
    said = f"<b>{escape(path.name)}</b>, {size(path.stat().st_size)}. {escape(proof)}"
    return str(path), f'<p class="hs-card hs-hint" role="status">{said}</p>'


def push_it(
    visitor: Visitor, turns: Turns, repository: str, kind: str, name: str, along: bool, token: str | None, allowed: bool
) -> str:
    """Push the model, or a page of its own; the value of ``pushed``.

    Args:
        token: the visitor's own; without one that of this computer is used.
        allowed: whether the visitor may push by it.
    """
    if visitor.trained is None or not allowed:
        return problem_card(NOT_THEIRS if visitor.trained else NOTHING)
    model, images, stem = visitor.trained.model, _images(visitor) if along else None, stem_of(name)
    try:
        with turns.turn():
            kit = (space if kind == "space" else onnx_kit)(model, stem, images)
            files = dict(kit.files)
            if kind == "model":
                path, _ = _make(visitor, "headswap", name, along)
                files[path.name] = path.read_bytes()
        address = push(files, repository.strip(), space=kind == "space", token=token)
    except InputError as error:
        return problem_card(str(error))
    return f'<p class="hs-card hs-hint" role="status">Pushed to <a href="{escape(address)}">{escape(address)}</a>.</p>'


def open_model(visitor: Visitor, path: str | None) -> tuple[str, str]:
    """A model from its file in place of what was trained; values for ``opened`` and ``name``."""
    if path is None:
        return gr.skip(), gr.skip()
    if visitor.training:
        return problem_card("A training runs; stop it or wait for its end, then open the model."), gr.skip()
    try:
        model, damage = opened(path)
    except InputError as error:
        return problem_card(str(error)), gr.skip()
    visitor.open(model)
    known = escape(listed(model.classes, most=8))
    warning = problem_card(damage) if damage else ""
    return (
        f'{warning}<p class="hs-card hs-hint" role="status">Opened: it knows {known}. Test it in the fourth step. To '
        "teach it more, choose images in the first step, those of a new class too, and press Train: it learns on.</p>",
        Path(path).name.removesuffix(SUFFIX)[:LONGEST],
    )


def script(visitor: Visitor) -> str:
    """What was just learned as a script of plain PyTorch, for reading; or why there is none, as a comment."""
    if visitor.trained is None:
        return f"# {NOTHING}"
    try:
        return eject(visitor.trained.model, _fitting_images(visitor))
    except InputError as error:
        return f"# {error}"


def stem_of(name: str) -> str:
    """A name as a file's, whatever somebody has typed."""
    return re.sub(r"[^\w-]+", " ", name).strip(" -")[:LONGEST] or NAMED


def _make(visitor: Visitor, way: str, name: str, along: bool) -> tuple[Path, str]:
    known = _fitting_images(visitor)
    return WAYS[way].make(visitor.trained.model, visitor.room(), stem_of(name), known if along else None, known)


def _images(visitor: Visitor) -> LabelledImages | None:
    """The images that the model learned from, while they are there."""
    lesson = visitor.job.lesson if visitor.job else None
    return lesson.images if lesson else visitor.images


def _fitting_images(visitor: Visitor) -> LabelledImages | None:
    images = _images(visitor)
    return images if images and set(images.classes) == set(visitor.trained.model.classes) else None


def _card(trained: Trained) -> str:
    model, record = trained.model, trained.model.record
    row = find(model.backbone)
    weights = f"{head_title(model)}, {count(head_weights(model), 'weight')}"
    stages = trained.learned
    facts = {
        "Backbone": f"{title(model.backbone)}; its weights come under {terms(row)}",
        "Head": weights,
        "Classes": listed(model.classes, most=12),
        "Learned": f"the head and the stages {listed(stages)}" if stages else "the head",
        "Accuracy": told(record.result) if record else "nothing is known of it",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f'<dl class="hs-card hs-facts">{rows}</dl>'


def _bundle(model: Classifier, room: Path, stem: str, along: LabelledImages | None, _: object) -> tuple[Path, str]:
    path = room / f"{stem}{SUFFIX}"
    return path, save(model, path, along).sentence


def _onnx(model: Classifier, room: Path, stem: str, along: LabelledImages | None, _: object) -> tuple[Path, str]:
    kit, path = onnx_kit(model, stem, along), room / f"{stem}-onnx.zip"
    write(path, kit.zipped())
    return path, kit.proof.sentence


def _space(model: Classifier, room: Path, stem: str, along: LabelledImages | None, _: object) -> tuple[Path, str]:
    kit, path = space(model, stem, along), room / f"{stem}-space.zip"
    write(path, kit.zipped())
    return path, kit.proof.sentence


def _program(model: Classifier, room: Path, stem: str, *_: object) -> tuple[Path, str]:
    path = room / f"{stem}.pt2"
    return path, export_program(model, path).sentence


def _script(model: Classifier, room: Path, stem: str, _: object, learned: LabelledImages | None) -> tuple[Path, str]:
    path = room / f"{stem}.py"
    write(path, eject(model, learned).encode())
    return path, "It wants a folder with one sub-folder for each class, and PyTorch; nothing of headswap."


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "headswap": Way("The model", "One file to open here again, to test it, to teach it more.", _bundle),
        "onnx": Way(
            "For other programs",
            "ONNX with code for Python and for a browser, which checks itself when it is run.",
            _onnx,
        ),
        "script": Way(
            "The lesson", "A readable script of plain PyTorch that does once more what this page did.", _script
        ),
        "space": Way("A page of its own", "A folder for a Hugging Face Space: drop an image, see what it is.", _space),
        "program": Way("For PyTorch alone", "A .pt2 program: torch.export.load, no code of ours.", _program),
    }
)
