"""What is said of a training while it runs and when it is over, in the words of the field, with numbers.

Turns a run into a sentence. Knows no component and computes nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from headswap.common.limits import limits
from headswap.common.text import count, listed, million, percent, seconds, size, small
from headswap.networks.classifier import ACCURACY
from headswap.training.events import Figures, LabelFigures, PhaseBegins
from headswap.training.plan import Phase
from headswap.ui.sessions.job import Run
from headswap.ui.sessions.session import Trained
from headswap.ui.views.network import TITLES

FLATTERED = "These images chose the epoch, so the figure flatters."
CHOSEN = "These images chose the head, so the figure flatters a little."
WHOLE = "the whole"


def said(run: Run, trained: Trained | None = None, repeats: bool = False) -> str:
    """What is happening now, in the words of the field, with numbers.

    Args:
        run: what has been told.
        trained: what is kept of it, once it is over.
        repeats: it learns again what had been learned before.
    """
    looks = "hs-sentence hs-card hs-wrong" if run.state == "failed" else "hs-sentence"
    return f'<p class="{looks}" role="status" aria-live="polite">{_sentence(run, trained, repeats)}</p>'


def _sentence(run: Run, trained: Trained | None, repeats: bool) -> str:
    if run.state == "failed":
        return escape(run.problem)
    if run.ended:
        if repeats and not run.kept:
            return "Stopped. What had been learned before is kept."
        return _instead(trained) if trained and trained.instead else _raced(run) + _kept(run)
    whole = "From all images now. " if repeats else ""
    reading = run.read is not None and run.read.done < run.read.total
    if run.phases and not reading:
        return f"{_raced(run)}{whole}{_learns(run.phases[-1])} {_progress(run)}"
    if run.racing and not reading:
        return _race(run)
    if run.read:
        return (
            f"{whole}Reading the images through the frozen stages, once: <b>{run.read.done:,} of {run.read.total:,} "
            f"views</b>, {seconds(run.read.left)} left."
        )
    if run.place:
        learning = f"{small(limits().trainings)} {'trainings' if limits().trainings > 1 else 'training'}"
        before = f"{small(run.place - 1).capitalize()} {'waits' if run.place == 2 else 'wait'} before it"
        turn = "It is the next" if run.place == 1 else before
        return f"It waits for a place: this machine lets {learning} learn at once. <b>{turn}</b>, and begins by itself."
    if run.fetched:
        of = f" of {size(run.fetched.total)}" if run.fetched.total else ""
        return f"Downloading the weights: <b>{size(run.fetched.done)}{of}</b>."
    return "Building the network."


def _race(run: Run) -> str:
    begins = next(lap.event for lap in run.laps)
    many = f"{small(len(run.heads)).capitalize()} heads learn side by side, on what the frozen stages gave once."
    if not run.leader:
        return many
    leads, done = run.of_head(run.leader).best, max(len(run.of_head(head).epochs) for head in run.heads)
    return (
        f"{many} Epoch {done} of {begins.phase.epochs}; <b>{_titles([run.leader])[0]} leads with {leads.right} of "
        f"{leads.of} validation images right</b>."
    )


def _raced(run: Run) -> str:
    """Who has won, where heads have raced, before what is said of the winner."""
    if run.won:
        places = run.won.places
        names = _titles([place.head for place in places])
        told = listed([f"{name} {place.epoch.right}" for name, place in zip(names, places, strict=True)])
        flatters = f"{CHOSEN} " if run.ended else ""
        return f"Of {places[0].epoch.of} validation images right: {told}. <b>{names[0]} goes on.</b> {flatters}"
    return f"<b>{_titles([run.leader])[0]} led the race.</b> " if run.laps and run.phases else ""


def _titles(heads: Sequence[str]) -> list[str]:
    return [escape(TITLES.get(head, head)) for head in heads]


def _learns(begins: PhaseBegins) -> str:
    whole = million(begins.still_weights + begins.learning_weights)
    if not begins.learning_stages:
        return f"The head learns; <b>all {million(begins.still_weights)} weights of the backbone stand still</b>."
    return (
        f"{last_stages(begins.phase).capitalize()} too{_rates(begins)}; "
        f"<b>{million(begins.still_weights)} of {whole} weights stand still</b>."
    )


def _rates(begins: PhaseBegins) -> str:
    """ ", at a tenth of the head's rate": of the stages that learn, the fastest first."""
    if len(begins.rates) < 2:
        return ""
    *stages, head = [each.rate for each in begins.rates]
    fastest, slowest = (_part(head / rate) for rate in (max(stages), min(stages)))
    if fastest == slowest:
        return f", at {fastest} of the head's rate" if fastest != WHOLE else ", at the head's rate"
    return f", at {fastest} to {slowest} of the head's rate"


def last_stages(phase: Phase) -> str:
    """Which stages learn in a phase: "the last three stages learn"."""
    if phase.learning_stages is None:
        return "all stages learn"
    if phase.learning_stages == 1:
        return "the last stage learns"
    return f"the last {small(phase.learning_stages)} stages learn"


def _part(times: float) -> str:
    named = {1: WHOLE, 2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth"}
    return named.get(max(1, round(times)), f"1/{times:.0f}")


def _progress(run: Run) -> str:
    begins, done = run.phases[-1], len(run.epochs)
    last = run.epochs[-1] if done and run.epochs[-1].number >= begins.first_epoch else None
    return f"Epoch {done if last else done + 1} of {begins.epochs}, {seconds((last or begins).left)} left."


def _kept(run: Run) -> str:
    kept, best = run.kept, run.best
    if kept is None:
        stopped = f"Stopped after {count(limits().minutes, 'minute')}, the most here," if run.late else "Stopped"
        if best is None:
            return f"{stopped} before the first epoch was over, so nothing was learned."
        weights = f"Kept the weights of epoch {best.number}: {_figures(best.figures)}"
        return f"{stopped.rstrip(',')}. {weights}. {FLATTERED}{_labels(best.labels)}"
    figures = _figures(Figures(kept.score, kept.metric, kept.right, kept.of, 0.0))
    if kept.refitted:
        said = (
            "Learned again from all images, those included that were held back. The figures are of the run before: "
            f"{figures}."
        )
    else:
        what = {
            "between": f"Kept the weights {kept.way} between the frozen network's and those of epoch {kept.epoch}",
            "last": f"Kept the weights of the last epoch, {kept.epoch}",
            "best": f"Kept the weights of epoch {kept.epoch}",
        }[kept.what]
        said = f"{what}: {figures}."
    sentences = [escape(kept.problem), said, FLATTERED if kept.chosen else "", escape(kept.leakage)]
    if kept.verdict and not kept.refitted:
        sentences.append(escape(kept.verdict.sentence))
    if kept.reference and kept.reference.right > kept.right and not kept.refitted:
        sentences.append(f"The head solved at once is ahead, and a press keeps it: {_figures(kept.reference)}.")
    return " ".join(filter(None, sentences)) + _labels(kept.labels)


def _instead(trained: Trained) -> str:
    what = {"frozen": "The frozen network", "reference": "The head solved at once"}[trained.instead]
    return f"{what} is kept: {_figures(trained.figures)}."


def _figures(told: Figures) -> str:
    if told.metric != ACCURACY:
        right = f"all labels right on {told.right} of {told.of} validation images"
        return f"<b>{told.metric} {told.score:.2f}</b>, {right}"
    low, high = told.interval
    return (
        f"<b>{told.right} of {told.of} validation images right, {percent(told.right / told.of)}</b> "
        f"(between {percent(low)} and {percent(high)})"
    )


def _labels(labels: tuple[LabelFigures, ...]) -> str:
    figures = "; ".join(f"{escape(label.name)} {label.f1:.2f}" for label in labels if label.f1 == label.f1)
    return f" F1 by label: {figures}." if figures else ""
