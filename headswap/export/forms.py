"""Registers the forms that a Classifier can be exported to, and writes a model in one of them into a folder.

The command line takes a flag for each form and the page offers a download for each. Built-in forms are registered as
anybody else's are. Knows nothing of the command line and of the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from headswap.common.atomic import atomic_write_bytes
from headswap.data.dataset import LabelledImages
from headswap.export.deploy import make_folder, onnx_kit, space_kit
from headswap.export.script import eject
from headswap.export.torch_program import export_program
from headswap.networks.classifier import Classifier


@dataclass(frozen=True)
class ExportInputs:
    """What an export is made of besides the model.

    Attributes:
        title: what to call the model; also the stem of a file's name.
        sample_images: images that may be copied into the export; None if none may.
        training_images: the images that the model was trained on, of which only names and labels may be written; None
            if they are not known.
        images_folder: where the user keeps these images.
    """

    title: str
    sample_images: LabelledImages | None = None
    training_images: LabelledImages | None = None
    images_folder: str = "images"


@dataclass(frozen=True)
class ExportForm:
    """A form that a trained model can be exported to, for ``register_export``.

    Attributes:
        name: a Python identifier; the command line has a flag ``--name``.
        title: a heading for the page.
        description: a sentence for the page.
        help: a sentence for the command line's ``--help``.
        write: writes a model to a path, which is a file that does not exist or a folder, and returns a sentence about
            the comparison of the result with the model, "" if nothing can be compared. It raises ``InputError`` for a
            model that the form does not support.
        suffix: the ending of the file that ``write`` makes, such as ``".pt2"``; "" if it fills a folder.
        requirements: a sentence for the page about what the export needs, where nothing is compared.
        location_message: a sentence for the command line about where the export is, in which ``{path}`` stands for it.
    """

    name: str
    title: str
    description: str
    help: str
    write: Callable[[Classifier, Path, ExportInputs], str]
    suffix: str = ""
    requirements: str = ""
    location_message: str = "It is in {path}."

    def path_in(self, folder: str | os.PathLike[str], title: str) -> Path:
        """The file or folder that an export of a model with this title becomes."""
        return Path(folder, f"{title}{self.suffix}" if self.suffix else self.name)

    def export(self, model: Classifier, folder: str | os.PathLike[str], inputs: ExportInputs) -> tuple[Path, str]:
        """Write a model into a folder, which is created if necessary.

        Args:
            model: a trained model.
            folder: where the file or folder of this form is written.
            inputs: its title and its images.

        Returns:
            The path of the file or folder, and the sentence that ``write`` returned.

        Raises:
            InputError: if the form does not support the model, or something cannot be written.
        """
        path = self.path_in(folder, inputs.title)
        was_there = path.parent.exists()
        make_folder(path.parent)
        try:
            return path, self.write(model, path, inputs)
        except BaseException:
            if not was_there:
                with suppress(OSError):  # something lies in it
                    path.parent.rmdir()
            raise


_EXPORT_FORMS: dict[str, ExportForm] = {}
EXPORT_FORMS: Mapping[str, ExportForm] = MappingProxyType(_EXPORT_FORMS)  # by name, in the order of registration


def register_export(form: ExportForm) -> None:
    """Add a form that models can be exported to: the command line and the page offer it like the built-in ones.

    Args:
        form: the form. The page shows it if it is registered before the page is launched.

    Raises:
        ValueError: if its name is taken or is not an identifier.
    """
    if not form.name.isidentifier() or form.name in _EXPORT_FORMS:
        raise ValueError(f"A form's name is a word of its own, such as my_form, and not '{form.name}'.")
    _EXPORT_FORMS[form.name] = form


def _write_onnx_kit(model: Classifier, folder: Path, inputs: ExportInputs) -> str:
    kit = onnx_kit(model, inputs.title, inputs.sample_images)
    kit.write_to(folder)
    return kit.parity.sentence


def _write_script(model: Classifier, path: Path, inputs: ExportInputs) -> str:
    atomic_write_bytes(path, eject(model, inputs.training_images, inputs.images_folder).encode())
    return ""


def _write_space_kit(model: Classifier, folder: Path, inputs: ExportInputs) -> str:
    kit = space_kit(model, inputs.title, inputs.sample_images)
    kit.write_to(folder)
    return kit.parity.sentence


def _write_program(model: Classifier, path: Path, inputs: ExportInputs) -> str:
    return export_program(model, path).sentence


register_export(
    ExportForm(
        "onnx",
        title="For other programs",
        description="ONNX with code for Python and for a browser, which checks itself when it is run.",
        help="As ONNX, with code that runs and checks it.",
        write=_write_onnx_kit,
    )
)
register_export(
    ExportForm(
        "script",
        title="The lesson",
        description="A readable script of plain PyTorch that does once more what this page did.",
        help="As a plain PyTorch script that teaches it again.",
        write=_write_script,
        suffix=".py",
        requirements="It wants a folder with one sub-folder for each class, and PyTorch; nothing of headswap.",
        location_message="The plain PyTorch script is {path}.",
    )
)
register_export(
    ExportForm(
        "space",
        title="A page of its own",
        description="A folder for a Hugging Face Space: drop an image, see what it is.",
        help="As a page of its own, ready to push to a Space.",
        write=_write_space_kit,
    )
)
register_export(
    ExportForm(
        "program",
        title="For PyTorch alone",
        description="A .pt2 program: torch.export.load, no code of ours.",
        help="As a .pt2 file, which torch alone runs.",
        write=_write_program,
        suffix=".pt2",
        location_message="",
    )
)
