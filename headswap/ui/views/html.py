"""Small pieces of HTML that several steps show: an error in its place, a thumbnail. Knows no step."""

from __future__ import annotations

import base64
from html import escape

from torch import Tensor
from torchvision.transforms.v2 import functional as pictures

from headswap.data.decoding import encode_jpeg

THUMBNAIL_SIZE = 96  # pixels a side; drawn at half that, for sharp screens


def render_problem_card(text: str) -> str:
    """An error, where the mistake was made."""
    return f'<p class="hs-card hs-wrong hs-problem" role="alert">{escape(text)}</p>'


def make_thumbnail_url(pixels: Tensor, size: int = THUMBNAIL_SIZE) -> str:
    """A small square picture as a ``data:`` address: no file that somebody else could ask for."""
    square = pictures.resize(pictures.center_crop(pixels, [min(pixels.shape[1:])] * 2), [size, size], antialias=True)
    return to_data_url(encode_jpeg(square), "image/jpeg")


def to_data_url(content: bytes, media_type: str) -> str:
    """A ``data:`` address of this content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
