"""Sample drawings of every kind in one HTML file, for work on their appearance.

``python -m headswap.ui.views.gallery out.html`` writes stage strips, line charts and confusion matrices in all their
states, light and dark, wide and narrow.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from headswap.ui.views.confusion_matrix import ConfusedPair, render_confusion_matrix, render_pair_list
from headswap.ui.views.line_chart import LineChart, PhaseBand, ReferenceLine, Series, render_chart_row
from headswap.ui.views.stage_strip import StageBlock, StageStrip, render_stage_strip
from headswap.ui.views.theme import render_gallery

HEAD_LABEL, UNFROZEN_LABEL = "the head learns", "the last 3 stages learn too"
NO_CURVE = "The curve appears when you press Train"


def sample_stage_strips() -> dict[str, str]:
    """Stage strips of several networks, by title."""
    lite: list[tuple[int, ...]] = [(32, 112, 112), (16, 112, 112), (24, 56, 56), (40, 28, 28), (80, 14, 14)]
    lite += [(112, 14, 14), (192, 7, 7), (320, 7, 7), (1280, 7, 7)]
    resnet = [(64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    dense: list[tuple[int, ...]] = [
        (64 * 2 ** (index // 3), side, side) for index, side in enumerate([56, 56, 56, 28, 28, 28, 14, 14, 14, 7, 7])
    ]
    dense += [(4096,), (4096,)]
    names = "stem 1 2 3 4 5 6 7 last"
    dense_names = "conv0 " + " ".join(f"denseblock{i} transition{i}" for i in range(1, 5)) + " norm5 pool5 flat fc6"
    vit_names, vit = "patches " + " ".join(map(str, range(1, 13))), [(197, 768)] * 13
    return {
        "EfficientNet-Lite0, six stages stand still": _sample_strip(names, lite, 6, "linear", 351_000),
        "EfficientNet-Lite0, only the head learns": _sample_strip(names, lite, 9, "linear", 251_000),
        "To be pressed": _sample_strip(names, lite, 6, "linear", press_mode="asks"),
        "EfficientNet-Lite0, one stage stands still": _sample_strip(names, lite, 1, "bottleneck", 1_605_632),
        "EfficientNet-Lite0, everything learns": _sample_strip(names, lite, 0, "linear"),
        "ResNet-18": _sample_strip("stem layer1 layer2 layer3 layer4", resnet, 4, "classifier", 200_704),
        "Fourteen blocks": _sample_strip(dense_names, dense, 7, "classifier", 1_003_520),
        "ViT-B/16": _sample_strip(vit_names, vit, 13, "attention", 605_184),
        "An image that is not square": _sample_strip("stem body", [(32, 112, 96), (112, 14, 12)], 1, "mlp"),
    }


def _sample_strip(
    names: str,
    shapes: Sequence[tuple[int, ...]],
    num_frozen: int,
    head: str,
    cached_bytes: int | None = None,
    press_mode: str = "",
) -> str:
    blocks = [
        StageBlock(name, shape, 9 * shape[0] ** 2, "still" if index < num_frozen else "learning")
        for index, (name, shape) in enumerate(zip(names.split(), shapes, strict=True))
    ]
    head_block = StageBlock(head, (3,), 3 * (shapes[-1][0] + 1), "head")
    return render_stage_strip(StageStrip((*blocks, head_block), cached_bytes, press_mode))


def sample_line_charts() -> dict[str, str]:
    """Line charts in every state of a run, by title."""
    return {**_sample_run_charts(), **_sample_reference_charts(), **_sample_single_charts()}


def _sample_run_charts() -> dict[str, str]:
    gradual = [PhaseBand(0, 8, HEAD_LABEL, "still")]
    gradual += [PhaseBand(at, at + 8, f"the last {at // 8} stages learn too", "learning") for at in (8, 16, 24, 32)]
    empty = [LineChart(title, (), (), 36, title != "Loss", empty_text=NO_CURVE) for title in ("Loss", "Accuracy")]
    refit = [
        LineChart(title, _two_bands(20, 36), (_sample_curve("training", "training", 36, *values, 5),), 36, is_percent)
        for title, values, is_percent in (("Loss", (0.04, 1.05), False), ("Accuracy", (0.97, 0.36), True))
    ]
    return {
        "Nothing yet": render_chart_row(empty),
        "One point": _sample_pair(0, 36, [PhaseBand(0, 36, HEAD_LABEL, "still")]),
        "Mid-run": _sample_pair(28, 36, _two_bands(20, 28)),
        "Finished, kept epoch 31": _sample_pair(36, 36, _two_bands(20, 36), 31),
        "Finished, kept the last epoch, colliding ends": _sample_pair(36, 36, _two_bands(20, 36), 36, gap=0.05),
        "Learning from all images": render_chart_row(refit),
        "A narrow last band": _sample_pair(40, 40, _two_bands(36, 40)),
        "A narrow first band, 200 epochs": _sample_pair(200, 200, _two_bands(4, 200), 150),
        "Gradual": _sample_pair(40, 40, gradual, 33),
        "An epoch looked at": _sample_pair(36, 36, _two_bands(20, 36), 31, highlighted_epoch=12),
    }


def _sample_reference_charts() -> dict[str, str]:
    line, better = ReferenceLine("solved at once", 0.84), ReferenceLine("solved at once", 0.88)
    head_band = _two_bands(12, 12)[:1]
    solved = LineChart("Accuracy", _two_bands(0, 0)[:1], (), 36, is_percent=True, reference_line=line)
    return {
        "Against a head solved at once, before the first epoch": render_chart_row([solved]),
        "Against a head solved at once, on the way": _sample_pair(12, 36, head_band, reference_line=line),
        "Against a head solved at once, mid-run": _sample_pair(28, 36, _two_bands(20, 28), reference_line=line),
        "Against one that is better, ended": _sample_pair(36, 36, _two_bands(20, 36), 31, reference_line=better),
    }


def _sample_single_charts() -> dict[str, str]:
    race = (
        _sample_curve("linear", "other0", 40, 0.84, 0.3, 8),
        _sample_curve("bottleneck", "validation", 40, 0.9, 0.3, 5),
        _sample_curve("MLP", "other1", 40, 0.86, 0.3, 3),
        _sample_curve("attention", "other2", 40, 0.8, 0.3, 12),
        Series("LDA", ((1, 0.88),), "other3"),
    )
    steep = Series("validation", ((0, 0.91), (1, 0.93), (2, math.nan), (3, 0.95), (4, 0.94)), "validation")
    several = LineChart("Accuracy", (), race, 40, is_percent=True, labels_at_right=True)
    accurate = LineChart("Accuracy", (), (steep,), 4, is_percent=True, marker=(3, 0.95))
    return {"Several runs": render_chart_row([several]), "Accurate from the start": render_chart_row([accurate])}


def _two_bands(unfrozen_at: float, end: float) -> tuple[PhaseBand, ...]:
    head = PhaseBand(0, unfrozen_at, HEAD_LABEL, "still")
    return (head, PhaseBand(unfrozen_at, end, UNFROZEN_LABEL, "learning"))


def _sample_curve(label: str, kind: str, last_epoch: int, limit: float, first: float, pace: float) -> Series:
    """An exponential from ``first`` towards ``limit``, with a little noise."""
    rng = random.Random(f"{label} {limit}")
    scale = 0.012 * (limit + first)
    values = [
        limit + (first - limit) * math.exp(-epoch / pace) + scale * rng.uniform(-1, 1)
        for epoch in range(last_epoch + 1)
    ]
    return Series(label, tuple(enumerate(values)), kind)


def _sample_pair(
    last_epoch: int,
    epochs: int,
    bands: Sequence[PhaseBand],
    kept_epoch: int | None = None,
    gap: float = 1.0,
    reference_line: ReferenceLine | None = None,
    highlighted_epoch: float | None = None,
) -> str:
    """Loss and accuracy of a run; ``gap`` scales the distance between the training and the validation curve."""
    loss = (
        _sample_curve("training", "training", last_epoch, 0.31 - 0.27 * gap, 1.05, 5),
        _sample_curve("validation", "validation", last_epoch, 0.31, 1.27, 6),
    )
    accuracy = (
        _sample_curve("training", "training", last_epoch, 0.87 + 0.1 * gap, 0.36, 5),
        _sample_curve("validation", "validation", last_epoch, 0.87, 0.27, 6),
    )
    markers = [None if kept_epoch is None else series[1].points[kept_epoch] for series in (loss, accuracy)]
    return render_chart_row(
        [
            LineChart("Loss", tuple(bands), loss, epochs, marker=markers[0], highlighted_epoch=highlighted_epoch),
            LineChart(
                "Accuracy",
                tuple(bands),
                accuracy,
                epochs,
                is_percent=True,
                marker=markers[1],
                reference_line=reference_line,
                highlighted_epoch=highlighted_epoch,
            ),
        ]
    )


def sample_confusion_matrices() -> dict[str, str]:
    """Confusion matrices and lists of confused pairs of several sizes, by title."""
    leaves, leaf_counts = ["healthy", "mildew", "rust"], [[6, 0, 0], [1, 5, 0], [0, 2, 4]]
    clothes = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "T-shirt"]
    birds = [f"a bird with a long name, number {number}" for number in range(1, 26)]
    many = [f"class {number}" for number in range(1, 61)]
    label_errors = [ConfusedPair("dark, missed", 3, (0, -1)), ConfusedPair("red, called wrongly", 1, (-1, 2))]
    return {
        "Three classes, a cell pressed": render_confusion_matrix(leaves, leaf_counts, (2, 1)),
        "An epoch that is looked at again": render_confusion_matrix(leaves, leaf_counts, clickable=False),
        "Nothing is wrong": render_confusion_matrix(leaves, _sample_counts(3, 6, 0)),
        "Ten classes": render_confusion_matrix(clothes, _sample_counts(10, 8, 14)),
        "Twenty-five with long names": render_confusion_matrix(birds, _sample_counts(25, 12, 40)),
        "Sixty: the pairs most confused": render_confusion_matrix(many, _sample_counts(60, 9, 50), (7, 9)),
        "Several labels an image": render_pair_list(label_errors, None, "The labels that are missed or called wrongly"),
    }


def _sample_counts(num_classes: int, images_per_class: int, num_errors: int) -> list[list[int]]:
    counts = [[images_per_class * (i == j) for j in range(num_classes)] for i in range(num_classes)]
    for step in range(num_errors):
        true_class = step * 7 % num_classes
        counts[true_class][(true_class + 1 + step % 3) % num_classes] += 1 + step % 2
        counts[true_class][true_class] = max(0, counts[true_class][true_class] - 1 - step % 2)
    return counts


if __name__ == "__main__":
    drawings: dict[str, str] = {**sample_stage_strips(), **sample_line_charts(), **sample_confusion_matrices()}
    Path(sys.argv[1]).write_text(render_gallery(drawings), encoding="utf-8")
