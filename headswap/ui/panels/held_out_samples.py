"""Images that were held back from learning, each to be tried with one press. Knows no step."""

from __future__ import annotations

from html import escape
from itertools import chain, zip_longest
from pathlib import Path

import gradio as gr

from headswap.common.text import listed
from headswap.data.dataset import LabelledImages
from headswap.ui.sessions.session import Visitor
from headswap.ui.static.assets import read_static
from headswap.ui.views.html import thumbnail

OFFERED = 6


def build(elem_id: str) -> gr.HTML:
    """The row; what was pressed comes with ``submit``."""
    script = read_static("asking.js")
    return gr.HTML(js_on_load=script, elem_id=elem_id, apply_default_css=False)


def offered(visitor: Visitor) -> str:
    """The row for this visitor; nothing where nothing was held back from what answers."""
    images = visitor.held_back
    if images is None:
        return ""
    buttons = "".join(_button(images, place) for place in _spread(images))
    return (
        '<div class="hs-tries"><p>Held back from learning. <b>Press one, and see what the network says:</b></p>'
        f'<div class="hs-tries-row">{buttons}</div></div>'
    )


def pressed(visitor: Visitor, sent: object) -> tuple[str, Path] | None:
    """What the image that was pressed shows, and where it lies; None for what no press sends."""
    images, key = visitor.held_back, getattr(sent, "key", None)
    place = next((place for place in range(len(images or ())) if str(place) == key), None)
    return None if place is None else (_shows(images, place), images.paths[place])


def _spread(images: LabelledImages) -> list[int]:
    """Some of each class, in turn."""
    rows: list[list[int]] = [[] for _ in images.classes]
    for place, labels in enumerate(images.shown):
        rows[next(iter(labels), 0)].append(place)
    return [place for place in chain(*zip_longest(*rows)) if place is not None][:OFFERED]


def _button(images: LabelledImages, place: int) -> str:
    says = escape(f"Try an image of {_shows(images, place)}")
    return (
        f'<button type="button" data-do="try" data-key="{place}" aria-label="{says}">'
        f'<img alt="" src="{thumbnail(images.pixels(place))}"></button>'
    )


def _shows(images: LabelledImages, place: int) -> str:
    return listed(images.named[place]) or "none of the labels"
