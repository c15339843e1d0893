"""Shows events, predictions and evaluations in a terminal: progress bars and tables, or one JSON object per line.

Knows nothing of commands and of how anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeVar

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

from headswap.cli.console import console, print_json_line, print_line
from headswap.common.plain_data import dataclass_to_dict, event_to_dict, predictions_to_dicts
from headswap.common.text import sanitize
from headswap.data.csv_tables import format_csv
from headswap.evaluation.evaluate import Evaluation
from headswap.features.frozen_pass import FrozenPass
from headswap.training.cross_validation import CrossValidated, Fold
from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference
from headswap.training.race import Lap, Won

ProgressEvent = Event | Fold | CrossValidated | Lap | Won
E = TypeVar("E")


class OutputFormat(str, Enum):
    """Format of printed predictions."""

    TABLE, CSV, JSON = "table", "csv", "json"


class ShownEvents:
    """The last event of each type that was shown."""

    def __init__(self) -> None:
        self._last: dict[type, object] = {}

    def add(self, event: object) -> None:
        """Remember an event in place of the former one of its type."""
        self._last[type(event)] = event

    def get(self, kind: type[E]) -> E | None:
        """The last event of this type, or None."""
        event = self._last.get(kind)
        return event if isinstance(event, kind) else None


def make_progress(*extra_columns: ProgressColumn, disable: bool = False) -> Progress:
    """Make a progress bar that disappears when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), *extra_columns, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=disable)


def make_download_column() -> ProgressColumn:
    """Make the column of a progress bar that shows the bytes of a download."""
    return DownloadColumn()


def show_events(events: Iterable[ProgressEvent], as_json: bool = False) -> ShownEvents:
    """Consume events, and show each in a progress bar and by lines, or as JSON."""
    shown = ShownEvents()
    with make_progress(MofNCompleteColumn(), disable=as_json) as progress:
        task_id = progress.add_task("Frozen stages", total=None)
        for event in events:
            shown.add(event)
            if as_json:
                print_json_line(**event_to_dict(event))
            else:
                _show_event(event, progress, task_id)
    return shown


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
            figures = event.validation_metrics
            print_line(
                f"A head that is solved at once names {figures.correct} of {figures.total} validation images rightly."
            )
        case PhaseBegins():
            stages = ", ".join(event.learning_stages)
            trained = f"Stages {stages} and the head learn" if stages else "The head learns"
            print_line(f"{trained}; {event.frozen_weights:,} weights stand still.")
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
    predictions: Sequence[tuple[str, list[tuple[str, float]]]], output_format: OutputFormat, top_k: int = 3
) -> None:
    """Print predictions.

    Args:
        predictions: for each file the classes with their probabilities, the most probable first.
        output_format: a table of the ``top_k`` classes, or CSV or JSON with all of them.
        top_k: number of classes in the table.
    """
    if output_format is OutputFormat.JSON:
        for file, row in predictions:
            print_json_line(event="Answer", file=file, answers=predictions_to_dicts(row))
    elif output_format is OutputFormat.CSV:
        names = sorted({name for _, row in predictions for name, _ in row})
        rows = [[sanitize(file), row[0][0], *(f"{dict(row)[n]:.6f}" for n in names)] for file, row in predictions]
        print(format_csv(["file", "answer", *names], rows), end="")
    else:
        table = Table(Column("image", overflow="fold"), "answer", "probability", "then")
        for file, row in predictions:
            others = ", ".join(f"{sanitize(name)} {probability:.0%}" for name, probability in row[1:top_k])
            table.add_row(*map(Text, (sanitize(file), sanitize(row[0][0]), f"{row[0][1]:.1%}", others)))
        console.print(table)


def show_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    """Print an evaluation as text or JSON."""
    if not as_json:
        return print_line(str(evaluation))
    fields = dataclass_to_dict(evaluation)
    fields.pop("confusion")
    figures = {
        "accuracy": evaluation.accuracy,
        "interval": evaluation.interval,
        "confusion": evaluation.confusion.tolist(),
    }
    return print_json_line(event="Evaluation", **figures, **fields)
