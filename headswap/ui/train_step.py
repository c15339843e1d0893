"""The third step: the strip, a sentence, two curves, Train and Stop. Draws what a run tells; computes nothing of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr

from headswap.errors import InputError
from headswap.metrics import ACCURACY, wilson
from headswap.plan import Phase, Plan
from headswap.training import PhaseBegins, train
from headswap.ui import curve
from headswap.ui.images_step import problem_card
from headswap.ui.jobs import Job, Run, Turns
from headswap.ui.model_step import draw, make, preview
from headswap.ui.visitors import Choice, Trained, Visitor
from headswap.ui.wording import million, percent, seconds, size, small

FRAME = 0.2  # seconds between two drawings of the curves
SPEECH = 1.0  # seconds between two sentences, so that a screen reader can follow


@dataclass(frozen=True)
class TrainStep:
    """The step's components."""

    strip: gr.HTML
    sentence: gr.HTML
    charts: gr.HTML
    train: gr.Button
    stop: gr.Button
    problem: gr.HTML
    head_epochs: gr.Slider
    stages: gr.Slider
    stage_epochs: gr.Slider
    onward: gr.Button

    @property
    def drawings(self) -> list[gr.components.Component]:
        """What ``watch`` draws, in order."""
        return [self.strip, self.sentence, self.charts]


def build() -> TrainStep:
    """The step's components, without events."""
    drawing = gr.HTML(elem_id="train-strip", apply_default_css=False)
    words = gr.HTML(elem_id="train-sentence", apply_default_css=False)
    charts = gr.HTML(charts_of(Run()), elem_id="charts", apply_default_css=False)
    problem = gr.HTML(elem_id="train-problem", apply_default_css=False)
    with gr.Row():
        start = gr.Button("Train", elem_id="train", elem_classes="hs-go", interactive=False)
        stop = gr.Button("Stop and keep the best", elem_id="stop", interactive=False)
    with gr.Accordion("More", open=False):
        head_epochs = gr.Slider(1, 200, step=1, label="Epochs in which only the head learns")
        stages = gr.Slider(0, 14, step=1, label="Then so many of the last stages learn, too")
        stage_epochs = gr.Slider(1, 100, step=1, label="Epochs in which they learn")
    onward = gr.Button("Go on and test it", interactive=False, elem_id="onward-test")
    return TrainStep(drawing, words, charts, start, stop, problem, head_epochs, stages, stage_epochs, onward)


def prepare(visitor: Visitor) -> tuple[Any, ...]:
    """What the step shows before a training: the network, the suggested plan, what is still missing.

    Returns:
        Values for ``drawings``, ``head_epochs``, ``stages``, ``stage_epochs`` and what ``buttons`` gives.
    """
    if visitor.training:
        return (gr.skip(),) * 6 + buttons(visitor)
    if visitor.job and visitor.job.model:
        job = visitor.job
        return strip_of(job), said(job.run), charts_of(job.run), *(gr.skip(),) * 3, *buttons(visitor)
    model = preview(visitor.choice, visitor.classes)
    if visitor.images is None:
        missing = "<p class='hs-sentence'>Choose images in the first step, and the training can begin.</p>"
        return (
            draw(model, model.outline(), ()),
            missing,
            charts_of(Run()),
            gr.skip(),
            gr.skip(),
            gr.skip(),
            *buttons(visitor),
        )
    plan = Plan.suggest(visitor.images, model)
    head, unfrozen = plan.phases
    words = f"<p class='hs-sentence'>Press Train: the head learns first, then {_last(unfrozen)} too. {plan.advice}</p>"
    return (
        draw(model, model.outline(), ()),
        words,
        charts_of(Run()),
        gr.Slider(value=head.epochs),
        gr.Slider(value=unfrozen.learning_stages, maximum=len(model.countable)),
        gr.Slider(value=unfrozen.epochs),
        *buttons(visitor),
    )


def buttons(visitor: Visitor) -> tuple[Any, ...]:
    """``train``, ``stop`` and ``onward`` as this visitor can use them now."""
    ready = visitor.images is not None and not visitor.training
    return (
        gr.Button(interactive=ready),
        gr.Button(interactive=visitor.training),
        gr.Button(interactive=visitor.trained is not None, variant="primary" if visitor.trained else "secondary"),
    )


def start(visitor: Visitor, turns: Turns, head_epochs: int, stages: int, stage_epochs: int) -> tuple[Any, ...]:
    """Begin a training in a job of its own.

    Returns:
        Values for ``problem`` and the buttons.
    """
    if visitor.training:
        return gr.skip(), *buttons(visitor)
    if visitor.images is None:
        return problem_card("There are no images yet. Choose a folder in the first step."), *buttons(visitor)
    try:
        visitor.job = _job(visitor, visitor.choice, turns, int(head_epochs), int(stages), int(stage_epochs))
    except (InputError, ValueError) as error:
        return problem_card(str(error)), *buttons(visitor)
    return "", *buttons(visitor)


def stop(visitor: Visitor) -> None:
    """Ask the training to stop; the watching event draws what it kept."""
    if visitor.job:
        visitor.job.stop()


def _job(visitor: Visitor, choice: Choice, turns: Turns, head_epochs: int, stages: int, stage_epochs: int) -> Job:
    images = visitor.images
    model = preview(choice, images.classes, images.multi_label)
    model.boundary_of(stages)  # raises where there are fewer
    plan = Plan.suggest(images, model)
    head, unfrozen = plan.phases
    phases: list[Phase] = [replace(head, epochs=head_epochs)]
    if stages:
        phases.append(replace(unfrozen, epochs=stage_epochs, learning_stages=stages))
    plan = replace(plan, phases=tuple(phases))
    return Job(
        lambda progress: make(choice, images.classes, images.multi_label, progress=progress),
        lambda model: train(model, images, plan),
        turns,
    )


def watch(visitor: Visitor) -> Iterator[tuple[Any, ...]]:
    """Draw the visitor's training until it ends; values for ``drawings``. The end takes over what was learned."""
    job = visitor.job
    if job is None:
        yield gr.skip(), gr.skip(), gr.skip()  # an event that tells nothing empties what it could have drawn
        return
    spoken_at, drawn_phases = 0.0, -1
    for run in job.watch(FRAME):
        row: list[Any] = [gr.skip(), gr.skip(), charts_of(run)]
        if len(run.phases) != drawn_phases and job.model is not None:
            row[0], drawn_phases = strip_of(job), len(run.phases)
        if run.ended or time.monotonic() - spoken_at > SPEECH:
            row[1], spoken_at = said(run), time.monotonic()
        if run.state in ("finished", "stopped") and run.best and visitor.job is job:
            visitor.trained = Trained(job.model, run)
        yield tuple(row)


def strip_of(job: Job) -> str:
    """The strip of a training as its present phase has it."""
    now = job.run.phases[-1] if job.run.phases else None
    if now is None:
        return draw(job.model, job.outline, ())
    return draw(job.model, job.outline, now.learning_stages, now.kept_bytes)


def said(run: Run) -> str:
    """What is happening now, in the words of the field, with numbers."""
    looks = "hs-sentence hs-card hs-wrong" if run.state == "failed" else "hs-sentence"
    return f'<p class="{looks}" role="status" aria-live="polite">{_sentence(run)}</p>'


def _sentence(run: Run) -> str:
    if run.state == "failed":
        return escape(run.problem)
    if run.ended:
        return _kept(run)
    if run.phases and run.step:
        return f"{_learns(run.phases[-1])} {_progress(run)}"
    if run.read:
        left = run.read.seconds / max(1, run.read.done) * (run.read.total - run.read.done)
        return (
            f"Reading the images through the frozen stages, once: <b>{run.read.done:,} of {run.read.total:,} views</b>"
            f", {seconds(left)} left."
        )
    if run.fetched:
        of = f" of {size(run.fetched.total)}" if run.fetched.total else ""
        return f"Downloading the weights: <b>{size(run.fetched.done)}{of}</b>."
    return "Building the network; it may wait for its turn on this machine."


def _learns(begins: PhaseBegins) -> str:
    whole = million(begins.still_weights + begins.learning_weights)
    if not begins.learning_stages:
        return f"The head learns; <b>all {million(begins.still_weights)} weights of the backbone stand still</b>."
    slower = begins.phase.head_rate / begins.phase.backbone_rate
    return (
        f"{_last(begins.phase).capitalize()} too, at a {_part(slower)} of the head's rate; "
        f"<b>{million(begins.still_weights)} of {whole} weights stand still</b>."
    )


def _last(phase: Phase) -> str:
    if phase.learning_stages is None:
        return "all stages learn"
    if phase.learning_stages == 1:
        return "the last stage learns"
    return f"the last {small(phase.learning_stages)} stages learn"


def _part(times: float) -> str:
    return {10: "tenth", 5: "fifth", 3: "third", 2: "half"}.get(round(times), f"{times:.0f}th")


def _progress(run: Run) -> str:
    total, done = run.phases[-1].epochs, len(run.epochs)
    begins = run.phases[-1]
    mine = [epoch.seconds for epoch in run.epochs if epoch.number >= begins.first_epoch]
    last_of_phase = begins.first_epoch + begins.phase.epochs - 1
    if not mine:
        return f"Epoch {done + 1} of {total}."
    return f"Epoch {done} of {total}, this phase needs {seconds(sum(mine) / len(mine) * (last_of_phase - done))} more."


def _kept(run: Run) -> str:
    best = run.best
    if best is None:
        return "Stopped before the first epoch was over, so nothing was learned."
    low, high = wilson(best.right, best.of)
    stopped = "Stopped. " if run.state == "stopped" else ""
    if best.labels:
        figures = "; ".join(f"{escape(label.name)} {label.f1:.2f}" for label in best.labels if label.f1 == label.f1)
        return (
            f"{stopped}Kept the weights of epoch {best.number}: <b>{best.metric} {best.validation_score:.2f}</b>, all "
            f"labels right on {best.right} of {best.of} validation images. F1 by label: {figures}."
        )
    return (
        f"{stopped}Kept the weights of epoch {best.number}: <b>{best.right} of {best.of} validation images right, "
        f"{percent(best.right / best.of)}</b> (between {percent(low)} and {percent(high)})."
    )


def charts_of(run: Run) -> str:
    """Both charts, as they stand."""
    loss = [(e.number, e.training_loss, e.validation_loss) for e in run.epochs]
    accuracy = [(e.number, e.training_score, e.validation_score) for e in run.epochs]
    kept = run.best if run.ended else None
    charts = (
        _chart(run, "Loss", loss, kept and (kept.number, kept.validation_loss)),
        _chart(run, _title(run), accuracy, kept and (kept.number, kept.validation_score), percent=True),
    )
    return f'<div class="hs-charts">{"".join(map(curve.draw, charts))}</div>'


def _title(run: Run) -> str:
    metric = run.epochs[-1].metric if run.epochs else ACCURACY
    return f"{metric.capitalize()} on the images"


def _chart(
    run: Run,
    title: str,
    rows: list[tuple[int, float, float]],
    marker: tuple[float, float] | None,
    percent: bool = False,
) -> curve.Chart:
    bands = []
    for begins in run.phases:
        end = min(len(run.epochs), begins.first_epoch + begins.phase.epochs - 1)
        learning = bool(begins.learning_stages)
        label = f"{_last(begins.phase)} too" if learning else "the head learns"
        bands.append(curve.Band(begins.first_epoch - 1, end, label, "learning" if learning else "still"))
    series = (
        curve.Series("training", tuple((n, a) for n, a, _ in rows), "training"),
        curve.Series("validation", tuple((n, b) for n, _, b in rows), "validation"),
    )
    epochs = run.phases[-1].epochs if run.phases else 1
    if run.ended:
        empty = "No epoch was over, so there is no curve"
    elif run.read:
        empty = "The curve begins when the images have been read"
    else:
        empty = "The curve appears when you press Train"
    return curve.Chart(title, tuple(bands), series, epochs, percent, marker, empty)
