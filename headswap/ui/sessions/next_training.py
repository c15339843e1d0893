"""What a visitor's next training is: what it begins with, its plan, and the job that follows it. Knows no component."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from headswap.common.rng import SeededRandomMode
from headswap.features.frozen_pass import FrozenPass
from headswap.features.inference import EngineSpec
from headswap.networks.classifier import Classifier
from headswap.networks.heads import is_solvable
from headswap.training.advice import choose_num_unfrozen_stages
from headswap.training.api import refit, start_frozen_pass, train
from headswap.training.plan import HEAD_PHASE, Phase, Plan
from headswap.training.race import race
from headswap.ui.sessions.chosen_network import SEED, build_meta_network, build_seeded_network
from headswap.ui.sessions.job import Job, Scheduler, TrainingSetup
from headswap.ui.sessions.session import Session

DEFAULT_RACE_HEADS = ("linear", "bottleneck", "mlp", "lda")


@dataclass(frozen=True)
class TrainingRequest:
    """What the Train step asks for; Gradio may send floats for whole numbers."""

    head_epochs: float
    num_stages: float
    stage_epochs: float
    head_lr: float | None = None


def build_starting_model(visitor: Session) -> Classifier:
    """What the next training begins with: a new network without numbers, or a copy of what was trained, whose stages
    stand still at first, with a row for each new class."""
    if not is_resuming(visitor):
        return build_meta_network(
            visitor.choice, visitor.classes
        )  # whatever an image may carry, so that it can be drawn
    model = copy.deepcopy(visitor.trained_model.model).freeze()
    with SeededRandomMode(SEED):
        for name in visitor.images.classes if visitor.images else ():
            if name not in model.classes:
                model.add_class(name)
    return model


def is_resuming(visitor: Session) -> bool:
    """Whether the next training goes on with what was trained."""
    return visitor.resume_training and visitor.trained_model is not None


def explain_cannot_resume(visitor: Session) -> str:
    """Why the next training cannot go on with what was trained, in a sentence; nothing where it can."""
    if not is_resuming(visitor) or not visitor.images:
        return ""
    forgotten = [name for name in visitor.trained_model.model.classes if name not in visitor.images.classes]
    if forgotten:
        return (
            f"There are no images of '{forgotten[0]}', which the model that you have would forget. Add some in the "
            "first step, or begin with a new head."
        )
    return ""


def count_unfrozen_stages(visitor: Session, model: Classifier) -> int:
    """How many of the last stages learn in the end: as the visitor asked for, or as is usual."""
    usual = choose_num_unfrozen_stages(model)
    return (
        usual if visitor.num_unfrozen_stages is None else min(visitor.num_unfrozen_stages, len(model.freezable_stages))
    )


def suggest_session_plan(visitor: Session, model: Classifier) -> Plan:
    """The suggested plan, with as many stages as the visitor asked for."""
    plan = Plan.suggest(visitor.images, model)
    if visitor.num_unfrozen_stages is None:
        return plan
    head, unfrozen = get_head_and_unfrozen_phases(plan)
    stages = count_unfrozen_stages(visitor, model)
    phases = (head, replace(unfrozen, learning_stages=stages))
    return replace(plan, phases=phases, advice=plan.advice if stages else "")


def get_head_and_unfrozen_phases(plan: Plan) -> tuple[Phase, Phase]:
    """The head's phase of a plan, and the one in which stages learn: of a plan that unfreezes nothing, the usual one
    with no stages."""
    last = plan.phases[-1]
    if last.learning_stages == 0:
        last = replace(Plan.from_name("freeze then unfreeze").phases[-1], learning_stages=0)
    return plan.phases[0], last


def start_training_job(visitor: Session, scheduler: Scheduler, request: TrainingRequest) -> Job:
    """The next training, begun at once.

    Raises:
        ValueError: if the network has fewer stages.
        InputError: if the images cannot be learned from.
    """
    images, choice, beforehand, going_on = (
        visitor.images,
        visitor.choice,
        visitor.precomputed_features,
        is_resuming(visitor),
    )
    model = (
        build_starting_model(visitor) if going_on else build_meta_network(choice, images.classes, images.multi_label)
    )
    plan = _apply_request(Plan.suggest(images, model), model, request)
    return Job(
        lambda progress: model if going_on else build_seeded_network(choice, images, scheduler, progress),
        lambda model: train(model, images, plan, precomputed=beforehand),
        scheduler,
        TrainingSetup(images, plan),
    )


def precompute_with_engine(visitor: Session, turns: Scheduler, engine: EngineSpec) -> Iterator[FrozenPass]:
    """The frozen pass of the next training by an engine of one's own, in the event that asks for it; the job takes it
    over. Nothing where it is not wanted or not needed.

    Raises:
        Exception: whatever the engine raises; the training can begin without it.
    """
    done = visitor.precomputed_features is not None and visitor.precomputed_features.is_done
    if visitor.is_training or done or visitor.untrainable_reason or is_resuming(visitor):
        return
    model = build_seeded_network(visitor.choice.with_linear_head, visitor.images, turns, lambda done, total: None)
    beforehand = start_frozen_pass(
        model, visitor.images, suggest_session_plan(visitor, model), visitor.precomputed_features, engine
    )
    while told := beforehand.compute_next():
        yield told
    visitor.precomputed_features = beforehand


def start_race_job(visitor: Session, turns: Scheduler, request: TrainingRequest) -> Job:
    """A race of heads on the visitor's network, begun at once; raises as ``job``."""
    images, choice, beforehand = visitor.images, visitor.choice.with_linear_head, visitor.precomputed_features
    chosen, options = visitor.choice.head, visitor.choice.head_options
    names = [name for name in DEFAULT_RACE_HEADS if not (images.multi_label and is_solvable(name))]
    heads = {name: options if name == chosen else {} for name in names}
    model = build_meta_network(choice, images.classes, images.multi_label)
    if is_solvable(chosen):
        request = replace(
            request, head_epochs=HEAD_PHASE.epochs
        )  # the others want more than the one in which a head is solved
    plan = _apply_request(Plan.suggest(images, model), model, request)

    def begin(carrier: Classifier) -> Iterator[Any]:
        with turns.compute_slot(), SeededRandomMode(SEED):
            return race(images, carrier, heads, plan, precomputed=beforehand)

    return Job(
        lambda progress: build_seeded_network(choice, images, turns, progress),
        begin,
        turns,
        TrainingSetup(images, plan),
    )


def start_refit_job(finished_job: Job, turns: Scheduler) -> Job:
    """A training that is over once more, from all images, with a network of its own."""
    lesson, kept = finished_job.training_setup, finished_job.run.kept
    return Job(
        lambda progress: copy.deepcopy(finished_job.model),
        lambda model: refit(model, lesson.images, lesson.plan, kept),
        turns,
        former=finished_job,
    )


def _apply_request(plan: Plan, model: Classifier, request: TrainingRequest) -> Plan:
    """A suggested plan with what was asked for; ``ValueError`` where the model has fewer stages."""
    stages = int(request.num_stages)
    model.get_boundary(stages)
    head, unfrozen = get_head_and_unfrozen_phases(plan)
    rate = request.head_lr or head.head_lr
    phases: list[Phase] = [replace(head, epochs=int(request.head_epochs), learning_stages=0, head_lr=rate)]
    if stages:
        phases.append(replace(unfrozen, epochs=int(request.stage_epochs), learning_stages=stages))
    return replace(plan, phases=tuple(phases))
