"""Formats in which the Keep step offers a trained model, each with the function that writes and checks the file.

Knows no session and no component.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from headswap.common.atomic import atomic_write_bytes
from headswap.data.dataset import LabelledImages
from headswap.export.deploy import DeployKit, onnx_kit, space_kit
from headswap.export.model_file import MODEL_FILE_SUFFIX, save
from headswap.export.onnx import export_program
from headswap.export.script import eject
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
        export_file: Writes the file; returns its path, and a sentence on how it was compared with the model.
    """

    title: str
    description: str
    export_file: Callable[[ExportSource], tuple[Path, str]]


def _export_headswap(source: ExportSource) -> tuple[Path, str]:
    path = source.directory / f"{source.stem}{MODEL_FILE_SUFFIX}"
    return path, save(source.model, path, source.sample_images).sentence


def _export_kit(
    source: ExportSource, make_kit: Callable[[Classifier, str, LabelledImages | None], DeployKit], suffix: str
) -> tuple[Path, str]:
    kit = make_kit(source.model, source.stem, source.sample_images)
    path = source.directory / f"{source.stem}{suffix}"
    atomic_write_bytes(path, kit.to_zip())
    return path, kit.parity.sentence


def _export_pt2(source: ExportSource) -> tuple[Path, str]:
    path = source.directory / f"{source.stem}.pt2"
    return path, export_program(source.model, path).sentence


def _export_script(source: ExportSource) -> tuple[Path, str]:
    path = source.directory / f"{source.stem}.py"
    atomic_write_bytes(path, eject(source.model, source.training_images).encode())
    return path, "It wants a folder with one sub-folder for each class, and PyTorch; nothing of headswap."


EXPORT_FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "headswap": ExportFormat(
            "The model", "One file to open here again, to test it, to teach it more.", _export_headswap
        ),
        "onnx": ExportFormat(
            "For other programs",
            "ONNX with code for Python and for a browser, which checks itself when it is run.",
            partial(_export_kit, make_kit=onnx_kit, suffix="-onnx.zip"),
        ),
        "script": ExportFormat(
            "The lesson", "A readable script of plain PyTorch that does once more what this page did.", _export_script
        ),
        "space": ExportFormat(
            "A page of its own",
            "A folder for a Hugging Face Space: drop an image, see what it is.",
            partial(_export_kit, make_kit=space_kit, suffix="-space.zip"),
        ),
        "program": ExportFormat(
            "For PyTorch alone", "A .pt2 program: torch.export.load, no code of ours.", _export_pt2
        ),
    }
)
