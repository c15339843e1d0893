"""Summary of a finished run: head, schedule, metrics, duration, validation curve. Holds no model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from math import isfinite

from headswap.common.text import format_count
from headswap.networks.classifier import Classifier
from headswap.training.events import ClassificationMetrics, PhaseBegins
from headswap.ui.sessions.run import Run


@dataclass(frozen=True)
class RunSummary:
    """A finished run, for comparison with others.

    Attributes:
        number: Number of the run in its session, from 1.
        backbone: Name of the backbone.
        head: Name of the head.
        schedule_text: Trained parts and epochs, such as "head 40 epochs, last 3 stages 4".
        validation_metrics: Metrics of what was kept, without predictions.
        seconds: Duration of the training.
        validation_curve: (epoch, validation score) for each epoch with a finite score.
    """

    number: int
    backbone: str
    head: str
    schedule_text: str
    validation_metrics: ClassificationMetrics
    seconds: float
    validation_curve: tuple[tuple[int, float], ...]

    @classmethod
    def from_run(cls, number: int, model: Classifier, run: Run, head: str = "") -> RunSummary:
        """Summarize a run that has ended after at least one epoch.

        Args:
            number: Number of the run.
            model: The model that was trained.
            run: The run of this model, or of another head in the same race.
            head: Name of the head, if it is not the model's.
        """
        # A stopped run keeps its best epoch; a head that lost a race is ranked by its last one.
        metrics = run.kept_metrics if run.kept or run.state == "stopped" else None
        metrics = metrics or run.epochs[-1].validation_metrics
        # The heads of a race share one frozen pass.
        frozen_seconds = run.frozen_pass.seconds if run.frozen_pass and not run.laps else 0.0
        return cls(
            number,
            model.backbone,
            head or type(model.head).__name__.lower(),
            describe_schedule(run),
            replace(metrics, predictions=None),
            run.kept.seconds if run.kept else frozen_seconds + sum(epoch.seconds for epoch in run.epochs),
            tuple((e.number, e.validation_score) for e in run.epochs if isfinite(e.validation_score)),
        )


def describe_schedule(run: Run) -> str:
    """The trained parts of a run with their epochs, such as "head 40 epochs, last 3 stages 4"."""
    last_epoch = run.epochs[-1].number if run.epochs else 0
    phase_ends = [phase.first_epoch - 1 for phase in run.phases[1:]]
    lengths = [
        (phase, (last_epoch if end is None else end) - phase.first_epoch + 1)
        for phase, end in zip_longest(run.phases, phase_ends)
    ]
    trained = [(phase, epochs) for phase, epochs in lengths if epochs > 0]
    parts = [f"{_describe_trained_part(phase)} {epochs}" for phase, epochs in trained]
    if trained:
        parts[0] = f"{_describe_trained_part(trained[0][0])} {format_count(trained[0][1], 'epoch')}"
    if run.laps:
        parts.append("in a race")
    if run.kept and run.kept.refitted:
        parts.append("from all images")
    if run.state == "stopped":
        parts.append("stopped")
    return ", ".join(parts)


def _describe_trained_part(begins: PhaseBegins) -> str:
    stages = begins.phase.learning_stages
    if not begins.learning_stages:
        return "head"
    return "all stages" if stages is None else f"last {format_count(stages, 'stage')}" if stages > 1 else "last stage"
