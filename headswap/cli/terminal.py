"""How a terminal shows what happens: events with a bar, tables, and for machines one JSON object a line.

Knows nothing of verbs and of how anything is computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from headswap.common.plain_data import plain, plain_answers, plain_event
from headswap.common.text import harmless
from headswap.data.label_tables import written
from headswap.evaluation.evaluate import Evaluation
from headswap.features.frozen_pass import FrozenPass
from headswap.training.cross_validation import CrossValidated, Fold
from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference
from headswap.training.race import Lap, Won

Told = Event | Fold | CrossValidated | Lap | Won

console = Console()
errors = Console(stderr=True)


def say(text: str) -> None:
    """A line as it stands."""
    console.print(text, markup=False, highlight=False)


def tell_machine(**told: Any) -> None:
    """One JSON object as a line, the moment it is known."""
    print(json.dumps(told, ensure_ascii=False, allow_nan=False), flush=True)


def bars(*more: ProgressColumn, quiet: bool = False) -> Progress:
    """A bar that goes away when it is through; none where a machine listens."""
    columns = (TextColumn("{task.description}"), BarColumn(), *more, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet)


def bytes_column() -> ProgressColumn:
    """How much of a download has come."""
    return DownloadColumn()


def watch(events: Iterable[Told], machine: bool = False) -> dict[type, Told]:
    """Show them, or tell a machine; returns the last of each kind."""
    last: dict[type, Told] = {}
    with bars(MofNCompleteColumn(), quiet=machine) as progress:
        bar = progress.add_task("Frozen stages", total=None)
        for event in events:
            last[type(event)] = event
            if machine:
                tell_machine(**plain_event(event))
            else:
                _show(event, progress, bar)
    return last


def _show(event: Told, progress: Progress, bar: TaskID) -> None:
    match event:
        case FrozenPass():
            progress.update(bar, description="Frozen stages", completed=event.done, total=event.total)
        case Fold():
            progress.update(bar, description="Folds", completed=event.number, total=event.folds)
        case CrossValidated() | Won():
            say(event.sentence)
        case Lap(event=Epoch() as epoch):
            progress.update(bar, description=f"Race: {event.head}", completed=epoch.number)
        case Lap(event=PhaseBegins() as begins):
            progress.update(bar, total=begins.phase.epochs)
        case Reference():
            told = event.figures
            say(f"A head that is solved at once names {told.right} of {told.of} validation images rightly.")
        case PhaseBegins():
            stages = ", ".join(event.learning_stages)
            learns = f"Stages {stages} and the head learn" if stages else "The head learns"
            say(f"{learns}; {event.still_weights:,} weights stand still.")
            progress.update(bar, description="Epochs", total=event.epochs, completed=event.first_epoch - 1)
        case Epoch():
            progress.update(bar, completed=event.number)
        case Kept():
            _show_kept(event)


def _show_kept(kept: Kept) -> None:
    say(f"{kept.sentence} It took {kept.seconds:.0f} s.")
    if kept.labels:
        say(f"  {kept.metric} {kept.score:.2f}")
    for label in kept.labels:
        say(
            f"  {label.name}: average precision {label.average_precision:.2f}, F1 {label.f1:.2f} "
            f"above {label.threshold:.2f}"
        )


def show_answers(answers: Sequence[tuple[str, list[tuple[str, float]]]], form: str, most: int = 3) -> None:
    """The answers to images, each the classes with their probabilities, likeliest first: "table", "csv" or "json"."""
    if form == "json":
        for file, row in answers:
            tell_machine(event="Answer", file=file, answers=plain_answers(row))
    elif form == "csv":
        names = sorted({name for _, row in answers for name, _ in row})
        rows = [[harmless(file), row[0][0], *(f"{dict(row)[n]:.6f}" for n in names)] for file, row in answers]
        print(written(["file", "answer", *names], rows), end="")
    else:
        table = Table(Column("image", overflow="fold"), "answer", "probability", "then")
        for file, row in answers:
            then = ", ".join(f"{harmless(name)} {share:.0%}" for name, share in row[1:most])
            table.add_row(*map(Text, (harmless(file), harmless(row[0][0]), f"{row[0][1]:.1%}", then)))
        console.print(table)


def show_evaluation(judged: Evaluation, machine: bool) -> None:
    """How good a model is."""
    if not machine:
        return say(str(judged))
    told = plain(judged)
    told.pop("confusion")
    figures = {"accuracy": judged.accuracy, "interval": judged.interval, "confusion": judged.confusion.tolist()}
    return tell_machine(event="Evaluation", **figures, **told)
