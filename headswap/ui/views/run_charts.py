"""Builds the loss and score charts of a run or of a race of heads."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from headswap.networks.classifier import ACCURACY
from headswap.training.events import Epoch, PhaseBegins
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.views.line_chart import LineChart, PhaseBand, Point, ReferenceLine, Series, render_chart_row
from headswap.ui.views.network import HEAD_TITLES
from headswap.ui.views.run_text import describe_learning_stages

NUM_OTHER_COLOURS = 4  # of the kinds "other0" to "other3" in page.css


def render_run_charts(run: Run, trained_model: TrainedModel | None = None, highlighted_epoch: int | None = None) -> str:
    """The loss chart and the score chart of a run; during a race with a curve for each head.

    Args:
        run: The run so far.
        trained_model: The model that it trained, once it has ended.
        highlighted_epoch: An epoch that is marked by a vertical line.
    """
    if run.is_racing:
        return _render_race_charts(run)
    has_kept = run.state in ("finished", "stopped")
    loss_marker, score_marker = _find_markers(run, trained_model) if has_kept else (None, None)
    losses = [(epoch.number, epoch.training_loss, epoch.validation_loss) for epoch in run.epochs]
    scores = [(epoch.number, epoch.training_score, epoch.validation_score) for epoch in run.epochs]
    metric = run.epochs[-1].metric if run.epochs else ACCURACY
    line = ReferenceLine("solved at once", run.reference.validation_metrics.score) if run.reference else None
    loss_chart = _build_chart(run, "Loss", losses)
    score_chart = _build_chart(run, f"{metric.capitalize()} on the images", scores)
    return render_chart_row(
        [
            replace(loss_chart, marker=loss_marker, highlighted_epoch=highlighted_epoch),
            replace(
                score_chart,
                is_percent=True,
                marker=score_marker,
                reference_line=line,
                highlighted_epoch=highlighted_epoch,
            ),
        ]
    )


def _render_race_charts(run: Run) -> str:
    losses, scores = [], []
    for position, head in enumerate(run.heads):
        epochs = run.for_head(head).epochs
        kind = "validation" if head == run.leading_head else f"other{position % NUM_OTHER_COLOURS}"
        name = HEAD_TITLES.get(head, head)
        losses.append(Series(name, tuple((epoch.number, epoch.validation_loss) for epoch in epochs), kind))
        scores.append(Series(name, tuple((epoch.number, epoch.validation_score) for epoch in epochs), kind))
    num_epochs = max(lap.event.phase.epochs for lap in run.laps if isinstance(lap.event, PhaseBegins))
    finished = [lap.event for lap in run.laps if isinstance(lap.event, Epoch)]
    metric = finished[0].metric if finished else ACCURACY
    bands = (PhaseBand(0, max((epoch.number for epoch in finished), default=0), "only the heads learn", "still"),)
    loss_chart = LineChart(
        "Loss on the validation images",
        bands,
        tuple(losses),
        num_epochs,
        empty_text="The curves begin when the first epoch is over",
        labels_at_right=True,
    )
    title = f"{metric.capitalize()} on the validation images"
    return render_chart_row([loss_chart, replace(loss_chart, title=title, series=tuple(scores), is_percent=True)])


def _find_markers(run: Run, trained_model: TrainedModel | None) -> tuple[Point | None, Point | None]:
    """Points of what is kept in the loss chart and in the score chart.

    Weights between two epochs have no loss of their own; a refit or a closed-form head has a point on neither curve.
    """
    kept, candidate = run.kept, trained_model.active_candidate if trained_model else ""
    if candidate == "reference" or (kept and kept.refitted):
        return None, None
    if candidate == "frozen":
        number: int | None = next(phase.first_epoch for phase in run.phases if phase.learning_stages) - 1
    elif kept and kept.checkpoint == "between":
        return None, (kept.epoch, kept.score)
    else:
        number = run.kept_epoch_number
    epoch = next((epoch for epoch in run.epochs if epoch.number == number), None)
    if epoch is None:
        return None, None
    return (epoch.number, epoch.validation_loss), (epoch.number, epoch.validation_score)


def _build_chart(run: Run, title: str, rows: list[tuple[int, float, float]]) -> LineChart:
    """A chart of (epoch, training value, validation value) rows, with the run's phases as bands."""
    series = (
        Series("training", tuple((number, value) for number, value, _ in rows), "training"),
        Series("validation", tuple((number, value) for number, _, value in rows), "validation"),
    )
    num_epochs = run.phases[-1].epochs if run.phases else 1
    if run.has_ended:
        empty_text = "No epoch was over, so there is no curve"
    elif run.frozen_pass:
        empty_text = "The curve begins when the images have been read"
    else:
        empty_text = "The curve appears when you press Train"
    return LineChart(title, _build_bands(run), series, num_epochs, empty_text=empty_text)


def _build_bands(run: Run) -> tuple[PhaseBand, ...]:
    bands = []
    next_starts = [phase.first_epoch for phase in run.phases[1:]]
    for begins, next_start in zip_longest(run.phases, next_starts):
        # Early stopping may end a phase before its planned last epoch.
        last = next_start - 1 if next_start else begins.first_epoch + begins.phase.epochs - 1
        is_unfrozen = bool(begins.learning_stages)
        label = f"{describe_learning_stages(begins.phase)} too" if is_unfrozen else "the head learns"
        state = "learning" if is_unfrozen else "still"
        bands.append(PhaseBand(begins.first_epoch - 1, min(len(run.epochs), last), label, state))
    return tuple(bands)
