"""Draws the confusion matrix and the training curves of a training record as PNG files with Pillow.

The font is in the folder ``fonts`` beside this file. Matplotlib is not used: it writes a font cache into the user's
home and starts a program to find fonts, and could only be stopped by settings that change the user's own plots.

Knows nothing of Markdown and models.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

from PIL import Image, ImageDraw, ImageFont

from headswap.common.text import sanitize
from headswap.training.record import Record

FONT_PATH = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
SUPERSAMPLING = 3  # curves are drawn larger and reduced, because Pillow antialiases text only
SMALL_FONT_SIZE, FONT_SIZE, LARGE_FONT_SIZE = 11, 12, 14  # pixels
MIN_CELL_SIZE, MIN_MATRIX_WIDTH = 46, 180  # pixels
BLACK, WHITE, VIOLET, PURPLE, GREY, ORANGE, BLUE = (
    *("#000000", "#ffffff", "#6d3fc0", "#3f007d", "#64748b", "#ea7317", "#7cc4f0"),
)
MAX_NAME_LENGTH = 24
ZERO_WIDTH_JOINERS = "\u200c\u200d"  # invisible parts of words in many scripts
MAX_PLOTTED_VALUE = 1e12  # larger values are not drawn

Point = tuple[float, float]
Confusion = tuple[tuple[int, ...], ...] | tuple[tuple[tuple[int, ...], ...], ...]
Dashes = tuple[float, float]  # pixels of a dash and of the gap after it


def plot_confusion_matrix(record: Record) -> bytes:
    """Draw the confusion matrix of the held-out images.

    Args:
        record: a record whose result has a confusion matrix. With several labels it has a 2 x 2 matrix for each label,
            which becomes a row of four counts.

    Returns:
        A PNG file.
    """
    names = to_printable_names(list(record.class_counts))
    columns, cells = _to_matrix_cells(record.result.confusion, names)
    cell = max(MIN_CELL_SIZE, MIN_MATRIX_WIDTH / min(len(names), len(columns)))
    names_width, columns_width = max(map(_text_width, names)), math.sqrt(0.5) * max(map(_text_width, columns))
    left, top = max(44 + names_width, columns_width), 16  # the first column's slanted name extends to the left
    right, bottom = left + cell * len(columns), top + cell * len(names)
    canvas = _Canvas(right + 16, bottom + columns_width + 44)
    for y, row in enumerate(cells):
        canvas.draw_text((left - 10, top + cell * (y + 0.5)), names[y], "rm")
        for x, count in enumerate(row):
            fraction, corner = count / max(1, sum(row)), (left + cell * x, top + cell * y)
            canvas.fill_rectangle(corner, (corner[0] + cell, corner[1] + cell), _blend_with_white(PURPLE, fraction))
            if count:
                center = (corner[0] + cell / 2, corner[1] + cell / 2)
                canvas.draw_text(center, f"{count:,}", "mm", WHITE if fraction > 0.5 else BLACK)
    for x, name in enumerate(columns):
        canvas.draw_slanted_text((left + cell * (x + 0.5), bottom + 8), name)
    canvas.outline_rectangle((left, top), (right, bottom))
    canvas.draw_text(((left + right) / 2, canvas.height - 12), "answer", "ms")
    canvas.draw_vertical_text((left - names_width - 28, (top + bottom) / 2), "truth")
    return canvas.encode_png()


def _to_matrix_cells(confusion: Confusion, names: list[str]) -> tuple[list[str], list[list[int]]]:
    """The names of the columns, and the counts of each row."""
    cells: list[list[int]] = []
    columns = names
    for row in confusion:
        counts: list[int] = []
        for cell in row:
            if isinstance(cell, tuple):  # of a label's own 2 x 2 matrix
                columns = ["rightly not called", "called wrongly", "missed", "rightly called"]
                counts += cell
            else:
                counts.append(cell)
        cells.append(counts)
    return columns, cells


def plot_training_curves(record: Record) -> bytes:
    """Draw loss and score after each epoch, on bands that show which stages were trained.

    Args:
        record: a record with at least one epoch.

    Returns:
        A PNG file.
    """
    epochs, reference = record.epochs, record.reference
    canvas = _Canvas(880, 330, SUPERSAMPLING)
    curves: list[tuple[str, list[float], list[float | None], float | None]] = [
        ("loss", [epoch.training_loss for epoch in epochs], [epoch.validation_loss for epoch in epochs], None),
        (
            record.result.metric,
            [epoch.training_score for epoch in epochs],
            [epoch.validation_score for epoch in epochs],
            reference.score if reference else None,
        ),
    ]
    for column, (title, training, validation, baseline) in enumerate(curves):
        axes = _Axes(canvas, 60 + 440 * column, record, [*training, *validation, baseline])
        axes.draw_curves(title, training, validation, baseline)
    return canvas.encode_png()


def to_printable_names(names: Sequence[str]) -> list[str]:
    """Names for drawing: truncated, or the class's number where the font lacks a glyph."""
    return [
        f"no. {number}" if has_missing_glyphs(name) else _truncate_name(name) for number, name in enumerate(names, 1)
    ]


def has_missing_glyphs(name: str) -> bool:
    """Whether the font would draw a box in place of a character of this name."""
    return any(
        character not in ZERO_WIDTH_JOINERS and _render_glyph(character) == _render_glyph("\U0010ffff")
        for character in _truncate_name(name)
    )


def _truncate_name(name: str) -> str:
    name = sanitize(name)
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"


class _Axes:
    """One plot of values by epoch, at a place on a canvas."""

    def __init__(self, canvas: _Canvas, left: float, record: Record, values: Iterable[float | None]) -> None:
        plottable = [value for value in values if _is_plottable(value)] or [0.0]
        low, high = min(plottable), max(plottable)
        margin = 0.06 * (high - low) or max(abs(high), 1) / 10
        self.low, self.high = low - margin, high + margin
        self.canvas, self.phases, self.num_epochs = canvas, record.phases, len(record.epochs)
        self.left, self.right, self.top, self.bottom = left, left + 360, 56, 270

    def epoch_to_x(self, epoch: float) -> float:
        return self.left + (self.right - self.left) * (epoch - 0.5) / self.num_epochs

    def value_to_y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    def draw_curves(
        self, title: str, training: Sequence[float], validation: Sequence[float | None], baseline: float | None
    ) -> None:
        """Draw the bands, ticks, curves, frame, title and legend."""
        canvas = self.canvas
        legend: list[tuple[str, str, Dashes | None]] = [("training", GREY, (2, 4))]
        self._draw_phase_bands()
        self._draw_ticks()
        if _is_plottable(baseline):
            y = self.value_to_y(baseline)
            canvas.draw_line([(self.left, y), (self.right, y)], GREY, dashes=(6, 4))
        self._draw_curve(training, GREY, (2, 4))
        if None not in validation:
            self._draw_curve(validation, VIOLET)
            legend.append(("validation", VIOLET, None))
        if baseline is not None:
            legend.append(("solved at once", GREY, (6, 4)))
        canvas.outline_rectangle((self.left, self.top), (self.right, self.bottom))
        canvas.draw_text(((self.left + self.right) / 2, 24), title, "ms", size=LARGE_FONT_SIZE)
        canvas.draw_text(((self.left + self.right) / 2, self.bottom + 40), "epoch", "ms")
        x = self.left
        for name, color, dashes in legend:
            canvas.draw_line([(x, 43), (x + 22, 43)], color, 2, dashes)
            canvas.draw_text((x + 28, 43), name, "lm", size=SMALL_FONT_SIZE)
            x += 46 + _text_width(name, SMALL_FONT_SIZE)

    def _draw_ticks(self) -> None:
        for epoch in _compute_ticks(1, self.num_epochs, min_step=1):
            x = self.epoch_to_x(epoch)
            self.canvas.draw_line([(x, self.bottom), (x, self.bottom + 4)], GREY)
            self.canvas.draw_text((x, self.bottom + 8), f"{epoch:.0f}", "mt")
        for value in _compute_ticks(self.low, self.high):
            y = self.value_to_y(value)
            self.canvas.draw_line([(self.left - 4, y), (self.left, y)], GREY)
            self.canvas.draw_text((self.left - 8, y), f"{value:.4g}", "rm")

    def _draw_phase_bands(self) -> None:
        """Shade the epochs of each phase by whether stages were trained in it."""
        ends = [*(phase.first_epoch for phase in self.phases[1:]), self.num_epochs + 1]
        for phase, end in zip(self.phases, ends, strict=True):
            first, last = (min(max(1, epoch), self.num_epochs + 1) for epoch in (phase.first_epoch, end))
            if first < last:
                color = _blend_with_white(ORANGE if phase.learning_stages else BLUE, 0.12)
                self.canvas.fill_rectangle(
                    (self.epoch_to_x(first - 0.5), self.top), (self.epoch_to_x(last - 0.5), self.bottom), color
                )

    def _draw_curve(self, values: Sequence[float | None], color: str, dashes: Dashes | None = None) -> None:
        points = [
            (self.epoch_to_x(i), self.value_to_y(value)) for i, value in enumerate(values, 1) if _is_plottable(value)
        ]
        self.canvas.draw_line(points, color, 2, dashes)


class _Canvas:
    """A white image; its coordinates are pixels of the finished image, whatever the supersampling."""

    def __init__(self, width: float, height: float, supersampling: int = 1) -> None:
        self.width, self.height, self.supersampling = math.ceil(width), math.ceil(height), supersampling
        self.image = Image.new("RGB", (self.width * supersampling, self.height * supersampling), WHITE)
        self.image_draw = ImageDraw.Draw(self.image)

    def encode_png(self) -> bytes:
        stream = io.BytesIO()
        self.image.reduce(self.supersampling).save(stream, "PNG", optimize=True)
        return stream.getvalue()

    def scale_point(self, point: Point) -> tuple[int, int]:
        x, y = point
        return round(x * self.supersampling), round(y * self.supersampling)

    def fill_rectangle(self, first_corner: Point, second_corner: Point, color: str | tuple[int, ...]) -> None:
        (left, top), (right, bottom) = self.scale_point(first_corner), self.scale_point(second_corner)
        self.image_draw.rectangle((left, top, right - 1, bottom - 1), color)

    def outline_rectangle(self, first_corner: Point, second_corner: Point) -> None:
        corners = (*self.scale_point(first_corner), *self.scale_point(second_corner))
        self.image_draw.rectangle(corners, outline=GREY, width=self.supersampling)

    def draw_line(self, points: Sequence[Point], color: str, width: float = 1, dashes: Dashes | None = None) -> None:
        """Draw a line through all points."""
        for part in _split_into_dashes(points, *dashes) if dashes else [points]:
            if len(part) > 1:
                scaled = list(map(self.scale_point, part))
                self.image_draw.line(scaled, color, round(width * self.supersampling), joint="curve")

    def draw_text(self, position: Point, text: str, anchor: str, color: str = BLACK, size: int = FONT_SIZE) -> None:
        """Draw a text; ``anchor`` is Pillow's: the place of ``position`` in the text, horizontal and vertical."""
        font = _load_font(size * self.supersampling)
        self.image_draw.text(self.scale_point(position), text, color, font, anchor)

    def draw_slanted_text(self, position: Point, text: str) -> None:
        """Draw a text at 45 degrees, rising to the right, that ends at the position."""
        mask = self.render_text_mask(text)
        rotated = mask.rotate(45, Image.Resampling.BICUBIC, expand=True)
        offset = mask.width / 2 * math.sqrt(0.5)
        x, y = self.scale_point(position)
        corner = (round(x - rotated.width / 2 - offset), round(y - rotated.height / 2 + offset))
        self.image.paste(BLACK, corner, rotated)

    def draw_vertical_text(self, position: Point, text: str) -> None:
        """Draw a text that rises vertically, with its center at the position."""
        rotated = self.render_text_mask(text).transpose(Image.Transpose.ROTATE_90)
        x, y = self.scale_point(position)
        self.image.paste(BLACK, (round(x - rotated.width / 2), round(y - rotated.height / 2)), rotated)

    def render_text_mask(self, text: str) -> Image.Image:
        """A text as a grayscale mask of the size of its bounding box."""
        font = _load_font(FONT_SIZE * self.supersampling)
        left, top, right, bottom = font.getbbox(text)
        mask = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))), 0)
        ImageDraw.Draw(mask).text((-left, -top), text, 255, font)
        return mask


def _split_into_dashes(points: Sequence[Point], dash_length: float, gap_length: float) -> Iterator[list[Point]]:
    """The dashes of a line, each as its points."""
    is_dash, remaining, dash = True, dash_length, list(points[:1])
    for (x, y), (to_x, to_y) in pairwise(points):
        length = ahead = math.hypot(to_x - x, to_y - y)
        while ahead > 0:
            step = min(remaining, ahead)
            ahead, remaining = ahead - step, remaining - step
            fraction = 1 - ahead / length
            point = (x + fraction * (to_x - x), y + fraction * (to_y - y))
            if is_dash:
                dash.append(point)
            if remaining <= 0:
                if is_dash:
                    yield dash
                is_dash, remaining, dash = not is_dash, gap_length if is_dash else dash_length, [point]
    if is_dash:
        yield dash


def _text_width(text: str, size: int = FONT_SIZE) -> float:
    return _load_font(size).getlength(text)  # pixels


@lru_cache(maxsize=8)
def _load_font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT_PATH, size)


@lru_cache(maxsize=4096)
def _render_glyph(character: str) -> tuple[tuple[int, int], bytes]:
    mask = _load_font(FONT_SIZE).getmask(character)
    return mask.size, bytes(mask)


def _blend_with_white(color: str, opacity: float) -> tuple[int, ...]:
    """A color of this opacity on white."""
    return tuple(round(255 + opacity * (int(color[i : i + 2], 16) - 255)) for i in (1, 3, 5))


def _compute_ticks(low: float, high: float, min_step: float = 0.0) -> list[float]:
    """About five round numbers in the interval: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = max(min_step, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _is_plottable(value: float | None) -> TypeGuard[float]:
    return value is not None and abs(value) < MAX_PLOTTED_VALUE  # which NaN is not
