"""Runs a learning-rate range test and suggests a learning rate.

Smith, "Cyclical learning rates for training neural networks" (2017). On cached features it takes a second or two. Knows
nothing of the phases of a plan.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

from torch import Tensor

from headswap.data.dataset import LabelledImages
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass, run_frozen_pass
from headswap.networks.classifier import Classifier
from headswap.training.checkpoints import Checkpoints
from headswap.training.event_stream import EventStream
from headswap.training.events import LearningRate, Step
from headswap.training.loop import (
    Learner,
    NonFiniteLossError,
    iterate_batches,
    set_train_mode,
    train_batch,
)
from headswap.training.optimizer import PhaseOptimizer
from headswap.training.plan import Phase, Plan

MIN_LR, MAX_LR = 1e-5, 1.0
LOSS_SMOOTHING = 0.9  # exponential moving average of the loss
DIVERGENCE_FACTOR = 4  # times the lowest loss so far ends the test
MIN_POINTS = 3  # that a descent needs


@dataclass(frozen=True)
class RateTest:
    """The loss at each learning rate.

    Attributes:
        rates: ascending.
        losses: smoothed.
        suggestion: the learning rate at which the loss falls most steeply.
        seconds: that the test took.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    seconds: float


def lr_find(
    model: Classifier,
    images: LabelledImages,
    learning_stages: int = 0,
    steps: int = 100,
    plan: Plan | str | None = None,
    engine: str | None = None,
) -> EventStream[FrozenPass | Step | RateTest]:
    """Raise the learning rate from step to step and record the loss; the model is not changed in the end.

    The arguments are checked at once; iterate what is returned, or call its ``run()`` for the ``RateTest``.

    Args:
        model: as ``adapt`` made it.
        images: to learn from.
        learning_stages: number of last stages that learn with the head, at the same rate.
        steps: at most; from each to the next the rate grows by the same factor, from 1e-5 to 1.
        plan: as for ``train``; only its batch size, views and label smoothing are used.
        engine: as for ``train``.

    Returns:
        The events; the last one is ``RateTest``.

    Raises:
        InputError: if the images' classes are not the model's; and from the generator, if the loss is not finite even
            at the lowest rate.
        ValueError: if the network has fewer stages, for fewer than ten steps, or an unknown plan or engine.
    """
    if steps < 10:
        raise ValueError(f"A curve needs ten steps at least, not {steps}.")
    images = images.aligned_to(model.classes, model.multi_label)
    plan = replace(Plan.resolve(plan) or Plan.suggest(images, model), mixup=0.0)
    boundary = model.get_boundary(learning_stages)
    learner = Learner(model, plan, FeatureCache(model, images, plan.views, plan.seed, engine))
    learner.check_phase(learning_stages, plan.batch_size)
    return EventStream("headswap.lr_find(...)", _run_range_test(learner, learning_stages, boundary, steps))


def _run_range_test(
    learner: Learner, learning_stages: int, boundary: int, steps: int
) -> Generator[FrozenPass | Step | RateTest, None, None]:
    began, model, checkpoints = perf_counter(), learner.model, None
    num_unfrozen, original_device = len(model.learning_stages), next(model.parameters()).device
    with learner.frozen_on_device(original_device):
        try:
            yield from run_frozen_pass([learner.train_cache], [boundary])
            checkpoints = Checkpoints(model, boundary)
            model.unfreeze(learning_stages)
            rates, losses = yield from _raise_lr(learner, learning_stages, steps)
            yield RateTest(tuple(rates), tuple(losses), _steepest_lr(rates, losses), perf_counter() - began)
        finally:
            if checkpoints:
                checkpoints.restore_best()
            model.unfreeze(num_unfrozen)


def _raise_lr(
    learner: Learner, learning_stages: int, steps: int
) -> Generator[Step, None, tuple[list[float], list[float]]]:
    """Learn at rising rates until the loss diverges; the rates and the smoothed losses."""
    phase = Phase(1, learning_stages, MIN_LR, MIN_LR)
    optimizer = PhaseOptimizer(learner.model, phase, learner.plan.weight_decay, steps)
    set_train_mode(learner.model)
    factor = (MAX_LR / MIN_LR) ** (1 / (steps - 1))
    rates: list[float] = []
    losses: list[float] = []
    smoothed = 0.0
    for number, (indices, view_indices) in enumerate(_cycle_batches(learner), 1):
        rate = MIN_LR * factor ** (number - 1)
        optimizer.set_lr(rate)
        loss, _ = train_batch(learner, indices, view_indices, optimizer)
        smoothed = LOSS_SMOOTHING * smoothed + (1 - LOSS_SMOOTHING) * loss
        if not math.isfinite(loss):
            if len(rates) < MIN_POINTS:
                raise NonFiniteLossError(1, [LearningRate("everything", rate)])
            break
        rates.append(rate)
        losses.append(smoothed / (1 - LOSS_SMOOTHING**number))
        if learner.throttle.should_emit():
            yield Step(1, number, steps, loss)
        if number == steps or (number >= MIN_POINTS and losses[-1] > DIVERGENCE_FACTOR * min(losses)):
            break
    return rates, losses


def _cycle_batches(learner: Learner) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, shuffled anew in each epoch, which ``itertools.cycle`` would not do."""
    while True:
        yield from iterate_batches(learner)


def _steepest_lr(rates: list[float], losses: list[float]) -> float:
    """The learning rate at which the smoothed loss falls most steeply, before its minimum."""
    lowest = min(range(len(losses)), key=losses.__getitem__)
    falls = [losses[i - 1] - losses[i + 1] for i in range(1, max(2, lowest))]
    return rates[1 + max(range(len(falls)), key=falls.__getitem__)]
