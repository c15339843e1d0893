"""Row of held-out images, each of which can be clicked to be predicted. Knows no step."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import chain, zip_longest
from pathlib import Path

import gradio as gr

from headswap.common.text import join_names
from headswap.data.dataset import LabelledImages
from headswap.ui.panels.browser_events import SampleClick
from headswap.ui.panels.scripted_html import build_scripted_html
from headswap.ui.sessions.session import Session
from headswap.ui.views.html import make_thumbnail_url

MAX_SAMPLES = 6


@dataclass(frozen=True)
class Sample:
    """A held-out image.

    Attributes:
        label: Its labels, in words.
        path: Its file.
    """

    label: str
    path: Path


def build(elem_id: str) -> gr.HTML:
    """Build the row; its ``submit`` event carries what ``parse_sample_click`` parses."""
    return build_scripted_html("asking.js", elem_id)


def render_samples(session: Session) -> str:
    """The row for this session; empty where the current model has no held-out images."""
    images = session.held_out_images
    if images is None:
        return ""
    buttons = "".join(_render_sample_button(images, i) for i in _pick_indices(images))
    return (
        '<div class="hs-tries"><p>Held back from learning. <b>Press one, and see what the network says:</b></p>'
        f'<div class="hs-tries-row">{buttons}</div></div>'
    )


def find_sample(session: Session, click: SampleClick | None) -> Sample | None:
    """The image that was clicked; None where there is no such image, or no longer."""
    images = session.held_out_images
    if images is None or click is None or click.index >= len(images):
        return None
    return Sample(_label_text(images, click.index), images.paths[click.index])


def _pick_indices(images: LabelledImages) -> list[int]:
    """Indices of samples, taken from the classes in turn."""
    indices_by_class: list[list[int]] = [[] for _ in images.classes]
    for i, labels in enumerate(images.label_sets):
        indices_by_class[next(iter(labels), 0)].append(i)
    return [i for i in chain(*zip_longest(*indices_by_class)) if i is not None][:MAX_SAMPLES]


def _render_sample_button(images: LabelledImages, index: int) -> str:
    label = escape(f"Try an image of {_label_text(images, index)}")
    return (
        f'<button type="button" data-do="try" data-key="{index}" aria-label="{label}">'
        f'<img alt="" src="{make_thumbnail_url(images.pixels(index))}"></button>'
    )


def _label_text(images: LabelledImages, index: int) -> str:
    return join_names(images.label_names[index]) or "none of the labels"
