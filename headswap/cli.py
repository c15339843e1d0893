"""The same verbs on a command line. Knows nothing of Gradio until ``app`` asks for the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from headswap import devices
from headswap.catalogue import DEFAULT, backbones
from headswap.errors import InputError
from headswap.events import Epoch, Event, FrozenPass, Kept, PhaseBegins, Reference
from headswap.findings import findings
from headswap.heads import HEADS, head_options, head_sentence
from headswap.images import LabelledImages
from headswap.model import Classifier, adapt
from headswap.plan import NAMED, Plan
from headswap.race import Lap, Won, race
from headswap.reading import Reading, loading
from headswap.training import refit, train
from headswap.validation import CrossValidated, Fold, cross_validate

cli = typer.Typer(
    help="Give a pretrained image network a new head, and watch it learn your pictures.",
    no_args_is_help=True,
    add_completion=False,
)
console = Console()

SUGGESTED = "suggested"
SHOWN = 10  # images of a finding
Told = Event | Fold | CrossValidated | Lap | Won

Folder = Annotated[Path, typer.Argument(help="A folder or a zip with one sub-folder for each class.")]
Backbone = Annotated[str, typer.Option(help="One of `headswap networks`.")]
HeadName = Annotated[str, typer.Option(help=f"One of {', '.join(HEADS)}.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", help="An option of the head, such as dropout=0.2 or hidden_dims=512,256; see `headswap heads`."
    ),
]
PlanName = Annotated[str, typer.Option("--plan", help=f"{SUGGESTED}, or {', '.join(NAMED)}.")]
Folds = Annotated[
    int | None,
    typer.Option(min=2, help="First judge the head on every image: so many times another part is held back."),
]
Refit = Annotated[
    bool, typer.Option("--refit", help="Learn once more afterwards, from all images; the figures stay the first run's.")
]
Classify = Annotated[
    list[Path] | None,
    typer.Option(exists=True, dir_okay=False, help="An image to classify afterwards; may be given again."),
]


@cli.command()
def app(
    port: Annotated[int | None, typer.Option(help="By default the first free one from 7860 on.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines of the network in.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Start the page and open it."""
    from headswap.ui import launch

    launch(server_port=port, server_name=host, inbrowser=browser)


@cli.command("train")
def train_command(
    folder: Folder,
    backbone: Backbone = DEFAULT,
    head: HeadName = "linear",
    option: Options = None,
    plan_name: PlanName = SUGGESTED,
    seed: Annotated[int, typer.Option(help="Of the split and of the batches.")] = 0,
    folds: Folds = None,
    again: Refit = False,
    classify: Classify = None,
) -> None:
    """Teach a network the classes of a folder, and perhaps classify new images with it."""
    images = _read(folder)
    torch.manual_seed(seed)
    with _explaining_options():
        options = _options(head, option or ())
        named = None if plan_name == SUGGESTED else Plan.named(plan_name)
        model = _adapt(backbone, images, head, options)
    plan = replace(named or Plan.suggest(images, model), seed=seed)
    if plan.advice:
        console.print(plan.advice)
    if folds:
        _watch(cross_validate(images, model, head, folds, (seed,), plan, **options))
    told = _watch(train(model, images, plan))
    if again:
        _watch(refit(model, images, plan, told[Kept]))
    for path in classify or ():
        _answer(model, path)


@cli.command()
def check(folder: Folder) -> None:
    """Look for copies, mistakes and weak images before training."""
    images = _read(folder)
    for name, number in images.counts.items():
        console.print(f"{number:6,}  {name}", markup=False, highlight=False)
    found = findings(images)
    for finding in found:
        console.print(f"\n{finding}", markup=False, highlight=False)
        for group in finding.images[:SHOWN]:
            console.print(f"  {', '.join(images.names[i] for i in group)}", markup=False, highlight=False)
        if len(finding.images) > SHOWN:
            console.print(f"  and {len(finding.images) - SHOWN:,} more", highlight=False)
    if not found:
        console.print("Nothing else to remark.")


@cli.command("race")
def race_command(
    folder: Folder,
    backbone: Backbone = DEFAULT,
    head: Annotated[
        list[str] | None, typer.Option(help="One of them; give it for each. By default linear, bottleneck, mlp, lda.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the heads' first weights.")] = 0,
    classify: Classify = None,
) -> None:
    """Let several heads learn side by side, and let the best go on."""
    images = _read(folder)
    torch.manual_seed(seed)
    with _explaining_options():
        runs = race(images, backbone, head or ("linear", "bottleneck", "mlp", "lda"))
    won = _watch(runs)[Won]
    for path in classify or ():
        _answer(won.model, path)


@cli.command()
def heads() -> None:
    """List the heads with their options."""
    table = Table("name", "what it does", "options")
    for name in HEADS:
        options = ", ".join(f"{option}={_written(default)}" for option, default in head_options(name).items())
        table.add_row(name, head_sentence(name), options)
    console.print(table)


@cli.command()
def networks() -> None:
    """List the networks that can be named."""
    table = Table()
    table.add_column("name", no_wrap=True)
    for heading in ("million weights", "ImageNet top-1", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("weights", no_wrap=True)
    for row in backbones():
        accuracy = f"{row.accuracy:.1f} %" if row.accuracy else ""
        where = "to download" if row.needs_download else "on this machine"
        table.add_row(row.name, f"{row.million_weights:.1f}", accuracy, f"{row.megabytes:.0f}", where)
    console.print(table)


def main() -> None:
    """The ``headswap`` command; what was wrong with the input is one line, never a traceback."""
    devices.use_every_core()
    try:
        cli()
    except InputError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        raise SystemExit(1) from None


def _read(folder: Path) -> LabelledImages:
    """The images, read with a bar, and what their report says."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress, closing(loading(folder)) as steps:
        bar = progress.add_task("Images", total=None)
        for step in steps:
            if isinstance(step, Reading):
                progress.update(bar, completed=step.done, total=step.of or None)
    console.print(str(step.report), markup=False)
    return step


def _adapt(backbone: str, images: LabelledImages, head: str, options: dict[str, Any]) -> Classifier:
    """The network with its new head; where its weights are downloaded, that is shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"Weights of {backbone}", visible=False)

        def fetched(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total or None, visible=True)

        return adapt(backbone, images.classes, head, multi_label=images.multi_label, progress=fetched, **options)


@contextmanager
def _explaining_options() -> Iterator[None]:
    """What is wrong with an option is said as such; what is wrong with the images stays an ``InputError``."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _options(head: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Options as they are written, ``dropout=0.2``, in the type of their default."""
    known = head_options(head) if head in HEADS else {}
    options: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        default = known.get(name, text)
        try:
            options[name] = tuple(map(int, text.split(","))) if isinstance(default, tuple) else type(default)(text)
        except ValueError as error:
            raise ValueError(f"The option {name} is written like {name}={_written(default)}, not '{pair}'.") from error
    return options


def _written(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _watch(events: Iterable[Told]) -> dict[type, Told]:
    """Show them; returns the last of each kind."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last: dict[type, Told] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("Frozen stages", total=None)
        for event in events:
            last[type(event)] = event
            _show(event, progress, bar)
    return last


def _show(event: Told, progress: Progress, bar: TaskID) -> None:
    def say(text: str) -> None:
        progress.console.print(text, markup=False, highlight=False)

    match event:
        case FrozenPass():
            progress.update(bar, description="Frozen stages", completed=event.done, total=event.total)
        case Fold():
            progress.update(bar, description="Folds", completed=event.number, total=event.folds)
        case CrossValidated():
            say(event.sentence)
        case Lap(event=Epoch() as epoch):
            progress.update(bar, description=f"Race: {event.head}", completed=epoch.number)
        case Lap(event=PhaseBegins() as begins):
            progress.update(bar, total=begins.phase.epochs)
        case Won():
            say(event.sentence)
        case Reference():
            told = event.figures
            say(f"A head that is solved at once names {told.right} of {told.of} validation images rightly.")
        case PhaseBegins():
            learns = ", ".join((*event.learning_stages, "the head"))
            say(f"{learns} learn; {event.still_weights:,} weights stand still.")
            progress.update(bar, description="Epochs", total=event.epochs, completed=event.first_epoch - 1)
        case Epoch():
            progress.update(bar, completed=event.number)
        case Kept():
            say(f"{event.sentence} It took {event.seconds:.0f} s.")
            if event.labels:
                say(f"  {event.metric} {event.score:.2f}")
            for label in event.labels:
                say(
                    f"  {label.name}: average precision {label.average_precision:.2f}, F1 {label.f1:.2f} "
                    f"above {label.threshold:.2f}"
                )


def _answer(model: Classifier, path: Path) -> None:
    ranked = model.predict(path)[:3]
    console.print(f"{path}: " + ", ".join(f"{name} {share:.0%}" for name, share in ranked), markup=False)
