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

from headswap.common.text import harmless
from headswap.training.record import Record

FONT = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
FINE = 3  # curves are drawn so many times larger and then reduced, for Pillow smoothes letters only
SMALL, SIZE, LARGE = 11, 12, 14  # pixels of letters
CELL, WIDE = 46, 180  # pixels: a confusion matrix's cell and the whole of it, at least
BLACK, WHITE, VIOLET, PURPLE, GREY, ORANGE, BLUE = (
    *("#000000", "#ffffff", "#6d3fc0", "#3f007d", "#64748b", "#ea7317", "#7cc4f0"),
)
MOST_LETTERS = 24
JOINERS = "\u200c\u200d"  # parts of words that are not to be seen
LARGEST = 1e12  # a figure beyond it is not drawn

Point = tuple[float, float]


def confusion_picture(record: Record) -> bytes:
    """The confusion matrix as a PNG; of several labels an image, for each label what was called and what was there."""
    names, rows = written(list(record.images)), record.result.confusion
    if rows and isinstance(rows[0][0], tuple):  # several labels
        columns = ["rightly not called", "called wrongly", "missed", "rightly called"]
        cells = [[count for pair in label for count in pair] for label in rows]
    else:
        columns, cells = names, [list(row) for row in rows]
    cell = max(CELL, WIDE / min(len(names), len(columns)))
    beside, below = max(map(_length, names)), math.sqrt(0.5) * max(map(_length, columns))
    left, top = max(44 + beside, below), 16  # the first column's name leans out to the left
    right, bottom = left + cell * len(columns), top + cell * len(names)
    sheet = _Sheet(right + 16, bottom + below + 44)
    for y, row in enumerate(cells):
        sheet.text((left - 10, top + cell * (y + 0.5)), names[y], "rm")
        for x, count in enumerate(row):
            share, corner = count / max(1, sum(row)), (left + cell * x, top + cell * y)
            sheet.box(corner, (corner[0] + cell, corner[1] + cell), _blended(PURPLE, share))
            if count:
                place = (corner[0] + cell / 2, corner[1] + cell / 2)
                sheet.text(place, f"{count:,}", "mm", WHITE if share > 0.5 else BLACK)
    for x, name in enumerate(columns):
        sheet.leaning((left + cell * (x + 0.5), bottom + 8), name)
    sheet.frame((left, top), (right, bottom))
    sheet.text(((left + right) / 2, sheet.height - 12), "answer", "ms")
    sheet.upright((left - beside - 28, (top + bottom) / 2), "truth")
    return sheet.png()


def curves_picture(record: Record) -> bytes:
    """Loss and score after each epoch as a PNG, with what learned as bands behind them."""
    sheet = _Sheet(880, 330, FINE)
    for place, (title, field) in enumerate([("loss", "loss"), (record.result.metric, "score")]):
        training = [getattr(epoch, f"training_{field}") for epoch in record.epochs]
        checked = [getattr(epoch, f"validation_{field}") for epoch in record.epochs]
        level = record.reference.score if field == "score" and record.reference else None
        _Axes(sheet, 60 + 440 * place, record, [training, checked, [level]]).draw(title, training, checked, level)
    return sheet.png()


def written(names: Sequence[str]) -> list[str]:
    """Names as the font can write them: shortened, and where it lacks a letter the class's number instead."""
    return [f"no. {number}" if lacks_letters(name) else _short(name) for number, name in enumerate(names, 1)]


def lacks_letters(name: str) -> bool:
    """Whether the font would show boxes in place of letters of this name."""
    return any(letter not in JOINERS and _drawn(letter) == _drawn("\U0010ffff") for letter in _short(name))


def _short(name: str) -> str:
    name = harmless(name)
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


class _Axes:
    """One plot: from epochs and values to places on a sheet."""

    def __init__(self, sheet: _Sheet, left: float, record: Record, values: Sequence[Sequence[float | None]]) -> None:
        shown = [value for row in values for value in row if _drawable(value)] or [0.0]
        low, high = min(shown), max(shown)
        margin = 0.06 * (high - low) or max(abs(high), 1) / 10
        self.low, self.high = low - margin, high + margin
        self.sheet, self.record, self.epochs = sheet, record, len(record.epochs)
        self.left, self.right, self.top, self.bottom = left, left + 360, 56, 270

    def x(self, epoch: float) -> float:
        return self.left + (self.right - self.left) * (epoch - 0.5) / self.epochs

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    def draw(self, title: str, training: Sequence[float], checked: Sequence[float | None], level: float | None) -> None:
        sheet, lines = self.sheet, [("training", GREY, (2, 4))]
        self._bands()
        for number in _ticks(1, self.epochs, least=1):
            sheet.line([(self.x(number), self.bottom), (self.x(number), self.bottom + 4)], GREY)
            sheet.text((self.x(number), self.bottom + 8), f"{number:.0f}", "mt")
        for value in _ticks(self.low, self.high):
            sheet.line([(self.left - 4, self.y(value)), (self.left, self.y(value))], GREY)
            sheet.text((self.left - 8, self.y(value)), f"{value:.4g}", "rm")
        if _drawable(level):
            sheet.line([(self.left, self.y(level)), (self.right, self.y(level))], GREY, dashes=(6, 4))
        self._curve(training, GREY, (2, 4))
        if None not in checked:
            self._curve(checked, VIOLET)
            lines.append(("validation", VIOLET, None))
        if level is not None:
            lines.append(("solved at once", GREY, (6, 4)))
        sheet.frame((self.left, self.top), (self.right, self.bottom))
        sheet.text(((self.left + self.right) / 2, 24), title, "ms", size=LARGE)
        sheet.text(((self.left + self.right) / 2, self.bottom + 40), "epoch", "ms")
        place = self.left
        for name, colour, dashes in lines:
            sheet.line([(place, 43), (place + 22, 43)], colour, 2, dashes)
            sheet.text((place + 28, 43), name, "lm", size=SMALL)
            place += 46 + _length(name, SMALL)

    def _bands(self) -> None:
        """What learned, behind the curves."""
        stretches = self.record.stretches
        ends = [*(stretch.first_epoch for stretch in stretches[1:]), self.epochs + 1]
        for stretch, end in zip(stretches, ends, strict=True):
            first, last = (min(max(1, epoch), self.epochs + 1) for epoch in (stretch.first_epoch, end))
            if first < last:
                colour = _blended(ORANGE if stretch.learning_stages else BLUE, 0.12)
                self.sheet.box((self.x(first - 0.5), self.top), (self.x(last - 0.5), self.bottom), colour)

    def _curve(self, values: Sequence[float], colour: str, dashes: tuple[float, float] | None = None) -> None:
        points = [(self.x(i), self.y(value)) for i, value in enumerate(values, 1) if _drawable(value)]
        self.sheet.line(points, colour, 2, dashes)


class _Sheet:
    """Paper to draw on, measured in pixels of the picture."""

    def __init__(self, width: float, height: float, fine: int = 1) -> None:
        self.width, self.height, self.fine = math.ceil(width), math.ceil(height), fine
        self.image = Image.new("RGB", (self.width * fine, self.height * fine), WHITE)
        self.pen = ImageDraw.Draw(self.image)

    def png(self) -> bytes:
        stream = io.BytesIO()
        self.image.reduce(self.fine).save(stream, "PNG", optimize=True)
        return stream.getvalue()

    def finely(self, points: Sequence[Point]) -> list[tuple[int, int]]:
        return [(round(x * self.fine), round(y * self.fine)) for x, y in points]

    def box(self, one: Point, other: Point, colour: str | tuple[int, ...]) -> None:
        (left, top), (right, bottom) = self.finely([one, other])
        self.pen.rectangle((left, top, right - 1, bottom - 1), colour)

    def frame(self, one: Point, other: Point) -> None:
        (left, top), (right, bottom) = self.finely([one, other])
        self.pen.rectangle((left, top, right, bottom), outline=GREY, width=self.fine)

    def line(
        self, points: Sequence[Point], colour: str, width: float = 1, dashes: tuple[float, float] | None = None
    ) -> None:
        """Through all points; ``dashes`` are the pixels of a stroke and of the gap behind it."""
        for part in _strokes(points, *dashes) if dashes else [points]:
            if len(part) > 1:
                self.pen.line(self.finely(part), colour, round(width * self.fine), joint="curve")

    def text(self, place: Point, said: str, anchor: str, colour: str = BLACK, size: int = SIZE) -> None:
        """``anchor`` is Pillow's: where the place lies in the text, across and down."""
        self.pen.text(*self.finely([place]), said, colour, _font(size * self.fine), anchor)

    def leaning(self, place: Point, said: str) -> None:
        """Rising to the right at 45 degrees, with its end at the place."""
        letters = self.letters(said)
        turned = letters.rotate(45, Image.Resampling.BICUBIC, expand=True)
        reach = letters.width / 2 * math.sqrt(0.5)
        [(x, y)] = self.finely([place])
        corner = (round(x - turned.width / 2 - reach), round(y - turned.height / 2 + reach))
        self.image.paste(BLACK, corner, turned)

    def upright(self, place: Point, said: str) -> None:
        """Rising, with its middle at the place."""
        turned = self.letters(said).transpose(Image.Transpose.ROTATE_90)
        [(x, y)] = self.finely([place])
        self.image.paste(BLACK, (round(x - turned.width / 2), round(y - turned.height / 2)), turned)

    def letters(self, said: str) -> Image.Image:
        """A text as a mask, as large as its letters."""
        font = _font(SIZE * self.fine)
        left, top, right, bottom = font.getbbox(said)
        mask = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))), 0)
        ImageDraw.Draw(mask).text((-left, -top), said, 255, font)
        return mask


def _strokes(points: Sequence[Point], stroke: float, gap: float) -> Iterator[list[Point]]:
    """A line taken apart into strokes along its way."""
    drawing, left, part = True, stroke, list(points[:1])
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
                drawing, left, part = not drawing, gap if drawing else stroke, [place]
    if drawing:
        yield part


def _length(said: str, size: int = SIZE) -> float:
    """Pixels."""
    return _font(size).getlength(said)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, size)


@lru_cache(maxsize=4096)
def _drawn(letter: str) -> tuple[tuple[int, int], bytes]:
    mask = _font(SIZE).getmask(letter)
    return mask.size, bytes(mask)


def _blended(colour: str, share: float) -> tuple[int, ...]:
    """So much of a colour on white paper."""
    return tuple(round(255 + share * (int(colour[i : i + 2], 16) - 255)) for i in (1, 3, 5))


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Some five round numbers between the two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = max(least, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _drawable(value: float | None) -> bool:
    return value is not None and abs(value) < LARGEST  # which NaN is not
