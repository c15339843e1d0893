"""The first step: a folder, a zip or the sample in; what was understood of it out. Knows nothing of networks."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pictures

from headswap.errors import InputError
from headswap.images import LabelledImages
from headswap.reading import gather, load_images
from headswap.ui.picker import forget, picker, received
from headswap.ui.visitors import Visitor
from headswap.ui.wording import count, listed

SAMPLE = Path(__file__).parents[2] / "assets" / "leaves"
THUMBNAILS = 6  # for each class
MOST_THUMBNAILS = 120  # on the page
THUMBNAIL = 96  # pixels a side; drawn at half that, for sharp screens


@dataclass(frozen=True)
class ImagesStep:
    """The step's components."""

    sample: gr.Button
    picker: gr.HTML
    problem: gr.HTML
    understood: gr.HTML
    onward: gr.Button


def build() -> ImagesStep:
    """The step's components, without events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            sample = gr.Button(
                "Try the sample: 90 drawings of leaves", variant="primary", elem_id="sample", visible=SAMPLE.is_dir()
            )
            drop = picker()
            problem = gr.HTML(elem_id="images-problem", apply_default_css=False)
        with gr.Column(scale=3, min_width=300):
            understood = gr.HTML(nothing_yet(), elem_id="understood", apply_default_css=False)
            onward = gr.Button("Go on to the model", interactive=False, elem_id="onward-model")
    return ImagesStep(sample, drop, problem, understood, onward)


def load_sample(visitor: Visitor) -> tuple[Any, ...]:
    """Read the sample; returns what ``read_files`` returns."""
    return _read(visitor, lambda: load_images(SAMPLE))


def welcome(visitor: Visitor) -> tuple[Any, ...]:
    """What stands here for somebody who comes back: values for ``problem``, ``understood`` and ``onward``."""
    if visitor.images is None:
        return "", gr.skip(), gr.skip()
    return "", describe(visitor.images), gr.Button(interactive=True, variant="primary")


def read_files(visitor: Visitor, files: object) -> tuple[Any, ...]:
    """Read what the drop area sent.

    Returns:
        Values for ``problem``, ``understood`` and ``onward``. What was loaded before stays when this cannot be read.
    """
    return _read(visitor, lambda: _load(files))


def _load(files: object) -> LabelledImages:
    pairs = received(files)
    try:
        if len(pairs) == 1 and pairs[0][0].lower().endswith(".zip"):
            return load_images(pairs[0][1], name=pairs[0][0])
        return gather(pairs)
    finally:
        forget(pairs)


def _read(visitor: Visitor, load: Callable[[], LabelledImages]) -> tuple[Any, ...]:
    images = None
    try:
        images = load()
        shown = describe(images)
    except InputError as error:
        if images is not None:
            images.close()
        return problem_card(str(error)), gr.skip(), gr.skip()
    visitor.take(images)
    return "", shown, gr.Button(interactive=True, variant="primary")


def nothing_yet() -> str:
    """What stands at the right before anything was read."""
    return (
        '<div class="hs-card hs-hint"><p><b>What was understood appears here</b>: the classes, how many images each '
        "has, and what was left out and why.</p><p>A class is a folder: <code>flowers/rose/1.jpg</code> shows a rose. "
        "Twenty images a class are a good start.</p></div>"
    )


def problem_card(text: str) -> str:
    """An error, where the mistake was made."""
    return f'<p class="hs-card hs-wrong hs-problem" role="alert">{escape(text)}</p>'


def describe(images: LabelledImages) -> str:
    """What was understood, as HTML. Raises ``InputError`` where the images cannot be split."""
    learned, checked = images.split()
    each = max(1, min(THUMBNAILS, MOST_THUMBNAILS // len(images.classes)))
    rows = "".join(_row(images, label, each) for label in range(len(images.classes)))
    return (
        f'<div class="hs-understood" role="status"><p class="hs-sentence"><b>{count(len(images), "image")} in '
        f"{count(len(images.classes), 'class', 'classes')}</b>: {len(learned)} to learn from, {len(checked)} to check "
        f"on.</p><ul class='hs-classes'>{rows}</ul>{_findings(images)}</div>"
    )


def _row(images: LabelledImages, label: int, each: int) -> str:
    shown = [i for i, labels in enumerate(images.shown) if label in labels][:each]
    name = escape(images.classes[label])
    thumbnails = "".join(f'<img alt="" src="{thumbnail(images.pixels(i))}">' for i in shown)
    number = count(images.counts[images.classes[label]], "image")
    title = f"<span class='hs-class'><b>{name}</b><span>{number}</span></span>"
    return f"<li>{title}<span class='hs-thumbs'>{thumbnails}</span></li>"


def _findings(images: LabelledImages) -> str:
    report = images.report
    cards = [f"<p class='hs-card hs-finding'>{escape(note)}</p>" for note in report.notes]
    if report.skipped:
        names = "".join(f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in report.skipped[:200])
        more = f"<li>and {len(report.skipped) - 200} more</li>" if len(report.skipped) > 200 else ""
        first = listed([Path(name).name for name, _ in report.skipped], most=2)
        cards.append(
            f"<details class='hs-card hs-finding'><summary>{count(len(report.skipped), 'file')} left out: "
            f"{escape(first)}</summary><ul>{names}{more}</ul></details>"
        )
    return "".join(cards)


def thumbnail(pixels: Tensor, side: int = THUMBNAIL) -> str:
    """A small square picture as a ``data:`` address: no file that somebody else could ask for."""
    square = pictures.resize(pictures.center_crop(pixels, [min(pixels.shape[1:])] * 2), [side, side], antialias=True)
    stream = io.BytesIO()
    Image.fromarray(square.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
