"""The commands for saved models: ``predict``, ``evaluate``, ``export`` and ``push``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from headswap.cli.console import error_console, print_line
from headswap.cli.export_flags import join_export_flags, with_export_flags
from headswap.cli.inputs import (
    FolderArgument,
    JsonOption,
    ModelArgument,
    expand_image_paths,
    load_images,
    load_model,
)
from headswap.cli.terminal import OutputFormat, show_evaluation, show_predictions
from headswap.common.errors import InputError
from headswap.evaluation.evaluate import evaluate
from headswap.export.deploy import onnx_kit, space_kit
from headswap.export.forms import EXPORT_FORMS, ExportForm, ExportInputs
from headswap.export.hub import push_to_hub
from headswap.networks.classifier import Classifier


def predict_command(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    output_format: Annotated[OutputFormat, typer.Option("--format", help="Output format.")] = OutputFormat.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Classify images with a saved model."""
    classify_files(load_model(model), expand_image_paths(images), OutputFormat.JSON if as_json else output_format)


def evaluate_command(model: ModelArgument, folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Evaluate a saved model on images that it was not trained on.

    If the folder has splits, test/ is used, or else val/.
    """
    classifier = load_model(model)
    images = load_images(folder, as_json, for_evaluation=True)
    show_evaluation(evaluate(classifier, images), as_json)


@with_export_flags
def export_command(
    model: ModelArgument,
    forms: Sequence[ExportForm],
    images: Annotated[
        Path | None,
        typer.Option(help="Its training folder: the split is written into the script, some images come along."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default the model's name beside it.")] = None,
) -> None:
    """Export a saved model to other formats, each compared with it."""
    if not forms:
        raise typer.BadParameter(f"Say as what: {join_export_flags()}; several may be given.")
    classifier = load_model(model)
    train_images = load_images(images, False) if images else None
    inputs = ExportInputs(model.stem, train_images, train_images, str(images or "images"))
    for form in forms:
        path, parity = form.export(classifier, out or _default_export_folder(model), inputs)
        print_line(" ".join(filter(None, (parity, form.location_message.format(path=path)))))


def push_command(
    model: ModelArgument,
    repo_id: Annotated[str, typer.Argument(help="Repository on the Hugging Face Hub, such as your-name/flowers.")],
    as_space: Annotated[bool, typer.Option("--space", help="As a Space, which is a web page, not as a model.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Make the repository public.")] = False,
) -> None:
    """Push a saved model to the Hugging Face Hub, as the user who is logged in on this computer."""
    classifier = load_model(model)
    files = dict((space_kit if as_space else onnx_kit)(classifier, model.stem).files)
    if not as_space:
        files[model.name] = model.read_bytes()
    print_line(f"Pushed to {push_to_hub(files, repo_id, space=as_space, private=not public)}")


def classify_files(model: Classifier, paths: Iterable[Path], output_format: OutputFormat) -> None:
    """Classify image files and print the predictions; those that cannot be read are printed as errors.

    Raises:
        SystemExit: with status 1, if any cannot be read.
    """
    predictions: list[tuple[str, list[tuple[str, float]]]] = []
    num_unread = 0
    for path in paths:
        try:
            predictions.append((str(path), model.predict(path)))
        except InputError as error:
            error_console.print(str(error), style="red", markup=False, soft_wrap=True)
            num_unread += 1
    if predictions or output_format is not OutputFormat.TABLE:
        show_predictions(predictions, output_format)
    if num_unread:
        raise SystemExit(1)


def _default_export_folder(model_path: Path) -> Path:
    """Folder of the model's name beside it; another if that one holds something else, such as its images."""
    folder = model_path.with_suffix("")
    exports = {form.path_in(folder, model_path.stem).name for form in EXPORT_FORMS.values()}
    if os.path.isdir(folder) and not {path.name for path in folder.iterdir()} <= exports:
        return folder.with_name(f"{folder.name}-exported")
    return folder
