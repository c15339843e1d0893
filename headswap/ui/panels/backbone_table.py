"""Within the second step: all backbones side by side, and how long this machine needs for the visitor's images.

A time is measured when it is asked for, and only once for everybody. Knows nothing of heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import gradio as gr

from headswap.common.text import format_count
from headswap.data.dataset import LabelledImages
from headswap.networks.catalogue import BUNDLED, Backbone, backbones, explain_download_refusal, find_backbone
from headswap.training.advice import choose_num_views
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.chosen_network import get_measured_seconds, measure_seconds_per_image
from headswap.ui.sessions.job import Scheduler
from headswap.ui.sessions.session import Session

FEATURED_BACKBONES = (*BUNDLED, "resnet18", "vgg16")
MAX_MEASURED_MILLION_WEIGHTS = (
    200  # million weights; larger ones would hold everybody up, and are measured only if they are chosen
)
COLUMN_WIDTHS = {
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
NO_IMAGES_MESSAGE = (
    "Choose images in the first step; then the seconds that this machine needs for them can be measured."
)


@dataclass(frozen=True)
class BackbonePanel:
    """The components."""

    accordion: gr.Accordion
    table: gr.Dataframe
    measure_button: gr.Button
    stop_button: gr.Button
    status: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What ``show`` and ``measure`` give, in order."""
        return [self.table, self.status, self.measure_button, self.stop_button]


def build() -> BackbonePanel:
    """The components, without events."""
    with gr.Accordion("Compare all backbones", open=False, elem_id="comparison") as opened:
        told = gr.HTML(_render_status(NO_IMAGES_MESSAGE), elem_id="measured", apply_default_css=False)
        with gr.Row():
            measure = gr.Button("Measure them on this machine", interactive=False, elem_id="measure")
            stop = gr.Button("Stop measuring", interactive=False, elem_id="stop-measuring")
        table = gr.Dataframe(
            [_table_row(row, None) for row in backbones()],
            headers=list(COLUMN_WIDTHS),
            column_widths=list(COLUMN_WIDTHS.values()),
            interactive=False,
            label="The dots in a heading sort; press a row to choose it",
            elem_id="backbones",
            max_height=420,
        )
        build_note("backbones")
    return BackbonePanel(opened, table, measure, stop, told)


def refresh(visitor: Session) -> tuple[object, ...]:
    """The table with what was measured so far; values for ``Comparison.shown``."""
    return _panel_outputs(visitor, gr.skip() if visitor.is_measuring_speed else _render_status(_summary_text(visitor)))


def measure_backbones(visitor: Session, scheduler: Scheduler) -> Iterator[tuple[object, ...]]:
    """Measure one backbone after another, each in a turn, what is here first; values for ``Comparison.shown``."""
    if visitor.untrainable_reason or not visitor.try_start_measuring():
        yield refresh(visitor)
        return
    try:
        waiting = [row.name for row in _measurable_backbones(visitor) if get_measured_seconds(row.name) is None]
        for number, name in enumerate(waiting, 1):
            yield _panel_outputs(visitor, _render_status(f"Measuring {escape(name)}, {number} of {len(waiting)}."))
            if not visitor.is_measuring_speed:
                break
            with scheduler.compute_slot():
                measure_seconds_per_image(name)
    finally:
        visitor.is_measuring_speed = False
    yield refresh(visitor)


def stop_measuring(visitor: Session) -> None:
    """Measure no further than the one that is being measured."""
    visitor.is_measuring_speed = False


def max_reading_seconds(images: LabelledImages, seconds_per_image: float) -> float:
    """Seconds that it takes at most to read these images once, where a picture takes ``pace``.

    The engines that read them are up to four times faster than the network as it stands.

    Raises:
        InputError: if they cannot be split.
    """
    learned, checked = map(len, images.split())
    return (learned * choose_num_views(learned + checked, seconds_per_image) + checked) * seconds_per_image


def license_text(row: Backbone) -> str:
    """Under which licence a backbone's weights come, in words."""
    return (row.license or "an unknown licence") + ", not for commercial use" * row.is_non_commercial


def _listed_backbones(visitor: Session) -> list[Backbone]:
    """The catalogue, and what the visitor has chosen beyond it."""
    rows = list(backbones())
    chosen = visitor.choice.backbone
    return rows if chosen in [row.name for row in rows] else [find_backbone(chosen), *rows]


def _measurable_backbones(visitor: Session) -> list[Backbone]:
    """What is measured, in its order: what is offered, what is on this machine, then the others by their size."""
    rows = [
        row
        for row in _listed_backbones(visitor)
        if not explain_download_refusal(row) and (row.million_weights or math.inf) <= MAX_MEASURED_MILLION_WEIGHTS
    ]
    return sorted(rows, key=lambda row: (row.name not in FEATURED_BACKBONES, row.needs_download, row.million_weights))


def _panel_outputs(visitor: Session, status: object) -> tuple[object, ...]:
    images = None if visitor.untrainable_reason else visitor.images
    return (
        [_table_row(row, images) for row in _listed_backbones(visitor)],
        status,
        gr.Button(interactive=images is not None and not visitor.is_measuring_speed),
        gr.Button(interactive=visitor.is_measuring_speed),
    )


def _render_status(words: str) -> str:
    return f'<p class="hs-hint" role="status" aria-live="polite">{words}</p>'


def _summary_text(visitor: Session) -> str:
    """What the column of seconds means, and what is not in it."""
    if visitor.untrainable_reason:
        return NO_IMAGES_MESSAGE
    rows = _listed_backbones(visitor)
    here = sum(get_measured_seconds(row.name) is not None for row in rows)
    left_out = len(rows) - len(_measurable_backbones(visitor))
    beyond = (
        f" The {format_count(left_out, 'largest one', 'largest ones')} are measured only once chosen."
        if left_out
        else ""
    )
    return (
        f"<b>seconds</b>: to read your {format_count(len(visitor.images), 'image')} once on this machine, at most. "
        f"Measured for {here} of {len(rows)}.{beyond}"
    )


def _round_seconds(number: float) -> float:
    return round(number, 1) if number < 10 else round(number)


def _table_row(row: Backbone, images: LabelledImages | None) -> list[str | float | None]:
    pace = get_measured_seconds(row.name) if images else None
    return [
        row.name,
        None if pace is None else _round_seconds(max_reading_seconds(images, pace)),
        row.accuracy and round(row.accuracy, 1),
        row.million_weights and round(row.million_weights, 1),
        row.features,
        row.input_size,
        ("to download" if row.needs_download else "here") if row.has_weights else "none",
        row.megabytes and round(row.megabytes),
        row.family,
        "not commercial, " * row.is_non_commercial + row.license,
    ]
