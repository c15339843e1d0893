"""Describes a run's progress and result in English sentences (HTML)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from headswap.training.events import ClassificationMetrics, Kept, LabelMetrics, PhaseBegins
from headswap.training.plan import Phase
from headswap.training.record import SELECTION_BIAS_NOTE
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.views.network import HEAD_TITLES

HEAD_SELECTION_BIAS_NOTE = "These images chose the head, so the figure flatters a little."
FULL_FRACTION = "the whole"


def render_run_status(run: Run, trained_model: TrainedModel | None = None, is_refit: bool = False) -> str:
    """A paragraph on what a training does now or what came of it.

    Args:
        run: The run so far.
        trained_model: The model that it trained, once it has ended.
        is_refit: Whether it trains a finished model again on all images.
    """
    css_classes = "hs-sentence hs-card hs-wrong" if run.state == "failed" else "hs-sentence"
    text = _describe_result(run, trained_model, is_refit) if run.has_ended else _describe_progress(run, is_refit)
    return f'<p class="{css_classes}" role="status" aria-live="polite">{text}</p>'


def describe_learning_stages(phase: Phase) -> str:
    """Which stages a phase fine-tunes, such as "the last three stages learn"."""
    if phase.learning_stages is None:
        return "all stages learn"
    if phase.learning_stages == 1:
        return "the last stage learns"
    return f"the last {spell_out_number(phase.learning_stages)} stages learn"


# While the training runs


def _describe_progress(run: Run, is_refit: bool) -> str:
    prefix = "From all images now. " if is_refit else ""
    frozen_pass = run.frozen_pass
    is_reading = frozen_pass is not None and frozen_pass.done < frozen_pass.total
    if run.phases and not is_reading:
        begins = run.phases[-1]
        return f"{_describe_race_result(run)}{prefix}{_describe_phase(begins)} {_describe_epoch_progress(run, begins)}"
    if run.is_racing and not is_reading:
        return _describe_race(run)
    if frozen_pass:
        return (
            f"{prefix}Reading the images through the frozen stages, once: "
            f"<b>{frozen_pass.done:,} of {frozen_pass.total:,} views</b>, {format_duration(frozen_pass.left)} left."
        )
    if run.queue_position:
        return _describe_queue(run.queue_position)
    if run.download:
        total = f" of {format_bytes(run.download.total)}" if run.download.total else ""
        return f"Downloading the weights: <b>{format_bytes(run.download.done)}{total}</b>."
    return "Building the network."


def _describe_queue(position: int) -> str:
    limit, before = get_limits().trainings, position - 1
    trainings = f"{spell_out_number(limit)} {'trainings' if limit > 1 else 'training'}"
    turn = f"{spell_out_number(before).capitalize()} {'waits' if before == 1 else 'wait'} before it"
    if before == 0:
        turn = "It is the next"
    return f"It waits for a place: this machine lets {trainings} learn at once. <b>{turn}</b>, and begins by itself."


def _describe_race(run: Run) -> str:
    count = spell_out_number(len(run.heads)).capitalize()
    intro = f"{count} heads learn side by side, on what the frozen stages gave once."
    leader = run.leading_head
    best = run.for_head(leader).best_epoch
    if best is None:
        return intro
    done = max(len(run.for_head(head).epochs) for head in run.heads)
    planned = next(lap.event.phase.epochs for lap in run.laps if isinstance(lap.event, PhaseBegins))
    return (
        f"{intro} Epoch {done} of {planned}; <b>{_head_titles([leader])[0]} leads with "
        f"{best.correct} of {best.total} validation images right</b>."
    )


def _describe_race_result(run: Run) -> str:
    """The ranking of the heads, in front of the text on the winner; empty if there was no race."""
    if run.won:
        ranking = run.won.places
        titles = _head_titles([each.head for each in ranking])
        counts = join_names([f"{title} {each.epoch.correct}" for title, each in zip(titles, ranking, strict=True)])
        note = f"{HEAD_SELECTION_BIAS_NOTE} " if run.has_ended else ""
        total = ranking[0].epoch.total
        return f"Of {total} validation images right: {counts}. <b>{titles[0]} goes on.</b> {note}"
    return f"<b>{_head_titles([run.leading_head])[0]} led the race.</b> " if run.laps and run.phases else ""


def _head_titles(heads: Iterable[str]) -> list[str]:
    return [escape(HEAD_TITLES.get(head, head)) for head in heads]


def _describe_phase(begins: PhaseBegins) -> str:
    frozen = format_millions(begins.frozen_weights)
    if not begins.learning_stages:
        return f"The head learns; <b>all {frozen} weights of the backbone stand still</b>."
    total = format_millions(begins.frozen_weights + begins.learning_weights)
    stages = describe_learning_stages(begins.phase).capitalize()
    return f"{stages} too{_describe_lr_ratios(begins)}; <b>{frozen} of {total} weights stand still</b>."


def _describe_lr_ratios(begins: PhaseBegins) -> str:
    """Learning rates of the stages, the highest first, such as ", at a tenth of the head's rate"."""
    if len(begins.rates) < 2:
        return ""
    *stage_rates, head_rate = [each.rate for each in begins.rates]
    highest, lowest = (_format_fraction(head_rate / rate) for rate in (max(stage_rates), min(stage_rates)))
    if highest == lowest:
        return f", at {highest} of the head's rate" if highest != FULL_FRACTION else ", at the head's rate"
    return f", at {highest} to {lowest} of the head's rate"


def _format_fraction(divisor: float) -> str:
    names = {1: FULL_FRACTION, 2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth"}
    return names.get(max(1, round(divisor)), f"1/{divisor:.0f}")


def _describe_epoch_progress(run: Run, begins: PhaseBegins) -> str:
    done = len(run.epochs)
    last = run.epochs[-1] if done and run.epochs[-1].number >= begins.first_epoch else None
    return f"Epoch {done if last else done + 1} of {begins.epochs}, {format_duration((last or begins).left)} left."


# When it has ended


def _describe_result(run: Run, trained_model: TrainedModel | None, is_refit: bool) -> str:
    if run.state == "failed":
        return escape(run.problem)
    if is_refit and not run.kept:
        return "Stopped. What had been learned before is kept."
    metrics = trained_model.validation_metrics if trained_model else None
    if trained_model and trained_model.active_candidate and metrics:
        name = {"frozen": "The frozen network", "reference": "The head solved at once"}[trained_model.active_candidate]
        return f"{name} is kept: {_describe_metrics(metrics)}."
    return _describe_race_result(run) + (_describe_kept(run.kept) if run.kept else _describe_stopped(run))


def _describe_stopped(run: Run) -> str:
    minutes = format_count(get_limits().minutes, "minute")
    stopped = f"Stopped after {minutes}, the most here" if run.timed_out else "Stopped"
    best = run.best_epoch
    if best is None:
        comma = "," if run.timed_out else ""
        return f"{stopped}{comma} before the first epoch was over, so nothing was learned."
    metrics = _describe_metrics(best.validation_metrics)
    return (
        f"{stopped}. Kept the weights of epoch {best.number}: {metrics}. "
        f"{SELECTION_BIAS_NOTE}{_describe_label_f1(best.labels)}"
    )


def _describe_kept(kept: Kept) -> str:
    metrics = _describe_metrics(kept.validation_metrics)
    sentences = [escape(kept.problem)]
    if kept.refitted:
        sentences.append(
            "Learned again from all images, those included that were held back. "
            f"The figures are of the run before: {metrics}."
        )
    else:
        sentences.append(f"{kept.checkpoint_text}: {metrics}.")
    sentences.append(SELECTION_BIAS_NOTE if kept.selected_on_validation else "")
    sentences.append(escape(kept.leakage))
    if kept.verdict and not kept.refitted:
        sentences.append(escape(kept.verdict.sentence))
    if kept.reference and kept.reference.correct > kept.correct and not kept.refitted:
        reference = _describe_metrics(kept.reference)
        sentences.append(f"The head solved at once is ahead, and a press keeps it: {reference}.")
    return " ".join(filter(None, sentences)) + _describe_label_f1(kept.labels)


def _describe_metrics(metrics: ClassificationMetrics) -> str:
    if metrics.metric != ACCURACY:
        right = f"all labels right on {metrics.correct} of {metrics.total} validation images"
        return f"<b>{metrics.metric} {metrics.score:.2f}</b>, {right}"
    low, high = metrics.interval
    accuracy = format_percent(metrics.correct / metrics.total)
    return (
        f"<b>{metrics.correct} of {metrics.total} validation images right, {accuracy}</b> "
        f"(between {format_percent(low)} and {format_percent(high)})"
    )


def _describe_label_f1(labels: Sequence[LabelMetrics]) -> str:
    figures = "; ".join(
        f"{escape(each.name)} {each.f1:.2f}" for each in labels if each.f1 == each.f1
    )  # NaN is left out
    return f" F1 by label: {figures}." if figures else ""
