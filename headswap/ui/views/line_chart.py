"""A chart of a run: curves over epochs, with the phases as bands of colour behind them.

Turns plain figures into HTML and into a sentence that says the same. Knows no training, no Gradio and no
file; its colours and widths are in page.css. The lines are an SVG that stretches with the card; every text is
HTML beside it, placed in per cent across and in pixels down, so a phone shows it no smaller than a desk.

`python -m headswap.ui.views.line_chart out.html` writes it in all its moods.
"""

import math
import random
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

from headswap.ui.views import theme

PLOT_HEIGHT = 180  # of the plot in pixels, as in page.css
SVG_WIDTH = 1000  # the SVG's own units from the first epoch to the last; the browser stretches them
Point = tuple[float, float]  # (epoch, value)
LABEL_HEIGHT = 26  # two lines of text in pixels: what two curves' labels need between their middles


@dataclass(frozen=True)
class PhaseBand:
    """A phase: from one epoch to another."""

    start: float
    end: float
    label: str  # "the last 3 stages learn too"
    state: str  # "still" or "learning": the phase's colour


@dataclass(frozen=True)
class Series:
    """One curve; a figure that is not finite is left out."""

    label: str
    points: tuple[Point, ...]
    kind: str  # "training" is grey and dotted, "validation" solid violet


@dataclass(frozen=True)
class ReferenceLine:
    """A figure that the curves are measured against: a dashed line across the whole chart."""

    label: str  # "solved at once"
    value: float


@dataclass(frozen=True)
class LineChart:
    """What one card shows."""

    title: str
    bands: tuple[PhaseBand, ...]
    series: tuple[Series, ...]
    epochs: int  # of the whole run as planned: how far the chart reaches
    is_percent: bool = False  # values from 0 to 1, shown in per cent; otherwise a loss
    marker: Point | None = None  # the kept epoch and its value
    empty_text: str = ""  # said in place of curves while there are none
    reference_line: ReferenceLine | None = None
    marker_text: str = "kept"
    x_label: str = "epoch"
    x_ticks: tuple[tuple[float, str], ...] = ()  # of places across, where they are no epochs
    highlighted_epoch: float | None = None  # an epoch that is looked at: a line down the chart
    labels_at_right: bool = False  # the curves' names stand below each other at the right, wherever the curves end
    alt_text: str = ""  # the sentence that says the same, where the usual one does not fit


@dataclass(frozen=True)
class _Scale:
    """From epochs and values to places in the plot."""

    x_max: float  # the last epoch
    y_min: float
    y_max: float
    y_step: float  # between two ticks of the value

    def x(self, epoch: float) -> float:
        return round(SVG_WIDTH * min(1, max(0, epoch / self.x_max)), 1)

    def y(self, value: float) -> float:
        return round(PLOT_HEIGHT * (1 - (value - self.y_min) / (self.y_max - self.y_min)), 1)

    def left_percent(self, epoch: float) -> str:
        return f"{self.x(epoch) / SVG_WIDTH:.2%}"


def render_line_chart(chart: LineChart) -> str:
    """The card: a figure with its title, and a plot that fills the width it is given."""
    curves = [(series, _drop_non_finite(series.points)) for series in chart.series]
    curves = [(series, points) for series, points in curves if points]
    scale = _fit_scale(chart, [point for _, points in curves for point in points])
    lines = "".join(_render_series(series, points, scale) for series, points in curves)
    svg = (
        f'<svg viewBox="0 0 {SVG_WIDTH} {PLOT_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{_render_bands(chart, scale)}{_render_grid(scale)}{_render_reference_line(chart, scale)}{lines}{_render_highlight(chart, scale)}</svg>"
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


def describe_chart(chart: LineChart) -> str:
    """The latest figures: "Accuracy: validation 87 % after epoch 12 of 36, training 95 %. Solved at once: 84 %."."""
    if chart.alt_text:
        return chart.alt_text
    curves = sorted(chart.series, key=lambda series: series.kind != "validation")
    latest = [(series.label, *points[-1]) for series in curves if (points := _drop_non_finite(series.points))]
    level = (
        f" {chart.reference_line.label.capitalize()}: {_format_value(chart.reference_line.value, chart.is_percent)}."
        if chart.reference_line
        else ""
    )
    if not latest:
        return f"{chart.title}: {chart.empty_text.rstrip('.') or 'nothing to show yet'}.{level}"
    said, when = [], None
    for label, epoch, value in latest:
        after = "" if epoch == when else f" after epoch {epoch:g} of {chart.epochs}"
        said.append(f"{label} {_format_value(value, chart.is_percent)}{after}")
        when = epoch
    kept = chart.marker and _drop_non_finite((chart.marker,))
    noted = f" Kept: epoch {kept[0][0]:g}, {_format_value(kept[0][1], chart.is_percent)}." if kept else ""
    looked = "" if chart.highlighted_epoch is None else f" Looked at: epoch {chart.highlighted_epoch:g}."
    return f"{chart.title}: {', '.join(said)}.{level}{noted}{looked}"


def round_tick_step(extent: float, max_steps: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `extent` into at most `most` steps."""
    least = extent / max_steps
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * lead for lead in (1, 2, 5, 10) if power * lead >= least * (1 - 1e-9))


def spread_labels(positions: list[float], min_gap: float, start: float, end: float) -> list[float]:
    """The places between `start` and `end`, in their order, pushed until they are `apart` from each other."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    for rank, index in enumerate(order):  # downwards, never above the one before
        moved[index] = max(moved[index], moved[order[rank - 1]] + min_gap if rank else start)
    for rank, index in reversed(list(enumerate(order))):  # and back up where the bottom was passed
        limit = moved[order[rank + 1]] - min_gap if rank + 1 < len(order) else end
        moved[index] = min(moved[index], limit)
    return moved


def _drop_non_finite(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    return [point for point in points if all(map(math.isfinite, point))]


def _fit_scale(chart: LineChart, points: list[tuple[float, float]]) -> _Scale:
    end = max([chart.epochs, 1, *(epoch for epoch, _ in points)])
    values = [value for _, value in points] + ([chart.reference_line.value] if chart.reference_line else []) or [1.0]
    if chart.is_percent:
        low = max(floor for floor in (0, 0.5, 0.8) if floor == 0 or floor < min(values))
        return _Scale(end, low, 1, round_tick_step(1 - low, 5))
    high = max(values) if max(values) > 0 else 1.0
    step = round_tick_step(high, 4)
    return _Scale(end, 0, step * math.ceil(high / step - 1e-9), step)


def _y_tick_values(scale: _Scale) -> list[float]:
    return [
        scale.y_min + index * scale.y_step for index in range(round((scale.y_max - scale.y_min) / scale.y_step) + 1)
    ]


def _render_grid(scale: _Scale) -> str:
    rules = "".join(f"M0 {scale.y(value):g}h{SVG_WIDTH}" for value in _y_tick_values(scale))
    return f'<path class="hs-grid" d="{rules}"/>'


def _render_ticks(chart: LineChart, scale: _Scale) -> str:
    digits = max(0, -math.floor(math.log10(scale.y_step) + 1e-9))
    down = "".join(
        f'<span class="hs-y" style="top:{scale.y(value):g}px">'
        f"{f'{value * 100:.0f} %' if chart.is_percent else f'{value:.{digits}f}'}</span>"
        for value in _y_tick_values(scale)
    )
    step = max(1, round(round_tick_step(scale.x_max, 6)))
    names = chart.x_ticks or [(epoch, str(epoch)) for epoch in range(0, math.floor(scale.x_max) + 1, step)]
    across = "".join(
        f'<span class="hs-x" style="left:{scale.left_percent(place)}">{escape(name)}</span>' for place, name in names
    )
    return f'{down}{across}<span class="hs-epoch">{escape(chart.x_label)}</span>'


def _render_bands(chart: LineChart, scale: _Scale) -> str:
    rooms = "".join(
        f'<rect class="hs-{escape(band.state)}" x="{scale.x(band.start):g}" height="{PLOT_HEIGHT}"'
        f' width="{max(0, scale.x(band.end) - scale.x(band.start)):g}"/>'
        for band in chart.bands
    )
    thaws = [band for band in chart.bands if band.state == "learning" and band.start > 0]
    walls = "".join(f"M{scale.x(band.start):g} 0v{PLOT_HEIGHT}" for band in thaws)
    return f'{rooms}<path class="hs-thaw" d="{walls}"/>' if walls else rooms


def _render_phase_labels(chart: LineChart, scale: _Scale) -> str:
    """The bands' labels. Each has the room until the next one; page.css shortens what does not fit."""
    starts = [scale.x(band.start) for band in chart.bands]
    words = "".join(
        f'<div class="hs-phase hs-{escape(band.state)}" style="flex-basis:{(end - start) / SVG_WIDTH:.2%}">'
        f"<span>{escape(band.label)}</span></div>"
        for band, start, end in zip(chart.bands, starts, [*starts, SVG_WIDTH][1:], strict=True)
    )
    return f'<div class="hs-phases">{words}</div>'


def _render_reference_line(chart: LineChart, scale: _Scale) -> str:
    return (
        f'<path class="hs-level" d="M0 {scale.y(chart.reference_line.value):g}h{SVG_WIDTH}"/>'
        if chart.reference_line
        else ""
    )


def _render_highlight(chart: LineChart, scale: _Scale) -> str:
    return (
        ""
        if chart.highlighted_epoch is None
        else f'<path class="hs-look" d="M{scale.x(chart.highlighted_epoch):g} 0v{PLOT_HEIGHT}"/>'
    )


def _render_series(series: Series, points: list[tuple[float, float]], scale: _Scale) -> str:
    places = [f"{scale.x(epoch):g},{scale.y(value):g}" for epoch, value in points]
    kind = escape(series.kind)
    line = f'<polyline class="hs-{kind}" points="{" ".join(places)}"/>'
    return f'{line}<path class="hs-{kind} hs-dot" d="M{places[-1]}h.01"/>'


def _render_end_labels(chart: LineChart, curves: list[tuple[Series, list[tuple[float, float]]]], scale: _Scale) -> str:
    """What each curve is called and where it stands, at its end, and the level at the right; clear of each other."""
    names = [(series.label, series.kind, *points[-1]) for series, points in curves]
    if chart.labels_at_right:
        names = [(label, kind, scale.x_max, value) for label, kind, _, value in names]
    levels = (
        [(chart.reference_line.label, "level", scale.x_max, chart.reference_line.value)] if chart.reference_line else []
    )
    # Only curves that have come far reach the margin where the level's name stands; until then it stays at its line.
    meet = any(scale.x(epoch) > 0.6 * SVG_WIDTH for _, _, epoch, _ in names)
    groups = [[*names, *levels]] if meet else [names, levels]
    tops = [
        top
        for group in groups
        for top in spread_labels([scale.y(v) for *_, v in group], LABEL_HEIGHT, 9, PLOT_HEIGHT - 13)
    ]
    return "".join(
        f'<span class="hs-end hs-{escape(kind)}" style="left:{scale.left_percent(epoch)};top:{top:g}px">'
        f"{escape(label)}{' ' if kind == 'level' else '<br/>'}{_render_legend_key(chart, kind)}{_format_value(value, chart.is_percent)}</span>"
        for (label, kind, epoch, value), top in zip([*names, *levels], tops, strict=True)
    )


def _render_legend_key(chart: LineChart, kind: str) -> str:
    """A bit of the curve before its figure, where its name does not stand at its end."""
    if not chart.labels_at_right or kind == "reference_line":
        return ""
    return f'<svg class="hs-key" viewBox="0 0 24 6" aria-hidden="true"><path class="hs-{kind}" d="M0 3h24"/></svg>'


def _render_marker(chart: LineChart, scale: _Scale) -> str:
    if chart.marker is None or not _drop_non_finite((chart.marker,)):
        return ""
    epoch, value = chart.marker
    place = f"left:{scale.left_percent(epoch)};top:{scale.y(value):g}px"
    # The training curve runs above validation in accuracy, below it in loss: the word takes the other side.
    looks = "hs-word" + " hs-above" * (not chart.is_percent) + " hs-late" * (scale.x(epoch) > 0.92 * SVG_WIDTH)
    word = f'<span class="{looks}" style="{place}">{escape(chart.marker_text)}</span>'
    return f'<span class="hs-kept" style="{place}"></span>{word}'


def _format_value(value: float, percent: bool) -> str:
    if percent:
        return f"{value * 100:.0f} %"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _demo_charts() -> dict[str, str]:
    head, thaw = "the head learns", "the last 3 stages learn too"
    chance = random.Random(0)

    def curve(label: str, kind: str, until: int, best: float, first: float, pace: float) -> Series:
        noise = [0.012 * (best + first) * chance.uniform(-1, 1) for _ in range(until + 1)]
        value = [best + (first - best) * math.exp(-epoch / pace) for epoch in range(until + 1)]
        return Series(label, tuple(enumerate(map(sum, zip(value, noise, strict=True)))), kind)

    def pair(
        until: int, epochs: int, bands: tuple[PhaseBand, ...], kept: int | None = None, gap: float = 1.0, **more
    ) -> str:
        loss = (
            curve("training", "training", until, 0.31 - 0.27 * gap, 1.05, 5),
            curve("validation", "validation", until, 0.31, 1.27, 6),
        )
        right = (
            curve("training", "training", until, 0.87 + 0.1 * gap, 0.36, 5),
            curve("validation", "validation", until, 0.87, 0.27, 6),
        )
        marks = [None if kept is None else series[1].points[kept] for series in (loss, right)]
        cards = render_line_chart(
            LineChart("Loss", bands, loss, epochs, marker=marks[0], empty_text="The curve appears when you press Train")
        )
        cards += render_line_chart(
            LineChart("Accuracy", bands, right, epochs, is_percent=True, marker=marks[1], **more)
        )
        return f'<div class="hs-charts">{cards}</div>'

    def two(thawed: float, end: float) -> tuple[PhaseBand, ...]:
        return (PhaseBand(0, thawed, head, "still"), PhaseBand(thawed, end, thaw, "learning"))

    gradual = tuple(PhaseBand(at, at + 8, f"the last {at // 8} stages learn too", "learning") for at in (8, 16, 24, 32))
    empty = [
        LineChart("Loss", (), (), 36, empty_text="The curve appears when you press Train"),
        LineChart("Accuracy", (), (), 36, is_percent=True, empty_text="The curve appears when you press Train"),
    ]
    solved = LineChart(
        "Accuracy", two(0, 0)[:1], (), 36, is_percent=True, reference_line=ReferenceLine("solved at once", 0.84)
    )
    alone = [
        LineChart(
            title, two(20, 36), (curve("training", "training", 36, best, first, 5),), 36, is_percent=title != "Loss"
        )
        for title, best, first in (("Loss", 0.04, 1.05), ("Accuracy", 0.97, 0.36))
    ]
    raced = tuple(
        curve(label, kind, 40, best, 0.3, pace)
        for label, kind, best, pace in (
            ("linear", "other0", 0.84, 8),
            ("bottleneck", "validation", 0.9, 5),
            ("MLP", "other1", 0.86, 3),
            ("attention", "other2", 0.8, 12),
        )
    )
    dot = Series("LDA", ((1, 0.88),), "other3")
    steep = Series("validation", ((0, 0.91), (1, 0.93), (2, math.nan), (3, 0.95), (4, 0.94)), "validation")
    return {
        "Nothing yet": f'<div class="hs-charts">{"".join(map(render_line_chart, empty))}</div>',
        "One point": pair(0, 36, (PhaseBand(0, 36, head, "still"),)),
        "Mid-run": pair(28, 36, two(20, 28)),
        "Finished, kept epoch 31": pair(36, 36, two(20, 36), 31),
        "Finished, kept the last epoch, colliding ends": pair(36, 36, two(20, 36), 36, gap=0.05),
        "Against a head solved at once, before the first epoch": f'<div class="hs-charts">{render_line_chart(solved)}</div>',
        "Against a head solved at once, on the way": pair(
            12, 36, two(12, 12)[:1], reference_line=ReferenceLine("solved at once", 0.84)
        ),
        "Against a head solved at once, mid-run": pair(
            28, 36, two(20, 28), reference_line=ReferenceLine("solved at once", 0.84)
        ),
        "Against one that is better, ended": pair(
            36, 36, two(20, 36), 31, reference_line=ReferenceLine("solved at once", 0.88)
        ),
        "Learning from all images": f'<div class="hs-charts">{"".join(map(render_line_chart, alone))}</div>',
        "A narrow last band": pair(40, 40, two(36, 40)),
        "A narrow first band, 200 epochs": pair(200, 200, two(4, 200), 150),
        "Gradual": pair(40, 40, (PhaseBand(0, 8, head, "still"), *gradual), 33),
        "An epoch looked at": pair(36, 36, two(20, 36), 31, highlighted_epoch=12),
        "Several runs": render_line_chart(
            LineChart("Accuracy", (), (*raced, dot), 40, is_percent=True, labels_at_right=True)
        ),
        "Accurate from the start": render_line_chart(
            LineChart("Accuracy", (), (steep,), 4, is_percent=True, marker=(3, 0.95))
        ),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(theme.render_gallery(_demo_charts()), encoding="utf-8")
