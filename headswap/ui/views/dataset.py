"""What was understood of the images, as HTML: a row for each class, the findings, what was left out.

Each button carries in ``data-`` attributes what it asks for; ``classes.js`` sends that on. Knows no Gradio.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from headswap.common.text import count, listed
from headswap.data.checks import Finding, findings, pairs_apart
from headswap.data.dataset import LabelledImages, Report
from headswap.data.label_tables import written
from headswap.data.leakage import NOTHING_SEEN, Seen
from headswap.ui.views.html import data_address, thumbnail

THUMBNAILS = 6  # for each class
MOST_THUMBNAILS = 120  # on the page
MOST_OPENED = 300  # of a class whose images are all shown
MOST_SHOWN = 24  # images of a finding
MOST_SKIPPED = 200  # rows of the table of what was left out

# What is offered to be removed at once: which of the images that belong together, and how the button says so.
_AT_ONCE = {
    "copies": (slice(1, None), "Keep one of each"),
    "dark": (slice(None), "Remove them"),
    "blurred": (slice(None), "Remove them"),
}


def nothing_yet() -> str:
    """What stands here before anything was read."""
    return (
        '<div class="hs-card hs-hint"><p><b>What was understood appears here</b>: the classes, how many images each '
        "has, and what was left out and why.</p><p>A class is a folder: <code>flowers/rose/1.jpg</code> shows a rose. "
        "Twenty images a class are a good start.</p></div>"
    )


def describe(
    images: LabelledImages,
    wanting: str = "",
    opened: str | None = None,
    undoable: bool = False,
    seen: Seen = NOTHING_SEEN,
) -> str:
    """What was understood.

    Args:
        images: what was read.
        wanting: what is still missing before they can be learned from.
        opened: the class whose images are all shown.
        undoable: whether the last change can be undone.
        seen: which of them the model knows that is to learn on.
    """
    each = max(1, min(THUMBNAILS, MOST_THUMBNAILS // len(images.classes)))
    rows = "".join(_row(images, label, each, opened) for label in range(len(images.classes)))
    return (
        f'<div class="hs-understood"><div class="hs-heading"><p class="hs-sentence" role="status">'
        f"<b>{count(len(images), 'image')} in {count(len(images.classes), 'class', 'classes')}</b>"
        f"{_halves(images, wanting, seen)}</p><span class='hs-actions'>{_undo() if undoable else ''}"
        f"{_button('Start over', do='forget', sure='Really remove all images?')}</span></div>"
        f"{_read_as(images.report)}{_wanted(wanting)}<ul class='hs-classes'>{rows}</ul>"
        f"{''.join(_found(images, finding) for finding in findings(images))}{_notes(images)}{_skipped(images.report)}"
        "</div>"
    )


def _read_as(report: Report) -> str:
    """What tables and halves were understood to say, the same sentence as on a command line."""
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in dict.fromkeys(report.understood))
    return f'<div class="hs-card hs-read-as" role="status">{said}</div>' if said else ""


def _halves(images: LabelledImages, wanting: str, seen: Seen) -> str:
    if wanting:
        return f", {_sizes(images)}."
    learned, checked = seen.split(images)
    return f": {len(learned):,} to learn from, {len(checked):,} to check on; {_sizes(images)}."


def _sizes(images: LabelledImages) -> str:
    """The smallest and the largest picture, in pixels."""
    sizes = sorted((traits.size for traits in images.traits), key=lambda size: size[0] * size[1])
    smallest, largest = (f"{width:,}\u00a0×\u00a0{height:,}" for width, height in (sizes[0], sizes[-1]))
    return f"all {smallest} pixels" if smallest == largest else f"from {smallest} to {largest} pixels"


def _wanted(wanting: str) -> str:
    return f'<p class="hs-card hs-wanting">{escape(wanting)}</p>' if wanting else ""


def _row(images: LabelledImages, label: int, each: int, opened: str | None) -> str:
    name, shown = images.classes[label], [i for i, labels in enumerate(images.shown) if label in labels]
    number, most = images.counts[name], max(images.counts.values())
    is_open = opened == name
    more = "Show fewer" if is_open else "Show all"
    pictures = _figures(images, shown[:MOST_OPENED]) if is_open else _thumbnails(images, shown[:each])
    actions = (
        (_button(more, name, do="open", label=name, expanded=is_open) if len(shown) > each or is_open else "")
        + _button("Add images", name, do="add", label=name)
        + _button("Rename", name, do="rename", label=name)
        + _button("Remove", name, do="remove class", label=name)
    )
    return (
        f"<li{' class=hs-opened' if is_open else ''}><span class='hs-class'><b>{escape(name)}</b>"
        f"<span>{count(number, 'image')}</span>"
        f"<span class='hs-share' aria-hidden='true'><span style='width:{number / most:.1%}'></span></span></span>"
        f"{pictures}<span class='hs-actions'>{actions}</span></li>"
    )


def _thumbnails(images: LabelledImages, places: Iterable[int]) -> str:
    shown = "".join(f'<img alt="" src="{thumbnail(images.pixels(i))}">' for i in places)
    return f"<span class='hs-thumbs'>{shown}</span>"


def _figures(images: LabelledImages, places: Sequence[int], classes: bool = False) -> str:
    """Each image with its name and a button that removes it; under them their classes, where these matter."""
    shown = "".join(
        f'<figure><img alt="{escape(images.names[i])}" title="{escape(images.names[i])}" '
        f'src="{thumbnail(images.pixels(i))}">'
        + (f"<figcaption>{escape(listed(images.named[i]) or 'none')}</figcaption>" if classes else "")
        + _button("Remove", images.names[i], do="remove", images=images.paths[i].stem, small=True)
        + "</figure>"
        for i in places
    )
    return f"<span class='hs-figures'>{shown}</span>"


def _found(images: LabelledImages, finding: Finding) -> str:
    shown, left = [], MOST_SHOWN
    for group in finding.images:
        if left > 0:
            shown.append(_figures(images, group[:left], classes=len(group) > 1))
        left -= len(group)
    more = f"<p class='hs-rest'>and {-left} more</p>" if left < 0 else ""
    at_once, words = _AT_ONCE.get(finding.kind, (slice(0, 0), ""))
    gone = [images.paths[i].stem for group in finding.images for i in group[at_once]]
    button = _button(words, do="remove", images=" ".join(gone)) if len(gone) > 1 else ""
    text = f"<b>{escape(finding.sentence)}</b> {escape(finding.advice)}"
    if finding.kind == "copies" and (apart := pairs_apart(images)):
        text += f" Drawn by lot, {count(apart, 'pair')} would stand both in what is learned and in what checks it."
    if not finding.images:
        return f"<p class='hs-card hs-finding'>{text}</p>"
    opened = " open" if finding.kind == "contradictions" else ""
    return (
        f"<details class='hs-card hs-finding'{opened}><summary>{text}</summary>"
        f"<div class='hs-sets'>{''.join(shown)}</div>{more}{button}</details>"
    )


def _notes(images: LabelledImages) -> str:
    notes = list(images.report.notes)
    bursts = len(set(filter(None, images.bursts)))
    if bursts:
        notes.append(
            f"The frames of {count(bursts, 'burst')} of the camera stay together, each burst on one side of the split; "
            f"drawn by lot, {count(pairs_apart(images), 'pair')} of almost equal pictures would stand on both sides."
        )
    return "".join(f"<p class='hs-card hs-finding'>{escape(note)}</p>" for note in notes)


def _skipped(report: Report) -> str:
    if not report.skipped:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>" for name, reason in report.skipped[:MOST_SKIPPED]
    )
    rest = len(report.skipped) - MOST_SKIPPED
    more = f"<p class='hs-rest'>and {rest:,} more; the table to download has all of them</p>" if rest > 0 else ""
    first = listed([Path(name).name for name, _ in report.skipped], most=2)
    table = data_address(written(("file", "why it was left out"), report.skipped).encode("utf-8-sig"), "text/csv")
    return (
        f"<details class='hs-card hs-finding hs-skipped'><summary><b>{count(len(report.skipped), 'file')} left out"
        f"</b>: {escape(first)}</summary><div class='hs-scroll'><table>"
        f"<thead><tr><th>File</th><th>Why it was left out</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
        f'<a class="hs-button" download="left-out.csv" href="{table}">Download as a table</a></details>'
    )


def _undo() -> str:
    return _button("Undo", do="undo")


def _button(words: str, whose: str = "", small: bool = False, expanded: bool | None = None, **asks: str) -> str:
    """A button that asks for something; to a screen reader it says whose."""
    data = "".join(f' data-{key}="{escape(value)}"' for key, value in asks.items())
    label = f' aria-label="{escape(words)}: {escape(whose)}"' if whose else ""
    state = f' aria-expanded="{str(expanded).lower()}"' if expanded is not None else ""
    kind = " hs-small" if small else ""
    return f'<button type="button" class="hs-button{kind}"{label}{state}{data}>{"×" if small else words}</button>'
