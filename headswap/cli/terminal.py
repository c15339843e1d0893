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

from headswap.common.plain_data import dataclass_to_dict, event_to_dict, predictions_to_dicts
from headswap.common.text import sanitize
from headswap.data.csv_tables import format_csv
from headswap.evaluation.evaluate import Evaluation
from headswap.features.frozen_pass import FrozenPass
from headswap.training.cross_validation import CrossValidated, Fold
from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference
from headswap.training.race import Lap, Won

ProgressEvent = Event | Fold | CrossValidated | Lap | Won

console = Console()
error_console = Console(stderr=True)


def print_line(text: str) -> None:
    """A line as it stands."""
    console.print(text, markup=False, highlight=False)


def print_json_line(**fields: Any) -> None:
    """One JSON object as a line, the moment it is known."""
    print(json.dumps(fields, ensure_ascii=False, allow_nan=False), flush=True)


def make_progress(*extra_columns: ProgressColumn, disable: bool = False) -> Progress:
    """A bar that goes away when it is through; none where a machine listens."""
    columns = (TextColumn("{task.description}"), BarColumn(), *extra_columns, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=disable)


def make_download_column() -> ProgressColumn:
    """How much of a download has come."""
    return DownloadColumn()


def show_events(events: Iterable[ProgressEvent], as_json: bool = False) -> dict[type, ProgressEvent]:
    """Show them, or tell a machine; returns the last of each kind."""
    last: dict[type, ProgressEvent] = {}
    with make_progress(MofNCompleteColumn(), disable=as_json) as progress:
        bar = progress.add_task("Frozen stages", total=None)
        for event in events:
            last[type(event)] = event
            if as_json:
                print_json_line(**event_to_dict(event))
            else:
                _show_event(event, progress, bar)
    return last


def _show_event(event: ProgressEvent, progress: Progress, task_id: TaskID) -> None:
    match event:
        case FrozenPass():
            progress.update(task_id, description="Frozen stages", completed=event.done, total=event.total)
        case Fold():
            progress.update(task_id, description="Folds", completed=event.number, total=event.folds)
        case CrossValidated() | Won():
            print_line(event.sentence)
        case Lap(event=Epoch() as epoch):
            progress.update(task_id, description=f"Race: {event.head}", completed=epoch.number)
        case Lap(event=PhaseBegins() as begins):
            progress.update(task_id, total=begins.phase.epochs)
        case Reference():
            told = event.validation_metrics
            print_line(f"A head that is solved at once names {told.correct} of {told.total} validation images rightly.")
        case PhaseBegins():
            stages = ", ".join(event.learning_stages)
            learns = f"Stages {stages} and the head learn" if stages else "The head learns"
            print_line(f"{learns}; {event.frozen_weights:,} weights stand still.")
            progress.update(task_id, description="Epochs", total=event.epochs, completed=event.first_epoch - 1)
        case Epoch():
            progress.update(task_id, completed=event.number)
        case Kept():
            _show_kept(event)


def _show_kept(kept: Kept) -> None:
    print_line(f"{kept.sentence} It took {kept.seconds:.0f} s.")
    if kept.labels:
        print_line(f"  {kept.metric} {kept.score:.2f}")
    for label in kept.labels:
        print_line(
            f"  {label.name}: average precision {label.average_precision:.2f}, F1 {label.f1:.2f} "
            f"above {label.threshold:.2f}"
        )


def show_predictions(
    predictions: Sequence[tuple[str, list[tuple[str, float]]]], output_format: str, top_k: int = 3
) -> None:
    """The answers to images, each the classes with their probabilities, likeliest first: "table", "csv" or "json"."""
    if output_format == "json":
        for file, row in predictions:
            print_json_line(event="Answer", file=file, answers=predictions_to_dicts(row))
    elif output_format == "csv":
        names = sorted({name for _, row in predictions for name, _ in row})
        rows = [[sanitize(file), row[0][0], *(f"{dict(row)[n]:.6f}" for n in names)] for file, row in predictions]
        print(format_csv(["file", "answer", *names], rows), end="")
    else:
        table = Table(Column("image", overflow="fold"), "answer", "probability", "then")
        for file, row in predictions:
            then = ", ".join(f"{sanitize(name)} {share:.0%}" for name, share in row[1:top_k])
            table.add_row(*map(Text, (sanitize(file), sanitize(row[0][0]), f"{row[0][1]:.1%}", then)))
        console.print(table)


def show_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    """How good a model is."""
    if not as_json:
        return print_line(str(evaluation))
    told = dataclass_to_dict(evaluation)
    told.pop("confusion")
    figures = {
        "accuracy": evaluation.accuracy,
        "interval": evaluation.interval,
        "confusion": evaluation.confusion.tolist(),
    }
    return print_json_line(event="Evaluation", **figures, **told)
