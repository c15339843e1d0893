"""Which classes a model takes for which: a table, or where it would be too wide, a list.

Turns plain data into HTML. Knows no network, no Gradio and no image; its colours and every length are in page.css.
Cells are buttons where images can be shown for them: each carries in `data-given` and `data-answered` the places of
the two classes that it stands for.

`python -m headswap.ui.views.confusion_matrix out.html` writes it in all its moods.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from headswap.common.text import format_count
from headswap.ui.views import theme

MAX_TABLE_CLASSES = 25  # classes that a table still shows
MAX_UPRIGHT_CHARS = 10  # characters of a name that stands upright above its column
MAX_UPRIGHT_COLUMNS = 8  # columns whose names stand upright
MAX_LISTED_PAIRS = 20  # of a list

MatrixCell = tuple[int, int]  # the class that an image shows, and the one that the model answered


@dataclass(frozen=True)
class ConfusedPair:
    """Images that were answered in one wrong way, as a row of a list."""

    description: str  # "rust, answered mildew"
    num_images: int
    cell: MatrixCell


def render_confusion_matrix(
    classes: Sequence[str],
    counts: Sequence[Sequence[int]],
    selected_cell: MatrixCell | None = None,
    clickable: bool = True,
) -> str:
    """A row for each true class and a column for each answer; of more than `WIDEST` classes the pairs most confused.

    Args:
        classes: their names, in the order of the rows and of the columns.
        counts: how many images of a row's class were answered with a column's.
        pressed: the cell whose images are shown.
        pressing: whether a cell's images can be asked for.
    """
    if len(classes) > MAX_TABLE_CLASSES:
        return render_pair_list(
            list_confused_pairs(classes, counts),
            selected_cell,
            "The classes that are most often taken for another",
            clickable,
        )
    upright = len(classes) <= MAX_UPRIGHT_COLUMNS and max(map(len, classes)) <= MAX_UPRIGHT_CHARS
    heads = "".join(f'<th scope="col" title="{escape(name)}"><span>{escape(name)}</span></th>' for name in classes)
    rows = "".join(
        _render_matrix_row(classes, given, row, selected_cell, clickable) for given, row in enumerate(counts)
    )
    looks = "hs-matrix" + " hs-turned" * (not upright)
    return (
        f'<div class="hs-wide" role="region" aria-label="Confusion matrix" tabindex="0"><table class="{looks}">'
        "<caption>Rows: what an image shows. Columns: what the model answered.</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def list_confused_pairs(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> list[ConfusedPair]:
    """The wrong answers of a confusion matrix, the most frequent first."""
    found = [
        ConfusedPair(f"{classes[given]}, answered {classes[answered]}", number, (given, answered))
        for given, row in enumerate(counts)
        for answered, number in enumerate(row)
        if number and given != answered
    ]
    return sorted(found, key=lambda pair: -pair.num_images)


def render_pair_list(
    confused_pairs: Sequence[ConfusedPair], selected_cell: MatrixCell | None, title: str, clickable: bool = True
) -> str:
    """Wrong answers as a list."""
    if not confused_pairs:
        return ""
    said = [
        (pair.cell, f"{format_count(pair.num_images, 'image')}: {pair.description}")
        for pair in confused_pairs[:MAX_LISTED_PAIRS]
    ]
    rows = "".join(f"<li>{_render_matrix_cell(cell, words, '', selected_cell, clickable)}</li>" for cell, words in said)
    rest = len(confused_pairs) - MAX_LISTED_PAIRS
    more = f"<p class='hs-rest'>and {rest:,} more that are rarer</p>" if rest > 0 else ""
    press = " Press one to see its images." if clickable else ""
    return f'<div class="hs-pairs"><p><b>{escape(title)}.</b>{press}</p><ol>{rows}</ol>{more}</div>'


def _render_matrix_row(
    classes: Sequence[str], true_index: int, row: Sequence[int], pressed: MatrixCell | None, pressing: bool
) -> str:
    name, shown = classes[true_index], max(1, sum(row))
    cells = []
    for answered, number in enumerate(row):
        kind = "hs-right" if true_index == answered else "hs-wrong"
        if not number:
            cells.append(f'<td class="{kind * (true_index == answered)}">0</td>')
            continue
        words = f"{format_count(number, 'image')} of {name} answered {classes[answered]}"
        cell = _render_matrix_cell((true_index, answered), f"{number:,}", words, pressed, pressing)
        cells.append(f'<td class="{kind}" style="--share:{number / shown:.3f}">{cell}</td>')
    return f'<tr><th scope="row" title="{escape(name)}"><span>{escape(name)}</span></th>{"".join(cells)}</tr>'


def _render_matrix_cell(cell: MatrixCell, words: str, label: str, pressed: MatrixCell | None, pressing: bool) -> str:
    if not pressing:
        return f'<span title="{escape(label)}">{escape(words)}</span>'
    said = f' aria-label="{escape(label)}" title="{escape(label)}"' if label else ""
    return (
        f'<button type="button" data-do="cell" data-given="{cell[0]}" data-answered="{cell[1]}"'
        f' aria-pressed="{str(cell == pressed).lower()}"{said}>{escape(words)}</button>'
    )


def _demo_matrices() -> dict[str, str]:
    def counted(many: int, each: int, wrong: int) -> list[list[int]]:
        rows = [[each * (given == answered) for answered in range(many)] for given in range(many)]
        for step in range(wrong):
            given = step * 7 % many
            rows[given][(given + 1 + step % 3) % many] += 1 + step % 2
            rows[given][given] = max(0, rows[given][given] - 1 - step % 2)
        return rows

    clothes = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "T-shirt"]
    birds = [f"a bird with a long name, number {number}" for number in range(1, 26)]
    many = [f"class {number}" for number in range(1, 61)]
    return {
        "Three classes, a cell pressed": render_confusion_matrix(
            ["healthy", "mildew", "rust"], [[6, 0, 0], [1, 5, 0], [0, 2, 4]], (2, 1)
        ),
        "An epoch that is looked at again": render_confusion_matrix(
            ["healthy", "mildew", "rust"], [[6, 0, 0], [1, 5, 0], [0, 2, 4]], clickable=False
        ),
        "Nothing is wrong": render_confusion_matrix(["healthy", "mildew", "rust"], counted(3, 6, 0)),
        "Ten classes": render_confusion_matrix(clothes, counted(10, 8, 14)),
        "Twenty-five with long names": render_confusion_matrix(birds, counted(25, 12, 40)),
        "Sixty: the pairs most confused": render_confusion_matrix(many, counted(60, 9, 50), (7, 9)),
        "Several labels an image": render_pair_list(
            [ConfusedPair("dark, missed", 3, (0, -1)), ConfusedPair("red, called wrongly", 1, (-1, 2))],
            None,
            "The labels that are missed or called wrongly",
        ),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(theme.render_gallery(_demo_matrices()), encoding="utf-8")
