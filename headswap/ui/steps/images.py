"""The first step: images in, what was understood of them out, and what is wrong with it mended. Knows no networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from headswap.common.errors import InputError
from headswap.common.limits import get_limits
from headswap.common.text import sanitize
from headswap.data.dataset import LabelledImages
from headswap.data.loading import LoadingGenerator, load_files_with_progress, load_images_with_progress
from headswap.data.sources import ARCHIVE_EXTENSIONS
from headswap.export.model_file import MODEL_FILE_SUFFIX
from headswap.ui.panels.browser_events import Upload, delete_uploads, parse_uploads
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.picker import build_picker
from headswap.ui.sessions.session import Session, find_untrainable_reason
from headswap.ui.static.assets import SAMPLE_DIR, read_static
from headswap.ui.views.dataset import render_dataset, render_empty_dataset
from headswap.ui.views.html import render_problem_card

PROGRESS_INTERVAL = 0.3  # seconds between two words on how far reading is


@dataclass(frozen=True)
class ImagesStep:
    """The step's components."""

    sample_button: gr.Button
    picker: gr.HTML
    problem: gr.HTML
    dataset_summary: gr.HTML
    train_now_button: gr.Button
    next_button: gr.Button

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What every handler gives, in order."""
        return [self.problem, self.dataset_summary, self.train_now_button, self.next_button, self.picker]


def build() -> ImagesStep:
    """The step's components, without events."""
    with gr.Row(equal_height=False, elem_id="images-row"):
        with gr.Column(scale=2, min_width=300):
            sample = gr.Button(
                "Try the sample: 90 drawings of leaves",
                variant="primary",
                elem_id="sample",
                visible=SAMPLE_DIR.is_dir(),
            )
            drop = build_picker()
            build_note("picker")
            problem = gr.HTML(elem_id="images-problem", apply_default_css=False)
        with gr.Column(scale=3, min_width=300):
            understood = gr.HTML(
                render_empty_dataset(),
                js_on_load=read_static("classes.js"),
                elem_id="understood",
                apply_default_css=False,
            )
            build_note("understood")
            with gr.Row():
                at_once = gr.Button("Train now", interactive=False, elem_id="train-at-once", elem_classes="hs-go")
                onward = gr.Button("Choose another model", interactive=False, elem_id="onward-model")
    return ImagesStep(sample, drop, problem, understood, at_once, onward)


def refresh(visitor: Session) -> tuple[Any, ...]:
    """What stands here for somebody who comes back: values for ``ImagesStep.shown``."""
    return "", *_dataset_outputs(visitor)


def load_sample(visitor: Session) -> Iterator[tuple[Any, ...]]:
    """Read the sample; gives what ``read`` gives."""
    yield from _stream_loading(visitor, lambda: load_images_with_progress(SAMPLE_DIR))


def load_uploads(visitor: Session, event_data: object) -> Iterator[tuple[Any, ...]]:
    """Read what the drop area sent: its files, the class of them all if there is one, and whether they are added.

    Gives values for ``ImagesStep.shown``, first while it reads. What was loaded before stays when this cannot be read,
    or is closed.
    """
    files, label, add = (getattr(event_data, name, None) for name in ("files", "label", "add"))
    uploads: list[Upload] = []

    def load() -> LoadingGenerator:
        uploads.extend(parse_uploads(files))
        alone = visitor.images is not None and len(visitor.images.classes) == 1
        onto = visitor.images if add or alone else None  # one class alone is a beginning: what comes next joins it
        for upload in uploads:
            if upload.name.lower().endswith(MODEL_FILE_SUFFIX):
                raise InputError(f"{upload.name} is a model that was kept, no image. Open it in the fifth step, Keep.")
        of_class = sanitize(str(label or "")).strip()[: get_limits().name]
        first = uploads[0] if len(uploads) == 1 else None
        if first and first.name.lower().endswith(ARCHIVE_EXTENSIONS) and not of_class:
            return load_images_with_progress(first.path, name=first.name, existing=onto, min_classes=1)
        entries = [(upload.name, upload.path, upload.burst) for upload in uploads]
        return load_files_with_progress(entries, class_name=of_class, existing=onto, min_classes=1)

    try:
        yield from _stream_loading(visitor, load)
    finally:
        delete_uploads(uploads)


def edit_dataset(visitor: Session, event_data: object) -> tuple[Any, ...]:
    """What a press on a class or an image asks for; what no longer exists is passed over.

    Returns:
        Values for ``ImagesStep.shown``.
    """
    do, label, name, keys = (getattr(event_data, part, None) for part in ("do", "label", "name", "images"))
    images = visitor.images
    if do == "undo":
        visitor.undo_image_change()
    elif do == "forget":
        visitor.clear_images()
    elif images is not None and do == "remove" and isinstance(keys, list):
        _set_images(visitor, images.without(i for i, path in enumerate(images.paths) if path.stem in keys))
    elif images is not None and label in images.classes:
        new = sanitize(str(name or "")).strip()[: get_limits().name]
        if do == "open":
            visitor.expanded_class = None if visitor.expanded_class == label else label
        elif do == "remove class":
            _set_images(visitor, images.without_class(label))
        elif do == "rename" and new:
            _set_images(visitor, images.rename_class(label, new))
    return "", *_dataset_outputs(visitor)


def _set_images(visitor: Session, images: LabelledImages) -> None:
    if images.classes:
        visitor.set_images(images)
    else:
        visitor.clear_images()


def _dataset_outputs(visitor: Session) -> tuple[Any, ...]:
    """Values for ``understood``, ``at_once``, ``onward`` and ``picker``."""
    images, ready = visitor.images, not visitor.untrainable_reason
    buttons = gr.Button(interactive=ready), gr.Button(interactive=ready)
    drop = gr.HTML(told=time.monotonic_ns(), loaded=images is not None)
    if images is None:
        return render_empty_dataset(), *buttons, drop
    return (
        render_dataset(
            images,
            visitor.untrainable_reason,
            visitor.expanded_class,
            visitor.previous_images is not None,
            visitor.seen,
        ),
        *buttons,
        drop,
    )


def _stream_loading(visitor: Session, load: Callable[[], LoadingGenerator]) -> Iterator[tuple[Any, ...]]:
    said = 0.0
    try:
        with closing(load()) as steps:
            for step in steps:
                if isinstance(step, LabelledImages):
                    _replace_images(visitor, step)
                elif time.monotonic() - said > PROGRESS_INTERVAL:
                    said = time.monotonic()
                    share = f"{step.done / step.total:.0%}" if step.total else f"{step.done:,} files so far"
                    yield *(gr.skip(),) * 4, gr.HTML(says=f"Reading: {share}")
    except InputError as error:
        yield render_problem_card(str(error)), *(gr.skip(),) * 3, gr.HTML(told=time.monotonic_ns())
        return
    yield "", *_dataset_outputs(visitor)


def _replace_images(visitor: Session, images: LabelledImages) -> None:
    """Images that cannot be learned from yet are a beginning, but never cost those that can."""
    before = visitor.images
    if before is not None and not before.shares_files_with(images) and (lacking := find_untrainable_reason(images)):
        images.close()
        raise InputError(
            f"{lacking} What was loaded before is kept. To have both, tick 'Add to the images that are loaded' and "
            "choose these again."
        )
    visitor.set_images(images)
