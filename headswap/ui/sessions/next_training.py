"""What a visitor's next training is: what it begins with, its plan, and the job that follows it. Knows no component."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from headswap.common.rng import Seeded
from headswap.features.frozen_pass import FrozenPass
from headswap.features.inference import Engine
from headswap.networks.classifier import Classifier
from headswap.networks.heads import solvable
from headswap.training.plan import HEAD, Phase, Plan, stages_to_unfreeze
from headswap.training.race import race
from headswap.training.trainer import begin_pass, refit, train
from headswap.ui.sessions.chosen_network import SEED, network, preview
from headswap.ui.sessions.job import Job, Lesson, Turns
from headswap.ui.sessions.session import Visitor

RACED = ("linear", "bottleneck", "mlp", "lda")


@dataclass(frozen=True)
class Asked:
    """What the Train step asks for; Gradio may send floats for whole numbers."""

    head_epochs: float
    stages: float
    stage_epochs: float
    head_rate: float | None = None


def beginning(visitor: Visitor) -> Classifier:
    """What the next training begins with: a new network without numbers, or a copy of what was trained, whose stages
    stand still at first, with a row for each new class."""
    if not goes_on(visitor):
        return preview(visitor.choice, visitor.classes)  # whatever an image may carry, so that it can be drawn
    model = copy.deepcopy(visitor.trained.model).freeze()
    with Seeded(SEED):
        for name in visitor.images.classes if visitor.images else ():
            if name not in model.classes:
                model.add_class(name)
    return model


def goes_on(visitor: Visitor) -> bool:
    """Whether the next training goes on with what was trained."""
    return visitor.going_on and visitor.trained is not None


def unfit(visitor: Visitor) -> str:
    """Why the next training cannot go on with what was trained, in a sentence; nothing where it can."""
    if not goes_on(visitor) or not visitor.images:
        return ""
    forgotten = [name for name in visitor.trained.model.classes if name not in visitor.images.classes]
    if forgotten:
        return (
            f"There are no images of '{forgotten[0]}', which the model that you have would forget. Add some in the "
            "first step, or begin with a new head."
        )
    return ""


def wanted_stages(visitor: Visitor, model: Classifier) -> int:
    """How many of the last stages learn in the end: as the visitor asked for, or as is usual."""
    usual = stages_to_unfreeze(model)
    return usual if visitor.stages is None else min(visitor.stages, len(model.countable))


def wanted_plan(visitor: Visitor, model: Classifier) -> Plan:
    """The suggested plan, with as many stages as the visitor asked for."""
    plan = Plan.suggest(visitor.images, model)
    if visitor.stages is None:
        return plan
    head, unfrozen = both(plan)
    stages = wanted_stages(visitor, model)
    phases = (head, replace(unfrozen, learning_stages=stages))
    return replace(plan, phases=phases, advice=plan.advice if stages else "")


def both(plan: Plan) -> tuple[Phase, Phase]:
    """The head's phase of a plan, and the one in which stages learn: of a plan that unfreezes nothing, the usual one
    with no stages."""
    last = plan.phases[-1]
    if last.learning_stages == 0:
        last = replace(Plan.named("freeze then unfreeze").phases[-1], learning_stages=0)
    return plan.phases[0], last


def job(visitor: Visitor, turns: Turns, asked: Asked) -> Job:
    """The next training, begun at once.

    Raises:
        ValueError: if the network has fewer stages.
        InputError: if the images cannot be learned from.
    """
    images, choice, beforehand, going_on = visitor.images, visitor.choice, visitor.beforehand, goes_on(visitor)
    model = beginning(visitor) if going_on else preview(choice, images.classes, images.multi_label)
    plan = _planned(Plan.suggest(images, model), model, asked)
    return Job(
        lambda progress: model if going_on else network(choice, images, turns, progress),
        lambda model: train(model, images, plan, beforehand=beforehand),
        turns,
        Lesson(images, plan),
    )


def borrow(visitor: Visitor, turns: Turns, engine: Engine) -> Iterator[FrozenPass]:
    """The frozen pass of the next training by an engine of one's own, in the event that asks for it; the job takes it
    over. Nothing where it is not wanted or not needed.

    Raises:
        Exception: whatever the engine raises; the training can begin without it.
    """
    done = visitor.beforehand is not None and visitor.beforehand.over
    if visitor.training or done or visitor.wanting or goes_on(visitor):
        return
    model = network(visitor.choice.seeing, visitor.images, turns, lambda done, total: None)
    beforehand = begin_pass(model, visitor.images, wanted_plan(visitor, model), visitor.beforehand, engine)
    while told := beforehand.go_on():
        yield told
    visitor.beforehand = beforehand


def race_job(visitor: Visitor, turns: Turns, asked: Asked) -> Job:
    """A race of heads on the visitor's network, begun at once; raises as ``job``."""
    images, choice, beforehand = visitor.images, visitor.choice.seeing, visitor.beforehand
    chosen, options = visitor.choice.head, visitor.choice.options
    names = [name for name in RACED if not (images.multi_label and solvable(name))]
    heads = {name: options if name == chosen else {} for name in names}
    model = preview(choice, images.classes, images.multi_label)
    if solvable(chosen):
        asked = replace(asked, head_epochs=HEAD.epochs)  # the others want more than the one in which a head is solved
    plan = _planned(Plan.suggest(images, model), model, asked)

    def begin(carrier: Classifier) -> Iterator[Any]:
        with turns.turn(), Seeded(SEED):
            return race(images, carrier, heads, plan, beforehand=beforehand)

    return Job(lambda progress: network(choice, images, turns, progress), begin, turns, Lesson(images, plan))


def again(former: Job, turns: Turns) -> Job:
    """A training that is over once more, from all images, with a network of its own."""
    lesson, kept = former.lesson, former.run.kept
    return Job(
        lambda progress: copy.deepcopy(former.model),
        lambda model: refit(model, lesson.images, lesson.plan, kept),
        turns,
        former=former,
    )


def _planned(plan: Plan, model: Classifier, asked: Asked) -> Plan:
    """A suggested plan with what was asked for; ``ValueError`` where the model has fewer stages."""
    stages = int(asked.stages)
    model.boundary_of(stages)
    head, unfrozen = both(plan)
    rate = asked.head_rate or head.head_rate
    phases: list[Phase] = [replace(head, epochs=int(asked.head_epochs), learning_stages=0, head_rate=rate)]
    if stages:
        phases.append(replace(unfrozen, epochs=int(asked.stage_epochs), learning_stages=stages))
    return replace(plan, phases=tuple(phases))
