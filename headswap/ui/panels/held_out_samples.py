"""Images that were held back from learning, each to be tried with one press. Knows no step."""

from __future__ import annotations

from html import escape
from itertools import chain, zip_longest
from pathlib import Path

import gradio as gr

from headswap.common.text import join_names
from headswap.data.dataset import LabelledImages
from headswap.ui.sessions.session import Session
from headswap.ui.static.assets import read_static
from headswap.ui.views.html import make_thumbnail_url

MAX_SAMPLES = 6


def build(elem_id: str) -> gr.HTML:
    """The row; what was pressed comes with ``submit``."""
    script = read_static("asking.js")
    return gr.HTML(js_on_load=script, elem_id=elem_id, apply_default_css=False)


def render_samples(visitor: Session) -> str:
    """The row for this visitor; nothing where nothing was held back from what answers."""
    images = visitor.held_out_images
    if images is None:
        return ""
    buttons = "".join(_render_sample_button(images, place) for place in _pick_indices(images))
    return (
        '<div class="hs-tries"><p>Held back from learning. <b>Press one, and see what the network says:</b></p>'
        f'<div class="hs-tries-row">{buttons}</div></div>'
    )


def find_sample(visitor: Session, event_data: object) -> tuple[str, Path] | None:
    """What the image that was pressed shows, and where it lies; None for what no press sends."""
    images, key = visitor.held_out_images, getattr(event_data, "key", None)
    place = next((place for place in range(len(images or ())) if str(place) == key), None)
    return None if place is None else (_label_text(images, place), images.paths[place])


def _pick_indices(images: LabelledImages) -> list[int]:
    """Some of each class, in turn."""
    rows: list[list[int]] = [[] for _ in images.classes]
    for place, labels in enumerate(images.label_sets):
        rows[next(iter(labels), 0)].append(place)
    return [place for place in chain(*zip_longest(*rows)) if place is not None][:MAX_SAMPLES]


def _render_sample_button(images: LabelledImages, index: int) -> str:
    says = escape(f"Try an image of {_label_text(images, index)}")
    return (
        f'<button type="button" data-do="try" data-key="{index}" aria-label="{says}">'
        f'<img alt="" src="{make_thumbnail_url(images.pixels(index))}"></button>'
    )


def _label_text(images: LabelledImages, index: int) -> str:
    return join_names(images.label_names[index]) or "none of the labels"
