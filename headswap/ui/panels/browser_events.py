"""Parses what a browser sends into frozen dataclasses; nothing of it is used before it has passed here.

Gradio checks neither the payload of an event that our JavaScript triggers nor the paths in it, so anybody can send
anything. A click that our page cannot produce becomes None, a list of files that it cannot produce a
``RefusedUpload``. Knows no session and no component.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradio.utils import get_upload_folder

from headswap.common.errors import InputError
from headswap.common.limits import get_limits
from headswap.common.text import sanitize

MAX_PATH_LENGTH = 4096  # characters of a relative name with its folders, and of a path
MAX_BURST_LENGTH = 64
INDEX_PATTERN = re.compile(r"0|[1-9][0-9]{0,8}")
UNREADABLE_LIST_MESSAGE = "The list of files could not be read. Choose the folder again."

CorrectionAction = Literal["relabel", "remove"]


@dataclass(frozen=True)
class Upload:
    """A file that a browser has uploaded.

    Attributes:
        name: Its relative name in the browser, with folders; unchecked text.
        path: Where its bytes lie, a regular file inside Gradio's upload folder.
        burst: Identifies the camera burst that it belongs to; "" for none.
    """

    name: str
    path: Path
    burst: str


@dataclass(frozen=True)
class ImagesUpload:
    """Files for the dataset, sent by the picker.

    Attributes:
        uploads: The files.
        class_name: The class of all of them; "" where their names say it.
        add: Whether they join the images that are loaded.
    """

    uploads: tuple[Upload, ...]
    class_name: str
    add: bool


@dataclass(frozen=True)
class FilesUpload:
    """Files that come with nothing else: a test set, or images that were pasted."""

    uploads: tuple[Upload, ...]


@dataclass(frozen=True)
class RefusedUpload:
    """A list of files of which none is used.

    Attributes:
        reason: Why, in a sentence for the user.
    """

    reason: str


@dataclass(frozen=True)
class DatasetEdit:
    """A click on a button of the dataset summary.

    Attributes:
        action: What is to be done.
        class_name: The class that it concerns; "" for none.
        new_name: The new name of a class that is renamed, cleaned; "" for none.
        image_keys: The stems of the files of the images that are removed.
    """

    action: Literal["undo", "forget", "remove", "open", "remove class", "rename"]
    class_name: str = ""
    new_name: str = ""
    image_keys: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CellClick:
    """A click on a cell of the confusion matrix.

    Attributes:
        cell: Indices of the true and of the predicted class, -1 for a label that is absent, not yet compared with the
            number of classes; None where they are no numbers.
    """

    cell: tuple[int, int] | None


@dataclass(frozen=True)
class CorrectionClick:
    """A click on a button of a mistake.

    Attributes:
        action: What is to be done with the image.
        image_key: The stem of its file.
    """

    action: CorrectionAction
    image_key: str


@dataclass(frozen=True)
class SampleClick:
    """A click on a held-out image.

    Attributes:
        index: Its index among the held-out images, not yet compared with their number.
    """

    index: int


@dataclass(frozen=True)
class StageClick:
    """A click on a block of the stage strip.

    Attributes:
        num_stages: How many of the last stages are to learn, not yet compared with their number.
    """

    num_stages: int


# Clicks


def parse_dataset_edit(event_data: object) -> DatasetEdit | None:
    """Parse a click on the dataset summary."""
    class_name, keys = _text_field(event_data, "label"), _field(event_data, "images")
    match _field(event_data, "do"):
        case "undo" | "forget" | "open" | "remove class" as action:
            return DatasetEdit(action, class_name)
        case "rename":
            return DatasetEdit("rename", class_name, _clean_class_name(_field(event_data, "name")))
        case "remove" if isinstance(keys, list):
            return DatasetEdit("remove", image_keys=frozenset(key for key in keys if isinstance(key, str)))
    return None


def parse_analysis_click(event_data: object) -> CellClick | CorrectionClick | None:
    """Parse a click on the confusion matrix or on the list of mistakes."""
    image_key = _field(event_data, "image")
    match _field(event_data, "do"):
        case "cell":
            return CellClick(_parse_cell(_field(event_data, "given"), _field(event_data, "answered")))
        case "relabel" | "remove" as action if isinstance(image_key, str):
            return CorrectionClick(action, image_key)
    return None


def parse_sample_click(event_data: object) -> SampleClick | None:
    """Parse a click on a held-out image."""
    key = _field(event_data, "key")
    return SampleClick(int(key)) if isinstance(key, str) and INDEX_PATTERN.fullmatch(key) else None


def parse_stage_click(event_data: object) -> StageClick | None:
    """Parse a click on a block of the stage strip."""
    number = _field(event_data, "learning")
    return StageClick(number) if isinstance(number, int) and number >= 0 else None


def parse_backbone_row(row_value: object) -> str:
    """Parse the row of the table of backbones that was selected, to the name in it; "" where there is none."""
    name = row_value[0] if isinstance(row_value, list) and row_value else ""
    return name if isinstance(name, str) else ""


def _parse_cell(true_index: object, predicted_index: object) -> tuple[int, int] | None:
    try:
        return int(str(true_index)), int(str(predicted_index))
    except ValueError:
        return None


# Files


def parse_images_upload(event_data: object) -> ImagesUpload | RefusedUpload:
    """Parse the files that the picker sends, with their class."""
    files = parse_files_upload(event_data)
    if isinstance(files, RefusedUpload):
        return files
    class_name = _clean_class_name(_field(event_data, "label"))
    return ImagesUpload(files.uploads, class_name, bool(_field(event_data, "add")))


def parse_files_upload(event_data: object) -> FilesUpload | RefusedUpload:
    """Parse an event that carries nothing but files."""
    try:
        return FilesUpload(tuple(parse_uploads(_field(event_data, "files"))))
    except InputError as error:
        return RefusedUpload(str(error))


def parse_uploads(files: object) -> list[Upload]:
    """Parse a list of files that a browser or a program has uploaded.

    Only regular files inside Gradio's own upload folder pass: a list could name any file of the server.

    Args:
        files: A list of ``{"name": str, "path": str}``, each with an optional ``"burst"``.

    Raises:
        InputError: If it is anything else, or longer than the limit on images.
    """
    upload_folder, max_files = Path(get_upload_folder()).resolve(), get_limits().images
    if not isinstance(files, list):
        raise InputError(UNREADABLE_LIST_MESSAGE)
    if len(files) > max_files:
        raise InputError(f"More than {max_files:,} files are not read at once. Take fewer.")
    try:
        return [_parse_upload(entry, upload_folder) for entry in files]
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        raise InputError(UNREADABLE_LIST_MESSAGE) from error


def delete_uploads(uploads: Iterable[Upload]) -> None:
    """Delete uploads that have been read: whoever learns an upload's path can fetch it."""
    for upload in uploads:
        upload.path.unlink(missing_ok=True)


def _parse_upload(entry: object, upload_folder: Path) -> Upload:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    name = _bounded_text(entry.get("name"), MAX_PATH_LENGTH)
    path = Path(_bounded_text(entry.get("path"), MAX_PATH_LENGTH))
    burst = _bounded_text(entry.get("burst", ""), MAX_BURST_LENGTH)
    if not path.resolve(strict=True).is_relative_to(upload_folder) or not stat.S_ISREG(os.lstat(path).st_mode):
        raise InputError("A file that was named was not uploaded here. Choose the folder again.")
    return Upload(name, path, burst)


def _bounded_text(value: object, max_length: int) -> str:
    if not isinstance(value, str) or len(value) > max_length:
        raise ValueError("not a string, or longer than the limit")
    return value


# Fields of an event


def _field(event_data: object, name: str) -> object:
    """A field of a ``gr.EventData``, whose payload may be of any type; None where it is missing."""
    try:
        value: object = getattr(event_data, name, None)
    except TypeError:  # the payload is no object
        return None
    return value


def _text_field(event_data: object, name: str) -> str:
    value = _field(event_data, name)
    return value if isinstance(value, str) else ""


def _clean_class_name(value: object) -> str:
    return sanitize(value).strip()[: get_limits().name] if isinstance(value, str) else ""
