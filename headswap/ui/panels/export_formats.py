"""Formats in which the Keep step offers a trained model: a model file, and whatever is registered as an export form.

Knows no session and no component.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from headswap.common.atomic import atomic_write_bytes
from headswap.data.dataset import LabelledImages
from headswap.export.deploy import zip_folder
from headswap.export.forms import EXPORT_FORMS, ExportForm, ExportInputs
from headswap.export.model_file import MODEL_FILE_SUFFIX, save
from headswap.networks.classifier import Classifier


@dataclass(frozen=True)
class ExportSource:
    """What an export is made from.

    Attributes:
        model: The trained model.
        directory: Where the file is written.
        stem: The file's name without its suffix.
        training_images: The images that the model was trained on, while they are there.
        include_images: Whether some of them may become part of the file.
    """

    model: Classifier
    directory: Path
    stem: str
    training_images: LabelledImages | None
    include_images: bool

    @property
    def sample_images(self) -> LabelledImages | None:
        """The images of which some may become part of the file."""
        return self.training_images if self.include_images else None


@dataclass(frozen=True)
class ExportFormat:
    """A format in which a model can be downloaded.

    Attributes:
        title: Its heading on the page.
        description: A sentence beneath that.
        export_file: Writes the file; returns its path, and a sentence on how it was compared with the model or what it
            needs.
    """

    title: str
    description: str
    export_file: Callable[[ExportSource], tuple[Path, str]]


def _export_headswap(source: ExportSource) -> tuple[Path, str]:
    path = source.directory / f"{source.stem}{MODEL_FILE_SUFFIX}"
    return path, save(source.model, path, source.sample_images).sentence


def _export_form(form: ExportForm, source: ExportSource) -> tuple[Path, str]:
    """Export a registered form; one that is a folder becomes a zip, because a browser downloads one file."""
    inputs = ExportInputs(source.stem, source.sample_images, source.training_images)
    if form.suffix:
        path, proof = form.export(source.model, source.directory, inputs)
    else:
        path = source.directory / f"{source.stem}-{form.name}.zip"
        with tempfile.TemporaryDirectory() as temporary:
            folder, proof = form.export(source.model, temporary, inputs)
            atomic_write_bytes(path, zip_folder(folder))
    return path, proof or form.requirements


EXPORT_FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "headswap": ExportFormat(
            "The model", "One file to open here again, to test it, to teach it more.", _export_headswap
        ),
        **{
            form.name: ExportFormat(form.title, form.description, partial(_export_form, form))
            for form in EXPORT_FORMS.values()
        },
    }
)
