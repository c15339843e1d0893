"""The same verbs on a command line. Knows nothing of Gradio until ``app`` asks for the page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from typer.core import TyperGroup

from headswap.cli.interruption import InterruptHandler
from headswap.cli.terminal import (
    console,
    error_console,
    make_download_column,
    make_progress,
    print_json_line,
    print_line,
    show_evaluation,
    show_events,
    show_predictions,
)
from headswap.common import devices
from headswap.common.atomic import atomic_write_bytes
from headswap.common.errors import InputError
from headswap.common.plain_data import dataclass_to_dict
from headswap.data.checks import check
from headswap.data.dataset import LabelledImages, load_report_to_dict
from headswap.data.loading import LoadingProgress, load_images_with_progress
from headswap.data.sources import list_image_files
from headswap.evaluation.evaluate import evaluate
from headswap.export.deploy import DeployKit, onnx_kit, space_kit
from headswap.export.hub import push_to_hub
from headswap.export.model_file import load_and_verify, save
from headswap.export.onnx import export_program
from headswap.export.script import eject
from headswap.networks import catalogue
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.networks.classifier import Classifier, adapt
from headswap.networks.heads import HEADS, describe_head, get_head_options
from headswap.training.api import refit, train
from headswap.training.cross_validation import cross_validate
from headswap.training.events import Kept
from headswap.training.plan import NAMED_PLANS, Plan
from headswap.training.race import Lap, Won, race, select_best_model

EXIT_INTERRUPTED = 130  # the status that shells give to what Ctrl+C ended
ABORTED_MESSAGE = "Ended at once. What was learned and not yet written is lost."


class InterruptibleGroup(TyperGroup):
    """Ctrl+C ends a verb with a line and never with a traceback; the page has an end of its own."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            if ctx.invoked_subcommand == "app":
                raise
            error_console.print(str(interrupt) or "Stopped.", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


cli = typer.Typer(
    cls=InterruptibleGroup,
    help="Give a pretrained image network a new head, and watch it learn your pictures.",
    no_args_is_help=True,
    add_completion=False,
)

SUGGESTED_PLAN = "suggested"
MAX_SHOWN_GROUPS = 10  # images of a finding


class OutputFormat(str, Enum):
    """How answers are printed."""

    TABLE, CSV, JSON = "table", "csv", "json"


FolderArgument = Annotated[Path, typer.Argument(help="A folder or a zip with one sub-folder for each class.")]
BackboneOption = Annotated[str, typer.Option(help="One of `headswap backbones`, or timm/ and a name of timm's.")]
HeadOption = Annotated[str, typer.Option(help=f"One of {', '.join(HEADS)}.")]
HeadOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", help="An option of the head, such as dropout=0.2 or hidden_dims=512,256; see `headswap heads`."
    ),
]
PlanOption = Annotated[str, typer.Option("--plan", help=f"{SUGGESTED_PLAN}, or {', '.join(NAMED_PLANS)}.")]
FoldsOption = Annotated[
    int | None,
    typer.Option(min=2, help="First judge the head on every image: so many times another part is held back."),
]
RefitOption = Annotated[
    bool, typer.Option("--refit", help="Learn once more afterwards, from all images; the figures stay the first run's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For machines: one JSON object a line, and nothing else.")]
ModelArgument = Annotated[Path, typer.Argument(help="A .headswap file, as `train --out` writes it.")]
ClassifyOption = Annotated[
    list[Path] | None,
    typer.Option(help="An image to classify afterwards, or a folder of them; may be given again."),
]


@cli.command()
def app_command(
    port: Annotated[int | None, typer.Option(help="By default the first free one from 7860 on.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines of the network in.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    lan: Annotated[
        bool, typer.Option("--lan", help="Let a classroom in: listen to the network, show the address and a QR code.")
    ] = False,
) -> None:
    """Start the page and open it."""
    from headswap.ui import launch

    if lan:
        from headswap.ui.app.lan import ALL_INTERFACES, find_lan_address, format_invitation

        launch(
            lambda port: print(format_invitation(find_lan_address(), port), flush=True),
            server_port=port,
            server_name=ALL_INTERFACES,
            inbrowser=False,
        )
    else:
        launch(server_port=port, server_name=host, inbrowser=browser)


@cli.command("train")
def train_command(
    context: typer.Context,
    folder: FolderArgument,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    head: HeadOption = "linear",
    option_pairs: HeadOptionsOption = None,
    plan_name: PlanOption = SUGGESTED_PLAN,
    seed: Annotated[int, typer.Option(help="Of the split and of the batches.")] = 0,
    folds: FoldsOption = None,
    refit_afterwards: RefitOption = False,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Go on with this .headswap file; FOLDER holds images of its classes, and perhaps of new ones.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save the model as this .headswap file.")] = None,
    classify: ClassifyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a network the classes of a folder, and perhaps save it or classify images with it."""
    if from_file and (option_pairs or _is_given(context, "backbone", "head")):
        raise typer.BadParameter("With --from the backbone and the head are the file's; leave their options away.")
    if out:
        _check_writable(out)
    asked = _resolve_existing_images(classify)
    stop = _install_interrupt_handler(context, out)
    images = _load_images_with_progress(folder, as_json)
    torch.manual_seed(seed)
    with _translate_option_errors():
        options = _parse_head_options(head, option_pairs or ())
        named = None if plan_name == SUGGESTED_PLAN else Plan.from_name(plan_name)
        model = (
            _load_and_add_classes(from_file, images)
            if from_file
            else _adapt_with_progress(backbone, images.classes, head, options, as_json, images.multi_label)
        )
    plan = replace(named or Plan.suggest(images, model), seed=seed)
    if plan.advice and not as_json:
        console.print(plan.advice)
    if folds:
        show_events(cross_validate(images, model, head, folds, (seed,), plan, head_options=options), as_json)
    before, remark = model.record, ""
    stop.defer(ABORTED_MESSAGE)
    told = show_events(stop.until_interrupted(train(model, images, plan)), as_json)
    if refit_afterwards and not stop.is_interrupted:
        once_more = show_events(stop.until_interrupted(refit(model, images, plan, told[Kept])), as_json)
        remark = "" if Kept in once_more else "It has not learned again from all images."
    learned = model if model.record is not before or not stop.is_interrupted else None
    _save_and_classify(stop, learned, remark, out, asked, as_json)


@cli.command()
def predict_command(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="How the answers are printed.")
    ] = OutputFormat.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Classify images with a saved model."""
    _classify_files(_load_model(model), _expand_image_paths(images), OutputFormat.JSON if as_json else output_format)


@cli.command("evaluate")
def evaluate_command(model: ModelArgument, folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Judge a saved model by a folder that it has not learned from.

    Where the folder has halves, test/ judges, or else val/.
    """
    loaded = _load_model(model)
    images = _load_images_with_progress(folder, as_json, for_evaluation=True)
    show_evaluation(evaluate(loaded, images), as_json)


@cli.command()
def export_command(
    model: ModelArgument,
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX, with code that runs and checks it.")] = False,
    program: Annotated[bool, typer.Option("--program", help="As a .pt2 file, which torch alone runs.")] = False,
    script: Annotated[bool, typer.Option("--script", help="As a plain PyTorch script that teaches it again.")] = False,
    as_space: Annotated[bool, typer.Option("--space", help="As a page of its own, ready to push to a Space.")] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="The folder that it learned from: its split goes into the script, some images along."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; by default the model's name beside it.")] = None,
) -> None:
    """Write a saved model in other forms, each compared with it."""
    if not (onnx or program or script or as_space):
        raise typer.BadParameter("Say as what: --onnx, --program, --script or --space; several may be given.")
    loaded, title = _load_model(model), model.stem
    folder = out or _default_export_folder(model)
    learned = _load_images_with_progress(images, False) if images else None
    ways: list[tuple[bool, Callable[[], str]]] = [
        (onnx, lambda: _write_kit(onnx_kit(loaded, title, learned), folder / "onnx")),
        (program, lambda: export_program(loaded, _make_folder(folder) / f"{title}.pt2").sentence),
        (script, lambda: _write_script(loaded, learned, images, _make_folder(folder) / f"{title}.py")),
        (as_space, lambda: _write_kit(space_kit(loaded, title, learned), folder / "space")),
    ]
    for wanted, way in ways:
        if wanted:
            print_line(way())


@cli.command("push")
def push_command(
    model: ModelArgument,
    repo_id: Annotated[str, typer.Argument(help="Like your-name/flowers, on the Hugging Face hub.")],
    as_space: Annotated[bool, typer.Option("--space", help="As a page of its own instead of as a model.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Everybody sees it.")] = False,
) -> None:
    """Push a saved model to the Hugging Face hub, as whoever is logged in on this computer."""
    loaded = _load_model(model)
    files = dict((space_kit if as_space else onnx_kit)(loaded, model.stem).files)
    if not as_space:
        files[model.name] = model.read_bytes()
    print_line(f"Pushed to {push_to_hub(files, repo_id, space=as_space, private=not public)}")


@cli.command()
def check_command(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Look for copies, mistakes and weak images before training."""
    images = _load_images_with_progress(folder, as_json)
    found = check(images)
    if as_json:
        told = [
            {"kind": f.kind, "text": str(f), "images": [[images.names[i] for i in g] for g in f.index_groups]}
            for f in found
        ]
        return print_json_line(event="Findings", classes=images.counts, findings=told)
    for name, number in images.counts.items():
        print_line(f"{number:6,}  {name}")
    for finding in found:
        print_line(f"\n{finding}")
        for group in finding.index_groups[:MAX_SHOWN_GROUPS]:
            print_line(f"  {', '.join(images.names[i] for i in group)}")
        if len(finding.index_groups) > MAX_SHOWN_GROUPS:
            print_line(f"  and {len(finding.index_groups) - MAX_SHOWN_GROUPS:,} more")
    if not found:
        print_line("Nothing else to remark.")
    return None


@cli.command("race")
def race_command(
    context: typer.Context,
    folder: FolderArgument,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    head: Annotated[
        list[str] | None, typer.Option(help="One of them; give it for each. By default linear, bottleneck, mlp, lda.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the heads' first weights.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Save the winner as this .headswap file.")] = None,
    classify: ClassifyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let several heads learn side by side, and let the best go on."""
    if out:
        _check_writable(out)
    asked = _resolve_existing_images(classify)
    stop = _install_interrupt_handler(context, out)
    images = _load_images_with_progress(folder, as_json)
    torch.manual_seed(seed)
    with _translate_option_errors():
        runs = race(images, backbone, head or ("linear", "bottleneck", "mlp", "lda"))
    racers: dict[str, Classifier] = {}
    stop.defer(ABORTED_MESSAGE)
    won = show_events(_collect_race_models(stop.until_interrupted(runs), racers), as_json).get(Won)
    first = won.model if won else select_best_model(racers.values())
    learned = first if first is not None and first.record else None
    ahead = next((name for name, model in racers.items() if model is learned), "")
    _save_and_classify(stop, learned, f"The head {ahead} was ahead.", out, asked, as_json)


@cli.command()
def heads_command() -> None:
    """List the heads with their options."""
    table = Table("name", "what it does", "options")
    for name in HEADS:
        options = ", ".join(
            f"{option}={_format_default(default)}" for option, default in get_head_options(name).items()
        )
        table.add_row(name, describe_head(name), options)
    console.print(table)


@cli.command()
def backbones_command(as_json: JsonOption = False) -> None:
    """List the backbones that can be named."""
    rows = catalogue.backbones()
    if as_json:
        for row in rows:
            told = dataclass_to_dict(row) | {
                "weights_file": str(row.weights_file),
                "needs_download": row.needs_download,
            }
            print_json_line(event="Backbone", **told)
        return
    table = Table()
    table.add_column("name", no_wrap=True)
    for heading in ("million weights", "ImageNet top-1", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("weights", no_wrap=True)
    for row in rows:
        accuracy = f"{row.accuracy:.1f} %" if row.accuracy else ""
        where = ("to download" if row.needs_download else "on this machine") if row.has_weights else "none"
        weights = "" if row.million_weights is None else f"{row.million_weights:.1f}"
        megabytes = "" if row.megabytes is None else f"{row.megabytes:.0f}"
        table.add_row(row.name, weights, accuracy, megabytes, where)
    console.print(table)


@cli.command()
def fetch_command(
    names: Annotated[list[str], typer.Argument(help="Some of `headswap backbones`, or timm/ and a name of timm's.")],
) -> None:
    """Download backbones' weights beforehand, so that a class needs no internet."""
    with _translate_option_errors():
        rows = [catalogue.find_backbone(name) for name in names]
    for row in rows:
        there = row.has_weights and not row.needs_download
        _adapt_with_progress(
            row.name, ("one", "other"), "linear", {}, False
        )  # built once, so that a damaged file is met today
        place = catalogue.find_backbone(row.name).weights_file
        size = "" if row.megabytes is None else f"{row.megabytes:.0f} MB "
        print_line(f"{row.name}: {'was here already' if there else f'{size}fetched'}, {place}")


def main() -> None:
    """The ``headswap`` command; what was wrong with the input is one line, never a traceback."""
    devices.use_all_cpus()
    try:
        cli()
    except InputError as error:
        error_console.print(str(error), style="red", markup=False)
        raise SystemExit(1) from None


def _is_given(context: typer.Context, *names: str) -> bool:
    """Whether any of these options was written down, and is not its default."""
    return any(context.get_parameter_source(name).name == "COMMANDLINE" for name in names)


def _print_text_or_json(text: str, as_json: bool, **fields: Any) -> None:
    print_json_line(**fields) if as_json else print_line(text)


def _install_interrupt_handler(context: typer.Context, out: Path | None) -> InterruptHandler:
    """Ctrl+C while this command runs."""
    return context.with_resource(InterruptHandler(_nothing_trained_message(out)))


def _nothing_trained_message(out: Path | None) -> str:
    return "Stopped before anything was learned" + (f"; {out} was not written." if out else ".")


def _collect_race_models(events: Iterable[Any], models_by_head: dict[str, Classifier]) -> Iterator[Any]:
    """The events of a race, while its models are put under the names of their heads."""
    for event in events:
        if isinstance(event, Lap) and event.model is not None:
            models_by_head[event.head] = event.model
        yield event


def _save_and_classify(
    interrupt: InterruptHandler,
    model: Classifier | None,
    remark: str,
    out: Path | None,
    classify: list[Path] | None,
    as_json: bool,
) -> None:
    """What comes of a training: its file and its answers; of one that Ctrl+C ended the file alone, and its status.

    ``model`` is None where it was ended before anything was learned; ``remark`` is said of one that was ended.
    """
    if interrupt.is_interrupted:
        _report_stopped(model, remark, out, as_json)
    said = interrupt.is_interrupted
    if out and model:
        _print_text_or_json(f"{save(model, out).sentence} It is {out}.", as_json, event="Saved", file=str(out))
    if interrupt.is_interrupted and not said:
        _print_text_or_json("Stopped, after everything was learned and written.", as_json, event="Stopped")
    if interrupt.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    interrupt.raise_immediately("Stopped.")
    if classify:
        _classify_files(model, classify, OutputFormat.JSON if as_json else OutputFormat.TABLE)


def _report_stopped(model: Classifier | None, remark: str, out: Path | None, as_json: bool) -> None:
    if model is None:
        said = _nothing_trained_message(out)
        return _print_text_or_json(said, as_json, event="Stopped", learned=False, sentence=said)
    record = model.record
    what = f"the weights of epoch {record.epoch}, the best so far" if record.kept == "best" else "what it came to"
    figures = f"{record.result.right} of {record.result.of} validation images right"
    then = f"{out} is being written; Ctrl+C again ends at once." if out else "Without --out nothing is saved."
    said = " ".join(filter(None, (f"Stopped. Kept {what}: {figures}.", remark, then)))
    return _print_text_or_json(
        said,
        as_json,
        event="Stopped",
        learned=True,
        epoch=record.epoch,
        right=record.result.right,
        of=record.result.of,
        sentence=said,
    )


def _check_writable(out: Path) -> None:
    """Before minutes are spent on what could not be saved."""
    if not out.parent.is_dir():
        raise InputError(f"The folder {out.parent} for {out.name} does not exist; make it first.")
    if out.is_dir():
        raise InputError(f"{out} is a folder; give the name of a file, such as {out / 'model.headswap'}.")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise InputError(f"Nothing can be written in {out.parent}: {error.strerror or error}.") from error


def _load_images_with_progress(folder: Path, as_json: bool, for_evaluation: bool = False) -> LabelledImages:
    """The images, read with a bar, and what their report says."""
    with (
        make_progress(disable=as_json) as progress,
        closing(load_images_with_progress(folder, for_evaluation=for_evaluation)) as steps,
    ):
        bar = progress.add_task("Images", total=None)
        for step in steps:
            if isinstance(step, LoadingProgress):
                progress.update(bar, completed=step.done, total=step.total or None)
    _print_text_or_json(str(step.report), as_json, event="Read", **load_report_to_dict(step))
    return step


def _adapt_with_progress(
    backbone: str,
    classes: Sequence[str],
    head: str,
    options: dict[str, Any],
    as_json: bool,
    multi_label: bool = False,
) -> Classifier:
    """The network with its new head; where its weights are downloaded, that is shown."""
    with make_progress(make_download_column(), disable=as_json) as progress:
        bar = progress.add_task(f"Weights of {backbone}", visible=False)

        def fetched(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total or None, visible=True)

        return adapt(backbone, classes, head, multi_label=multi_label, progress=fetched, head_options=options)


def _load_model(file: Path) -> Classifier:
    """A saved model; what of its file is not as it was saved is said on the error stream."""
    model, told = load_and_verify(file)
    if told:
        error_console.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return model


def _load_and_add_classes(file: Path, images: LabelledImages) -> Classifier:
    """A saved model with a row for each class that is new to it."""
    model = _load_model(file)
    for name in images.classes:
        if name not in model.classes:
            model.add_class(name)
    return model


def _expand_image_paths(paths: Iterable[Path]) -> list[Path]:
    """The files that are meant: of a folder, all that loading it would read; what it passes over is said."""
    found: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside, others = list_image_files(path)
        if others:
            first = f"the first, {others[0].name}, {others[0].problem}"
            error_console.print(f"{path.name}: {len(others)} passed over ({first}).", markup=False, highlight=False)
        if not inside:
            raise InputError(f"There are no images in {path}.")
        found += inside
    return found


def _resolve_existing_images(paths: Iterable[Path] | None) -> list[Path]:
    """The files that are meant, looked for before minutes are spent."""
    for path in paths or ():
        if not os.path.exists(path):  # unlike Path's own, never raises
            raise InputError(f"{path.name}: does not exist; check the name.")
    return _expand_image_paths(paths or ())


def _classify_files(model: Classifier, paths: Iterable[Path], output_format: OutputFormat) -> None:
    """The answers to all that can be read; what cannot is said, and the command fails in the end."""
    answers, unread = [], 0
    for path in paths:
        try:
            answers.append((str(path), model.predict(path)))
        except InputError as error:
            error_console.print(str(error), style="red", markup=False)
            unread += 1
    if answers or output_format is not OutputFormat.TABLE:
        show_predictions(answers, output_format.value)
    if unread:
        raise SystemExit(1)


def _default_export_folder(model_path: Path) -> Path:
    """Where exports of a model go: a folder of its name, unless one is there that holds something else."""
    folder = model_path.with_suffix("")
    ours = {"onnx", "space", f"{model_path.stem}.pt2", f"{model_path.stem}.py"}
    if os.path.isdir(folder) and not {path.name for path in folder.iterdir()} <= ours:
        return folder.with_name(f"{folder.name}-exported")  # such as the images that it learned from
    return folder


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    return folder


def _write_script(model: Classifier, train_images: LabelledImages | None, images_path: Path | None, path: Path) -> str:
    atomic_write_bytes(path, eject(model, train_images, str(images_path or "images")).encode())
    return f"The plain PyTorch script is {path}."


def _write_kit(kit: DeployKit, folder: Path) -> str:
    kit.write_to(folder)
    return f"{kit.parity.sentence} It is in {folder}."


@contextmanager
def _translate_option_errors() -> Iterator[None]:
    """What is wrong with an option is said as such; what is wrong with the images stays an ``InputError``."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _parse_head_options(head: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Options as they are written, ``dropout=0.2``, in the type of their default."""
    known = get_head_options(head) if head in HEADS else {}
    options: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        default = known.get(name, text)
        try:
            options[name] = tuple(map(int, text.split(","))) if isinstance(default, tuple) else type(default)(text)
        except ValueError as error:
            raise ValueError(
                f"The option {name} is written like {name}={_format_default(default)}, not '{pair}'."
            ) from error
    return options


def _format_default(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
