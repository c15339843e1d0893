"""What a training came to, as it is remembered beside others: plain figures, no model. Knows no Gradio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from math import isfinite

from headswap.common.text import format_count
from headswap.networks.classifier import Classifier
from headswap.training.events import ClassificationMetrics, PhaseBegins
from headswap.ui.sessions.job import Run


@dataclass(frozen=True)
class RunSummary:
    """A training that is over."""

    number: int  # from 1, of this visitor with these images
    backbone: str
    head: str  # the name of its kind
    schedule_text: str  # as it went, in words
    validation_metrics: ClassificationMetrics  # of what was kept, without its answers
    seconds: float
    validation_curve: tuple[tuple[int, float], ...]  # after which epoch which validation score

    @classmethod
    def from_run(cls, number: int, model: Classifier, run: Run, head: str = "") -> RunSummary:
        """The run of this model, or of a head that raced it, which has ended after an epoch at least."""
        if run.kept:
            figures = run.kept.validation_metrics
        else:  # who stops keeps the best; who loses a race is judged as it came in
            figures = run.best_epoch.validation_metrics if run.state == "stopped" else run.epochs[-1].validation_metrics
        reading = (
            run.frozen_pass.seconds if run.frozen_pass and not run.laps else 0.0
        )  # which in a race is nobody's own
        took = run.kept.seconds if run.kept else reading + sum(epoch.seconds for epoch in run.epochs)
        curve = tuple((e.number, e.validation_score) for e in run.epochs if isfinite(e.validation_score))
        head = head or type(model.head).__name__.lower()
        return cls(
            number, model.backbone, head, describe_schedule(run), replace(figures, predictions=None), took, curve
        )


def describe_schedule(run: Run) -> str:
    """How a run went: "head 40 epochs, last 3 stages 4"."""
    last = run.epochs[-1].number if run.epochs else 0
    ends = [begins.first_epoch - 1 for begins in run.phases[1:]]
    lengths = [
        (begins, (last if end is None else end) - begins.first_epoch + 1)
        for begins, end in zip_longest(run.phases, ends)
    ]
    told = [f"{_describe_trained_part(begins)} {epochs}" for begins, epochs in lengths if epochs > 0]
    if told:
        first = next(epochs for _, epochs in lengths if epochs > 0)
        told[0] = f"{told[0]} {format_count(first, 'epoch').split()[-1]}"
    if run.laps:
        told.append("in a race")
    if run.kept and run.kept.refitted:
        told.append("from all images")
    if run.state == "stopped":
        told.append("stopped")
    return ", ".join(told)


def _describe_trained_part(begins: PhaseBegins) -> str:
    stages = begins.phase.learning_stages
    if not begins.learning_stages:
        return "head"
    return "all stages" if stages is None else f"last {format_count(stages, 'stage')}" if stages > 1 else "last stage"
