"""The observable state of one training: an immutable record of all events so far, from which views render.

Knows no threads and no images.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import ClassificationMetrics, Epoch, Event, Kept, PhaseBegins, Reference, Step
from headswap.training.race import Lap, Won

TrainingEvent = Event | Lap | Won
EventGenerator = Generator[TrainingEvent, None, None]


@dataclass(frozen=True)
class Fetching:
    """Progress of a download of pretrained weights."""

    done: int  # bytes
    total: int  # bytes; 0 if the server does not tell


@dataclass(frozen=True)
class Run:
    """The state of a training after the events so far.

    Attributes:
        state: "starting", "running", then "finished", "stopped" or "failed".
        queue_position: Position among the queued trainings, from 1; 0 once the training has started.
        timed_out: Whether it was stopped because it reached the time limit.
        download: Progress of the latest download.
        frozen_pass: Progress of the pass of all images through the frozen stages.
        reference: Metrics of the closed-form head, which the curves are compared with.
        phases: The phases that have begun; of a race only once a head has won.
        epochs: The finished epochs; of a race only once a head has won.
        step: The latest optimizer step.
        kept: The last event of a training that was not stopped.
        problem: Error message of a failed training.
        laps: Events of the heads in a race, without optimizer steps and models.
        won: The result of a race.
    """

    state: str = "starting"
    queue_position: int = 0
    timed_out: bool = False
    download: Fetching | None = None
    frozen_pass: FrozenPass | None = None
    reference: Reference | None = None
    phases: tuple[PhaseBegins, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    step: Step | None = None
    kept: Kept | None = None
    problem: str = ""
    laps: tuple[Lap, ...] = ()
    won: Won | None = None

    @property
    def has_ended(self) -> bool:
        """Whether no further event will come."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def best_epoch(self) -> Epoch | None:
        """The best epoch so far, whose weights a stopped training keeps."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.best), None)

    @property
    def kept_epoch_number(self) -> int | None:
        """The epoch whose weights are kept; None before the first epoch has finished."""
        if self.kept:
            return self.kept.epoch
        return self.best_epoch.number if self.best_epoch else None

    @property
    def kept_metrics(self) -> ClassificationMetrics | None:
        """Validation metrics of what is kept; None before the first epoch has finished."""
        if self.kept:
            return self.kept.validation_metrics
        return self.best_epoch.validation_metrics if self.best_epoch else None

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the heads in the race, in order; empty if there was none."""
        return tuple(dict.fromkeys(lap.head for lap in self.laps))

    @property
    def is_racing(self) -> bool:
        """Whether a race is still undecided."""
        return bool(self.laps) and not self.phases

    @property
    def leading_head(self) -> str:
        """The head with the highest validation score so far; empty before the first epoch has finished."""
        best = {head: epoch for head in self.heads if (epoch := self.for_head(head).best_epoch)}
        return max(best, key=lambda head: best[head].validation_score, default="")

    def for_head(self, head: str) -> Run:
        """This run with the phases and epochs of one head of the race."""
        events = [lap.event for lap in self.laps if lap.head == head]
        phases = tuple(event for event in events if isinstance(event, PhaseBegins))
        return replace(self, phases=phases, epochs=tuple(event for event in events if isinstance(event, Epoch)))

    def with_event(self, event: TrainingEvent | Fetching) -> Run:
        """The state after one more event."""
        match event:
            case Fetching():
                return replace(self, download=event)
            case FrozenPass():
                return replace(self, state="running", frozen_pass=event)
            case Reference():
                return replace(self, reference=event)
            case PhaseBegins():
                return replace(self, phases=(*self.phases, event))
            case Lap(event=Step() as step):
                return replace(self, step=step)
            case Lap():
                return replace(self, laps=(*self.laps, replace(event, model=None)))
            case Won():
                return replace(self.for_head(event.head), won=event)
            case Step():
                return replace(self, step=event)
            case Epoch():
                return replace(self, epochs=(*self.epochs, event))
            case Kept():
                return replace(self, state="finished", kept=event)
