"""What is said of a training while it runs and when it is over, in the words of the field, with numbers.

Turns a run into a sentence. Knows no component and computes nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from headswap.common.limits import get_limits
from headswap.common.text import (
    format_bytes,
    format_count,
    format_duration,
    format_millions,
    format_percent,
    join_names,
    spell_out_number,
)
from headswap.networks.classifier import ACCURACY
from headswap.training.events import ClassificationMetrics, LabelMetrics, PhaseBegins
from headswap.training.plan import Phase
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.views.network import HEAD_TITLES

SELECTION_BIAS_NOTE = "These images chose the epoch, so the figure flatters."
HEAD_SELECTION_BIAS_NOTE = "These images chose the head, so the figure flatters a little."
FULL_FRACTION = "the whole"


def render_run_status(run: Run, trained_model: TrainedModel | None = None, is_refit: bool = False) -> str:
    """What is happening now, in the words of the field, with numbers.

    Args:
        run: what has been told.
        trained: what is kept of it, once it is over.
        repeats: it learns again what had been learned before.
    """
    looks = "hs-sentence hs-card hs-wrong" if run.state == "failed" else "hs-sentence"
    return f'<p class="{looks}" role="status" aria-live="polite">{_describe_run(run, trained_model, is_refit)}</p>'


def _describe_run(run: Run, trained: TrainedModel | None, repeats: bool) -> str:
    if run.state == "failed":
        return escape(run.problem)
    if run.has_ended:
        if repeats and not run.kept:
            return "Stopped. What had been learned before is kept."
        return (
            _describe_candidate(trained)
            if trained and trained.active_candidate
            else _describe_race_result(run) + _describe_kept(run)
        )
    whole = "From all images now. " if repeats else ""
    reading = run.frozen_pass is not None and run.frozen_pass.done < run.frozen_pass.total
    if run.phases and not reading:
        return f"{_describe_race_result(run)}{whole}{_describe_phase(run.phases[-1])} {_describe_progress(run)}"
    if run.is_racing and not reading:
        return _describe_race(run)
    if run.frozen_pass:
        return (
            f"{whole}Reading the images through the frozen stages, once: <b>{run.frozen_pass.done:,} of {run.frozen_pass.total:,} "
            f"views</b>, {format_duration(run.frozen_pass.left)} left."
        )
    if run.queue_position:
        learning = (
            f"{spell_out_number(get_limits().trainings)} {'trainings' if get_limits().trainings > 1 else 'training'}"
        )
        before = f"{spell_out_number(run.queue_position - 1).capitalize()} {'waits' if run.queue_position == 2 else 'wait'} before it"
        turn = "It is the next" if run.queue_position == 1 else before
        return f"It waits for a place: this machine lets {learning} learn at once. <b>{turn}</b>, and begins by itself."
    if run.download:
        of = f" of {format_bytes(run.download.total)}" if run.download.total else ""
        return f"Downloading the weights: <b>{format_bytes(run.download.done)}{of}</b>."
    return "Building the network."


def _describe_race(run: Run) -> str:
    begins = next(lap.event for lap in run.laps)
    many = f"{spell_out_number(len(run.heads)).capitalize()} heads learn side by side, on what the frozen stages gave once."
    if not run.leading_head:
        return many
    leads, done = run.for_head(run.leading_head).best_epoch, max(len(run.for_head(head).epochs) for head in run.heads)
    return (
        f"{many} Epoch {done} of {begins.phase.epochs}; <b>{_head_titles([run.leading_head])[0]} leads with {leads.correct} of "
        f"{leads.total} validation images right</b>."
    )


def _describe_race_result(run: Run) -> str:
    """Who has won, where heads have raced, before what is said of the winner."""
    if run.won:
        places = run.won.places
        names = _head_titles([place.head for place in places])
        told = join_names([f"{name} {place.epoch.correct}" for name, place in zip(names, places, strict=True)])
        flatters = f"{HEAD_SELECTION_BIAS_NOTE} " if run.has_ended else ""
        return f"Of {places[0].epoch.total} validation images right: {told}. <b>{names[0]} goes on.</b> {flatters}"
    return f"<b>{_head_titles([run.leading_head])[0]} led the race.</b> " if run.laps and run.phases else ""


def _head_titles(heads: Sequence[str]) -> list[str]:
    return [escape(HEAD_TITLES.get(head, head)) for head in heads]


def _describe_phase(begins: PhaseBegins) -> str:
    whole = format_millions(begins.frozen_weights + begins.learning_weights)
    if not begins.learning_stages:
        return (
            f"The head learns; <b>all {format_millions(begins.frozen_weights)} weights of the backbone stand still</b>."
        )
    return (
        f"{describe_learning_stages(begins.phase).capitalize()} too{_describe_lr_ratios(begins)}; "
        f"<b>{format_millions(begins.frozen_weights)} of {whole} weights stand still</b>."
    )


def _describe_lr_ratios(begins: PhaseBegins) -> str:
    """ ", at a tenth of the head's rate": of the stages that learn, the fastest first."""
    if len(begins.rates) < 2:
        return ""
    *stages, head = [each.rate for each in begins.rates]
    fastest, slowest = (_format_fraction(head / rate) for rate in (max(stages), min(stages)))
    if fastest == slowest:
        return f", at {fastest} of the head's rate" if fastest != FULL_FRACTION else ", at the head's rate"
    return f", at {fastest} to {slowest} of the head's rate"


def describe_learning_stages(phase: Phase) -> str:
    """Which stages learn in a phase: "the last three stages learn"."""
    if phase.learning_stages is None:
        return "all stages learn"
    if phase.learning_stages == 1:
        return "the last stage learns"
    return f"the last {spell_out_number(phase.learning_stages)} stages learn"


def _format_fraction(divisor: float) -> str:
    named = {1: FULL_FRACTION, 2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth"}
    return named.get(max(1, round(divisor)), f"1/{divisor:.0f}")


def _describe_progress(run: Run) -> str:
    begins, done = run.phases[-1], len(run.epochs)
    last = run.epochs[-1] if done and run.epochs[-1].number >= begins.first_epoch else None
    return f"Epoch {done if last else done + 1} of {begins.epochs}, {format_duration((last or begins).left)} left."


def _describe_kept(run: Run) -> str:
    kept, best = run.kept, run.best_epoch
    if kept is None:
        stopped = (
            f"Stopped after {format_count(get_limits().minutes, 'minute')}, the most here,"
            if run.timed_out
            else "Stopped"
        )
        if best is None:
            return f"{stopped} before the first epoch was over, so nothing was learned."
        weights = f"Kept the weights of epoch {best.number}: {_describe_figures(best.validation_metrics)}"
        return f"{stopped.rstrip(',')}. {weights}. {SELECTION_BIAS_NOTE}{_describe_label_f1(best.labels)}"
    figures = _describe_figures(ClassificationMetrics(kept.score, kept.metric, kept.correct, kept.total, 0.0))
    if kept.refitted:
        said = (
            "Learned again from all images, those included that were held back. The figures are of the run before: "
            f"{figures}."
        )
    else:
        what = {
            "between": f"Kept the weights {kept.interpolation_text} between the frozen network's and those of epoch {kept.epoch}",
            "last": f"Kept the weights of the last epoch, {kept.epoch}",
            "best": f"Kept the weights of epoch {kept.epoch}",
        }[kept.checkpoint]
        said = f"{what}: {figures}."
    sentences = [
        escape(kept.problem),
        said,
        SELECTION_BIAS_NOTE if kept.selected_on_validation else "",
        escape(kept.leakage),
    ]
    if kept.verdict and not kept.refitted:
        sentences.append(escape(kept.verdict.sentence))
    if kept.reference and kept.reference.correct > kept.correct and not kept.refitted:
        sentences.append(
            f"The head solved at once is ahead, and a press keeps it: {_describe_figures(kept.reference)}."
        )
    return " ".join(filter(None, sentences)) + _describe_label_f1(kept.labels)


def _describe_candidate(trained: TrainedModel) -> str:
    what = {"frozen": "The frozen network", "reference": "The head solved at once"}[trained.active_candidate]
    return f"{what} is kept: {_describe_figures(trained.validation_metrics)}."


def _describe_figures(told: ClassificationMetrics) -> str:
    if told.metric != ACCURACY:
        right = f"all labels right on {told.correct} of {told.total} validation images"
        return f"<b>{told.metric} {told.score:.2f}</b>, {right}"
    low, high = told.interval
    return (
        f"<b>{told.correct} of {told.total} validation images right, {format_percent(told.correct / told.total)}</b> "
        f"(between {format_percent(low)} and {format_percent(high)})"
    )


def _describe_label_f1(labels: tuple[LabelMetrics, ...]) -> str:
    figures = "; ".join(f"{escape(label.name)} {label.f1:.2f}" for label in labels if label.f1 == label.f1)
    return f" F1 by label: {figures}." if figures else ""
