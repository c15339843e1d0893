"""What was understood of the images, as HTML: a row for each class, the findings, what was left out.

Each button carries in ``data-`` attributes what it asks for; ``classes.js`` sends that on. Knows no Gradio.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from headswap.common.text import format_count, join_names
from headswap.data.checks import Finding, check, count_leaking_pairs
from headswap.data.csv_tables import format_csv
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.data.load_report import LoadReport
from headswap.ui.views.html import make_thumbnail_url, to_data_url

MAX_THUMBNAILS_PER_CLASS = 6  # for each class
MAX_THUMBNAILS = 120  # on the page
MAX_EXPANDED_IMAGES = 300  # of a class whose images are all shown
MAX_FINDING_IMAGES = 24  # images of a finding
MAX_SKIPPED_ROWS = 200  # rows of the table of what was left out

# What is offered to be removed at once: which of the images that belong together, and how the button says so.
_REMOVAL_BY_FINDING = {
    "copies": (slice(1, None), "Keep one of each"),
    "dark": (slice(None), "Remove them"),
    "blurred": (slice(None), "Remove them"),
}


def render_empty_dataset() -> str:
    """What stands here before anything was read."""
    return (
        '<div class="hs-card hs-hint"><p><b>What was understood appears here</b>: the classes, how many images each '
        "has, and what was left out and why.</p><p>A class is a folder: <code>flowers/rose/1.jpg</code> shows a rose. "
        "Twenty images a class are a good start.</p></div>"
    )


def render_dataset(
    images: LabelledImages,
    untrainable_reason: str = "",
    expanded_class: str | None = None,
    can_undo: bool = False,
    seen: SeenImages = NO_SEEN_IMAGES,
) -> str:
    """What was understood.

    Args:
        images: what was read.
        wanting: what is still missing before they can be learned from.
        opened: the class whose images are all shown.
        undoable: whether the last change can be undone.
        seen: which of them the model knows that is to learn on.
    """
    each = max(1, min(MAX_THUMBNAILS_PER_CLASS, MAX_THUMBNAILS // len(images.classes)))
    rows = "".join(_render_class_row(images, label, each, expanded_class) for label in range(len(images.classes)))
    return (
        f'<div class="hs-understood"><div class="hs-heading"><p class="hs-sentence" role="status">'
        f"<b>{format_count(len(images), 'image')} in {format_count(len(images.classes), 'class', 'classes')}</b>"
        f"{_describe_split(images, untrainable_reason, seen)}</p><span class='hs-actions'>{_render_undo_button() if can_undo else ''}"
        f"{_render_button('Start over', do='forget', sure='Really remove all images?')}</span></div>"
        f"{_render_understood(images.report)}{_render_untrainable_reason(untrainable_reason)}<ul class='hs-classes'>{rows}</ul>"
        f"{''.join(_render_finding(images, finding) for finding in check(images))}{_render_notes(images)}{_render_skipped(images.report)}"
        "</div>"
    )


def _render_understood(report: LoadReport) -> str:
    """What tables and halves were understood to say, the same sentence as on a command line."""
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in dict.fromkeys(report.interpretation))
    return f'<div class="hs-card hs-read-as" role="status">{said}</div>' if said else ""


def _describe_split(images: LabelledImages, wanting: str, seen: SeenImages) -> str:
    if wanting:
        return f", {_describe_sizes(images)}."
    learned, checked = seen.split(images)
    return f": {len(learned):,} to learn from, {len(checked):,} to check on; {_describe_sizes(images)}."


def _describe_sizes(images: LabelledImages) -> str:
    """The smallest and the largest picture, in pixels."""
    sizes = sorted((traits.size for traits in images.stats), key=lambda size: size[0] * size[1])
    smallest, largest = (f"{width:,}\u00a0×\u00a0{height:,}" for width, height in (sizes[0], sizes[-1]))
    return f"all {smallest} pixels" if smallest == largest else f"from {smallest} to {largest} pixels"


def _render_untrainable_reason(wanting: str) -> str:
    return f'<p class="hs-card hs-wanting">{escape(wanting)}</p>' if wanting else ""


def _render_class_row(images: LabelledImages, label: int, max_thumbnails: int, opened: str | None) -> str:
    name, shown = images.classes[label], [i for i, labels in enumerate(images.label_sets) if label in labels]
    number, most = images.counts[name], max(images.counts.values())
    is_open = opened == name
    more = "Show fewer" if is_open else "Show all"
    pictures = (
        _render_images(images, shown[:MAX_EXPANDED_IMAGES])
        if is_open
        else _render_thumbnails(images, shown[:max_thumbnails])
    )
    actions = (
        (
            _render_button(more, name, do="open", label=name, expanded=is_open)
            if len(shown) > max_thumbnails or is_open
            else ""
        )
        + _render_button("Add images", name, do="add", label=name)
        + _render_button("Rename", name, do="rename", label=name)
        + _render_button("Remove", name, do="remove class", label=name)
    )
    return (
        f"<li{' class=hs-opened' if is_open else ''}><span class='hs-class'><b>{escape(name)}</b>"
        f"<span>{format_count(number, 'image')}</span>"
        f"<span class='hs-share' aria-hidden='true'><span style='width:{number / most:.1%}'></span></span></span>"
        f"{pictures}<span class='hs-actions'>{actions}</span></li>"
    )


def _render_thumbnails(images: LabelledImages, indices: Iterable[int]) -> str:
    shown = "".join(f'<img alt="" src="{make_thumbnail_url(images.pixels(i))}">' for i in indices)
    return f"<span class='hs-thumbs'>{shown}</span>"


def _render_images(images: LabelledImages, indices: Sequence[int], with_classes: bool = False) -> str:
    """Each image with its name and a button that removes it; under them their classes, where these matter."""
    shown = "".join(
        f'<figure><img alt="{escape(images.names[i])}" title="{escape(images.names[i])}" '
        f'src="{make_thumbnail_url(images.pixels(i))}">'
        + (f"<figcaption>{escape(join_names(images.label_names[i]) or 'none')}</figcaption>" if with_classes else "")
        + _render_button("Remove", images.names[i], do="remove", images=images.paths[i].stem, small=True)
        + "</figure>"
        for i in indices
    )
    return f"<span class='hs-figures'>{shown}</span>"


def _render_finding(images: LabelledImages, finding: Finding) -> str:
    shown, left = [], MAX_FINDING_IMAGES
    for group in finding.index_groups:
        if left > 0:
            shown.append(_render_images(images, group[:left], with_classes=len(group) > 1))
        left -= len(group)
    more = f"<p class='hs-rest'>and {-left} more</p>" if left < 0 else ""
    at_once, words = _REMOVAL_BY_FINDING.get(finding.kind, (slice(0, 0), ""))
    gone = [images.paths[i].stem for group in finding.index_groups for i in group[at_once]]
    button = _render_button(words, do="remove", images=" ".join(gone)) if len(gone) > 1 else ""
    text = f"<b>{escape(finding.sentence)}</b> {escape(finding.advice)}"
    if finding.kind == "copies" and (apart := count_leaking_pairs(images)):
        text += (
            f" Drawn by lot, {format_count(apart, 'pair')} would stand both in what is learned and in what checks it."
        )
    if not finding.index_groups:
        return f"<p class='hs-card hs-finding'>{text}</p>"
    opened = " open" if finding.kind == "contradictions" else ""
    return (
        f"<details class='hs-card hs-finding'{opened}><summary>{text}</summary>"
        f"<div class='hs-sets'>{''.join(shown)}</div>{more}{button}</details>"
    )


def _render_notes(images: LabelledImages) -> str:
    notes = list(images.report.notes)
    bursts = len(set(filter(None, images.bursts)))
    if bursts:
        notes.append(
            f"The frames of {format_count(bursts, 'burst')} of the camera stay together, each burst on one side of the split; "
            f"drawn by lot, {format_count(count_leaking_pairs(images), 'pair')} of almost equal pictures would stand on both sides."
        )
    return "".join(f"<p class='hs-card hs-finding'>{escape(note)}</p>" for note in notes)


def _render_skipped(report: LoadReport) -> str:
    if not report.skipped:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>"
        for name, reason in report.skipped[:MAX_SKIPPED_ROWS]
    )
    rest = len(report.skipped) - MAX_SKIPPED_ROWS
    more = f"<p class='hs-rest'>and {rest:,} more; the table to download has all of them</p>" if rest > 0 else ""
    first = join_names([Path(name).name for name, _ in report.skipped], max_names=2)
    table = to_data_url(format_csv(("file", "why it was left out"), report.skipped).encode("utf-8-sig"), "text/csv")
    return (
        f"<details class='hs-card hs-finding hs-skipped'><summary><b>{format_count(len(report.skipped), 'file')} left out"
        f"</b>: {escape(first)}</summary><div class='hs-scroll'><table>"
        f"<thead><tr><th>File</th><th>Why it was left out</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
        f'<a class="hs-button" download="left-out.csv" href="{table}">Download as a table</a></details>'
    )


def _render_undo_button() -> str:
    return _render_button("Undo", do="undo")


def _render_button(
    words: str, target: str = "", small: bool = False, expanded: bool | None = None, **data_attributes: str
) -> str:
    """A button that asks for something; to a screen reader it says whose."""
    data = "".join(f' data-{key}="{escape(value)}"' for key, value in data_attributes.items())
    label = f' aria-label="{escape(words)}: {escape(target)}"' if target else ""
    state = f' aria-expanded="{str(expanded).lower()}"' if expanded is not None else ""
    kind = " hs-small" if small else ""
    return f'<button type="button" class="hs-button{kind}"{label}{state}{data}>{"×" if small else words}</button>'
