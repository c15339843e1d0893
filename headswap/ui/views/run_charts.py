"""Both charts of a training, loss and accuracy, and of a race a curve for each head.

Turns a run into drawings of ``curve``. Knows no component and computes nothing of it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from headswap.networks.classifier import ACCURACY
from headswap.training.events import Epoch, PhaseBegins
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.views import line_chart
from headswap.ui.views.network import HEAD_TITLES
from headswap.ui.views.run_text import describe_learning_stages


def render_run_charts(run: Run, trained_model: TrainedModel | None = None, highlighted_epoch: int | None = None) -> str:
    """Both charts as they stand, and an epoch that is looked at in them; while heads race, a curve for each head."""
    if run.is_racing:
        return _render_race_charts(run)
    loss = [(e.number, e.training_loss, e.validation_loss) for e in run.epochs]
    accuracy = [(e.number, e.training_score, e.validation_score) for e in run.epochs]
    marks = _find_markers(run, trained_model) if run.state in ("finished", "stopped") else (None, None)
    level = (
        line_chart.ReferenceLine("solved at once", run.reference.validation_metrics.score) if run.reference else None
    )
    charts = (
        _build_chart(run, "Loss", loss, marks[0]),
        replace(_build_chart(run, _score_title(run), accuracy, marks[1], percent=True), reference_line=level),
    )
    return f'<div class="hs-charts">{"".join(line_chart.render_line_chart(replace(chart, highlighted_epoch=highlighted_epoch)) for chart in charts)}</div>'


def _render_race_charts(run: Run) -> str:
    leader, losses, scores = run.leading_head, [], []
    for place, head in enumerate(run.heads):
        epochs, kind = run.for_head(head).epochs, "validation" if head == leader else f"other{place % 4}"
        name = HEAD_TITLES.get(head, head)
        losses.append(line_chart.Series(name, tuple((e.number, e.validation_loss) for e in epochs), kind))
        scores.append(line_chart.Series(name, tuple((e.number, e.validation_score) for e in epochs), kind))
    epochs = max(lap.event.phase.epochs for lap in run.laps if isinstance(lap.event, PhaseBegins))
    done = max((lap.event.number for lap in run.laps if isinstance(lap.event, Epoch)), default=0)
    bands = (line_chart.PhaseBand(0, done, "only the heads learn", "still"),)
    metric = next((lap.event.metric for lap in run.laps if isinstance(lap.event, Epoch)), ACCURACY)
    empty = "The curves begin when the first epoch is over"
    told = {"empty_text": empty, "labels_at_right": True}
    charts = (
        line_chart.LineChart("Loss on the validation images", bands, tuple(losses), epochs, **told),
        line_chart.LineChart(
            f"{metric.capitalize()} on the validation images", bands, tuple(scores), epochs, is_percent=True, **told
        ),
    )
    return f'<div class="hs-charts">{"".join(map(line_chart.render_line_chart, charts))}</div>'


def _find_markers(run: Run, trained: TrainedModel | None) -> tuple[line_chart.Point | None, line_chart.Point | None]:
    """Where what is kept lies in the loss and in the score. Weights between two epochs have no loss of their own, and
    nothing of a refit, or of a head that was solved, lies on these curves."""
    kept = run.kept
    instead = trained.active_candidate if trained else ""
    if instead == "reference" or (kept and kept.refitted):
        return None, None
    if instead == "frozen":
        number = next(begins.first_epoch for begins in run.phases if begins.learning_stages) - 1
    elif kept and kept.checkpoint == "between":
        return None, (kept.epoch, kept.score)
    elif kept or run.best_epoch:
        number = kept.epoch if kept else run.best_epoch.number
    else:
        return None, None
    marked = next((epoch for epoch in run.epochs if epoch.number == number), None)
    return marked and (number, marked.validation_loss), marked and (number, marked.validation_score)


def _score_title(run: Run) -> str:
    metric = run.epochs[-1].metric if run.epochs else ACCURACY
    return f"{metric.capitalize()} on the images"


def _build_chart(
    run: Run,
    title: str,
    rows: list[tuple[int, float, float]],
    marker: tuple[float, float] | None,
    percent: bool = False,
) -> line_chart.LineChart:
    bands = []
    follows = [begins.first_epoch for begins in run.phases[1:]]
    for begins, follow in zip_longest(run.phases, follows):  # a phase may end before its last epoch
        end = min(len(run.epochs), follow - 1 if follow else begins.first_epoch + begins.phase.epochs - 1)
        learning = bool(begins.learning_stages)
        label = f"{describe_learning_stages(begins.phase)} too" if learning else "the head learns"
        bands.append(line_chart.PhaseBand(begins.first_epoch - 1, end, label, "learning" if learning else "still"))
    series = (
        line_chart.Series("training", tuple((n, a) for n, a, _ in rows), "training"),
        line_chart.Series("validation", tuple((n, b) for n, _, b in rows), "validation"),
    )
    epochs = run.phases[-1].epochs if run.phases else 1
    if run.has_ended:
        empty = "No epoch was over, so there is no curve"
    elif run.frozen_pass:
        empty = "The curve begins when the images have been read"
    else:
        empty = "The curve appears when you press Train"
    return line_chart.LineChart(title, tuple(bands), series, epochs, percent, marker, empty)
