"""The public functions that train a classifier: ``train``, ``fit`` and ``refit``.

Knows nothing of how a phase is run.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import closing

from headswap.common.deprecation import renamed_arguments
from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.features.cache import FeatureCache
from headswap.features.inference import EngineSpec
from headswap.features.precompute import PrecomputedFeatures
from headswap.networks.classifier import Classifier
from headswap.training.checkpoints import restore
from headswap.training.event_stream import EventStream
from headswap.training.events import Candidate, Event, Kept
from headswap.training.plan import Plan
from headswap.training.trainer import (
    Trainer,
    align_training_images,
    build_feature_caches,
    compute_initial_boundaries,
)


@renamed_arguments(beforehand="precomputed")
def train(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
    precomputed: PrecomputedFeatures | None = None,
) -> EventStream[Event]:
    """Train a model on its classes.

    The arguments are checked at once; the training runs as the returned generator is iterated, or by its ``run()``.
    Closing it stops the training; the model then holds the best weights so far. What was unfrozen stays unfrozen, in
    evaluation mode.

    Args:
        model: as ``adapt`` made it; it is changed in place.
        images: to learn from; their classes are the model's.
        plan: its phases, or the name of a predefined one; by default the suggested one.
        validation: images that are never learned from; by default a part of ``images``: those that were held out
            from this model before, and a share of those that are new to it.
        engine: how frozen stages are run: "eager", "folded" (batch norms in the convolutions) or "onnxruntime"; by
            default the fastest that suits them. They agree within 1e-4.
        precomputed: a frozen pass that has begun already (``start_frozen_pass``). It is not used if it is one of other
            images, views or stages.

    Returns:
        The events; the last one is ``Kept``.

    Raises:
        InputError: if the images' classes are not the model's, or a class has too few images to hold one out; and
            from the generator, if the loss is not finite before anything was learned.
        ValueError: if the plan asks for more stages than the network has, or for an unknown plan or engine.
    """
    images = align_training_images(images, model)
    plan = Plan.resolve(plan) or Plan.suggest(images, model)
    caches = build_feature_caches(model, images, plan, validation, engine)
    return EventStream("headswap.train(...)", Trainer(model, plan, *caches, precomputed=precomputed).iterate_events())


def start_frozen_pass(
    model: Classifier,
    images: LabelledImages,
    plan: Plan,
    former: PrecomputedFeatures | None = None,
    engine: EngineSpec | None = None,
) -> PrecomputedFeatures:
    """Prepare the frozen pass with which ``train`` would begin, to compute it earlier.

    Args:
        model: as for ``train``.
        images: as for ``train``.
        plan: as for ``train``.
        former: an earlier pass, which may have done some of it.
        engine: as for ``train``.

    Raises:
        InputError: as ``train``.
    """
    images = align_training_images(images, model)
    caches = build_feature_caches(model, images, plan, None, engine)
    return PrecomputedFeatures(model, caches, compute_initial_boundaries(model, plan), former)


def fit(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
) -> Kept:
    """Train a model and return the last event, the short form of ``train(...).run()``."""
    last = train(model, images, plan, validation, engine).run()
    if not isinstance(last, Kept):
        raise TypeError(f"A training ends with Kept, not {type(last).__name__}.")
    return last


def refit(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    kept: Kept | None = None,
    engine: str | None = None,
) -> EventStream[Event]:
    """Train once more on all images, held-out ones included; worth a few points where there are few.

    The arguments are checked at once; iterate what is returned, or call its ``run()``. The model begins where the
    validated run began and follows its plan to the end. No images are left to validate it, so the last event repeats
    the validated run's figures and says so. Closed earlier, the model gets back what it held.

    Args:
        model: that ``train`` trained.
        images: all of them.
        plan: by default that of the validated run.
        kept: the validated run's last event; it must be given.
        engine: as for ``train``.

    Returns:
        The events; the last one is ``Kept``.

    Raises:
        InputError: if the images' classes are not the model's; and from the generator, if the loss is not finite any
            more.
        ValueError: if ``kept`` is missing, of another model or itself of a refit; for an unknown plan or engine; or
            if the plan asks for more stages than the network has.
    """
    images = align_training_images(images, model)
    plan = Plan.resolve(plan)
    if not isinstance(kept, Kept):
        raise ValueError(
            "kept is the last event of the training that is to be gone through once more, as fit returns it, not "
            f"{'None' if kept is None else type(kept).__name__}."
        )
    start = _start_candidate(model, kept)
    plan = plan or _find_recorded_plan(model, kept) or Plan.suggest(images, model)
    for phase in plan.phases:
        model.get_boundary(phase.learning_stages)
    cache = FeatureCache(model, images, plan.views, plan.seed, engine)
    return EventStream("headswap.refit(...)", _run_refit(model, plan, cache, kept, start))


def _start_candidate(model: Classifier, kept: Kept) -> Candidate:
    """Where the validated run began.

    Raises:
        ValueError: if it is of a refit or of another model.
    """
    start = kept.candidates.get("start")
    if start is None:
        raise ValueError("This is the last event of a refit; give that of the training before it, which held back.")
    state = model.state_dict()
    is_other = any(name not in state or state[name].shape != weight.shape for name, weight in start.weights.items())
    try:
        model.check_head(start.head)
    except InputError:
        is_other = True
    if is_other:
        raise ValueError("kept is the last event of a training of another model.")
    return start


def _find_recorded_plan(model: Classifier, kept: Kept) -> Plan | None:
    """The plan of the validated run, if any network of it has a record."""
    records = [candidate.record for candidate in kept.candidates.values() if candidate.validation_metrics]
    return next((record.plan for record in [*records, model.record] if record), None)


def _run_refit(
    model: Classifier, plan: Plan, cache: FeatureCache, kept: Kept, start: Candidate
) -> Generator[Event, None, None]:
    state = model.state_dict()
    weights = {name: state[name].clone() for name in start.weights}
    before = Candidate(None, copy.deepcopy(model.head), weights, model.record, model.seen)
    is_finished = False
    try:
        restore(model, start)
        model.seen = before.seen  # what was a validation image is still known to have been one
        with closing(Trainer(model, plan, cache, None, kept).iterate_events()) as events:
            for event in events:
                is_finished = is_finished or isinstance(event, Kept)
                yield event
    finally:
        if not is_finished:
            restore(model, before)
