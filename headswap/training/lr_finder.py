"""The learning-rate range test: the loss while the rate rises, and a rate to learn at.

Smith, "Cyclical learning rates for training neural networks" (2017). On kept activations it takes a second or two.
Knows nothing of phases.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch

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
    PhaseOptimizer,
    iterate_batches,
    set_train_mode,
    train_batch,
)
from headswap.training.plan import Phase, Plan

MIN_LR, MAX_LR = 1e-5, 1.0
LOSS_SMOOTHING = 0.9  # of the loss, from step to step
DIVERGENCE_FACTOR = 4  # times the lowest loss so far: the test ends
MIN_POINTS = 3  # points, between which a loss can fall


@dataclass(frozen=True)
class RateTest:
    """The loss at each rate."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]  # smoothed
    suggestion: float  # where the loss falls most steeply
    seconds: float


def lr_find(
    model: Classifier,
    images: LabelledImages,
    learning_stages: int = 0,
    steps: int = 100,
    plan: Plan | str | None = None,
    engine: str | None = None,
) -> EventStream[FrozenPass | Step | RateTest]:
    """Raise the learning rate step by step and listen to the loss; the model stays as it was.

    The arguments are checked at once; loop over what is returned, or call its ``run()`` for the ``RateTest``.

    Args:
        model: as ``adapt`` made it.
        images: to learn from.
        learning_stages: the last so many learn with the head, at the same rate.
        steps: at most; between each two the rate grows by the same factor, from 1e-5 to 1.
        plan: as for ``train``; only its batch size, views and smoothing count.
        engine: as for ``train``.

    Raises:
        InputError: if the images' classes are not the model's; and from the generator, if the loss is no number even
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
    return EventStream("headswap.find_rate(...)", _run_range_test(learner, learning_stages, boundary, steps))


def _run_range_test(
    learner: Learner, learning_stages: int, boundary: int, steps: int
) -> Generator[FrozenPass | Step | RateTest, None, None]:
    began = perf_counter()
    model, plan, kept = learner.model, learner.plan, learner.train_cache
    learning, home = len(model.learning_stages), next(model.parameters()).device
    keeper = None
    try:
        learner.move_to_device()
        model.freeze()
        yield from run_frozen_pass([kept], [boundary])
        keeper = Checkpoints(model, boundary)
        model.unfreeze(learning_stages)
        optimizer = PhaseOptimizer(model, Phase(1, learning_stages, MIN_LR, MIN_LR), plan.weight_decay, steps)
        set_train_mode(model)
        factor = (MAX_LR / MIN_LR) ** (1 / (steps - 1))
        rates, losses, smooth = [], [], 0.0
        for number, (chosen, view) in enumerate(_cycle_batches(learner), 1):
            rate = MIN_LR * factor ** (number - 1)
            optimizer.set_lr(rate)
            loss, _ = train_batch(learner, chosen, view, optimizer)
            smooth = LOSS_SMOOTHING * smooth + (1 - LOSS_SMOOTHING) * loss
            if not math.isfinite(loss):
                if len(rates) < MIN_POINTS:
                    raise NonFiniteLossError(1, [LearningRate("everything", rate)])
                break
            rates.append(rate)
            losses.append(smooth / (1 - LOSS_SMOOTHING**number))
            if learner.throttle.should_emit():
                yield Step(1, number, steps, loss)
            if number == steps or (number >= MIN_POINTS and losses[-1] > DIVERGENCE_FACTOR * min(losses)):
                break
        yield RateTest(tuple(rates), tuple(losses), _steepest_lr(rates, losses), perf_counter() - began)
    finally:
        if keeper:
            keeper.restore_best()
        model.unfreeze(learning)
        model.to(home).eval()


def _cycle_batches(learner: Learner) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from iterate_batches(learner)


def _steepest_lr(rates: list[float], losses: list[float]) -> float:
    """The rate at which the smoothed loss falls fastest, before it is lowest."""
    lowest = min(range(len(losses)), key=losses.__getitem__)
    falls = [losses[i - 1] - losses[i + 1] for i in range(1, max(2, lowest))]
    return rates[1 + max(range(len(falls)), key=falls.__getitem__)]
