"""Within the second step: all backbones side by side, and how long this machine needs for the visitor's images.

A time is measured when it is asked for, and only once for everybody. Knows nothing of heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import gradio as gr

from headswap.common.text import count
from headswap.data.dataset import LabelledImages
from headswap.networks.catalogue import BUNDLED, Backbone, backbones, find, too_large
from headswap.training.plan import views_of
from headswap.ui.panels.help_notes import note
from headswap.ui.sessions.chosen_network import known, measured
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Visitor

OFFERED = (*BUNDLED, "resnet18", "vgg16")
MOST = 200  # million weights; larger ones would hold everybody up, and are measured only if they are chosen
COLUMNS = {
    "backbone": "150px",
    "seconds": "88px",
    "% on ImageNet": "136px",
    "million weights": "142px",
    "features": "92px",
    "pixels": "78px",
    "weights": "110px",
    "MB": "66px",
    "family": "130px",
    "licence": "220px",
}
WAITING = "Choose images in the first step; then the seconds that this machine needs for them can be measured."


@dataclass(frozen=True)
class Comparison:
    """The components."""

    opened: gr.Accordion
    table: gr.Dataframe
    measure: gr.Button
    stop: gr.Button
    told: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        """What ``show`` and ``measure`` give, in order."""
        return [self.table, self.told, self.measure, self.stop]


def build() -> Comparison:
    """The components, without events."""
    with gr.Accordion("Compare all backbones", open=False, elem_id="comparison") as opened:
        told = gr.HTML(_said(WAITING), elem_id="measured", apply_default_css=False)
        with gr.Row():
            measure = gr.Button("Measure them on this machine", interactive=False, elem_id="measure")
            stop = gr.Button("Stop measuring", interactive=False, elem_id="stop-measuring")
        table = gr.Dataframe(
            [_row(row, None) for row in backbones()],
            headers=list(COLUMNS),
            column_widths=list(COLUMNS.values()),
            interactive=False,
            label="The dots in a heading sort; press a row to choose it",
            elem_id="backbones",
            max_height=420,
        )
        note("backbones")
    return Comparison(opened, table, measure, stop, told)


def show(visitor: Visitor) -> tuple[object, ...]:
    """The table with what was measured so far; values for ``Comparison.shown``."""
    return _shown(visitor, gr.skip() if visitor.measuring else _said(_sum_of(visitor)))


def measure(visitor: Visitor, turns: Turns) -> Iterator[tuple[object, ...]]:
    """Measure one backbone after another, each in a turn, what is here first; values for ``Comparison.shown``."""
    if visitor.wanting or not visitor.measure():
        yield show(visitor)
        return
    try:
        waiting = [row.name for row in _in_order(visitor) if known(row.name) is None]
        for number, name in enumerate(waiting, 1):
            yield _shown(visitor, _said(f"Measuring {escape(name)}, {number} of {len(waiting)}."))
            if not visitor.measuring:
                break
            with turns.turn():
                measured(name)
    finally:
        visitor.measuring = False
    yield show(visitor)


def stop(visitor: Visitor) -> None:
    """Measure no further than the one that is being measured."""
    visitor.measuring = False


def reading_bound(images: LabelledImages, pace: float) -> float:
    """Seconds that it takes at most to read these images once, where a picture takes ``pace``.

    The engines that read them are up to four times faster than the network as it stands.

    Raises:
        InputError: if they cannot be split.
    """
    learned, checked = map(len, images.split())
    return (learned * views_of(learned + checked, pace) + checked) * pace


def terms(row: Backbone) -> str:
    """Under which licence a backbone's weights come, in words."""
    return (row.licence or "an unknown licence") + ", not for commercial use" * row.non_commercial


def _rows(visitor: Visitor) -> list[Backbone]:
    """The catalogue, and what the visitor has chosen beyond it."""
    rows = list(backbones())
    chosen = visitor.choice.backbone
    return rows if chosen in [row.name for row in rows] else [find(chosen), *rows]


def _in_order(visitor: Visitor) -> list[Backbone]:
    """What is measured, in its order: what is offered, what is on this machine, then the others by their size."""
    rows = [row for row in _rows(visitor) if not too_large(row) and (row.million_weights or math.inf) <= MOST]
    return sorted(rows, key=lambda row: (row.name not in OFFERED, row.needs_download, row.million_weights))


def _shown(visitor: Visitor, told: object) -> tuple[object, ...]:
    images = None if visitor.wanting else visitor.images
    return (
        [_row(row, images) for row in _rows(visitor)],
        told,
        gr.Button(interactive=images is not None and not visitor.measuring),
        gr.Button(interactive=visitor.measuring),
    )


def _said(words: str) -> str:
    return f'<p class="hs-hint" role="status" aria-live="polite">{words}</p>'


def _sum_of(visitor: Visitor) -> str:
    """What the column of seconds means, and what is not in it."""
    if visitor.wanting:
        return WAITING
    rows = _rows(visitor)
    here = sum(known(row.name) is not None for row in rows)
    left_out = len(rows) - len(_in_order(visitor))
    beyond = f" The {count(left_out, 'largest one', 'largest ones')} are measured only once chosen." if left_out else ""
    return (
        f"<b>seconds</b>: to read your {count(len(visitor.images), 'image')} once on this machine, at most. "
        f"Measured for {here} of {len(rows)}.{beyond}"
    )


def _sensible(number: float) -> float:
    return round(number, 1) if number < 10 else round(number)


def _row(row: Backbone, images: LabelledImages | None) -> list[str | float | None]:
    pace = known(row.name) if images else None
    return [
        row.name,
        None if pace is None else _sensible(reading_bound(images, pace)),
        row.accuracy and round(row.accuracy, 1),
        row.million_weights and round(row.million_weights, 1),
        row.features,
        row.side,
        ("to download" if row.needs_download else "here") if row.has_weights else "none",
        row.megabytes and round(row.megabytes),
        row.family,
        "not commercial, " * row.non_commercial + row.licence,
    ]
