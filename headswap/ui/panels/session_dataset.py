"""Loads uploaded files as a dataset with progress, and edits the dataset of a session. Knows no component."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing

from headswap.data.dataset import LabelledImages
from headswap.data.loading import LoadingGenerator, load_files_with_progress, load_images_with_progress
from headswap.data.sources import ARCHIVE_EXTENSIONS
from headswap.ui.panels.browser_events import CorrectionClick, Upload
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ErrorAnalysis


def start_loading(
    uploads: Sequence[Upload],
    *,
    class_name: str = "",
    existing: LabelledImages | None = None,
    min_classes: int = 2,
    for_evaluation: bool = False,
) -> LoadingGenerator:
    """Load a single archive, or files by their relative names.

    Args:
        uploads: Files that a browser has uploaded.
        class_name: The class of all of them; "" where folders or a table say it. Then a single archive is unpacked.
        existing: Images to add these to.
        min_classes: How many classes there have to be in the end.
        for_evaluation: Whether only the test part of a split dataset is loaded.
    """
    first = uploads[0] if len(uploads) == 1 else None
    if first and first.name.lower().endswith(ARCHIVE_EXTENSIONS) and not class_name:
        return load_images_with_progress(
            first.path, name=first.name, existing=existing, min_classes=min_classes, for_evaluation=for_evaluation
        )
    return load_files_with_progress(
        [(upload.name, upload.path, upload.burst) for upload in uploads],
        class_name=class_name,
        existing=existing,
        min_classes=min_classes,
        for_evaluation=for_evaluation,
    )


def stream_loading(loading: LoadingGenerator, interval: float) -> Generator[str | LabelledImages, None, None]:
    """Run a loading to its end and report how far it is; closing this generator cancels it.

    Args:
        loading: What ``start_loading`` returns.
        interval: Seconds between two reports.

    Yields:
        The progress in words, such as "40%"; at last the dataset.

    Raises:
        InputError: If the files cannot be loaded.
    """
    last_report = 0.0
    with closing(loading) as events:
        for event in events:
            if isinstance(event, LabelledImages):
                yield event
            elif time.monotonic() - last_report > interval:
                last_report = time.monotonic()
                yield f"{event.done / event.total:.0%}" if event.total else f"{event.done:,} files so far"


def set_edited_images(session: Session, images: LabelledImages) -> None:
    """Replace the session's images by an edited version; by none where no class is left."""
    if images.classes:
        session.set_images(images)
    else:
        session.clear_images()


def correct_image(session: Session, analysis: ErrorAnalysis, click: CorrectionClick) -> None:
    """Relabel one of the session's images as the model predicted, or remove it; the analysis stays as it is."""
    mistake = next(
        (each for each in analysis.evaluation.mistakes if analysis.images.paths[each.index].stem == click.image_key),
        None,
    )
    images = session.images
    if mistake is None or images is None or analysis.images.paths[mistake.index] not in images.paths:
        return
    index = images.paths.index(analysis.images.paths[mistake.index])
    label = mistake.predicted_label or mistake.true_label or ""
    if click.action == "remove":
        edited = images.without([index])
    elif images.multi_label:  # add the label that was predicted wrongly, or remove the one that was missed
        label_names = list(images.label_names)
        label_names[index] = tuple(set(label_names[index]) ^ {label})
        edited = images.with_labels(label_names)
    else:
        edited = images.relabel(index, label)
    set_edited_images(session, edited)
