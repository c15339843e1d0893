"""The commands for saved models: ``predict``, ``evaluate``, ``export`` and ``push``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from headswap.cli.inputs import (
    FolderArgument,
    JsonOption,
    ModelArgument,
    expand_image_paths,
    load_images,
    load_model,
    make_folder,
)
from headswap.cli.terminal import (
    OutputFormat,
    error_console,
    print_line,
    show_evaluation,
    show_predictions,
)
from headswap.common.atomic import atomic_write_bytes
from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.evaluation.evaluate import evaluate
from headswap.export.deploy import DeployKit, onnx_kit, space_kit
from headswap.export.hub import push_to_hub
from headswap.export.onnx import export_program
from headswap.export.script import eject
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


def export_command(
    model: ModelArgument,
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX, with code that runs and checks it.")] = False,
    program: Annotated[bool, typer.Option("--program", help="As a .pt2 file of torch.export.")] = False,
    script: Annotated[bool, typer.Option("--script", help="As a PyTorch script that trains it again.")] = False,
    as_space: Annotated[bool, typer.Option("--space", help="As a web page, ready to push to a Space.")] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Its training folder: the split is written into the script, some images come along."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default the model's name beside it.")] = None,
) -> None:
    """Export a saved model to other formats, each compared with it."""
    if not (onnx or program or script or as_space):
        raise typer.BadParameter("Say as what: --onnx, --program, --script or --space; several may be given.")
    classifier, title = load_model(model), model.stem
    folder = out or _default_export_folder(model)
    train_images = load_images(images, False) if images else None
    if onnx:
        print_line(_write_kit(onnx_kit(classifier, title, train_images), folder / "onnx"))
    if program:
        print_line(export_program(classifier, make_folder(folder) / f"{title}.pt2").sentence)
    if script:
        print_line(_write_script(classifier, train_images, images, make_folder(folder) / f"{title}.py"))
    if as_space:
        print_line(_write_kit(space_kit(classifier, title, train_images), folder / "space"))


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
            error_console.print(str(error), style="red", markup=False)
            num_unread += 1
    if predictions or output_format is not OutputFormat.TABLE:
        show_predictions(predictions, output_format)
    if num_unread:
        raise SystemExit(1)


def _default_export_folder(model_path: Path) -> Path:
    """Folder of the model's name beside it; another if that one holds something else, such as its images."""
    folder = model_path.with_suffix("")
    exports = {"onnx", "space", f"{model_path.stem}.pt2", f"{model_path.stem}.py"}
    if os.path.isdir(folder) and not {path.name for path in folder.iterdir()} <= exports:
        return folder.with_name(f"{folder.name}-exported")
    return folder


def _write_script(model: Classifier, train_images: LabelledImages | None, images_path: Path | None, path: Path) -> str:
    atomic_write_bytes(path, eject(model, train_images, str(images_path or "images")).encode())
    return f"The plain PyTorch script is {path}."


def _write_kit(kit: DeployKit, folder: Path) -> str:
    kit.write_to(folder)
    return f"{kit.parity.sentence} It is in {folder}."
