"""What the model gets wrong: it answers images whose classes are known, and its mistakes can be looked at and mended.

Knows nothing of how it learned but which images were held back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr
import torch
from torch import Tensor

from headswap.common.errors import InputError, PictureError
from headswap.common.limits import limits
from headswap.common.text import count, listed, percent
from headswap.data.dataset import LabelledImages
from headswap.data.loading import gathering, loading
from headswap.data.sources import ARCHIVES
from headswap.evaluation.evaluate import Evaluation, Mistake, answered, compared
from headswap.networks.classifier import Classifier
from headswap.ui.panels.help_notes import note
from headswap.ui.panels.picker import Upload, forget, received
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Judged, Visitor
from headswap.ui.static.assets import read_static
from headswap.ui.views import confusion_matrix
from headswap.ui.views.html import problem_card, thumbnail

BATCH = 8  # images in one turn
TELLS = 0.5  # seconds between two words on how far it is
MOST_MISTAKES = 12
MOST_OF_A_CELL = 24
MOST_UNREADABLE = 5
ONE_CLASS = ["Class", "Precision", "Recall", "F1", "Images"]
SEVERAL = [*ONE_CLASS, "Average precision"]
TOO_EARLY = "No model has learned anything yet. Press Train in the third step, then judge it."
LATER = "The model has changed since. Judge it again."

TEMPLATE = """
<div class="hs-set">
  <p><b>Or judge it by images that it has never seen:</b> a folder or a zip with one sub-folder for each class.
    Of one with halves, test/ judges, or else val/. It never learns from them.</p>
  <div class="hs-buttons">
    <button type="button" class="hs-button hs-set-folder">Choose a test folder</button>
    <button type="button" class="hs-button hs-set-archive">Choose a test zip</button>
  </div>
  <p class="hs-set-says" role="status" aria-live="polite"></p>
  <input type="file" class="hs-set-folder" webkitdirectory multiple hidden aria-label="A folder of test images">
  <input type="file" class="hs-set-archive" hidden aria-label="An archive of test images" accept=".zip,.tar,.gz,.tgz">
</div>
"""


@dataclass(frozen=True)
class Judging:
    """The components of this part."""

    judge: gr.Button
    test_set: gr.HTML
    told: gr.HTML
    matrix: gr.HTML
    figures: gr.Dataframe
    mistakes: gr.HTML

    @property
    def ready(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [self.judge, *self.shown]

    @property
    def shown(self) -> list[gr.components.Component]:
        """What the other handlers give, in order."""
        return [self.told, self.matrix, self.figures, self.mistakes]


def build() -> Judging:
    """The components, without events."""
    asking = read_static("asking.js")
    gr.HTML("<h2>What it gets wrong</h2>", elem_id="wrong-title", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            judge = gr.Button("Judge it by the validation images", elem_id="judge", interactive=False)
            note("judge")
        with gr.Column(scale=3, min_width=300):
            test_set = gr.HTML(
                html_template=TEMPLATE,
                js_on_load=read_static("test_set.js"),
                apply_default_css=False,
                elem_id="test-set",
                most=limits().images,
            )
    told = gr.HTML(elem_id="judged", apply_default_css=False)
    drawn = gr.HTML(js_on_load=asking, elem_id="matrix", apply_default_css=False)
    note("matrix")
    figures = gr.Dataframe(
        headers=ONE_CLASS,
        interactive=False,
        visible=False,
        label="Each class against all others",
        column_widths=["150px", "104px", "88px", "72px", "84px"],
        elem_id="class-figures",
        max_height=420,
        wrap=True,
    )
    note("class-figures")
    mistakes = gr.HTML(js_on_load=asking, elem_id="mistakes", apply_default_css=False)
    note("mistakes")
    return Judging(judge, test_set, told, drawn, figures, mistakes)


def prepare(visitor: Visitor) -> tuple[Any, ...]:
    """What the model can be judged by, and how it was judged if it is the same still: values for ``Judging.ready``."""
    if visitor.judged and visitor.judged.by is not visitor.trained:
        visitor.judged = None
    held_back, own = False, False
    if visitor.trained:
        held_back = visitor.held_back is not None
        own = visitor.images is not None and not _unfit(visitor.trained.model, visitor.images)
    words = "Judge it by your images" if own and not held_back else "Judge it by the validation images"
    button = gr.Button(words, interactive=held_back or own)
    if visitor.judged:
        return button, *_results(visitor, visitor.judged)
    return button, *_empty("" if held_back or own or not visitor.trained else _hint(_why_not(visitor)))


def judge(visitor: Visitor, turns: Turns) -> Iterator[tuple[Any, ...]]:
    """Let the model answer the images that were held back, or the visitor's own; values for ``Judging.shown``."""
    if visitor.trained is None:
        yield _empty(problem_card(TOO_EARLY))
        return
    images, whose = visitor.held_back, "validation"
    if images is None:
        images, whose = visitor.images, "learned"
    if images is None:
        yield _empty(problem_card(_why_not(visitor)))
        return
    yield from _judging(visitor, turns, images, whose)


def judge_by(visitor: Visitor, turns: Turns, sent: object) -> Iterator[tuple[Any, ...]]:
    """The same by a folder or an archive that was sent for it; the visitor's own images stay as they are."""
    uploads: list[Upload] = []
    try:
        if visitor.trained is None:
            yield _empty(problem_card(TOO_EARLY))
            return
        uploads.extend(received(getattr(sent, "files", None)))
        first = uploads[0] if len(uploads) == 1 else None
        if first and first.name.lower().endswith(ARCHIVES):
            steps = loading(first.path, name=first.name, for_evaluation=True)
        else:
            steps = gathering([(each.name, each.path, "") for each in uploads], for_evaluation=True)
        images, said = None, 0.0
        try:
            for step in steps:
                if isinstance(step, LabelledImages):
                    images = step
                elif time.monotonic() - said > TELLS:
                    said = time.monotonic()
                    share = f"{step.done / step.of:.0%}" if step.of else f"{step.done:,} files so far"
                    yield _telling(f"Reading the test images: {share}.")
        finally:
            steps.close()
        yield from _judging(visitor, turns, images, "test")
    except InputError as error:
        yield _empty(problem_card(str(error)))
    finally:
        forget(uploads)


def press(visitor: Visitor, asked: object) -> tuple[Any, ...]:
    """What a press on a cell or on a mistake asks for; what no longer exists is passed over. Values for
    ``Judging.shown``."""
    judged = visitor.judged
    if judged is None or judged.by is not visitor.trained:
        return _empty(_hint(LATER))
    do, key = getattr(asked, "do", None), getattr(asked, "image", None)
    if do == "cell":
        cell = _cell(judged.evaluation, getattr(asked, "given", None), getattr(asked, "answered", None))
        visitor.judged = replace(judged, cell=None if cell == judged.cell else cell)
    elif do in ("relabel", "remove"):
        _mend(visitor, judged, do, key)
    judged = visitor.judged or judged
    return gr.skip(), _drawn(visitor, judged), gr.skip(), _mistakes(visitor, judged)


# What the model is judged by


def _unfit(model: Classifier, images: LabelledImages) -> str:
    """Why the model cannot be judged by these images, in a sentence; nothing where it can."""
    unknown = [name for name in images.classes if name not in model.classes]
    if unknown:
        return (
            f"The images show {listed(unknown, most=4)}, which the model does not know: it knows "
            f"{listed(model.classes, most=8)}. A test folder has a sub-folder for each of them."
        )
    if images.multi_label and not model.multi_label:
        return "Some of these images carry several labels or none, but the model always gives one."
    return ""


def _why_not(visitor: Visitor) -> str:
    if visitor.images is None:
        return "There are no images to judge the model by. Choose some in the first step, or a test folder here."
    return _unfit(visitor.trained.model, visitor.images)


def _judging(visitor: Visitor, turns: Turns, images: LabelledImages, whose: str) -> Iterator[tuple[Any, ...]]:
    trained, said = visitor.trained, time.monotonic()
    model = trained.model
    if problem := _unfit(model, images):
        yield _empty(problem_card(problem))
        return
    images = images.fitting(model.classes, model.multi_label)
    rows: list[Tensor] = []
    read: list[int] = []
    unreadable: list[tuple[str, str]] = []
    for first in range(0, len(images), BATCH):
        with turns.turn():  # in which nothing is told: whoever listens may take an hour over it
            try:
                pictures = _readable(model, images, range(first, min(first + BATCH, len(images))), read, unreadable)
            except ValueError:  # its files have been let go of meanwhile
                pictures = None
            else:
                rows.append(model.probabilities(pictures).clone())
        if pictures is None:
            yield _empty(_hint("These images have been let go of. Choose them again in the first step."))
            return
        if time.monotonic() - said > TELLS:
            said = time.monotonic()
            yield _telling(f"The model answers: {min(first + BATCH, len(images)):,} of {len(images):,} images.")
    if not read:
        yield _empty(problem_card("None of these images can be read, so there is nothing to judge the model by."))
        return
    images = images.subset(read)
    with turns.turn():
        evaluation = compared(model, images, torch.cat(rows))
    visitor.judged = Judged(trained, images, evaluation, whose, tuple(unreadable))
    yield _results(visitor, visitor.judged)


def _readable(
    model: Classifier, images: LabelledImages, places: range, read: list[int], unreadable: list[tuple[str, str]]
) -> list[Tensor]:
    """The pictures at these places that can be read; notes down which those are, and of the others why not.

    Raises:
        ValueError: if their files have been let go of.
    """
    pictures = []
    for i in places:
        try:
            pictures.append(_pixels(model, images, i))
            read.append(i)
        except PictureError as error:
            unreadable.append((error.name, error.reason))
    return pictures


def _pixels(model: Classifier, images: LabelledImages, i: int) -> Tensor:
    return images.pixels(i, model.preprocess.resize, model.preprocess.interpolation)


# What is mended


def _mend(visitor: Visitor, judged: Judged, do: str, key: object) -> None:
    """Change the visitor's images, and nothing else: one image shows what the model answered, or goes."""
    mistake = next((m for m in judged.evaluation.mistakes if judged.images.paths[m.index].stem == key), None)
    images = visitor.images
    if mistake is None or images is None or judged.images.paths[mistake.index] not in images.paths:
        return
    place = images.paths.index(judged.images.paths[mistake.index])
    if do == "remove":
        changed = images.without([place])
    elif images.multi_label:
        names = set(images.named[place]) ^ {mistake.answered or mistake.given}
        changed = images.showing([tuple(names) if i == place else each for i, each in enumerate(images.named)])
    else:
        changed = images.relabelled(place, mistake.answered)
    if changed.classes:
        visitor.take(changed)
    else:
        visitor.forget_images()


def _mended(visitor: Visitor, judged: Judged, i: int) -> str:
    """What has become of an image that was judged, in a sentence; nothing where all is as it was."""
    if judged.whose == "test" or visitor.images is None:
        return ""
    path = judged.images.paths[i]
    if path not in visitor.images.paths:
        return "Removed."
    now = visitor.images.named[visitor.images.paths.index(path)]
    return "" if set(now) == set(judged.images.named[i]) else f"Now {listed(now) or 'without a label'}."


# How it is shown


def _telling(words: str) -> tuple[Any, ...]:
    said = f"<p class='hs-sentence' role='status' aria-live='polite'>{escape(words)}</p>"
    return said, gr.skip(), gr.skip(), gr.skip()


def _empty(words: str) -> tuple[Any, ...]:
    return words, "", gr.Dataframe(visible=False), ""


def _hint(words: str) -> str:
    return f'<p class="hs-card hs-hint">{escape(words)}</p>' if words else ""


def _results(visitor: Visitor, judged: Judged) -> tuple[Any, ...]:
    """Values for ``Judging.shown``."""
    return _told(judged), _drawn(visitor, judged), _figures(judged.evaluation), _mistakes(visitor, judged)


def _told(judged: Judged) -> str:
    evaluation, record = judged.evaluation, judged.by.model.record
    low, high = evaluation.interval
    chose = judged.whose == "validation" and record is not None and record.chosen
    images, all_labels = count(evaluation.of, "image"), " with all their labels" if evaluation.multi_label else ""
    which = {
        "validation": f"{count(evaluation.of, 'validation image')} that were held back from learning",
        "learned": f"your {images}",
        "test": f"{count(evaluation.of, 'test image')} that you have sent for it",
    }[judged.whose]
    chosen = " They chose the epoch, so the figure flatters a little." if chose else ""
    largest = "the most frequent labels" if evaluation.multi_label else "the largest class"
    bars = _bar("this model", evaluation.accuracy, (low, high)) + _bar(f"always {largest}", evaluation.always_largest)
    precision = (
        f" The mean average precision is {evaluation.mean_average_precision:.2f}." if evaluation.multi_label else ""
    )
    words = (
        f"Of {which}: <b>{evaluation.right} right{all_labels}, {percent(evaluation.accuracy)}</b> (between "
        f"{percent(low)} and {percent(high)}). Always answering {largest} would get "
        f"{percent(evaluation.always_largest)}.{precision}{chosen} {evaluation.leakage}"
    ).replace(" %", "\u00a0%")
    return (
        f'<div class="hs-card hs-judged" role="status"><p class="hs-sentence">{words}</p>{_read_as(judged)}{bars}'
        f"{_unread(judged)}</div>"
    )


def _bar(words: str, share: float, interval: tuple[float, float] | None = None) -> str:
    likely = f'<i style="left:{interval[0]:.1%};width:{interval[1] - interval[0]:.1%}"></i>' if interval else ""
    grey = "" if interval else " hs-blind"
    return (
        f'<div class="hs-bar-row{grey}" aria-hidden="true"><span class="hs-bar-name">{words}</span>'
        f'<span class="hs-bar-track"><span style="width:{share:.1%}"></span>{likely}</span>'
        f'<span class="hs-bar-figure">{percent(share)}</span></div>'
    )


def _read_as(judged: Judged) -> str:
    """How a test set that was sent was understood."""
    report = judged.images.report
    said = [*report.understood, *report.notes] if judged.whose == "test" else []
    return f"<p class='hs-rest'>{escape(' '.join(said))}</p>" if said else ""


def _unread(judged: Judged) -> str:
    if not judged.unreadable:
        return ""
    said = [f"{name}: {reason}" for name, reason in judged.unreadable[:MOST_UNREADABLE]]
    rest = len(judged.unreadable) - len(said)
    more = f"; and {rest:,} more" if rest else ""
    return f"<p class='hs-rest'>Not counted, because they cannot be read: {escape('; '.join(said) + more)}.</p>"


def _drawn(visitor: Visitor, judged: Judged) -> str:
    evaluation, cell = judged.evaluation, judged.cell
    if evaluation.multi_label:
        found = _label_pairs(evaluation)
        drawing = confusion_matrix.pairs(found, cell, "The labels that are missed or called wrongly")
    else:
        drawing = confusion_matrix.draw(evaluation.classes, evaluation.confusion.tolist(), cell)
    return f'<div class="hs-confusion">{drawing}{_opened(visitor, judged)}</div>'


def _label_pairs(evaluation: Evaluation) -> list[confusion_matrix.Pair]:
    found = []
    for i, ((_, called), (missed, _)) in enumerate(evaluation.confusion.tolist()):
        name = evaluation.classes[i]
        found.append(confusion_matrix.Pair(f"{name}, missed", missed, (i, -1)))
        found.append(confusion_matrix.Pair(f"{name}, called wrongly", called, (-1, i)))
    return sorted((pair for pair in found if pair.images), key=lambda pair: -pair.images)


def _cell(evaluation: Evaluation, given: object, answer: object) -> tuple[int, int] | None:
    """A cell as the browser names it, if there is one."""
    try:
        cell = int(str(given)), int(str(answer))
    except ValueError:
        return None
    least = -1 if evaluation.multi_label else 0
    fits = all(least <= place < len(evaluation.classes) for place in cell)
    return cell if fits and (cell.count(-1) == 1 if evaluation.multi_label else True) else None


def _members(judged: Judged, cell: tuple[int, int]) -> list[int]:
    """The images of a cell, the most confident answers first."""
    given, answer = cell
    evaluation, called = judged.evaluation, answered(judged.by.model, judged.evaluation.probabilities)
    column = answer if answer >= 0 else given
    found = [
        i
        for i, labels in enumerate(judged.images.shown)
        if (given in labels if given >= 0 else answer not in labels) and bool(called[i, column]) == (answer >= 0)
    ]
    sign = 1 if answer < 0 else -1
    return sorted(found, key=lambda i: sign * evaluation.probabilities[i, column].item())


def _opened(visitor: Visitor, judged: Judged) -> str:
    """The images of the cell that is pressed."""
    if judged.cell is None:
        return _hint("Press a number, and its images appear here.")
    given, answer = judged.cell
    classes, mistakes = judged.evaluation.classes, {m.index: m for m in judged.evaluation.mistakes}
    if given < 0:
        words = f"not {classes[answer]}, but called so"
    elif answer < 0:
        words = f"{classes[given]}, but not called so"
    else:
        words = f"{classes[given]}, answered {classes[answer]}"
    members = _members(judged, judged.cell)
    shown = "".join(_figure(visitor, judged, i, mistakes.get(i)) for i in members[:MOST_OF_A_CELL])
    rest = len(members) - MOST_OF_A_CELL
    more = f"<p class='hs-rest'>and {rest:,} more</p>" if rest > 0 else ""
    return (
        f'<section class="hs-cell" aria-label="Images of this cell"><p role="status"><b>'
        f"{count(len(members), 'image')}: {escape(words)}</b></p><div class='hs-mistakes'>{shown}</div>{more}</section>"
    )


def _figures(evaluation: Evaluation) -> gr.Dataframe:
    rows = []
    for c in evaluation.per_class:
        row: list[Any] = [c.name, *(f"{figure:.2f}" for figure in (c.precision, c.recall, c.f1)), c.support]
        if evaluation.multi_label:
            row.append("–" if c.average_precision != c.average_precision else f"{c.average_precision:.2f}")
        rows.append(row)
    headers = SEVERAL if evaluation.multi_label else ONE_CLASS
    kinds = ["str", *["str"] * 3, "number", *["str"] * (len(headers) - 5)]
    return gr.Dataframe(value=rows, headers=headers, datatype=kinds, visible=True)


def _mistakes(visitor: Visitor, judged: Judged) -> str:
    found: Sequence[Mistake] = judged.evaluation.mistakes
    if not found:
        return '<p class="hs-card hs-hint">None of these images is answered wrongly.</p>'
    shown = "".join(_figure(visitor, judged, mistake.index, mistake) for mistake in found[:MOST_MISTAKES])
    rest = len(found) - MOST_MISTAKES
    more = f"<p class='hs-rest'>and {rest:,} more; press a number above to see them</p>" if rest > 0 else ""
    advice = (
        "They are as you sent them."
        if judged.whose == "test"
        else "Some may only have the wrong label. Relabel or remove those, then train again to use it; "
        "Undo stands in the first step."
    )
    return (
        f'<p class="hs-sentence"><b>The most confident mistakes.</b> {advice}</p>'
        f'<div class="hs-mistakes">{shown}</div>{more}'
    )


def _figure(visitor: Visitor, judged: Judged, i: int, mistake: Mistake | None) -> str:
    images, model = judged.images, judged.by.model
    name = images.names[i]
    try:
        picture = f'<img alt="{escape(name)}" title="{escape(name)}" src="{thumbnail(_pixels(model, images, i), 160)}">'
    except ValueError:  # an InputError too: the file was lost, or let go of
        picture = "<p class='hs-rest'>It cannot be read any more.</p>"
    said = f"<figcaption>{_said(judged, i, mistake)}</figcaption>"
    return f"<figure>{picture}{said}{_ways(visitor, judged, i, mistake)}</figure>"


def _said(judged: Judged, i: int, mistake: Mistake | None) -> str:
    if mistake is None:
        sure = judged.evaluation.probabilities[i].max().item()
        return f"<b>{escape(listed(judged.images.named[i]) or 'no label')}</b>, {percent(sure)}"
    sure = percent(mistake.probability)
    if judged.evaluation.multi_label:
        what = f"{escape(mistake.answered)} called" if mistake.answered else f"{escape(mistake.given)} missed"
        return f"<b>{what}</b>, {sure}"
    return f"<b>{escape(mistake.given)}</b>, answered <b>{escape(mistake.answered)}</b>, {sure}"


def _ways(visitor: Visitor, judged: Judged, i: int, mistake: Mistake | None) -> str:
    """What can be done about a mistake with one press, or what was done."""
    if done := _mended(visitor, judged, i):
        return f'<p class="hs-done" role="status">{escape(done)} Train again to use it.</p>'
    path = judged.images.paths[i]
    if mistake is None or judged.whose == "test" or visitor.images is None or path not in visitor.images.paths:
        return ""
    if not judged.evaluation.multi_label:
        words = f"Relabel as {mistake.answered}"
    else:
        words = f"Add {mistake.answered}" if mistake.answered else f"Take {mistake.given} away"
    return (
        f'<span class="hs-actions">{_button(words, "relabel", path.stem, judged.images.names[i])}'
        f"{_button('Remove', 'remove', path.stem, judged.images.names[i])}</span>"
    )


def _button(words: str, do: str, key: str, whose: str) -> str:
    return (
        f'<button type="button" class="hs-button" data-do="{do}" data-image="{escape(key)}" '
        f'aria-label="{escape(words)}: {escape(whose)}">{escape(words)}</button>'
    )
