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

HEIGHT = 180  # of the plot in pixels, as in page.css
ACROSS = 1000  # the SVG's own units from the first epoch to the last; the browser stretches them
Place = tuple[float, float]  # (epoch, value)
LABEL = 26  # two lines of text in pixels: what two curves' labels need between their middles


@dataclass(frozen=True)
class Band:
    """A phase: from one epoch to another."""

    start: float
    end: float
    label: str  # "the last 3 stages learn too"
    state: str  # "still" or "learning": the phase's colour


@dataclass(frozen=True)
class Series:
    """One curve; a figure that is not finite is left out."""

    label: str
    points: tuple[Place, ...]
    kind: str  # "training" is grey and dotted, "validation" solid violet


@dataclass(frozen=True)
class Level:
    """A figure that the curves are measured against: a dashed line across the whole chart."""

    label: str  # "solved at once"
    value: float


@dataclass(frozen=True)
class Chart:
    """What one card shows."""

    title: str
    bands: tuple[Band, ...]
    series: tuple[Series, ...]
    epochs: int  # of the whole run as planned: how far the chart reaches
    percent: bool = False  # values from 0 to 1, shown in per cent; otherwise a loss
    marker: Place | None = None  # the kept epoch and its value
    empty: str = ""  # said in place of curves while there are none
    level: Level | None = None
    mark: str = "kept"
    across: str = "epoch"
    names: tuple[tuple[float, str], ...] = ()  # of places across, where they are no epochs
    look: float | None = None  # an epoch that is looked at: a line down the chart
    aligned: bool = False  # the curves' names stand below each other at the right, wherever the curves end
    said: str = ""  # the sentence that says the same, where the usual one does not fit


@dataclass(frozen=True)
class _Scale:
    """From epochs and values to places in the plot."""

    end: float  # the last epoch
    low: float
    high: float
    step: float  # between two ticks of the value

    def x(self, epoch: float) -> float:
        return round(ACROSS * min(1, max(0, epoch / self.end)), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT * (1 - (value - self.low) / (self.high - self.low)), 1)

    def left(self, epoch: float) -> str:
        return f"{self.x(epoch) / ACROSS:.2%}"


def draw(chart: Chart) -> str:
    """The card: a figure with its title, and a plot that fills the width it is given."""
    curves = [(series, _finite(series.points)) for series in chart.series]
    curves = [(series, points) for series, points in curves if points]
    scale = _scale(chart, [point for _, points in curves for point in points])
    lines = "".join(_line(series, points, scale) for series, points in curves)
    svg = (
        f'<svg viewBox="0 0 {ACROSS} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f"{_bands(chart, scale)}{_grid(scale)}{_level(chart, scale)}{lines}{_look(chart, scale)}</svg>"
    )
    if curves or chart.level:
        words = _ticks(chart, scale) + _ends(chart, curves, scale) + _kept(chart, scale)
    else:
        words = f'<span class="hs-empty">{escape(chart.empty)}</span>'
    return (
        f'<figure class="hs-chart"><figcaption>{escape(chart.title)}</figcaption>'
        f'<div class="hs-plot" role="img" aria-label="{escape(describe(chart))}">'
        f'{_phases(chart, scale)}<div class="hs-field">{svg}{words}</div></div></figure>'
    )


def describe(chart: Chart) -> str:
    """The latest figures: "Accuracy: validation 87 % after epoch 12 of 36, training 95 %. Solved at once: 84 %."."""
    if chart.said:
        return chart.said
    curves = sorted(chart.series, key=lambda series: series.kind != "validation")
    latest = [(series.label, *points[-1]) for series in curves if (points := _finite(series.points))]
    level = f" {chart.level.label.capitalize()}: {_figure(chart.level.value, chart.percent)}." if chart.level else ""
    if not latest:
        return f"{chart.title}: {chart.empty.rstrip('.') or 'nothing to show yet'}.{level}"
    said, when = [], None
    for label, epoch, value in latest:
        after = "" if epoch == when else f" after epoch {epoch:g} of {chart.epochs}"
        said.append(f"{label} {_figure(value, chart.percent)}{after}")
        when = epoch
    kept = chart.marker and _finite((chart.marker,))
    noted = f" Kept: epoch {kept[0][0]:g}, {_figure(kept[0][1], chart.percent)}." if kept else ""
    looked = "" if chart.look is None else f" Looked at: epoch {chart.look:g}."
    return f"{chart.title}: {', '.join(said)}.{level}{noted}{looked}"


def round_step(extent: float, most: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `extent` into at most `most` steps."""
    least = extent / most
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * lead for lead in (1, 2, 5, 10) if power * lead >= least * (1 - 1e-9))


def spread(places: list[float], apart: float, start: float, end: float) -> list[float]:
    """The places between `start` and `end`, in their order, pushed until they are `apart` from each other."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for rank, index in enumerate(order):  # downwards, never above the one before
        moved[index] = max(moved[index], moved[order[rank - 1]] + apart if rank else start)
    for rank, index in reversed(list(enumerate(order))):  # and back up where the bottom was passed
        limit = moved[order[rank + 1]] - apart if rank + 1 < len(order) else end
        moved[index] = min(moved[index], limit)
    return moved


def _finite(points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    return [point for point in points if all(map(math.isfinite, point))]


def _scale(chart: Chart, points: list[tuple[float, float]]) -> _Scale:
    end = max([chart.epochs, 1, *(epoch for epoch, _ in points)])
    values = [value for _, value in points] + ([chart.level.value] if chart.level else []) or [1.0]
    if chart.percent:
        low = max(floor for floor in (0, 0.5, 0.8) if floor == 0 or floor < min(values))
        return _Scale(end, low, 1, round_step(1 - low, 5))
    high = max(values) if max(values) > 0 else 1.0
    step = round_step(high, 4)
    return _Scale(end, 0, step * math.ceil(high / step - 1e-9), step)


def _values(scale: _Scale) -> list[float]:
    return [scale.low + index * scale.step for index in range(round((scale.high - scale.low) / scale.step) + 1)]


def _grid(scale: _Scale) -> str:
    rules = "".join(f"M0 {scale.y(value):g}h{ACROSS}" for value in _values(scale))
    return f'<path class="hs-grid" d="{rules}"/>'


def _ticks(chart: Chart, scale: _Scale) -> str:
    digits = max(0, -math.floor(math.log10(scale.step) + 1e-9))
    down = "".join(
        f'<span class="hs-y" style="top:{scale.y(value):g}px">'
        f"{f'{value * 100:.0f} %' if chart.percent else f'{value:.{digits}f}'}</span>"
        for value in _values(scale)
    )
    step = max(1, round(round_step(scale.end, 6)))
    names = chart.names or [(epoch, str(epoch)) for epoch in range(0, math.floor(scale.end) + 1, step)]
    across = "".join(
        f'<span class="hs-x" style="left:{scale.left(place)}">{escape(name)}</span>' for place, name in names
    )
    return f'{down}{across}<span class="hs-epoch">{escape(chart.across)}</span>'


def _bands(chart: Chart, scale: _Scale) -> str:
    rooms = "".join(
        f'<rect class="hs-{escape(band.state)}" x="{scale.x(band.start):g}" height="{HEIGHT}"'
        f' width="{max(0, scale.x(band.end) - scale.x(band.start)):g}"/>'
        for band in chart.bands
    )
    thaws = [band for band in chart.bands if band.state == "learning" and band.start > 0]
    walls = "".join(f"M{scale.x(band.start):g} 0v{HEIGHT}" for band in thaws)
    return f'{rooms}<path class="hs-thaw" d="{walls}"/>' if walls else rooms


def _phases(chart: Chart, scale: _Scale) -> str:
    """The bands' labels. Each has the room until the next one; page.css shortens what does not fit."""
    starts = [scale.x(band.start) for band in chart.bands]
    words = "".join(
        f'<div class="hs-phase hs-{escape(band.state)}" style="flex-basis:{(end - start) / ACROSS:.2%}">'
        f"<span>{escape(band.label)}</span></div>"
        for band, start, end in zip(chart.bands, starts, [*starts, ACROSS][1:], strict=True)
    )
    return f'<div class="hs-phases">{words}</div>'


def _level(chart: Chart, scale: _Scale) -> str:
    return f'<path class="hs-level" d="M0 {scale.y(chart.level.value):g}h{ACROSS}"/>' if chart.level else ""


def _look(chart: Chart, scale: _Scale) -> str:
    return "" if chart.look is None else f'<path class="hs-look" d="M{scale.x(chart.look):g} 0v{HEIGHT}"/>'


def _line(series: Series, points: list[tuple[float, float]], scale: _Scale) -> str:
    places = [f"{scale.x(epoch):g},{scale.y(value):g}" for epoch, value in points]
    kind = escape(series.kind)
    line = f'<polyline class="hs-{kind}" points="{" ".join(places)}"/>'
    return f'{line}<path class="hs-{kind} hs-dot" d="M{places[-1]}h.01"/>'


def _ends(chart: Chart, curves: list[tuple[Series, list[tuple[float, float]]]], scale: _Scale) -> str:
    """What each curve is called and where it stands, at its end, and the level at the right; clear of each other."""
    names = [(series.label, series.kind, *points[-1]) for series, points in curves]
    if chart.aligned:
        names = [(label, kind, scale.end, value) for label, kind, _, value in names]
    levels = [(chart.level.label, "level", scale.end, chart.level.value)] if chart.level else []
    # Only curves that have come far reach the margin where the level's name stands; until then it stays at its line.
    meet = any(scale.x(epoch) > 0.6 * ACROSS for _, _, epoch, _ in names)
    groups = [[*names, *levels]] if meet else [names, levels]
    tops = [top for group in groups for top in spread([scale.y(v) for *_, v in group], LABEL, 9, HEIGHT - 13)]
    return "".join(
        f'<span class="hs-end hs-{escape(kind)}" style="left:{scale.left(epoch)};top:{top:g}px">'
        f"{escape(label)}{' ' if kind == 'level' else '<br/>'}{_key(chart, kind)}{_figure(value, chart.percent)}</span>"
        for (label, kind, epoch, value), top in zip([*names, *levels], tops, strict=True)
    )


def _key(chart: Chart, kind: str) -> str:
    """A bit of the curve before its figure, where its name does not stand at its end."""
    if not chart.aligned or kind == "level":
        return ""
    return f'<svg class="hs-key" viewBox="0 0 24 6" aria-hidden="true"><path class="hs-{kind}" d="M0 3h24"/></svg>'


def _kept(chart: Chart, scale: _Scale) -> str:
    if chart.marker is None or not _finite((chart.marker,)):
        return ""
    epoch, value = chart.marker
    place = f"left:{scale.left(epoch)};top:{scale.y(value):g}px"
    # The training curve runs above validation in accuracy, below it in loss: the word takes the other side.
    looks = "hs-word" + " hs-above" * (not chart.percent) + " hs-late" * (scale.x(epoch) > 0.92 * ACROSS)
    word = f'<span class="{looks}" style="{place}">{escape(chart.mark)}</span>'
    return f'<span class="hs-kept" style="{place}"></span>{word}'


def _figure(value: float, percent: bool) -> str:
    if percent:
        return f"{value * 100:.0f} %"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _demo() -> dict[str, str]:
    head, thaw = "the head learns", "the last 3 stages learn too"
    chance = random.Random(0)

    def curve(label: str, kind: str, until: int, best: float, first: float, pace: float) -> Series:
        noise = [0.012 * (best + first) * chance.uniform(-1, 1) for _ in range(until + 1)]
        value = [best + (first - best) * math.exp(-epoch / pace) for epoch in range(until + 1)]
        return Series(label, tuple(enumerate(map(sum, zip(value, noise, strict=True)))), kind)

    def pair(
        until: int, epochs: int, bands: tuple[Band, ...], kept: int | None = None, gap: float = 1.0, **more
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
        cards = draw(
            Chart("Loss", bands, loss, epochs, marker=marks[0], empty="The curve appears when you press Train")
        )
        cards += draw(Chart("Accuracy", bands, right, epochs, percent=True, marker=marks[1], **more))
        return f'<div class="hs-charts">{cards}</div>'

    def two(thawed: float, end: float) -> tuple[Band, ...]:
        return (Band(0, thawed, head, "still"), Band(thawed, end, thaw, "learning"))

    gradual = tuple(Band(at, at + 8, f"the last {at // 8} stages learn too", "learning") for at in (8, 16, 24, 32))
    empty = [
        Chart("Loss", (), (), 36, empty="The curve appears when you press Train"),
        Chart("Accuracy", (), (), 36, percent=True, empty="The curve appears when you press Train"),
    ]
    solved = Chart("Accuracy", two(0, 0)[:1], (), 36, percent=True, level=Level("solved at once", 0.84))
    alone = [
        Chart(title, two(20, 36), (curve("training", "training", 36, best, first, 5),), 36, percent=title != "Loss")
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
        "Nothing yet": f'<div class="hs-charts">{"".join(map(draw, empty))}</div>',
        "One point": pair(0, 36, (Band(0, 36, head, "still"),)),
        "Mid-run": pair(28, 36, two(20, 28)),
        "Finished, kept epoch 31": pair(36, 36, two(20, 36), 31),
        "Finished, kept the last epoch, colliding ends": pair(36, 36, two(20, 36), 36, gap=0.05),
        "Against a head solved at once, before the first epoch": f'<div class="hs-charts">{draw(solved)}</div>',
        "Against a head solved at once, on the way": pair(12, 36, two(12, 12)[:1], level=Level("solved at once", 0.84)),
        "Against a head solved at once, mid-run": pair(28, 36, two(20, 28), level=Level("solved at once", 0.84)),
        "Against one that is better, ended": pair(36, 36, two(20, 36), 31, level=Level("solved at once", 0.88)),
        "Learning from all images": f'<div class="hs-charts">{"".join(map(draw, alone))}</div>',
        "A narrow last band": pair(40, 40, two(36, 40)),
        "A narrow first band, 200 epochs": pair(200, 200, two(4, 200), 150),
        "Gradual": pair(40, 40, (Band(0, 8, head, "still"), *gradual), 33),
        "An epoch looked at": pair(36, 36, two(20, 36), 31, look=12),
        "Several runs": draw(Chart("Accuracy", (), (*raced, dot), 40, percent=True, aligned=True)),
        "Accurate from the start": draw(Chart("Accuracy", (), (steep,), 4, percent=True, marker=(3, 0.95))),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(theme.gallery(_demo()), encoding="utf-8")
