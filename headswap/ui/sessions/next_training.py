"""Builds a session's next training: starting model, plan, and the job that runs it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

from headswap.common.rng import SeededRandomMode
from headswap.features.frozen_pass import FrozenPass
from headswap.features.inference import EngineSpec
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import is_solvable
from headswap.training.advice import choose_num_unfrozen_stages
from headswap.training.api import refit, start_frozen_pass, train
from headswap.training.plan import HEAD_PHASE, Phase, Plan
from headswap.training.race import DEFAULT_RACE_HEADS, race
from headswap.ui.sessions.chosen_network import SEED, build_meta_network, build_seeded_network
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.run import EventGenerator
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session


@dataclass(frozen=True)
class TrainingRequest:
    """The settings of the Train step; whole numbers may be floats, as Gradio sends them.

    Attributes:
        head_epochs: Epochs in which only the head is trained.
        num_stages: Number of last stages to unfreeze afterwards.
        stage_epochs: Epochs in which these stages are fine-tuned.
        head_lr: Peak learning rate of the head; None for the suggested one.
    """

    head_epochs: float
    num_stages: float
    stage_epochs: float
    head_lr: float | None = None


def build_starting_model(session: Session) -> Classifier:
    """The model that the next training starts from, frozen.

    Either a new network on the meta device, or, if training is resumed, a copy of the trained model with an output for
    each new class.
    """
    resumed = _get_resumed_model(session)
    if resumed is None:
        return build_meta_network(session.choice, session.classes)  # never multi-label: LDA could not be previewed
    model = copy.deepcopy(resumed).freeze()
    with SeededRandomMode(SEED):
        for name in session.images.classes if session.images else ():
            if name not in model.classes:
                model.add_class(name)
    return model


def is_resuming(session: Session) -> bool:
    """Whether the next training continues from the trained model."""
    return _get_resumed_model(session) is not None


def explain_cannot_resume(session: Session) -> str:
    """Why the next training cannot continue from the trained model, in a sentence; empty if it can."""
    model = _get_resumed_model(session)
    if model is None or not session.images:
        return ""
    forgotten = [name for name in model.classes if name not in session.images.classes]
    if forgotten:
        return (
            f"There are no images of '{forgotten[0]}', which the model that you have would forget. Add some in the "
            "first step, or begin with a new head."
        )
    return ""


def count_unfrozen_stages(session: Session, model: Classifier) -> int:
    """Number of last stages that the next training unfreezes: as requested in the session, or as suggested."""
    if session.num_unfrozen_stages is None:
        return choose_num_unfrozen_stages(model)
    return min(session.num_unfrozen_stages, len(model.freezable_stages))


def suggest_session_plan(session: Session, model: Classifier) -> Plan:
    """The suggested plan with as many unfrozen stages as the session requests."""
    plan = Plan.suggest(session.require_images(), model)
    if session.num_unfrozen_stages is None:
        return plan
    head_phase, unfrozen_phase = get_head_and_unfrozen_phases(plan)
    stages = count_unfrozen_stages(session, model)
    phases = (head_phase, replace(unfrozen_phase, learning_stages=stages))
    return replace(plan, phases=phases, advice=plan.advice if stages else "")


def get_head_and_unfrozen_phases(plan: Plan) -> tuple[Phase, Phase]:
    """A plan's phases for the head and for unfrozen stages.

    If the plan unfreezes nothing, the second is the default phase with no stages.
    """
    last = plan.phases[-1]
    if last.learning_stages == 0:
        last = replace(Plan.from_name("freeze then unfreeze").phases[-1], learning_stages=0)
    return plan.phases[0], last


def start_training_job(session: Session, scheduler: Scheduler, request: TrainingRequest) -> Job:
    """Start the next training.

    Raises:
        ValueError: If the network has fewer stages than requested.
        InputError: If there are no images.
    """
    images, choice, precomputed = session.require_images(), session.choice, session.precomputed_features
    resumed = build_starting_model(session) if is_resuming(session) else None
    model = build_meta_network(choice, images.classes, images.multi_label) if resumed is None else resumed
    plan = _apply_request(Plan.suggest(images, model), model, request)
    return Job(
        lambda progress: build_seeded_network(choice, images, scheduler, progress) if resumed is None else resumed,
        lambda model: train(model, images, plan, precomputed=precomputed),
        scheduler,
        TrainingSetup(images, plan),
    )


def precompute_with_engine(session: Session, scheduler: Scheduler, engine: EngineSpec) -> Iterator[FrozenPass]:
    """Run the next training's frozen pass with an inference engine of one's own and store it in the session.

    It runs in the caller's thread, because ZeroGPU lends its GPU only to a page event. Nothing happens if no training
    can start, or if the features are there already.

    Raises:
        Exception: Whatever the engine raises; the training can start without the features.
    """
    images, former = session.images, session.precomputed_features
    is_done = former is not None and former.is_done
    if images is None or session.is_training or is_done or session.untrainable_reason or is_resuming(session):
        return
    model = build_seeded_network(session.choice.with_linear_head, images, scheduler, lambda done, total: None)
    features = start_frozen_pass(model, images, suggest_session_plan(session, model), former, engine)
    while event := features.compute_next():
        yield event
    session.precomputed_features = features


def start_race_job(session: Session, scheduler: Scheduler, request: TrainingRequest) -> Job:
    """Start a race of the default heads on the session's backbone.

    Raises:
        ValueError: If the network has fewer stages than requested.
        InputError: If there are no images.
    """
    images, choice = session.require_images(), session.choice.with_linear_head
    chosen_head, precomputed = session.choice.head, session.precomputed_features
    names = [name for name in DEFAULT_RACE_HEADS if not (images.multi_label and is_solvable(name))]
    heads = {name: session.choice.head_options if name == chosen_head else {} for name in names}
    model = build_meta_network(choice, images.classes, images.multi_label)
    if is_solvable(chosen_head):  # whose one epoch is too few for the heads that are trained by gradient descent
        request = replace(request, head_epochs=HEAD_PHASE.epochs)
    plan = _apply_request(Plan.suggest(images, model), model, request)

    def start_race(carrier: Classifier) -> EventGenerator:
        with scheduler.compute_slot(), SeededRandomMode(SEED):
            return race(images, carrier, heads, plan, precomputed=precomputed)

    return Job(
        lambda progress: build_seeded_network(choice, images, scheduler, progress),
        start_race,
        scheduler,
        TrainingSetup(images, plan),
    )


def start_refit_job(finished_job: Job, scheduler: Scheduler) -> Job:
    """Train a copy of a finished job's model again, on all of its images.

    Raises:
        ValueError: If the job has no model, or its images have been released.
    """
    setup, model, kept = finished_job.training_setup, finished_job.model, finished_job.run.kept
    if setup is None or model is None:
        raise ValueError("This job cannot be repeated: it has no model, or its images have been released.")
    return Job(
        lambda progress: copy.deepcopy(model),
        lambda model: refit(model, setup.images, setup.plan, kept),
        scheduler,
        previous_job=finished_job,
    )


def _get_resumed_model(session: Session) -> Classifier | None:
    trained_model = session.trained_model
    return trained_model.model if trained_model and session.resume_training else None


def _apply_request(plan: Plan, model: Classifier, request: TrainingRequest) -> Plan:
    """A suggested plan with the requested epochs, stages and learning rate.

    Raises:
        ValueError: If the model has fewer stages.
    """
    stages = int(request.num_stages)
    model.get_boundary(stages)  # raises
    head_phase, unfrozen_phase = get_head_and_unfrozen_phases(plan)
    lr = request.head_lr or head_phase.head_lr
    phases = [replace(head_phase, epochs=int(request.head_epochs), learning_stages=0, head_lr=lr)]
    if stages:
        phases.append(replace(unfrozen_phase, epochs=int(request.stage_epochs), learning_stages=stages))
    return replace(plan, phases=tuple(phases))
