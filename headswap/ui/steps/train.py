"""The third step: the strip, a sentence, two curves, Train and Stop. Draws what a run tells; computes nothing of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from headswap.common.errors import InputError
from headswap.features.inference import Engine
from headswap.training.plan import HEAD, Plan
from headswap.ui.panels import epoch_slider, held_out_samples, lr_finder, runs_table, stage_strip
from headswap.ui.panels.help_notes import note
from headswap.ui.sessions import next_training
from headswap.ui.sessions.job import Job, Run, Turns
from headswap.ui.sessions.next_training import Asked, beginning, both, unfit, wanted_plan, wanted_stages
from headswap.ui.sessions.session import Trained, Visitor
from headswap.ui.steps import model as model_step
from headswap.ui.views.html import problem_card
from headswap.ui.views.network import draw
from headswap.ui.views.run_charts import charts_of
from headswap.ui.views.run_text import last_stages, said

FRAME = 0.2  # seconds between two drawings of the curves
MOST_STAGES = 14  # of any network, until one is known
SPEECH = 1.0  # seconds between two sentences, so that a screen reader can follow
LENT_NONE = "No GPU could be borrowed just now, so the processor reads the images."
BEGINS = [("A new head, as the Model step says", False), ("The model that you have: it learns on", True)]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainStep:
    """The step's components."""

    strip: gr.HTML
    sentence: gr.HTML
    charts: gr.HTML
    train: gr.Button
    stop: gr.Button
    frozen: gr.Button
    reference: gr.Button
    own: gr.Button
    again: gr.Button
    race: gr.Button
    problem: gr.HTML
    head_epochs: gr.Slider
    stages: gr.Slider
    stage_epochs: gr.Slider
    head_rate: gr.Number
    rates: lr_finder.Rates
    going_on: gr.Radio
    lesson: gr.Accordion
    script: gr.Code
    onward: gr.Button
    runs: runs_table.Runs
    replay: epoch_slider.Replay
    tries: gr.HTML

    @property
    def drawings(self) -> list[gr.components.Component]:
        """What ``watch`` draws, in order."""
        return [self.strip, self.sentence, self.charts]

    @property
    def plan(self) -> list[gr.Slider]:
        """The sliders of the plan, in order."""
        return [self.head_epochs, self.stages, self.stage_epochs]

    @property
    def prepared(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [*self.drawings, *self.plan, *self.state]

    @property
    def state(self) -> list[gr.components.Component]:
        """What ``state`` gives, in order."""
        return [*self.buttons, self.tries, *self.replay.shown, *self.runs.shown]

    @property
    def buttons(self) -> list[gr.Button]:
        """What ``buttons`` gives, in order."""
        return [self.train, self.stop, self.onward, self.frozen, self.reference, self.own, self.again, self.race]


def build() -> TrainStep:
    """The step's components, without events."""
    drawing = stage_strip.pressed_strip("train-strip")
    note("train-strip")
    words = gr.HTML(elem_id="train-sentence", apply_default_css=False)
    going_on = gr.Radio(BEGINS, value=False, label="Begin with", visible=False, elem_id="going-on")
    note("going-on")
    with gr.Row(equal_height=False):
        start = _button("Train", "train", elem_classes="hs-go")
        heads = _button("Race the heads", "race")
        stop = _button("Stop and keep the best", "stop")
    problem = gr.HTML(elem_id="train-problem", apply_default_css=False)
    charts = gr.HTML(charts_of(Run()), elem_id="charts", apply_default_css=False)
    note("charts")
    held_back = held_out_samples.build("train-tries")
    with gr.Row(elem_id="instead"):
        frozen = gr.Button("Keep the frozen network instead", visible=False, elem_id="keep-frozen")
        reference = gr.Button("Keep the head solved at once instead", visible=False, elem_id="keep-reference")
        own = gr.Button(visible=False, elem_id="keep-own")
        again = gr.Button("Learn again from all images", visible=False, elem_id="again")
    note("instead")
    looking = epoch_slider.build()
    table = runs_table.build()
    with gr.Accordion("More", open=False):
        head_epochs = _slider(1, 200, "Epochs in which only the head learns", "head-epochs")
        stages = _slider(0, MOST_STAGES, "Then so many of the last stages learn, too", "stages")
        stage_epochs = _slider(1, 100, "Epochs in which they learn", "stage-epochs")
        label = "Highest learning rate while only the head learns"
        head_rate = gr.Number(HEAD.head_rate, minimum=1e-6, maximum=1, step=1e-4, label=label, elem_id="head-rate")
        note("head-rate")
        rate_test = lr_finder.build()
    with gr.Accordion("The same in plain PyTorch: the lesson to take home", open=False, elem_id="lesson") as lesson:
        script = gr.Code(language="python", interactive=False, max_lines=32, show_label=False, elem_id="script")
        note("script")
    onward = gr.Button("Go on and test it", interactive=False, elem_id="onward-test")
    instead = (frozen, reference, own, again)
    more = (head_epochs, stages, stage_epochs, head_rate, rate_test)
    begin = (start, stop, *instead, heads, problem, *more, going_on)
    return TrainStep(drawing, words, charts, *begin, lesson, script, onward, table, looking, held_back)


def _button(words: str, elem_id: str, **looks: str) -> gr.Button:
    with gr.Column(min_width=200):
        button = gr.Button(words, elem_id=elem_id, interactive=False, **looks)
        note(elem_id)
    return button


def _slider(least: int, most: int, label: str, elem_id: str) -> gr.Slider:
    slider = gr.Slider(least, most, step=1, label=label, elem_id=elem_id)
    note(elem_id)
    return slider


def prepare(visitor: Visitor) -> tuple[Any, ...]:
    """What the step shows before a training: the network, the suggested plan, what is still missing.

    Returns:
        Values for ``drawings``, ``head_epochs``, ``stages``, ``stage_epochs`` and what ``state`` gives.
    """
    if visitor.training:
        return *(gr.skip(),) * 3, *_followed(visitor), *state(visitor)
    if visitor.job and visitor.job.model:
        return *drawn(visitor), *_followed(visitor), *state(visitor)
    model, wanting = beginning(visitor), visitor.wanting or unfit(visitor)
    if wanting:
        missing = f"<p class='hs-sentence'>{escape(wanting)}</p>"
        return (
            model_step.drawn(visitor, model),
            missing,
            charts_of(Run()),
            gr.skip(),
            gr.skip(),
            gr.skip(),
            *state(visitor),
        )
    plan = wanted_plan(visitor, model)
    return (
        model_step.drawn(visitor, model),
        _invitation(plan),
        charts_of(Run()),
        *_sliders(plan, len(model.countable)),
        *state(visitor),
    )


def ask(visitor: Visitor, stages: int | None) -> tuple[Any, ...]:
    """So many of the last stages are to learn; values for ``strip`` and ``sentence``.

    The charts of a training that is over stay; the strip shows what the next one will do.
    """
    if visitor.training or stages is None:
        return gr.skip(), gr.skip()
    visitor.stages = max(0, int(stages))
    model = beginning(visitor)
    wanting = visitor.wanting or unfit(visitor)
    if wanting:
        return model_step.drawn(visitor, model), gr.skip()
    job, trained = visitor.job, visitor.learned_here
    result = said(job.run, trained, job.former is not None) if trained else ""  # which a look at the strip costs nobody
    return model_step.drawn(visitor, model), result + _invitation(wanted_plan(visitor, model))


def press(visitor: Visitor, sent: object) -> tuple[Any, ...]:
    """A block of the strip was pressed; values for what ``ask`` gives and ``stages``."""
    drawings = ask(visitor, model_step.asked(sent))
    if visitor.training or visitor.stages is None:
        return *drawings, gr.skip()
    model = beginning(visitor)
    return *drawings, gr.Slider(value=wanted_stages(visitor, model), maximum=len(model.countable))


def _invitation(plan: Plan) -> str:
    _, unfrozen = both(plan)
    alone = unfrozen.learning_stages == 0
    order = "the head learns" if alone else f"the head learns first, then {last_stages(unfrozen)} too"
    return f"<p class='hs-sentence'>{f'Press Train: {order}. {escape(plan.advice)}'.strip()}</p>"


def choice(visitor: Visitor) -> gr.Radio:
    """What the next training can begin with."""
    return gr.Radio(value=visitor.going_on and visitor.trained is not None, visible=visitor.trained is not None)


def go_on(visitor: Visitor, going_on: bool) -> tuple[Any, ...]:
    """Begin with a new head, or with what was trained; values for what ``prepare`` gives and ``going_on``."""
    visitor.go_on(bool(going_on))
    return *prepare(visitor), choice(visitor)


def _followed(visitor: Visitor) -> tuple[Any, ...]:
    """The sliders as they stood when the training began: a page that is loaded again knows nothing of them."""
    job = visitor.job
    lesson = job.lesson or (job.former.lesson if job.former else None)
    if lesson is None:
        return (gr.skip(),) * 3
    most = len(job.outline) or MOST_STAGES
    head, stages, unfrozen = _sliders(lesson.plan, most)
    if visitor.stages is not None and not visitor.training:
        stages = gr.Slider(value=min(visitor.stages, most), maximum=most)
    return head, stages, unfrozen


def _sliders(plan: Plan, most: int) -> tuple[gr.Slider, gr.Slider, gr.Slider]:
    head, unfrozen = both(plan)
    stages = most if unfrozen.learning_stages is None else unfrozen.learning_stages
    return gr.Slider(value=head.epochs), gr.Slider(value=stages, maximum=most), gr.Slider(value=unfrozen.epochs)


def state(visitor: Visitor) -> tuple[Any, ...]:
    """``TrainStep.state``: what can be pressed and looked at now, and what the runs so far came to."""
    offered = "" if visitor.training else held_out_samples.offered(visitor)
    return *buttons(visitor), offered, *epoch_slider.show(visitor), *runs_table.show(visitor)


def buttons(visitor: Visitor) -> tuple[Any, ...]:
    """``TrainStep.buttons`` as this visitor can use them now."""
    ready = not visitor.training and not visitor.wanting
    repeats = visitor.training and visitor.job.former
    trained = visitor.learned_here
    offered = trained.offered if trained else ()
    unfrozen = trained and trained.learned_by_itself
    return (
        gr.Button(interactive=ready),
        gr.Button(
            "Stop and keep what was there before" if repeats else "Stop and keep the best", interactive=visitor.training
        ),
        gr.Button(interactive=visitor.trained is not None, variant="primary" if visitor.trained else "secondary"),
        gr.Button(visible="frozen" in offered),
        gr.Button(visible="reference" in offered),
        gr.Button(f"Keep the {'unfrozen network' if unfrozen else 'trained head'} after all", visible="own" in offered),
        gr.Button(visible=_can_learn_again(visitor)),
        gr.Button(interactive=ready),
    )


def _can_learn_again(visitor: Visitor) -> bool:
    trained = visitor.learned_here
    if trained is None or visitor.job.lesson is None:
        return False
    return trained.run.kept is not None and not trained.run.kept.refitted and not trained.instead


def start(visitor: Visitor, turns: Turns, *asked: float | None) -> tuple[Any, ...]:
    """Begin a training in a job of its own.

    Args:
        asked: the fields of ``Asked``, in order.

    Returns:
        Values for ``problem`` and ``state``.
    """
    problem = visitor.wanting or unfit(visitor)
    return _begin(visitor, problem, lambda: next_training.job(visitor, turns, Asked(*asked)))


def start_race(visitor: Visitor, turns: Turns, *asked: float | None) -> tuple[Any, ...]:
    """Begin a race of heads in a job of its own; takes and gives what ``start`` does."""
    return _begin(visitor, visitor.wanting, lambda: next_training.race_job(visitor, turns, Asked(*asked)))


def borrow(visitor: Visitor, turns: Turns, engine: Engine) -> Iterator[str]:
    """Let an engine that belongs to this event read the images before the training begins; values for ``sentence``."""
    try:
        for told in next_training.borrow(visitor, turns, engine):
            yield said(Run("running", read=told))
    except Exception as error:  # a GPU that is lent can be refused in many ways, and nothing depends on it
        log.warning("No GPU was lent: %s", error)
        yield f'<p class="hs-sentence">{LENT_NONE}</p>'
    else:
        yield gr.skip()  # an event that tells nothing empties what it could have drawn


def _begin(visitor: Visitor, problem: str, make: Callable[[], Job]) -> tuple[Any, ...]:
    """Begin what ``make`` makes, unless something runs or stands in its way; values for ``problem`` and ``state``."""
    if visitor.training:
        return gr.skip(), *state(visitor)
    if problem:
        return problem_card(problem), *state(visitor)
    try:
        begun = visitor.begin(make)
    except (InputError, ValueError) as error:
        return problem_card(str(error)), *state(visitor)
    return "" if begun else gr.skip(), *state(visitor)


def stop(visitor: Visitor) -> None:
    """Ask the training to stop; the watching event draws what it kept."""
    if visitor.job:
        visitor.job.stop()


def keep(visitor: Visitor, name: str) -> tuple[Any, ...]:
    """Put "frozen", "reference" or "own" into the model that answers; values for ``drawings`` and ``state``."""
    visitor.exchange(name)
    if visitor.job is None or visitor.job.model is None:
        return *(gr.skip(),) * 3, *state(visitor)
    return *drawn(visitor), *state(visitor)


def again(visitor: Visitor, turns: Turns) -> tuple[Any, ...]:
    """Begin to learn from all images, in a job of its own with a network of its own; values for ``problem``
    and ``state``."""
    if _can_learn_again(visitor):
        former = visitor.job
        visitor.begin(lambda: next_training.again(former, turns))
    return "", *state(visitor)


def watch(visitor: Visitor) -> Iterator[tuple[Any, ...]]:
    """Draw the visitor's training until it ends; values for ``drawings``. The end takes over what was learned."""
    job = visitor.job
    if job is None:
        yield gr.skip(), gr.skip(), gr.skip()  # an event that tells nothing empties what it could have drawn
        return
    spoken_at, drawn_phases, repeats = 0.0, -1, job.former is not None
    for run in job.watch(FRAME):
        if run.ended:
            visitor.take_over(job)
            yield _end(visitor, job, repeats)
            return
        row: list[Any] = [gr.skip(), gr.skip(), charts_of(run)]
        if len(run.phases) != drawn_phases and job.model is not None:
            row[0], drawn_phases = strip_of(job), len(run.phases)
        if time.monotonic() - spoken_at > SPEECH:
            row[1], spoken_at = said(run, repeats=repeats), time.monotonic()
        yield tuple(row)


def _end(visitor: Visitor, job: Job, repeats: bool) -> tuple[Any, ...]:
    """What stands there at last; of a repetition of which nothing came, what was there before it, and why."""
    if visitor.job is not None and visitor.job.run is job.run and job.model is not None:
        return drawn(visitor)
    words = said(job.run, repeats=repeats)
    former = visitor.job if repeats else None
    if former is not None and visitor.learned_here:
        return strip_of(former, visitor.trained), words, charts_of(former.run, visitor.trained)
    return strip_of(job) if job.model is not None else gr.skip(), words, charts_of(job.run)


def drawn(visitor: Visitor) -> tuple[str, str, str]:
    """The visitor's training as it stands: values for ``drawings``."""
    job, trained = visitor.job, visitor.learned_here
    return strip_of(job, trained), said(job.run, trained, job.former is not None), charts_of(job.run, trained)


def strip_of(job: Job, trained: Trained | None = None) -> str:
    """The strip of a training as its present phase has it, or of what is kept instead of what it has learned."""
    phases, pressing = job.run.phases, "asks" if job.run.ended else "waits"
    if not phases:
        return draw(job.model, job.outline, (), pressing=pressing)
    if trained and trained.instead:
        kept_bytes = next((phase.kept_bytes for phase in phases if not phase.learning_stages), None)
        return draw(job.model, job.outline, (), kept_bytes, pressing)
    return draw(job.model, job.outline, phases[-1].learning_stages, phases[-1].kept_bytes, pressing)


def look(visitor: Visitor, number: int) -> tuple[str, str, str]:
    """The training that is over as it stood after an epoch: values for ``strip``, ``charts`` and what is told of it."""
    job = visitor.job
    epoch = next((epoch for epoch in epoch_slider.to_look_at(job) if epoch.number == number), None)
    if epoch is None:
        return gr.skip(), gr.skip(), ""
    begins = [phase for phase in job.run.phases if phase.first_epoch <= number][-1]
    drawing = draw(job.model, job.outline, begins.learning_stages, begins.kept_bytes, "asks")
    charts = charts_of(job.run, visitor.learned_here, number)
    return drawing, charts, epoch_slider.told(epoch, job.model.classes)
