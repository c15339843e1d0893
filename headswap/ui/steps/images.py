"""Images step: loads uploaded images into a dataset, shows what was found, and edits classes and images.

Knows no network; it only recognizes a model file, to say where that is opened.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import gradio as gr
from gradio.blocks import Block

from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.data.loading import LoadingGenerator, load_images_with_progress
from headswap.export.model_file import MODEL_FILE_SUFFIX
from headswap.ui.panels.browser_events import DatasetEdit, ImagesUpload, RefusedUpload, delete_uploads
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.picker import build_picker
from headswap.ui.panels.scripted_html import build_scripted_html
from headswap.ui.panels.session_dataset import set_edited_images, start_loading, stream_loading
from headswap.ui.sessions.session import Session, find_untrainable_reason
from headswap.ui.static.assets import SAMPLE_DIR
from headswap.ui.views.dataset import render_dataset, render_empty_dataset
from headswap.ui.views.html import render_problem_card

PROGRESS_INTERVAL = 0.3  # seconds between two progress messages


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
    def outputs(self) -> list[Block]:
        """The components that an ``ImagesUpdate`` sets."""
        return [self.problem, self.dataset_summary, self.train_now_button, self.next_button, self.picker]


@dataclass(frozen=True)
class ImagesUpdate:
    """New values of components, by name; None leaves one as it is."""

    problem: str | None = None
    dataset_summary: str | None = None
    train_now_button: gr.Button | None = None
    next_button: gr.Button | None = None
    picker: gr.HTML | None = None


def build() -> ImagesStep:
    """Build the components, without events."""
    with gr.Row(equal_height=False, elem_id="images-row"):
        with gr.Column(scale=2, min_width=300):
            sample_button = gr.Button(
                "Try the sample: 90 drawings of leaves",
                variant="primary",
                elem_id="sample",
                visible=SAMPLE_DIR.is_dir(),
            )
            picker = build_picker()
            build_note("picker")
            problem = gr.HTML(elem_id="images-problem", apply_default_css=False)
        with gr.Column(scale=3, min_width=300):
            summary = build_scripted_html("classes.js", "understood", render_empty_dataset())
            build_note("understood")
            with gr.Row():
                train_now = gr.Button("Train now", interactive=False, elem_id="train-at-once", elem_classes="hs-go")
                next_button = gr.Button("Choose another model", interactive=False, elem_id="onward-model")
    return ImagesStep(sample_button, picker, problem, summary, train_now, next_button)


def refresh(session: Session) -> ImagesUpdate:
    """Show the session's dataset."""
    images, is_trainable = session.images, not session.untrainable_reason
    summary = (
        render_empty_dataset()
        if images is None
        else render_dataset(
            images,
            session.untrainable_reason,
            session.expanded_class,
            session.previous_images is not None,
            session.seen,
        )
    )
    return ImagesUpdate(
        problem="",
        dataset_summary=summary,
        train_now_button=gr.Button(interactive=is_trainable),
        next_button=gr.Button(interactive=is_trainable),
        picker=gr.HTML(finished=time.monotonic_ns(), loaded=images is not None),
    )


def load_sample(session: Session) -> Iterator[ImagesUpdate]:
    """Load the sample dataset."""
    try:
        yield from _stream_loading(session, load_images_with_progress(SAMPLE_DIR))
    except InputError as error:
        yield _problem_update(str(error))


def load_uploads(session: Session, upload: ImagesUpload | RefusedUpload) -> Iterator[ImagesUpdate]:
    """Load what the picker sent, and delete it.

    The dataset that was loaded before stays if this one cannot be read, or if loading is cancelled by closing.
    """
    if isinstance(upload, RefusedUpload):
        yield _problem_update(upload.reason)
        return
    try:
        yield from _stream_loading(session, _start_loading(session, upload))
    except InputError as error:
        yield _problem_update(str(error))
    finally:
        delete_uploads(upload.uploads)


def edit_dataset(session: Session, edit: DatasetEdit | None) -> ImagesUpdate:
    """Edit the dataset as a click asks for; what no longer exists is ignored."""
    images = session.images
    match edit:
        case DatasetEdit("undo"):
            session.undo_image_change()
        case DatasetEdit("forget"):
            session.clear_images()
        case DatasetEdit("remove") if images is not None:
            removed = (i for i, path in enumerate(images.paths) if path.stem in edit.image_keys)
            set_edited_images(session, images.without(removed))
        case DatasetEdit(action, class_name, new_name) if images is not None and class_name in images.classes:
            if action == "open":
                session.expanded_class = None if session.expanded_class == class_name else class_name
            elif action == "remove class":
                set_edited_images(session, images.without_class(class_name))
            elif action == "rename" and new_name:
                set_edited_images(session, images.rename_class(class_name, new_name))
    return refresh(session)


def _start_loading(session: Session, upload: ImagesUpload) -> LoadingGenerator:
    """Load an upload beside the images that are there, or in place of them.

    Raises:
        InputError: If it holds a model file.
    """
    for each in upload.uploads:
        if each.name.lower().endswith(MODEL_FILE_SUFFIX):
            raise InputError(f"{each.name} is a model that was kept, no image. Open it in the fifth step, Keep.")
    # A single class cannot be trained on, so whatever is uploaded next joins it.
    has_single_class = session.images is not None and len(session.images.classes) == 1
    existing = session.images if upload.add or has_single_class else None
    return start_loading(upload.uploads, class_name=upload.class_name, existing=existing, min_classes=1)


def _stream_loading(session: Session, loading: LoadingGenerator) -> Iterator[ImagesUpdate]:
    with closing(stream_loading(loading, PROGRESS_INTERVAL)) as steps:
        for step in steps:
            if isinstance(step, LabelledImages):
                _replace_images(session, step)
            else:
                yield ImagesUpdate(picker=gr.HTML(progress=f"Reading: {step}"))
    yield refresh(session)


def _problem_update(text: str) -> ImagesUpdate:
    return ImagesUpdate(problem=render_problem_card(text), picker=gr.HTML(finished=time.monotonic_ns()))


def _replace_images(session: Session, images: LabelledImages) -> None:
    """Put loaded images into the session.

    Raises:
        InputError: If they cannot be trained on and would replace images that may be.
    """
    before = session.images
    if before is not None and not before.shares_files_with(images) and (reason := find_untrainable_reason(images)):
        images.close()
        raise InputError(
            f"{reason} What was loaded before is kept. To have both, tick 'Add to the images that are loaded' and "
            "choose these again."
        )
    session.set_images(images)
