"""Both charts of a training, loss and accuracy, and of a race a curve for each head.

Turns a run into drawings of ``curve``. Knows no component and computes nothing of it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest

from headswap.networks.classifier import ACCURACY
from headswap.training.events import Epoch, PhaseBegins
from headswap.ui.sessions.job import Run
from headswap.ui.sessions.session import Trained
from headswap.ui.views import line_chart
from headswap.ui.views.network import TITLES
from headswap.ui.views.run_text import last_stages


def charts_of(run: Run, trained: Trained | None = None, look: int | None = None) -> str:
    """Both charts as they stand, and an epoch that is looked at in them; while heads race, a curve for each head."""
    if run.racing:
        return _race(run)
    loss = [(e.number, e.training_loss, e.validation_loss) for e in run.epochs]
    accuracy = [(e.number, e.training_score, e.validation_score) for e in run.epochs]
    marks = _marks(run, trained) if run.state in ("finished", "stopped") else (None, None)
    level = line_chart.Level("solved at once", run.reference.figures.score) if run.reference else None
    charts = (
        _chart(run, "Loss", loss, marks[0]),
        replace(_chart(run, _title(run), accuracy, marks[1], percent=True), level=level),
    )
    return f'<div class="hs-charts">{"".join(line_chart.draw(replace(chart, look=look)) for chart in charts)}</div>'


def _race(run: Run) -> str:
    leader, losses, scores = run.leader, [], []
    for place, head in enumerate(run.heads):
        epochs, kind = run.of_head(head).epochs, "validation" if head == leader else f"other{place % 4}"
        name = TITLES.get(head, head)
        losses.append(line_chart.Series(name, tuple((e.number, e.validation_loss) for e in epochs), kind))
        scores.append(line_chart.Series(name, tuple((e.number, e.validation_score) for e in epochs), kind))
    epochs = max(lap.event.phase.epochs for lap in run.laps if isinstance(lap.event, PhaseBegins))
    done = max((lap.event.number for lap in run.laps if isinstance(lap.event, Epoch)), default=0)
    bands = (line_chart.Band(0, done, "only the heads learn", "still"),)
    metric = next((lap.event.metric for lap in run.laps if isinstance(lap.event, Epoch)), ACCURACY)
    empty = "The curves begin when the first epoch is over"
    told = {"empty": empty, "aligned": True}
    charts = (
        line_chart.Chart("Loss on the validation images", bands, tuple(losses), epochs, **told),
        line_chart.Chart(
            f"{metric.capitalize()} on the validation images", bands, tuple(scores), epochs, percent=True, **told
        ),
    )
    return f'<div class="hs-charts">{"".join(map(line_chart.draw, charts))}</div>'


def _marks(run: Run, trained: Trained | None) -> tuple[line_chart.Place | None, line_chart.Place | None]:
    """Where what is kept lies in the loss and in the score. Weights between two epochs have no loss of their own, and
    nothing of a refit, or of a head that was solved, lies on these curves."""
    kept = run.kept
    instead = trained.instead if trained else ""
    if instead == "reference" or (kept and kept.refitted):
        return None, None
    if instead == "frozen":
        number = next(begins.first_epoch for begins in run.phases if begins.learning_stages) - 1
    elif kept and kept.what == "between":
        return None, (kept.epoch, kept.score)
    elif kept or run.best:
        number = kept.epoch if kept else run.best.number
    else:
        return None, None
    marked = next((epoch for epoch in run.epochs if epoch.number == number), None)
    return marked and (number, marked.validation_loss), marked and (number, marked.validation_score)


def _title(run: Run) -> str:
    metric = run.epochs[-1].metric if run.epochs else ACCURACY
    return f"{metric.capitalize()} on the images"


def _chart(
    run: Run,
    title: str,
    rows: list[tuple[int, float, float]],
    marker: tuple[float, float] | None,
    percent: bool = False,
) -> line_chart.Chart:
    bands = []
    follows = [begins.first_epoch for begins in run.phases[1:]]
    for begins, follow in zip_longest(run.phases, follows):  # a phase may end before its last epoch
        end = min(len(run.epochs), follow - 1 if follow else begins.first_epoch + begins.phase.epochs - 1)
        learning = bool(begins.learning_stages)
        label = f"{last_stages(begins.phase)} too" if learning else "the head learns"
        bands.append(line_chart.Band(begins.first_epoch - 1, end, label, "learning" if learning else "still"))
    series = (
        line_chart.Series("training", tuple((n, a) for n, a, _ in rows), "training"),
        line_chart.Series("validation", tuple((n, b) for n, _, b in rows), "validation"),
    )
    epochs = run.phases[-1].epochs if run.phases else 1
    if run.ended:
        empty = "No epoch was over, so there is no curve"
    elif run.read:
        empty = "The curve begins when the images have been read"
    else:
        empty = "The curve appears when you press Train"
    return line_chart.Chart(title, tuple(bands), series, epochs, percent, marker, empty)
