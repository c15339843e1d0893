"""The two pictures of a model card as PNG: the confusion matrix, and loss and score after each epoch.

Drawn by Pillow with a font that lies beside this file: a plotting library keeps a list of fonts in people's homes and
starts a program to find them, and could only be told not to by changing it for their own plots as well.

Knows nothing of Markdown and of models.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from headswap.common.text import sanitize
from headswap.training.record import Record

FONT_PATH = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
SUPERSAMPLING = 3  # curves are drawn so many times larger and then reduced, for Pillow smoothes letters only
SMALL_FONT_SIZE, FONT_SIZE, LARGE_FONT_SIZE = 11, 12, 14  # pixels of letters
MIN_CELL_SIZE, MIN_MATRIX_WIDTH = 46, 180  # pixels: a confusion matrix's cell and the whole of it, at least
BLACK, WHITE, VIOLET, PURPLE, GREY, ORANGE, BLUE = (
    *("#000000", "#ffffff", "#6d3fc0", "#3f007d", "#64748b", "#ea7317", "#7cc4f0"),
)
MAX_NAME_LENGTH = 24
ZERO_WIDTH_JOINERS = "\u200c\u200d"  # parts of words that are not to be seen
MAX_PLOTTED_VALUE = 1e12  # a figure beyond it is not drawn

Point = tuple[float, float]


def plot_confusion_matrix(record: Record) -> bytes:
    """The confusion matrix as a PNG; of several labels an image, for each label what was called and what was there."""
    names, rows = to_printable_names(list(record.class_counts)), record.result.confusion
    if rows and isinstance(rows[0][0], tuple):  # several labels
        columns = ["rightly not called", "called wrongly", "missed", "rightly called"]
        cells = [[count for pair in label for count in pair] for label in rows]
    else:
        columns, cells = names, [list(row) for row in rows]
    cell = max(MIN_CELL_SIZE, MIN_MATRIX_WIDTH / min(len(names), len(columns)))
    beside, below = max(map(_text_width, names)), math.sqrt(0.5) * max(map(_text_width, columns))
    left, top = max(44 + beside, below), 16  # the first column's name leans out to the left
    right, bottom = left + cell * len(columns), top + cell * len(names)
    sheet = _Canvas(right + 16, bottom + below + 44)
    for y, row in enumerate(cells):
        sheet.draw_text((left - 10, top + cell * (y + 0.5)), names[y], "rm")
        for x, count in enumerate(row):
            share, corner = count / max(1, sum(row)), (left + cell * x, top + cell * y)
            sheet.fill_rectangle(corner, (corner[0] + cell, corner[1] + cell), _blend_with_white(PURPLE, share))
            if count:
                place = (corner[0] + cell / 2, corner[1] + cell / 2)
                sheet.draw_text(place, f"{count:,}", "mm", WHITE if share > 0.5 else BLACK)
    for x, name in enumerate(columns):
        sheet.draw_slanted_text((left + cell * (x + 0.5), bottom + 8), name)
    sheet.outline_rectangle((left, top), (right, bottom))
    sheet.draw_text(((left + right) / 2, sheet.height - 12), "answer", "ms")
    sheet.draw_vertical_text((left - beside - 28, (top + bottom) / 2), "truth")
    return sheet.encode_png()


def plot_training_curves(record: Record) -> bytes:
    """Loss and score after each epoch as a PNG, with what learned as bands behind them."""
    sheet = _Canvas(880, 330, SUPERSAMPLING)
    for place, (title, field) in enumerate([("loss", "loss"), (record.result.metric, "score")]):
        training = [getattr(epoch, f"training_{field}") for epoch in record.epochs]
        checked = [getattr(epoch, f"validation_{field}") for epoch in record.epochs]
        level = record.reference.score if field == "score" and record.reference else None
        _Axes(sheet, 60 + 440 * place, record, [training, checked, [level]]).draw_curves(
            title, training, checked, level
        )
    return sheet.encode_png()


def to_printable_names(names: Sequence[str]) -> list[str]:
    """Names as the font can write them: shortened, and where it lacks a letter the class's number instead."""
    return [
        f"no. {number}" if has_missing_glyphs(name) else _truncate_name(name) for number, name in enumerate(names, 1)
    ]


def has_missing_glyphs(name: str) -> bool:
    """Whether the font would show boxes in place of letters of this name."""
    return any(
        letter not in ZERO_WIDTH_JOINERS and _render_glyph(letter) == _render_glyph("\U0010ffff")
        for letter in _truncate_name(name)
    )


def _truncate_name(name: str) -> str:
    name = sanitize(name)
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"


class _Axes:
    """One plot: from epochs and values to places on a sheet."""

    def __init__(self, sheet: _Canvas, left: float, record: Record, values: Sequence[Sequence[float | None]]) -> None:
        shown = [value for row in values for value in row if _is_plottable(value)] or [0.0]
        low, high = min(shown), max(shown)
        margin = 0.06 * (high - low) or max(abs(high), 1) / 10
        self.low, self.high = low - margin, high + margin
        self.sheet, self.record, self.epochs = sheet, record, len(record.epochs)
        self.left, self.right, self.top, self.bottom = left, left + 360, 56, 270

    def epoch_to_x(self, epoch: float) -> float:
        return self.left + (self.right - self.left) * (epoch - 0.5) / self.epochs

    def value_to_y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    def draw_curves(
        self, title: str, training: Sequence[float], validation: Sequence[float | None], baseline: float | None
    ) -> None:
        sheet, lines = self.sheet, [("training", GREY, (2, 4))]
        self._draw_stage_bands()
        for number in _compute_ticks(1, self.epochs, min_step=1):
            sheet.draw_line([(self.epoch_to_x(number), self.bottom), (self.epoch_to_x(number), self.bottom + 4)], GREY)
            sheet.draw_text((self.epoch_to_x(number), self.bottom + 8), f"{number:.0f}", "mt")
        for value in _compute_ticks(self.low, self.high):
            sheet.draw_line([(self.left - 4, self.value_to_y(value)), (self.left, self.value_to_y(value))], GREY)
            sheet.draw_text((self.left - 8, self.value_to_y(value)), f"{value:.4g}", "rm")
        if _is_plottable(baseline):
            sheet.draw_line(
                [(self.left, self.value_to_y(baseline)), (self.right, self.value_to_y(baseline))], GREY, dashes=(6, 4)
            )
        self._draw_curve(training, GREY, (2, 4))
        if None not in validation:
            self._draw_curve(validation, VIOLET)
            lines.append(("validation", VIOLET, None))
        if baseline is not None:
            lines.append(("solved at once", GREY, (6, 4)))
        sheet.outline_rectangle((self.left, self.top), (self.right, self.bottom))
        sheet.draw_text(((self.left + self.right) / 2, 24), title, "ms", size=LARGE_FONT_SIZE)
        sheet.draw_text(((self.left + self.right) / 2, self.bottom + 40), "epoch", "ms")
        place = self.left
        for name, colour, dashes in lines:
            sheet.draw_line([(place, 43), (place + 22, 43)], colour, 2, dashes)
            sheet.draw_text((place + 28, 43), name, "lm", size=SMALL_FONT_SIZE)
            place += 46 + _text_width(name, SMALL_FONT_SIZE)

    def _draw_stage_bands(self) -> None:
        """What learned, behind the curves."""
        stretches = self.record.phases
        ends = [*(stretch.first_epoch for stretch in stretches[1:]), self.epochs + 1]
        for stretch, end in zip(stretches, ends, strict=True):
            first, last = (min(max(1, epoch), self.epochs + 1) for epoch in (stretch.first_epoch, end))
            if first < last:
                colour = _blend_with_white(ORANGE if stretch.learning_stages else BLUE, 0.12)
                self.sheet.fill_rectangle(
                    (self.epoch_to_x(first - 0.5), self.top), (self.epoch_to_x(last - 0.5), self.bottom), colour
                )

    def _draw_curve(self, values: Sequence[float], color: str, dashes: tuple[float, float] | None = None) -> None:
        points = [
            (self.epoch_to_x(i), self.value_to_y(value)) for i, value in enumerate(values, 1) if _is_plottable(value)
        ]
        self.sheet.draw_line(points, color, 2, dashes)


class _Canvas:
    """Paper to draw on, measured in pixels of the picture."""

    def __init__(self, width: float, height: float, fine: int = 1) -> None:
        self.width, self.height, self.supersampling = math.ceil(width), math.ceil(height), fine
        self.image = Image.new("RGB", (self.width * fine, self.height * fine), WHITE)
        self.image_draw = ImageDraw.Draw(self.image)

    def encode_png(self) -> bytes:
        stream = io.BytesIO()
        self.image.reduce(self.supersampling).save(stream, "PNG", optimize=True)
        return stream.getvalue()

    def scale_points(self, points: Sequence[Point]) -> list[tuple[int, int]]:
        return [(round(x * self.supersampling), round(y * self.supersampling)) for x, y in points]

    def fill_rectangle(self, first_corner: Point, second_corner: Point, color: str | tuple[int, ...]) -> None:
        (left, top), (right, bottom) = self.scale_points([first_corner, second_corner])
        self.image_draw.rectangle((left, top, right - 1, bottom - 1), color)

    def outline_rectangle(self, first_corner: Point, second_corner: Point) -> None:
        (left, top), (right, bottom) = self.scale_points([first_corner, second_corner])
        self.image_draw.rectangle((left, top, right, bottom), outline=GREY, width=self.supersampling)

    def draw_line(
        self, points: Sequence[Point], color: str, width: float = 1, dashes: tuple[float, float] | None = None
    ) -> None:
        """Through all points; ``dashes`` are the pixels of a stroke and of the gap behind it."""
        for part in _split_into_dashes(points, *dashes) if dashes else [points]:
            if len(part) > 1:
                self.image_draw.line(self.scale_points(part), color, round(width * self.supersampling), joint="curve")

    def draw_text(self, position: Point, text: str, anchor: str, color: str = BLACK, size: int = FONT_SIZE) -> None:
        """``anchor`` is Pillow's: where the place lies in the text, across and down."""
        self.image_draw.text(*self.scale_points([position]), text, color, _load_font(size * self.supersampling), anchor)

    def draw_slanted_text(self, position: Point, text: str) -> None:
        """Rising to the right at 45 degrees, with its end at the place."""
        letters = self.render_text_mask(text)
        turned = letters.rotate(45, Image.Resampling.BICUBIC, expand=True)
        reach = letters.width / 2 * math.sqrt(0.5)
        [(x, y)] = self.scale_points([position])
        corner = (round(x - turned.width / 2 - reach), round(y - turned.height / 2 + reach))
        self.image.paste(BLACK, corner, turned)

    def draw_vertical_text(self, position: Point, text: str) -> None:
        """Rising, with its middle at the place."""
        turned = self.render_text_mask(text).transpose(Image.Transpose.ROTATE_90)
        [(x, y)] = self.scale_points([position])
        self.image.paste(BLACK, (round(x - turned.width / 2), round(y - turned.height / 2)), turned)

    def render_text_mask(self, text: str) -> Image.Image:
        """A text as a mask, as large as its letters."""
        font = _load_font(FONT_SIZE * self.supersampling)
        left, top, right, bottom = font.getbbox(text)
        mask = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))), 0)
        ImageDraw.Draw(mask).text((-left, -top), text, 255, font)
        return mask


def _split_into_dashes(points: Sequence[Point], dash_length: float, gap_length: float) -> Iterator[list[Point]]:
    """A line taken apart into strokes along its way."""
    drawing, left, part = True, dash_length, list(points[:1])
    for (x, y), (to_x, to_y) in pairwise(points):
        length = gone = math.hypot(to_x - x, to_y - y)
        while gone > 0:
            step = min(left, gone)
            gone, left = gone - step, left - step
            share = 1 - gone / length
            place = (x + share * (to_x - x), y + share * (to_y - y))
            if drawing:
                part.append(place)
            if left <= 0:
                if drawing:
                    yield part
                drawing, left, part = not drawing, gap_length if drawing else dash_length, [place]
    if drawing:
        yield part


def _text_width(text: str, size: int = FONT_SIZE) -> float:
    """Pixels."""
    return _load_font(size).getlength(text)


@lru_cache(maxsize=8)
def _load_font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT_PATH, size)


@lru_cache(maxsize=4096)
def _render_glyph(character: str) -> tuple[tuple[int, int], bytes]:
    mask = _load_font(FONT_SIZE).getmask(character)
    return mask.size, bytes(mask)


def _blend_with_white(color: str, opacity: float) -> tuple[int, ...]:
    """So much of a colour on white paper."""
    return tuple(round(255 + opacity * (int(color[i : i + 2], 16) - 255)) for i in (1, 3, 5))


def _compute_ticks(low: float, high: float, min_step: float = 0.0) -> list[float]:
    """Some five round numbers between the two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = max(min_step, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _is_plottable(value: float | None) -> bool:
    return value is not None and abs(value) < MAX_PLOTTED_VALUE  # which NaN is not
