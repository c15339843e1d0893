"""Renders a loaded dataset as HTML: classes with thumbnails, findings, skipped files.

Buttons have in ``data-`` attributes what they request; ``classes.js`` sends it to the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from headswap.common.text import format_count, join_names
from headswap.data.checks import Finding, check, count_leaking_pairs
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.data.load_report import LoadReport
from headswap.ui.views.html import (
    make_thumbnail_url,
    render_button,
    render_csv_link,
    render_image,
    render_remainder,
)

MAX_THUMBNAILS_PER_CLASS = 6
MAX_THUMBNAILS = 120  # of all classes
MAX_EXPANDED_IMAGES = 300  # of the expanded class
MAX_FINDING_IMAGES = 24  # of each finding
MAX_SKIPPED_ROWS = 200  # of the table of skipped files

# By kind of finding: how many images of each group its button keeps, and the button's text.
_REMOVAL_BY_FINDING = {"copies": (1, "Keep one of each"), "dark": (0, "Remove them"), "blurred": (0, "Remove them")}


def render_empty_dataset() -> str:
    """The hint in place of a dataset before images were loaded."""
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
    """The dataset with a row for each class, findings and skipped files.

    Args:
        images: The dataset.
        untrainable_reason: Why no model can be trained on it; empty if one can.
        expanded_class: The class all of whose images are shown.
        can_undo: Whether the last change can be undone.
        seen: The images that the next training's model knows already.
    """
    max_thumbnails = max(1, min(MAX_THUMBNAILS_PER_CLASS, MAX_THUMBNAILS // len(images.classes)))
    rows = "".join(
        _render_class_row(images, label, max_thumbnails, expanded_class) for label in range(len(images.classes))
    )
    counts = f"{format_count(len(images), 'image')} in {format_count(len(images.classes), 'class', 'classes')}"
    actions = render_button("Undo", do="undo") if can_undo else ""
    actions += render_button("Start over", do="forget", sure="Really remove all images?")
    return (
        '<div class="hs-understood"><div class="hs-heading"><p class="hs-sentence" role="status">'
        f"<b>{counts}</b>{_describe_split(images, untrainable_reason, seen)}</p>"
        f"<span class='hs-actions'>{actions}</span></div>"
        f"{_render_interpretation(images.report)}{_render_untrainable_reason(untrainable_reason)}"
        f"<ul class='hs-classes'>{rows}</ul>"
        f"{''.join(_render_finding(images, finding) for finding in check(images))}"
        f"{_render_notes(images)}{_render_skipped(images.report)}</div>"
    )


def _render_interpretation(report: LoadReport) -> str:
    """How label tables and train/test folders were interpreted, in the words of the command line."""
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in dict.fromkeys(report.interpretation))
    return f'<div class="hs-card hs-read-as" role="status">{sentences}</div>' if sentences else ""


def _describe_split(images: LabelledImages, untrainable_reason: str, seen: SeenImages) -> str:
    if untrainable_reason:
        return f", {_describe_sizes(images)}."
    training, validation = seen.split(images)
    return f": {len(training):,} to learn from, {len(validation):,} to check on; {_describe_sizes(images)}."


def _describe_sizes(images: LabelledImages) -> str:
    """The sizes of the smallest and of the largest image in pixels."""
    sizes = sorted((stats.size for stats in images.stats), key=lambda size: size[0] * size[1])
    smallest, largest = (f"{width:,}\u00a0×\u00a0{height:,}" for width, height in (sizes[0], sizes[-1]))
    return f"all {smallest} pixels" if smallest == largest else f"from {smallest} to {largest} pixels"


def _render_untrainable_reason(reason: str) -> str:
    return f'<p class="hs-card hs-wanting">{escape(reason)}</p>' if reason else ""


def _render_class_row(images: LabelledImages, label: int, max_thumbnails: int, expanded_class: str | None) -> str:
    name = images.classes[label]
    indices = [i for i, labels in enumerate(images.label_sets) if label in labels]
    num_images, max_images = images.counts[name], max(images.counts.values())
    is_expanded = expanded_class == name
    actions = ""
    if len(indices) > max_thumbnails or is_expanded:
        text = "Show fewer" if is_expanded else "Show all"
        actions += render_button(text, name, do="open", label=name, expanded=is_expanded)
    actions += render_button("Add images", name, do="add", label=name)
    actions += render_button("Rename", name, do="rename", label=name)
    actions += render_button("Remove", name, do="remove class", label=name)
    if is_expanded:
        pictures = _render_removable_images(images, indices[:MAX_EXPANDED_IMAGES])
    else:
        pictures = _render_thumbnails(images, indices[:max_thumbnails])
    return (
        f"<li{' class=hs-opened' if is_expanded else ''}><span class='hs-class'><b>{escape(name)}</b>"
        f"<span>{format_count(num_images, 'image')}</span>"
        f"<span class='hs-share' aria-hidden='true'><span style='width:{num_images / max_images:.1%}'></span></span>"
        f"</span>{pictures}<span class='hs-actions'>{actions}</span></li>"
    )


def _render_thumbnails(images: LabelledImages, indices: Iterable[int]) -> str:
    thumbnails = "".join(f'<img alt="" src="{make_thumbnail_url(images.pixels(i))}">' for i in indices)
    return f"<span class='hs-thumbs'>{thumbnails}</span>"


def _render_removable_images(images: LabelledImages, indices: Sequence[int], with_classes: bool = False) -> str:
    """Each image with its name and a button that removes it, optionally with its class names below."""
    figures = []
    for i in indices:
        picture = render_image(images.names[i], make_thumbnail_url(images.pixels(i)))
        label_names = escape(join_names(images.label_names[i]) or "none")
        caption = f"<figcaption>{label_names}</figcaption>" if with_classes else ""
        button = render_button("Remove", images.names[i], do="remove", images=images.paths[i].stem, small=True)
        figures.append(f"<figure>{picture}{caption}{button}</figure>")
    return f"<span class='hs-figures'>{''.join(figures)}</span>"


def _render_finding(images: LabelledImages, finding: Finding) -> str:
    text = f"<b>{escape(finding.sentence)}</b> {escape(finding.advice)}"
    if finding.kind == "copies" and (num_pairs := count_leaking_pairs(images)):
        pairs = format_count(num_pairs, "pair")
        text += f" Drawn by lot, {pairs} would stand both in what is learned and in what checks it."
    if not finding.index_groups:
        return f"<p class='hs-card hs-finding'>{text}</p>"
    groups, num_left = [], MAX_FINDING_IMAGES
    for group in finding.index_groups:
        if num_left > 0:
            groups.append(_render_removable_images(images, group[:num_left], with_classes=len(group) > 1))
        num_left -= len(group)
    more = render_remainder(MAX_FINDING_IMAGES - num_left, MAX_FINDING_IMAGES)
    button = ""
    if finding.kind in _REMOVAL_BY_FINDING:
        num_kept, button_text = _REMOVAL_BY_FINDING[finding.kind]
        keys = [images.paths[i].stem for group in finding.index_groups for i in group[num_kept:]]
        if len(keys) > 1:
            button = render_button(button_text, do="remove", images=" ".join(keys))
    is_open = " open" if finding.kind == "contradictions" else ""
    return (
        f"<details class='hs-card hs-finding'{is_open}><summary>{text}</summary>"
        f"<div class='hs-sets'>{''.join(groups)}</div>{more}{button}</details>"
    )


def _render_notes(images: LabelledImages) -> str:
    notes = list(images.report.notes)
    num_bursts = len(set(filter(None, images.bursts)))
    if num_bursts:
        bursts, pairs = format_count(num_bursts, "burst"), format_count(count_leaking_pairs(images), "pair")
        notes.append(
            f"The frames of {bursts} of the camera stay together, each burst on one side of the split; drawn by lot, "
            f"{pairs} of almost equal pictures would stand on both sides."
        )
    return "".join(f"<p class='hs-card hs-finding'>{escape(note)}</p>" for note in notes)


def _render_skipped(report: LoadReport) -> str:
    skipped = report.skipped
    if not skipped:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>" for name, reason in skipped[:MAX_SKIPPED_ROWS]
    )
    more = render_remainder(len(skipped), MAX_SKIPPED_ROWS, "more; the table to download has all of them")
    names = join_names([Path(name).name for name, _ in skipped], max_names=2)
    return (
        "<details class='hs-card hs-finding hs-skipped'><summary>"
        f"<b>{format_count(len(skipped), 'file')} left out</b>: {escape(names)}</summary><div class='hs-scroll'><table>"
        f"<thead><tr><th>File</th><th>Why it was left out</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"
        f"{render_csv_link('left-out.csv', ('file', 'why it was left out'), skipped)}</details>"
    )
