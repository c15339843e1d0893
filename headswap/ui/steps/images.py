"""The first step: images in, what was understood of them out, and what is wrong with it mended. Knows no networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.errors import InputError
from headswap.common.limits import limits
from headswap.common.text import harmless
from headswap.data.dataset import LabelledImages
from headswap.data.loading import Loading, gathering, loading
from headswap.data.sources import ARCHIVES
from headswap.export.model_file import SUFFIX
from headswap.ui.panels.help_notes import note
from headswap.ui.panels.picker import Upload, forget, picker, received
from headswap.ui.sessions.session import Visitor, missing
from headswap.ui.static.assets import SAMPLE, read_static
from headswap.ui.views.dataset import describe, nothing_yet
from headswap.ui.views.html import problem_card

TELLS = 0.3  # seconds between two words on how far reading is


@dataclass(frozen=True)
class ImagesStep:
    """The step's components."""

    sample: gr.Button
    picker: gr.HTML
    problem: gr.HTML
    understood: gr.HTML
    at_once: gr.Button
    onward: gr.Button

    @property
    def shown(self) -> list[gr.components.Component]:
        """What every handler gives, in order."""
        return [self.problem, self.understood, self.at_once, self.onward, self.picker]


def build() -> ImagesStep:
    """The step's components, without events."""
    with gr.Row(equal_height=False, elem_id="images-row"):
        with gr.Column(scale=2, min_width=300):
            sample = gr.Button(
                "Try the sample: 90 drawings of leaves", variant="primary", elem_id="sample", visible=SAMPLE.is_dir()
            )
            drop = picker()
            note("picker")
            problem = gr.HTML(elem_id="images-problem", apply_default_css=False)
        with gr.Column(scale=3, min_width=300):
            understood = gr.HTML(
                nothing_yet(),
                js_on_load=read_static("classes.js"),
                elem_id="understood",
                apply_default_css=False,
            )
            note("understood")
            with gr.Row():
                at_once = gr.Button("Train now", interactive=False, elem_id="train-at-once", elem_classes="hs-go")
                onward = gr.Button("Choose another model", interactive=False, elem_id="onward-model")
    return ImagesStep(sample, drop, problem, understood, at_once, onward)


def welcome(visitor: Visitor) -> tuple[Any, ...]:
    """What stands here for somebody who comes back: values for ``ImagesStep.shown``."""
    return "", *_state(visitor)


def load_sample(visitor: Visitor) -> Iterator[tuple[Any, ...]]:
    """Read the sample; gives what ``read`` gives."""
    yield from _reading(visitor, lambda: loading(SAMPLE))


def read(visitor: Visitor, sent: object) -> Iterator[tuple[Any, ...]]:
    """Read what the drop area sent: its files, the class of them all if there is one, and whether they are added.

    Gives values for ``ImagesStep.shown``, first while it reads. What was loaded before stays when this cannot be read,
    or is closed.
    """
    files, label, add = (getattr(sent, name, None) for name in ("files", "label", "add"))
    uploads: list[Upload] = []

    def load() -> Loading:
        uploads.extend(received(files))
        alone = visitor.images is not None and len(visitor.images.classes) == 1
        onto = visitor.images if add or alone else None  # one class alone is a beginning: what comes next joins it
        for upload in uploads:
            if upload.name.lower().endswith(SUFFIX):
                raise InputError(f"{upload.name} is a model that was kept, no image. Open it in the fifth step, Keep.")
        of_class = harmless(str(label or "")).strip()[: limits().name]
        first = uploads[0] if len(uploads) == 1 else None
        if first and first.name.lower().endswith(ARCHIVES) and not of_class:
            return loading(first.path, name=first.name, onto=onto, least=1)
        entries = [(upload.name, upload.path, upload.burst) for upload in uploads]
        return gathering(entries, label=of_class, onto=onto, least=1)

    try:
        yield from _reading(visitor, load)
    finally:
        forget(uploads)


def edit(visitor: Visitor, asked: object) -> tuple[Any, ...]:
    """What a press on a class or an image asks for; what no longer exists is passed over.

    Returns:
        Values for ``ImagesStep.shown``.
    """
    do, label, name, keys = (getattr(asked, part, None) for part in ("do", "label", "name", "images"))
    images = visitor.images
    if do == "undo":
        visitor.undo()
    elif do == "forget":
        visitor.forget_images()
    elif images is not None and do == "remove" and isinstance(keys, list):
        _take(visitor, images.without(i for i, path in enumerate(images.paths) if path.stem in keys))
    elif images is not None and label in images.classes:
        new = harmless(str(name or "")).strip()[: limits().name]
        if do == "open":
            visitor.opened = None if visitor.opened == label else label
        elif do == "remove class":
            _take(visitor, images.without_class(label))
        elif do == "rename" and new:
            _take(visitor, images.renamed(label, new))
    return "", *_state(visitor)


def _take(visitor: Visitor, images: LabelledImages) -> None:
    if images.classes:
        visitor.take(images)
    else:
        visitor.forget_images()


def _state(visitor: Visitor) -> tuple[Any, ...]:
    """Values for ``understood``, ``at_once``, ``onward`` and ``picker``."""
    images, ready = visitor.images, not visitor.wanting
    buttons = gr.Button(interactive=ready), gr.Button(interactive=ready)
    drop = gr.HTML(told=time.monotonic_ns(), loaded=images is not None)
    if images is None:
        return nothing_yet(), *buttons, drop
    return describe(images, visitor.wanting, visitor.opened, visitor.former is not None, visitor.seen), *buttons, drop


def _reading(visitor: Visitor, load: Callable[[], Loading]) -> Iterator[tuple[Any, ...]]:
    said = 0.0
    try:
        with closing(load()) as steps:
            for step in steps:
                if isinstance(step, LabelledImages):
                    _take_instead(visitor, step)
                elif time.monotonic() - said > TELLS:
                    said = time.monotonic()
                    share = f"{step.done / step.of:.0%}" if step.of else f"{step.done:,} files so far"
                    yield *(gr.skip(),) * 4, gr.HTML(says=f"Reading: {share}")
    except InputError as error:
        yield problem_card(str(error)), *(gr.skip(),) * 3, gr.HTML(told=time.monotonic_ns())
        return
    yield "", *_state(visitor)


def _take_instead(visitor: Visitor, images: LabelledImages) -> None:
    """Images that cannot be learned from yet are a beginning, but never cost those that can."""
    before = visitor.images
    if before is not None and not before.shares_files_with(images) and (lacking := missing(images)):
        images.close()
        raise InputError(
            f"{lacking} What was loaded before is kept. To have both, tick 'Add to the images that are loaded' and "
            "choose these again."
        )
    visitor.take(images)
