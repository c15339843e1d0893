"""Renders a line chart over epochs as HTML and SVG, with phase bands and a text alternative.

Turns plain numbers into HTML and into a sentence that says the same. Colours and widths are in page.css. The lines are
an SVG that is stretched to the width of its card; all text is HTML over it, placed in per cent horizontally and in
pixels vertically, so that it keeps its size on a narrow screen. Knows no training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from headswap.common.text import format_percent

PLOT_HEIGHT = 180  # pixels, as in page.css
SVG_WIDTH = 1000  # SVG units from epoch 0 to the last epoch; the browser stretches them
LABEL_HEIGHT = 26  # pixels of two lines of text: the least distance between the centres of two labels

Point = tuple[float, float]  # (epoch, value)


@dataclass(frozen=True)
class PhaseBand:
    """A training phase as a coloured band behind the curves.

    Attributes:
        start: Epoch before the phase.
        end: Last epoch of the phase.
        label: Text above the band, such as "the last 3 stages learn too".
        state: "still" if the backbone is frozen, "learning" if some stages are not; selects the colour.
    """

    start: float
    end: float
    label: str
    state: str


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: Name at its end.
        points: (epoch, value) pairs; those that are not finite are left out.
        kind: "training", "validation" or "other0" to "other3"; selects the colour and the dashes.
    """

    label: str
    points: tuple[Point, ...]
    kind: str


@dataclass(frozen=True)
class ReferenceLine:
    """A value that the curves are compared with, as a dashed horizontal line."""

    label: str  # such as "solved at once"
    value: float


@dataclass(frozen=True)
class LineChart:
    """The content of one chart.

    Attributes:
        title: Text above the chart.
        bands: The phases that have begun, in order.
        series: The curves.
        epochs: Planned epochs of the whole run, which the x axis spans.
        is_percent: Whether values from 0 to 1 are shown in per cent; otherwise they are losses.
        marker: The kept epoch and its value.
        empty_text: Text in place of the curves while there are none.
        reference_line: A value that the curves are compared with.
        marker_text: Text beside the marker.
        x_label: Label of the x axis.
        x_ticks: (position, text) of ticks that are not epoch numbers.
        highlighted_epoch: Epoch with a vertical line.
        labels_at_right: Whether the curves' names stand at the right edge, wherever the curves end.
        alt_text: Text alternative in place of the generated one.
    """

    title: str
    bands: tuple[PhaseBand, ...]
    series: tuple[Series, ...]
    epochs: int
    is_percent: bool = False
    marker: Point | None = None
    empty_text: str = ""
    reference_line: ReferenceLine | None = None
    marker_text: str = "kept"
    x_label: str = "epoch"
    x_ticks: tuple[tuple[float, str], ...] = ()
    highlighted_epoch: float | None = None
    labels_at_right: bool = False
    alt_text: str = ""


@dataclass(frozen=True)
class _Scale:
    """Maps epochs and values to coordinates in the plot."""

    x_max: float
    y_min: float
    y_max: float
    y_step: float  # between two ticks

    def x(self, epoch: float) -> float:
        return round(SVG_WIDTH * min(1, max(0, epoch / self.x_max)), 1)

    def y(self, value: float) -> float:
        return round(PLOT_HEIGHT * (1 - (value - self.y_min) / (self.y_max - self.y_min)), 1)

    def left_percent(self, epoch: float) -> str:
        return f"{self.x(epoch) / SVG_WIDTH:.2%}"


def render_line_chart(chart: LineChart) -> str:
    """A ``<figure>`` with its title and a plot that fills the available width."""
    curves = [(series, _drop_non_finite(series.points)) for series in chart.series]
    curves = [(series, points) for series, points in curves if points]
    scale = _fit_scale(chart, [point for _, points in curves for point in points])
    lines = "".join(_render_series(series, points, scale) for series, points in curves)
    svg = (
        f'<svg viewBox="0 0 {SVG_WIDTH} {PLOT_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{_render_bands(chart, scale)}{_render_grid(scale)}{_render_reference_line(chart, scale)}{lines}"
        f"{_render_highlight(chart, scale)}</svg>"
    )
    if curves or chart.reference_line:
        words = _render_ticks(chart, scale) + _render_end_labels(chart, curves, scale) + _render_marker(chart, scale)
    else:
        words = f'<span class="hs-empty">{escape(chart.empty_text)}</span>'
    return (
        f'<figure class="hs-chart"><figcaption>{escape(chart.title)}</figcaption>'
        f'<div class="hs-plot" role="img" aria-label="{escape(describe_chart(chart))}">'
        f'{_render_phase_labels(chart, scale)}<div class="hs-field">{svg}{words}</div></div></figure>'
    )


def render_chart_row(charts: Iterable[LineChart]) -> str:
    """Charts side by side, or below each other on a narrow screen."""
    return f'<div class="hs-charts">{"".join(map(render_line_chart, charts))}</div>'


def describe_chart(chart: LineChart) -> str:
    """The latest values: "Accuracy: validation 87 % after epoch 12 of 36, training 95 %. Solved at once: 84 %."."""
    if chart.alt_text:
        return chart.alt_text
    curves = sorted(chart.series, key=lambda series: series.kind != "validation")
    latest = [(series.label, *points[-1]) for series in curves if (points := _drop_non_finite(series.points))]
    line, reference = chart.reference_line, ""
    if line:
        reference = f" {line.label.capitalize()}: {_format_value(line.value, chart.is_percent)}."
    if not latest:
        return f"{chart.title}: {chart.empty_text.rstrip('.') or 'nothing to show yet'}.{reference}"
    values, previous_epoch = [], None
    for label, epoch, value in latest:
        after = "" if epoch == previous_epoch else f" after epoch {epoch:g} of {chart.epochs}"
        values.append(f"{label} {_format_value(value, chart.is_percent)}{after}")
        previous_epoch = epoch
    kept = _drop_non_finite((chart.marker,)) if chart.marker else []
    marked = f" Kept: epoch {kept[0][0]:g}, {_format_value(kept[0][1], chart.is_percent)}." if kept else ""
    highlighted = "" if chart.highlighted_epoch is None else f" Looked at: epoch {chart.highlighted_epoch:g}."
    return f"{chart.title}: {', '.join(values)}.{reference}{marked}{highlighted}"


def round_tick_step(extent: float, max_steps: int) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that divides ``extent`` into at most ``max_steps`` steps."""
    min_step = extent / max_steps
    power = 10.0 ** math.floor(math.log10(min_step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= min_step * (1 - 1e-9))


def spread_labels(positions: list[float], min_gap: float, start: float, end: float) -> list[float]:
    """Move positions apart until neighbours are at least ``min_gap`` from each other.

    Args:
        positions: Positions in any order.
        min_gap: The least distance.
        start: The least position that is returned.
        end: The greatest position that is returned, if there is room for all of them.

    Returns:
        The moved positions in the order of ``positions``; their ranks stay the same.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    for rank, index in enumerate(order):  # increase positions where they are too close
        moved[index] = max(moved[index], moved[order[rank - 1]] + min_gap if rank else start)
    for rank, index in reversed(list(enumerate(order))):  # decrease them again where they exceed the end
        limit = moved[order[rank + 1]] - min_gap if rank + 1 < len(order) else end
        moved[index] = min(moved[index], limit)
    return moved


def _drop_non_finite(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if all(map(math.isfinite, point))]


def _fit_scale(chart: LineChart, points: list[Point]) -> _Scale:
    x_max = max([chart.epochs, 1, *(epoch for epoch, _ in points)])
    values = [value for _, value in points]
    if chart.reference_line:
        values.append(chart.reference_line.value)
    values = values or [1.0]
    if chart.is_percent:
        y_min = max(floor for floor in (0, 0.5, 0.8) if floor == 0 or floor < min(values))
        return _Scale(x_max, y_min, 1, round_tick_step(1 - y_min, 5))
    largest = max(values) if max(values) > 0 else 1.0
    step = round_tick_step(largest, 4)
    return _Scale(x_max, 0, step * math.ceil(largest / step - 1e-9), step)


def _y_tick_values(scale: _Scale) -> list[float]:
    num_steps = round((scale.y_max - scale.y_min) / scale.y_step)
    return [scale.y_min + index * scale.y_step for index in range(num_steps + 1)]


def _render_grid(scale: _Scale) -> str:
    rules = "".join(f"M0 {scale.y(value):g}h{SVG_WIDTH}" for value in _y_tick_values(scale))
    return f'<path class="hs-grid" d="{rules}"/>'


def _render_ticks(chart: LineChart, scale: _Scale) -> str:
    digits = max(0, -math.floor(math.log10(scale.y_step) + 1e-9))
    y_ticks = "".join(
        f'<span class="hs-y" style="top:{scale.y(value):g}px">'
        f"{format_percent(value) if chart.is_percent else f'{value:.{digits}f}'}</span>"
        for value in _y_tick_values(scale)
    )
    step = max(1, round(round_tick_step(scale.x_max, 6)))
    labels = chart.x_ticks or [(epoch, str(epoch)) for epoch in range(0, math.floor(scale.x_max) + 1, step)]
    x_ticks = "".join(
        f'<span class="hs-x" style="left:{scale.left_percent(position)}">{escape(label)}</span>'
        for position, label in labels
    )
    return f'{y_ticks}{x_ticks}<span class="hs-epoch">{escape(chart.x_label)}</span>'


def _render_bands(chart: LineChart, scale: _Scale) -> str:
    """The bands as rectangles, with a line where stages are unfrozen."""
    rectangles = "".join(
        f'<rect class="hs-{escape(band.state)}" x="{scale.x(band.start):g}" height="{PLOT_HEIGHT}"'
        f' width="{max(0, scale.x(band.end) - scale.x(band.start)):g}"/>'
        for band in chart.bands
    )
    unfreezing = [band for band in chart.bands if band.state == "learning" and band.start > 0]
    lines = "".join(f"M{scale.x(band.start):g} 0v{PLOT_HEIGHT}" for band in unfreezing)
    return f'{rectangles}<path class="hs-thaw" d="{lines}"/>' if lines else rectangles


def _render_phase_labels(chart: LineChart, scale: _Scale) -> str:
    """The bands' labels, each as wide as its band; page.css truncates what does not fit."""
    starts = [scale.x(band.start) for band in chart.bands]
    labels = "".join(
        f'<div class="hs-phase hs-{escape(band.state)}" style="flex-basis:{(end - start) / SVG_WIDTH:.2%}">'
        f"<span>{escape(band.label)}</span></div>"
        for band, start, end in zip(chart.bands, starts, [*starts, SVG_WIDTH][1:], strict=True)
    )
    return f'<div class="hs-phases">{labels}</div>'


def _render_reference_line(chart: LineChart, scale: _Scale) -> str:
    if chart.reference_line is None:
        return ""
    return f'<path class="hs-level" d="M0 {scale.y(chart.reference_line.value):g}h{SVG_WIDTH}"/>'


def _render_highlight(chart: LineChart, scale: _Scale) -> str:
    if chart.highlighted_epoch is None:
        return ""
    return f'<path class="hs-look" d="M{scale.x(chart.highlighted_epoch):g} 0v{PLOT_HEIGHT}"/>'


def _render_series(series: Series, points: list[Point], scale: _Scale) -> str:
    """A curve with a dot at its end; the dot is a path of almost no length, since a circle would be stretched."""
    coordinates = [f"{scale.x(epoch):g},{scale.y(value):g}" for epoch, value in points]
    kind = escape(series.kind)
    line = f'<polyline class="hs-{kind}" points="{" ".join(coordinates)}"/>'
    return f'{line}<path class="hs-{kind} hs-dot" d="M{coordinates[-1]}h.01"/>'


def _render_end_labels(chart: LineChart, curves: list[tuple[Series, list[Point]]], scale: _Scale) -> str:
    """Name and latest value of each curve at its end, and of the reference line at the right, without overlaps."""
    labels = [(series.label, series.kind, *points[-1]) for series, points in curves]
    if chart.labels_at_right:
        labels = [(label, kind, scale.x_max, value) for label, kind, _, value in labels]
    line = chart.reference_line
    reference = [(line.label, "level", scale.x_max, line.value)] if line else []
    # Only curves that end near the right edge can overlap the label of the reference line.
    may_overlap = any(scale.x(epoch) > 0.6 * SVG_WIDTH for _, _, epoch, _ in labels)
    groups = [[*labels, *reference]] if may_overlap else [labels, reference]
    tops = [
        top
        for group in groups
        for top in spread_labels([scale.y(value) for *_, value in group], LABEL_HEIGHT, 9, PLOT_HEIGHT - 13)
    ]
    return "".join(
        f'<span class="hs-end hs-{escape(kind)}" style="left:{scale.left_percent(epoch)};top:{top:g}px">{escape(label)}'
        f"{' ' if kind == 'level' else '<br/>'}{_render_legend_key(chart, kind)}"
        f"{_format_value(value, chart.is_percent)}</span>"
        for (label, kind, epoch, value), top in zip([*labels, *reference], tops, strict=True)
    )


def _render_legend_key(chart: LineChart, kind: str) -> str:
    """A piece of the curve's line before its value, if its label may be far from its end."""
    if not chart.labels_at_right or kind == "level":
        return ""
    return f'<svg class="hs-key" viewBox="0 0 24 6" aria-hidden="true"><path class="hs-{kind}" d="M0 3h24"/></svg>'


def _render_marker(chart: LineChart, scale: _Scale) -> str:
    if chart.marker is None or not _drop_non_finite((chart.marker,)):
        return ""
    epoch, value = chart.marker
    position = f"left:{scale.left_percent(epoch)};top:{scale.y(value):g}px"
    # Opposite the training curve, which lies above the validation curve for accuracy and below it for a loss.
    css_classes = "hs-word" + " hs-above" * (not chart.is_percent) + " hs-late" * (scale.x(epoch) > 0.92 * SVG_WIDTH)
    label = f'<span class="{css_classes}" style="{position}">{escape(chart.marker_text)}</span>'
    return f'<span class="hs-kept" style="{position}"></span>{label}'


def _format_value(value: float, is_percent: bool) -> str:
    if is_percent:
        return format_percent(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
