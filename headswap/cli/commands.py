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

from headswap.cli.interruption import Interruption
from headswap.cli.terminal import (
    bars,
    bytes_column,
    console,
    errors,
    say,
    show_answers,
    show_evaluation,
    tell_machine,
    watch,
)
from headswap.common import devices
from headswap.common.atomic import write
from headswap.common.errors import InputError
from headswap.common.plain_data import plain
from headswap.data.checks import findings
from headswap.data.dataset import LabelledImages, plain_report
from headswap.data.loading import Reading, loading
from headswap.data.sources import pictures_in
from headswap.evaluation.evaluate import evaluate
from headswap.export.deploy import Kit, onnx_kit, space
from headswap.export.hub import push
from headswap.export.model_file import opened, save
from headswap.export.onnx import export_program
from headswap.export.script import eject
from headswap.networks import catalogue
from headswap.networks.catalogue import DEFAULT
from headswap.networks.classifier import Classifier, adapt
from headswap.networks.heads import HEADS, head_options, head_sentence
from headswap.training.cross_validation import cross_validate
from headswap.training.events import Kept
from headswap.training.plan import NAMED, Plan
from headswap.training.race import Lap, Won, leader, race
from headswap.training.trainer import refit, train

INTERRUPTED = 130  # the status that shells give to what Ctrl+C ended
ENDED = "Ended at once. What was learned and not yet written is lost."


class Verbs(TyperGroup):
    """Ctrl+C ends a verb with a line and never with a traceback; the page has an end of its own."""

    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            if ctx.invoked_subcommand == "app":
                raise
            errors.print(str(interrupt) or "Stopped.", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None


cli = typer.Typer(
    cls=Verbs,
    help="Give a pretrained image network a new head, and watch it learn your pictures.",
    no_args_is_help=True,
    add_completion=False,
)

SUGGESTED = "suggested"
SHOWN = 10  # images of a finding


class Form(str, Enum):
    """How answers are printed."""

    TABLE, CSV, JSON = "table", "csv", "json"


Folder = Annotated[Path, typer.Argument(help="A folder or a zip with one sub-folder for each class.")]
Backbone = Annotated[str, typer.Option(help="One of `headswap backbones`, or timm/ and a name of timm's.")]
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
Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON object a line, and nothing else.")]
Model = Annotated[Path, typer.Argument(help="A .headswap file, as `train --out` writes it.")]
Classify = Annotated[
    list[Path] | None,
    typer.Option(help="An image to classify afterwards, or a folder of them; may be given again."),
]


@cli.command()
def app(
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
        from headswap.ui.app.lan import EVERYBODY, invitation, own_address

        launch(
            lambda port: print(invitation(own_address(), port), flush=True),
            server_port=port,
            server_name=EVERYBODY,
            inbrowser=False,
        )
    else:
        launch(server_port=port, server_name=host, inbrowser=browser)


@cli.command("train")
def train_command(
    context: typer.Context,
    folder: Folder,
    backbone: Backbone = DEFAULT,
    head: HeadName = "linear",
    option: Options = None,
    plan_name: PlanName = SUGGESTED,
    seed: Annotated[int, typer.Option(help="Of the split and of the batches.")] = 0,
    folds: Folds = None,
    again: Refit = False,
    begin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Go on with this .headswap file; FOLDER holds images of its classes, and perhaps of new ones.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save the model as this .headswap file.")] = None,
    classify: Classify = None,
    machine: Json = False,
) -> None:
    """Teach a network the classes of a folder, and perhaps save it or classify images with it."""
    if begin and (option or _given(context, "backbone", "head")):
        raise typer.BadParameter("With --from the backbone and the head are the file's; leave their options away.")
    if out:
        _check_place(out)
    asked = _there(classify)
    stop = _interruptible(context, out)
    images = _read(folder, machine)
    torch.manual_seed(seed)
    with _explaining_options():
        options = _options(head, option or ())
        named = None if plan_name == SUGGESTED else Plan.named(plan_name)
        model = (
            _go_on(begin, images)
            if begin
            else _adapt(backbone, images.classes, head, options, machine, images.multi_label)
        )
    plan = replace(named or Plan.suggest(images, model), seed=seed)
    if plan.advice and not machine:
        console.print(plan.advice)
    if folds:
        watch(cross_validate(images, model, head, folds, (seed,), plan, head_options=options), machine)
    before, remark = model.record, ""
    stop.wait(ENDED)
    told = watch(stop.until(train(model, images, plan)), machine)
    if again and not stop.pressed:
        once_more = watch(stop.until(refit(model, images, plan, told[Kept])), machine)
        remark = "" if Kept in once_more else "It has not learned again from all images."
    learned = model if model.record is not before or not stop.pressed else None
    _hand_over(stop, learned, remark, out, asked, machine)


@cli.command()
def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    form: Annotated[Form, typer.Option("--format", help="How the answers are printed.")] = Form.TABLE,
    machine: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Classify images with a saved model."""
    _classify(_load(model), _pictures(images), Form.JSON if machine else form)


@cli.command("evaluate")
def evaluate_command(model: Model, folder: Folder, machine: Json = False) -> None:
    """Judge a saved model by a folder that it has not learned from.

    Where the folder has halves, test/ judges, or else val/.
    """
    loaded = _load(model)
    images = _read(folder, machine, for_evaluation=True)
    show_evaluation(evaluate(loaded, images), machine)


@cli.command()
def export(
    model: Model,
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX, with code that runs and checks it.")] = False,
    program: Annotated[bool, typer.Option("--program", help="As a .pt2 file, which torch alone runs.")] = False,
    script: Annotated[bool, typer.Option("--script", help="As a plain PyTorch script that teaches it again.")] = False,
    page: Annotated[bool, typer.Option("--space", help="As a page of its own, ready to push to a Space.")] = False,
    images: Annotated[
        Path | None,
        typer.Option(help="The folder that it learned from: its split goes into the script, some images along."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder; by default the model's name beside it.")] = None,
) -> None:
    """Write a saved model in other forms, each compared with it."""
    if not (onnx or program or script or page):
        raise typer.BadParameter("Say as what: --onnx, --program, --script or --space; several may be given.")
    loaded, title = _load(model), model.stem
    folder = out or _beside(model)
    learned = _read(images, False) if images else None
    ways: list[tuple[bool, Callable[[], str]]] = [
        (onnx, lambda: _written(onnx_kit(loaded, title, learned), folder / "onnx")),
        (program, lambda: export_program(loaded, _made(folder) / f"{title}.pt2").sentence),
        (script, lambda: _script(loaded, learned, images, _made(folder) / f"{title}.py")),
        (page, lambda: _written(space(loaded, title, learned), folder / "space")),
    ]
    for wanted, way in ways:
        if wanted:
            say(way())


@cli.command("push")
def push_command(
    model: Model,
    repository: Annotated[str, typer.Argument(help="Like your-name/flowers, on the Hugging Face hub.")],
    as_space: Annotated[bool, typer.Option("--space", help="As a page of its own instead of as a model.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Everybody sees it.")] = False,
) -> None:
    """Push a saved model to the Hugging Face hub, as whoever is logged in on this computer."""
    loaded = _load(model)
    files = dict((space if as_space else onnx_kit)(loaded, model.stem).files)
    if not as_space:
        files[model.name] = model.read_bytes()
    say(f"Pushed to {push(files, repository, space=as_space, private=not public)}")


@cli.command()
def check(folder: Folder, machine: Json = False) -> None:
    """Look for copies, mistakes and weak images before training."""
    images = _read(folder, machine)
    found = findings(images)
    if machine:
        told = [
            {"kind": f.kind, "text": str(f), "images": [[images.names[i] for i in g] for g in f.images]} for f in found
        ]
        return tell_machine(event="Findings", classes=images.counts, findings=told)
    for name, number in images.counts.items():
        say(f"{number:6,}  {name}")
    for finding in found:
        say(f"\n{finding}")
        for group in finding.images[:SHOWN]:
            say(f"  {', '.join(images.names[i] for i in group)}")
        if len(finding.images) > SHOWN:
            say(f"  and {len(finding.images) - SHOWN:,} more")
    if not found:
        say("Nothing else to remark.")
    return None


@cli.command("race")
def race_command(
    context: typer.Context,
    folder: Folder,
    backbone: Backbone = DEFAULT,
    head: Annotated[
        list[str] | None, typer.Option(help="One of them; give it for each. By default linear, bottleneck, mlp, lda.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the heads' first weights.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Save the winner as this .headswap file.")] = None,
    classify: Classify = None,
    machine: Json = False,
) -> None:
    """Let several heads learn side by side, and let the best go on."""
    if out:
        _check_place(out)
    asked = _there(classify)
    stop = _interruptible(context, out)
    images = _read(folder, machine)
    torch.manual_seed(seed)
    with _explaining_options():
        runs = race(images, backbone, head or ("linear", "bottleneck", "mlp", "lda"))
    racers: dict[str, Classifier] = {}
    stop.wait(ENDED)
    won = watch(_noting(stop.until(runs), racers), machine).get(Won)
    first = won.model if won else leader(racers.values())
    learned = first if first is not None and first.record else None
    ahead = next((name for name, model in racers.items() if model is learned), "")
    _hand_over(stop, learned, f"The head {ahead} was ahead.", out, asked, machine)


@cli.command()
def heads() -> None:
    """List the heads with their options."""
    table = Table("name", "what it does", "options")
    for name in HEADS:
        options = ", ".join(f"{option}={_default(default)}" for option, default in head_options(name).items())
        table.add_row(name, head_sentence(name), options)
    console.print(table)


@cli.command()
def backbones(machine: Json = False) -> None:
    """List the backbones that can be named."""
    rows = catalogue.backbones()
    if machine:
        for row in rows:
            told = plain(row) | {"weights_file": str(row.weights_file), "needs_download": row.needs_download}
            tell_machine(event="Backbone", **told)
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
def fetch(
    names: Annotated[list[str], typer.Argument(help="Some of `headswap backbones`, or timm/ and a name of timm's.")],
) -> None:
    """Download backbones' weights beforehand, so that a class needs no internet."""
    with _explaining_options():
        rows = [catalogue.find(name) for name in names]
    for row in rows:
        there = row.has_weights and not row.needs_download
        _adapt(row.name, ("one", "other"), "linear", {}, False)  # built once, so that a damaged file is met today
        place = catalogue.find(row.name).weights_file
        size = "" if row.megabytes is None else f"{row.megabytes:.0f} MB "
        say(f"{row.name}: {'was here already' if there else f'{size}fetched'}, {place}")


def main() -> None:
    """The ``headswap`` command; what was wrong with the input is one line, never a traceback."""
    devices.use_every_core()
    try:
        cli()
    except InputError as error:
        errors.print(str(error), style="red", markup=False)
        raise SystemExit(1) from None


def _given(context: typer.Context, *names: str) -> bool:
    """Whether any of these options was written down, and is not its default."""
    return any(context.get_parameter_source(name).name == "COMMANDLINE" for name in names)


def _tell(text: str, machine: bool, **told: Any) -> None:
    tell_machine(**told) if machine else say(text)


def _interruptible(context: typer.Context, out: Path | None) -> Interruption:
    """Ctrl+C while this command runs."""
    return context.with_resource(Interruption(_nothing(out)))


def _nothing(out: Path | None) -> str:
    return "Stopped before anything was learned" + (f"; {out} was not written." if out else ".")


def _noting(events: Iterable[Any], racers: dict[str, Classifier]) -> Iterator[Any]:
    """The events of a race, while its models are put under the names of their heads."""
    for event in events:
        if isinstance(event, Lap) and event.model is not None:
            racers[event.head] = event.model
        yield event


def _hand_over(
    stop: Interruption,
    model: Classifier | None,
    remark: str,
    out: Path | None,
    classify: list[Path] | None,
    machine: bool,
) -> None:
    """What comes of a training: its file and its answers; of one that Ctrl+C ended the file alone, and its status.

    ``model`` is None where it was ended before anything was learned; ``remark`` is said of one that was ended.
    """
    if stop.pressed:
        _tell_stopped(model, remark, out, machine)
    said = stop.pressed
    if out and model:
        _tell(f"{save(model, out).sentence} It is {out}.", machine, event="Saved", file=str(out))
    if stop.pressed and not said:
        _tell("Stopped, after everything was learned and written.", machine, event="Stopped")
    if stop.pressed:
        raise typer.Exit(INTERRUPTED)
    stop.at_once("Stopped.")
    if classify:
        _classify(model, classify, Form.JSON if machine else Form.TABLE)


def _tell_stopped(model: Classifier | None, remark: str, out: Path | None, machine: bool) -> None:
    if model is None:
        said = _nothing(out)
        return _tell(said, machine, event="Stopped", learned=False, sentence=said)
    record = model.record
    what = f"the weights of epoch {record.epoch}, the best so far" if record.kept == "best" else "what it came to"
    figures = f"{record.result.right} of {record.result.of} validation images right"
    then = f"{out} is being written; Ctrl+C again ends at once." if out else "Without --out nothing is saved."
    said = " ".join(filter(None, (f"Stopped. Kept {what}: {figures}.", remark, then)))
    return _tell(
        said,
        machine,
        event="Stopped",
        learned=True,
        epoch=record.epoch,
        right=record.result.right,
        of=record.result.of,
        sentence=said,
    )


def _check_place(out: Path) -> None:
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


def _read(folder: Path, machine: bool, for_evaluation: bool = False) -> LabelledImages:
    """The images, read with a bar, and what their report says."""
    with bars(quiet=machine) as progress, closing(loading(folder, for_evaluation=for_evaluation)) as steps:
        bar = progress.add_task("Images", total=None)
        for step in steps:
            if isinstance(step, Reading):
                progress.update(bar, completed=step.done, total=step.of or None)
    _tell(str(step.report), machine, event="Read", **plain_report(step))
    return step


def _adapt(
    backbone: str,
    classes: Sequence[str],
    head: str,
    options: dict[str, Any],
    machine: bool,
    multi_label: bool = False,
) -> Classifier:
    """The network with its new head; where its weights are downloaded, that is shown."""
    with bars(bytes_column(), quiet=machine) as progress:
        bar = progress.add_task(f"Weights of {backbone}", visible=False)

        def fetched(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total or None, visible=True)

        return adapt(backbone, classes, head, multi_label=multi_label, progress=fetched, head_options=options)


def _load(file: Path) -> Classifier:
    """A saved model; what of its file is not as it was saved is said on the error stream."""
    model, told = opened(file)
    if told:
        errors.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    return model


def _go_on(file: Path, images: LabelledImages) -> Classifier:
    """A saved model with a row for each class that is new to it."""
    model = _load(file)
    for name in images.classes:
        if name not in model.classes:
            model.add_class(name)
    return model


def _pictures(named: Iterable[Path]) -> list[Path]:
    """The files that are meant: of a folder, all that loading it would read; what it passes over is said."""
    found: list[Path] = []
    for path in named:
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside, others = pictures_in(path)
        if others:
            first = f"the first, {others[0].name}, {others[0].problem}"
            errors.print(f"{path.name}: {len(others)} passed over ({first}).", markup=False, highlight=False)
        if not inside:
            raise InputError(f"There are no images in {path}.")
        found += inside
    return found


def _there(named: Iterable[Path] | None) -> list[Path]:
    """The files that are meant, looked for before minutes are spent."""
    for path in named or ():
        if not os.path.exists(path):  # unlike Path's own, never raises
            raise InputError(f"{path.name}: does not exist; check the name.")
    return _pictures(named or ())


def _classify(model: Classifier, paths: Iterable[Path], form: Form) -> None:
    """The answers to all that can be read; what cannot is said, and the command fails in the end."""
    answers, unread = [], 0
    for path in paths:
        try:
            answers.append((str(path), model.predict(path)))
        except InputError as error:
            errors.print(str(error), style="red", markup=False)
            unread += 1
    if answers or form is not Form.TABLE:
        show_answers(answers, form.value)
    if unread:
        raise SystemExit(1)


def _beside(model: Path) -> Path:
    """Where exports of a model go: a folder of its name, unless one is there that holds something else."""
    folder = model.with_suffix("")
    ours = {"onnx", "space", f"{model.stem}.pt2", f"{model.stem}.py"}
    if os.path.isdir(folder) and not {path.name for path in folder.iterdir()} <= ours:
        return folder.with_name(f"{folder.name}-exported")  # such as the images that it learned from
    return folder


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    return folder


def _script(model: Classifier, learned: LabelledImages | None, images: Path | None, path: Path) -> str:
    write(path, eject(model, learned, str(images or "images")).encode())
    return f"The plain PyTorch script is {path}."


def _written(kit: Kit, folder: Path) -> str:
    kit.write(folder)
    return f"{kit.proof.sentence} It is in {folder}."


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
            raise ValueError(f"The option {name} is written like {name}={_default(default)}, not '{pair}'.") from error
    return options


def _default(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
