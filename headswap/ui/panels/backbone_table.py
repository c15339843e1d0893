"""Table of all backbones, with the seconds that this machine needs to read the session's images through each.

Times are measured on request, once for all sessions. Knows nothing of heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import gradio as gr
from gradio.blocks import Block

from headswap.common.text import format_count
from headswap.data.dataset import LabelledImages
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import Backbone, backbones, explain_download_refusal, find_backbone
from headswap.training.advice import choose_num_views
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.chosen_network import count_flops_per_image, get_measured_seconds, measure_seconds_per_image
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session

FEATURED_BACKBONES = (*BUNDLED, "resnet18", "vgg16")
MAX_MEASURED_MILLION_WEIGHTS = 200  # larger networks would block all others; they are measured once they are chosen
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

TableRow = list[str | float | None]


@dataclass(frozen=True)
class BackbonePanel:
    """The panel's components."""

    accordion: gr.Accordion
    table: gr.Dataframe
    measure_button: gr.Button
    stop_button: gr.Button
    status: gr.HTML

    @property
    def outputs(self) -> list[Block]:
        """The components that a ``BackbonePanelUpdate`` sets."""
        return [self.table, self.status, self.measure_button, self.stop_button]


@dataclass(frozen=True)
class BackbonePanelUpdate:
    """New values of components, by name; None leaves one as it is."""

    table: list[TableRow]
    status: str | None
    measure_button: gr.Button
    stop_button: gr.Button


def build() -> BackbonePanel:
    """Build the components, without events."""
    with gr.Accordion("Compare all backbones", open=False, elem_id="comparison") as accordion:
        status = gr.HTML(_render_status(NO_IMAGES_MESSAGE), elem_id="measured", apply_default_css=False)
        with gr.Row():
            measure_button = gr.Button("Measure them on this machine", interactive=False, elem_id="measure")
            stop_button = gr.Button("Stop measuring", interactive=False, elem_id="stop-measuring")
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
    return BackbonePanel(accordion, table, measure_button, stop_button, status)


def refresh(session: Session) -> BackbonePanelUpdate:
    """Show the times that have been measured so far."""
    return _make_update(session, None if session.is_measuring_speed else _describe_measurements(session))


def measure_backbones(session: Session, scheduler: Scheduler) -> Iterator[BackbonePanelUpdate]:
    """Measure one backbone after another, each in a compute slot of its own."""
    if session.untrainable_reason or not session.try_start_measuring():
        yield refresh(session)
        return
    try:
        names = [row.name for row in _measurable_backbones(session) if get_measured_seconds(row.name) is None]
        for number, name in enumerate(names, 1):
            yield _make_update(session, f"Measuring {escape(name)}, {number} of {len(names)}.")
            if not session.is_measuring_speed:
                break
            with scheduler.compute_slot():
                measure_seconds_per_image(name)
                count_flops_per_image(name)  # is kept, so that the table is drawn at once
    finally:
        session.is_measuring_speed = False
    yield refresh(session)


def stop_measuring(session: Session) -> None:
    """Stop after the backbone that is being measured."""
    session.is_measuring_speed = False


def max_reading_seconds(images: LabelledImages, seconds_per_image: float, flops_per_image: int) -> float:
    """Upper bound of the seconds to read all images once, with the views that training would use.

    An inference engine can be up to four times faster than the plain network that was measured.

    Args:
        images: The dataset, split as for a training.
        seconds_per_image: Measured time of one forward pass.
        flops_per_image: Its floating-point operations, by which training chooses the number of views.

    Raises:
        InputError: If the images cannot be split.
    """
    num_training, num_validation = map(len, images.split())
    num_views = choose_num_views(num_training + num_validation, flops_per_image)
    return (num_training * num_views + num_validation) * seconds_per_image


def license_text(row: Backbone) -> str:
    """The license of a backbone's weights, in words."""
    return (row.license or "an unknown licence") + ", not for commercial use" * row.is_non_commercial


def _listed_backbones(session: Session) -> list[Backbone]:
    """The catalogue, preceded by the session's backbone where the catalogue lacks it."""
    rows = list(backbones())
    chosen = session.choice.backbone
    return rows if chosen in [row.name for row in rows] else [find_backbone(chosen), *rows]


def _measurable_backbones(session: Session) -> list[Backbone]:
    """The backbones to measure: featured ones first, then those that need no download, then by size."""
    rows = [
        row
        for row in _listed_backbones(session)
        if not explain_download_refusal(row) and (row.million_weights or math.inf) <= MAX_MEASURED_MILLION_WEIGHTS
    ]
    return sorted(rows, key=lambda row: (row.name not in FEATURED_BACKBONES, row.needs_download, row.million_weights))


def _trainable_images(session: Session) -> LabelledImages | None:
    return None if session.untrainable_reason else session.images


def _make_update(session: Session, status: str | None) -> BackbonePanelUpdate:
    """All of the panel with this status, which is HTML; None leaves the status as it is."""
    images = _trainable_images(session)
    return BackbonePanelUpdate(
        table=[_table_row(row, images) for row in _listed_backbones(session)],
        status=None if status is None else _render_status(status),
        measure_button=gr.Button(interactive=images is not None and not session.is_measuring_speed),
        stop_button=gr.Button(interactive=session.is_measuring_speed),
    )


def _render_status(html: str) -> str:
    return f'<p class="hs-hint" role="status" aria-live="polite">{html}</p>'


def _describe_measurements(session: Session) -> str:
    """What the column of seconds means, and which backbones it leaves out."""
    images = _trainable_images(session)
    if images is None:
        return NO_IMAGES_MESSAGE
    rows = _listed_backbones(session)
    num_measured = sum(get_measured_seconds(row.name) is not None for row in rows)
    num_left_out = len(rows) - len(_measurable_backbones(session))
    left_out = (
        f" The {format_count(num_left_out, 'largest one', 'largest ones')} are measured only once chosen."
        if num_left_out
        else ""
    )
    return (
        f"<b>seconds</b>: to read your {format_count(len(images), 'image')} once on this machine, at most. "
        f"Measured for {num_measured} of {len(rows)}.{left_out}"
    )


def _round_seconds(seconds: float) -> float:
    return round(seconds, 1) if seconds < 10 else round(seconds)


def _table_row(row: Backbone, images: LabelledImages | None) -> TableRow:
    """The cells of a backbone, by ``COLUMN_WIDTHS``; without images its seconds stay empty."""
    seconds_per_image = get_measured_seconds(row.name)
    seconds = None
    if images is not None and seconds_per_image is not None:
        seconds = _round_seconds(max_reading_seconds(images, seconds_per_image, count_flops_per_image(row.name)))
    return [
        row.name,
        seconds,
        row.accuracy and round(row.accuracy, 1),
        row.million_weights and round(row.million_weights, 1),
        row.features,
        row.input_size,
        ("to download" if row.needs_download else "here") if row.has_weights else "none",
        row.megabytes and round(row.megabytes),
        row.family,
        "not commercial, " * row.is_non_commercial + row.license,
    ]
