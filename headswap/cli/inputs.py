"""Reads what is typed on the command line: options, images, head options and models. Shows progress while it loads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from headswap.cli.console import error_console, format_default, print_text_or_json
from headswap.cli.terminal import make_download_column, make_progress
from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages, load_report_to_dict
from headswap.data.ingest import LoadingProgress
from headswap.data.loading import load_images_with_progress
from headswap.data.sources import list_image_files
from headswap.export.model_file import load_and_verify
from headswap.networks.adaptation import adapt
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS, get_head_options

FolderArgument = Annotated[Path, typer.Argument(help="Folder, zip or tar.gz with one sub-folder per class, or a CSV.")]
BackboneOption = Annotated[
    str, typer.Option(help="Name listed by `headswap backbones`, or timm/ and a name of timm's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line, and nothing else.")]
ModelArgument = Annotated[Path, typer.Argument(help="A .headswap file, as `headswap train --out` writes it.")]
OutOption = Annotated[Path | None, typer.Option(help="Save the model as this .headswap file.")]
ClassifyOption = Annotated[
    list[Path] | None,
    typer.Option(help="Image, or folder of images, to classify afterwards; may be given several times."),
]


def is_given(context: typer.Context, *names: str) -> bool:
    """Whether any of these options is on the command line."""
    sources = [context.get_parameter_source(name) for name in names]
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def check_writable(out: Path) -> None:
    """Check that a file can be written before time is spent on its content.

    Raises:
        InputError: if its folder does not exist or is not writable, or if it is a folder itself.
    """
    if not out.parent.is_dir():
        raise InputError(f"The folder {out.parent} for {out.name} does not exist; make it first.")
    if out.is_dir():
        raise InputError(f"{out} is a folder; give the name of a file, such as {out / 'model.headswap'}.")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise InputError(f"Nothing can be written in {out.parent}: {error.strerror or error}.") from error


# Images


def load_images(folder: Path, as_json: bool, for_evaluation: bool = False) -> LabelledImages:
    """Load a dataset with a progress bar, and print its report."""
    with (
        make_progress(disable=as_json) as progress,
        closing(load_images_with_progress(folder, for_evaluation=for_evaluation)) as steps,
    ):
        task = progress.add_task("Images", total=None)
        for step in steps:
            if isinstance(step, LoadingProgress):
                progress.update(task, completed=step.done, total=step.total or None)
            else:
                images = step
    print_text_or_json(str(images.report), as_json, event="Read", **load_report_to_dict(images))
    return images


def expand_image_paths(paths: Iterable[Path]) -> list[Path]:
    """Replace folders by the image files in them, and print what is passed over.

    Raises:
        InputError: if a folder has no images.
    """
    image_paths: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):
            image_paths.append(path)
            continue
        inside, skipped = list_image_files(path)
        if skipped:
            first = f"the first, {skipped[0].name}, {skipped[0].problem}"
            error_console.print(f"{path.name}: {len(skipped)} passed over ({first}).", markup=False, highlight=False)
        if not inside:
            raise InputError(f"There are no images in {path}.")
        image_paths += inside
    return image_paths


def resolve_existing_images(paths: Iterable[Path] | None) -> list[Path]:
    """Expand paths as ``expand_image_paths``, and check that they exist before time is spent on a training.

    Raises:
        InputError: if a path does not exist, or a folder has no images.
    """
    paths = list(paths or ())
    for path in paths:
        if not os.path.exists(path):  # unlike Path.exists, never raises
            raise InputError(f"{path.name}: does not exist; check the name.")
    return expand_image_paths(paths)


# Networks


def adapt_backbone(
    backbone: str,
    classes: Sequence[str],
    head: str,
    head_options: Mapping[str, Any],
    as_json: bool,
    multi_label: bool = False,
) -> Classifier:
    """Give a backbone a new head, with a progress bar while its weights are downloaded."""
    with make_progress(make_download_column(), disable=as_json) as progress:
        task = progress.add_task(f"Weights of {backbone}", visible=False)

        def show_download(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None, visible=True)

        return adapt(
            backbone, classes, head, multi_label=multi_label, progress=show_download, head_options=head_options
        )


def load_model(file: Path) -> Classifier:
    """Load a saved model, and print on the error stream what in its file is not as it was saved."""
    model, damage = load_and_verify(file)
    if damage:
        error_console.print(damage, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return model


def load_and_add_classes(file: Path, images: LabelledImages) -> Classifier:
    """Load a saved model, and add the classes of the images that it lacks."""
    model = load_model(file)
    for name in images.classes:
        if name not in model.classes:
            model.add_class(name)
    return model


@contextmanager
def translate_option_errors() -> Iterator[None]:
    """Report a ``ValueError`` as that of an option; an ``InputError``, as of images, stays one."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_head_options(head: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Parse options written as ``dropout=0.2`` into the types of their defaults.

    Raises:
        ValueError: if a value cannot be converted. An unknown option stays text: ``adapt`` refuses it.
    """
    defaults = get_head_options(head) if head in HEADS else {}
    options: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        default = defaults.get(name, text)
        try:
            options[name] = tuple(map(int, text.split(","))) if isinstance(default, tuple) else type(default)(text)
        except ValueError as error:
            raise ValueError(
                f"The option {name} is written like {name}={format_default(default)}, not '{pair}'."
            ) from error
    return options
