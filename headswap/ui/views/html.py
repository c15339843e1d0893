"""HTML helpers that several views share: cards, buttons, bars, images, data URLs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from headswap.common.text import format_percent
from headswap.data.csv_tables import format_csv
from headswap.data.decoding import encode_jpeg

THUMBNAIL_SIZE = 96  # pixels a side; drawn at half that, for high-density screens


def render_problem_card(text: str) -> str:
    """An error message as a card that screen readers announce."""
    return f'<p class="hs-card hs-wrong hs-problem" role="alert">{escape(text)}</p>'


def render_hint(text: str) -> str:
    """A hint as a card; nothing for an empty text."""
    return f'<p class="hs-card hs-hint">{escape(text)}</p>' if text else ""


def render_status(text: str) -> str:
    """A progress message that screen readers announce when it changes."""
    return f"<p class='hs-sentence' role='status' aria-live='polite'>{escape(text)}</p>"


def render_remainder(total: int, max_shown: int, description: str = "more") -> str:
    """A line such as "and 3 more" for the items beyond ``max_shown``; nothing if there are none."""
    rest = total - max_shown
    return f"<p class='hs-rest'>and {rest:,} {escape(description)}</p>" if rest > 0 else ""


def render_button(
    text: str, target: str = "", small: bool = False, expanded: bool | None = None, **data_attributes: str
) -> str:
    """A button whose ``data-`` attributes tell the page's script what a click requests.

    Args:
        text: The label.
        target: The image or class that the button acts on, for screen readers.
        small: Whether to show a cross instead of the label.
        expanded: Whether what the button opens is open; None for a button that opens nothing.
        **data_attributes: Values of the ``data-`` attributes, by name.
    """
    data = "".join(f' data-{key}="{escape(value)}"' for key, value in data_attributes.items())
    label = f' aria-label="{escape(text)}: {escape(target)}"' if target else ""
    state = f' aria-expanded="{str(expanded).lower()}"' if expanded is not None else ""
    size = " hs-small" if small else ""
    return (
        f'<button type="button" class="hs-button{size}"{label}{state}{data}>{"×" if small else escape(text)}</button>'
    )


def render_bar(
    name: str, value: float, interval: tuple[float, float] | None = None, muted: bool = False, decorative: bool = False
) -> str:
    """A horizontal bar with its name and its value in per cent.

    Args:
        name: The label at the left.
        value: The length of the bar, from 0 to 1.
        interval: Confidence interval that is drawn over the bar, as (low, high).
        muted: Whether to draw it in grey, as a baseline.
        decorative: Whether to hide it from screen readers, where a sentence beside it says the same.
    """
    likely = f'<i style="left:{interval[0]:.1%};width:{interval[1] - interval[0]:.1%}"></i>' if interval else ""
    hidden, title = (' aria-hidden="true"', "") if decorative else ("", f' title="{escape(name)}"')
    return (
        f'<div class="hs-bar-row{" hs-blind" if muted else ""}"{hidden}>'
        f'<span class="hs-bar-name"{title}>{escape(name)}</span>'
        f'<span class="hs-bar-track"><span style="width:{value:.1%}"></span>{likely}</span>'
        f'<span class="hs-bar-figure">{format_percent(value)}</span></div>'
    )


def render_image(name: str, url: str) -> str:
    """An image with its name as tooltip and as alternative text."""
    return f'<img alt="{escape(name)}" title="{escape(name)}" src="{url}">'


def render_csv_link(filename: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A link that downloads a table as a CSV file, from a data URL."""
    content = format_csv(header, rows).encode("utf-8-sig")  # with a byte order mark, by which Excel detects UTF-8
    return (
        f'<a class="hs-button" download="{filename}" href="{to_data_url(content, "text/csv")}">Download as a table</a>'
    )


def make_thumbnail_url(pixels: Tensor, size: int = THUMBNAIL_SIZE) -> str:
    """A centre-cropped square thumbnail as a data URL, so that no other session can request it as a file.

    Args:
        pixels: uint8 image of shape (3, height, width).
        size: Pixels a side.
    """
    square = F.resize(F.center_crop(pixels, [min(pixels.shape[1:])] * 2), [size, size], antialias=True)
    return to_data_url(encode_jpeg(square), "image/jpeg")


def to_data_url(content: bytes, media_type: str) -> str:
    """A ``data:`` URL with this content in Base64."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
