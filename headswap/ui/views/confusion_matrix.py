"""Renders a confusion matrix as an HTML table, or the most confused pairs as a list.

Turns plain data into HTML; colours and lengths are in page.css. Cells are buttons where images can be shown for them,
with the indices of the true and of the predicted class in ``data-given`` and ``data-answered``. Knows no network and no
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from headswap.common.text import format_count

MAX_TABLE_CLASSES = 25  # classes of a table; more are shown as a list
MAX_UPRIGHT_CHARS = 10  # characters of the longest name, and
MAX_UPRIGHT_COLUMNS = 8  # number of columns, up to which the column names are not rotated
MAX_LISTED_PAIRS = 20

MatrixCell = tuple[int, int]  # (true class, predicted class); -1 for none, where images carry several labels


@dataclass(frozen=True)
class ConfusedPair:
    """Images with the same wrong prediction, as a row of a list."""

    description: str  # such as "rust, answered mildew"
    num_images: int
    cell: MatrixCell


def render_confusion_matrix(
    classes: Sequence[str],
    counts: Sequence[Sequence[int]],
    selected_cell: MatrixCell | None = None,
    clickable: bool = True,
) -> str:
    """A table with a row for each true class and a column for each prediction.

    Beyond ``MAX_TABLE_CLASSES`` classes it is a list of the most confused pairs instead.

    Args:
        classes: Their names, in the order of rows and columns.
        counts: Number of images by true class and prediction.
        selected_cell: The cell whose images are shown.
        clickable: Whether cells are buttons.
    """
    if len(classes) > MAX_TABLE_CLASSES:
        return render_pair_list(
            list_confused_pairs(classes, counts),
            selected_cell,
            "The classes that are most often taken for another",
            clickable,
        )
    is_upright = len(classes) <= MAX_UPRIGHT_COLUMNS and max(map(len, classes)) <= MAX_UPRIGHT_CHARS
    headers = "".join(f'<th scope="col" title="{escape(name)}"><span>{escape(name)}</span></th>' for name in classes)
    rows = "".join(
        _render_matrix_row(classes, true_class, row, selected_cell, clickable) for true_class, row in enumerate(counts)
    )
    css_classes = "hs-matrix" + " hs-turned" * (not is_upright)
    return (
        f'<div class="hs-wide" role="region" aria-label="Confusion matrix" tabindex="0"><table class="{css_classes}">'
        "<caption>Rows: what an image shows. Columns: what the model answered.</caption>"
        f"<thead><tr><td></td>{headers}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def list_confused_pairs(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> list[ConfusedPair]:
    """The wrong predictions of a confusion matrix, the most frequent first."""
    pairs = [
        ConfusedPair(
            f"{classes[true_class]}, answered {classes[predicted_class]}", number, (true_class, predicted_class)
        )
        for true_class, row in enumerate(counts)
        for predicted_class, number in enumerate(row)
        if number and true_class != predicted_class
    ]
    return sorted(pairs, key=lambda pair: -pair.num_images)


def list_label_errors(classes: Sequence[str], counts: Sequence[Sequence[Sequence[int]]]) -> list[ConfusedPair]:
    """The missed and the wrongly predicted labels of images that carry several, in the order of the labels.

    Args:
        classes: The names of the labels.
        counts: For each label a 2 x 2 confusion matrix, with rows by truth and columns by prediction.
    """
    pairs = []
    for i, (name, ((_, false_positives), (false_negatives, _))) in enumerate(zip(classes, counts, strict=True)):
        pairs.append(ConfusedPair(f"{name}, missed", false_negatives, (i, -1)))
        pairs.append(ConfusedPair(f"{name}, called wrongly", false_positives, (-1, i)))
    return [pair for pair in pairs if pair.num_images]


def render_pair_list(
    confused_pairs: Sequence[ConfusedPair], selected_cell: MatrixCell | None, title: str, clickable: bool = True
) -> str:
    """Wrong predictions as a list of at most ``MAX_LISTED_PAIRS`` rows; arguments as above."""
    if not confused_pairs:
        return ""
    rows = []
    for pair in confused_pairs[:MAX_LISTED_PAIRS]:
        text = f"{format_count(pair.num_images, 'image')}: {pair.description}"
        rows.append(f"<li>{_render_matrix_cell(pair.cell, text, '', selected_cell, clickable)}</li>")
    rest = len(confused_pairs) - MAX_LISTED_PAIRS
    more = f"<p class='hs-rest'>and {rest:,} more that are rarer</p>" if rest > 0 else ""
    press = " Press one to see its images." if clickable else ""
    return f'<div class="hs-pairs"><p><b>{escape(title)}.</b>{press}</p><ol>{"".join(rows)}</ol>{more}</div>'


def _render_matrix_row(
    classes: Sequence[str], true_class: int, row: Sequence[int], selected_cell: MatrixCell | None, clickable: bool
) -> str:
    name, num_images = classes[true_class], max(1, sum(row))
    cells = []
    for predicted_class, number in enumerate(row):
        is_correct = true_class == predicted_class
        if not number:
            cells.append(f'<td class="{"hs-right" if is_correct else ""}">0</td>')
            continue
        label = f"{format_count(number, 'image')} of {name} answered {classes[predicted_class]}"
        cell = _render_matrix_cell((true_class, predicted_class), f"{number:,}", label, selected_cell, clickable)
        css_class = "hs-right" if is_correct else "hs-wrong"
        cells.append(f'<td class="{css_class}" style="--share:{number / num_images:.3f}">{cell}</td>')
    return f'<tr><th scope="row" title="{escape(name)}"><span>{escape(name)}</span></th>{"".join(cells)}</tr>'


def _render_matrix_cell(
    cell: MatrixCell, text: str, label: str, selected_cell: MatrixCell | None, clickable: bool
) -> str:
    if not clickable:
        return f'<span title="{escape(label)}">{escape(text)}</span>'
    attributes = f' aria-label="{escape(label)}" title="{escape(label)}"' if label else ""
    return (
        f'<button type="button" data-do="cell" data-given="{cell[0]}" data-answered="{cell[1]}"'
        f' aria-pressed="{str(cell == selected_cell).lower()}"{attributes}>{escape(text)}</button>'
    )
