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
from headswap.features.cache import Activations
from headswap.features.frozen_pass import FrozenPass, frozen_pass
from headswap.networks.classifier import Classifier
from headswap.training.checkpoints import Keeper
from headswap.training.event_stream import EventStream
from headswap.training.events import Rate, Step
from headswap.training.loop import Learner, LossIsNoNumber, Optimizer, batches, step, training_mode
from headswap.training.plan import Phase, Plan

LOWEST, HIGHEST = 1e-5, 1.0
SMOOTHING = 0.9  # of the loss, from step to step
HOPELESS = 4  # times the lowest loss so far: the test ends
FEWEST = 3  # points, between which a loss can fall


@dataclass(frozen=True)
class RateTest:
    """The loss at each rate."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]  # smoothed
    suggestion: float  # where the loss falls most steeply
    seconds: float


def find_rate(
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
    images = images.fitting(model.classes, model.multi_label)
    plan = replace(Plan.chosen(plan) or Plan.suggest(images, model), mixup=0.0)
    boundary = model.boundary_of(learning_stages)
    learner = Learner(model, plan, Activations(model, images, plan.views, plan.seed, engine))
    learner.check(learning_stages, plan.batch_size)
    return EventStream("headswap.find_rate(...)", _run(learner, learning_stages, boundary, steps))


def _run(
    learner: Learner, learning_stages: int, boundary: int, steps: int
) -> Generator[FrozenPass | Step | RateTest, None, None]:
    began = perf_counter()
    model, plan, kept = learner.model, learner.plan, learner.learned
    learning, home = len(model.learning_stages), next(model.parameters()).device
    keeper = None
    try:
        learner.settle()
        model.freeze()
        yield from frozen_pass([kept], [boundary])
        keeper = Keeper(model, boundary)
        model.unfreeze(learning_stages)
        optimizer = Optimizer(model, Phase(1, learning_stages, LOWEST, LOWEST), plan.weight_decay, steps)
        training_mode(model)
        factor = (HIGHEST / LOWEST) ** (1 / (steps - 1))
        rates, losses, smooth = [], [], 0.0
        for number, (chosen, view) in enumerate(_for_ever(learner), 1):
            rate = LOWEST * factor ** (number - 1)
            optimizer.set(rate)
            loss, _ = step(learner, chosen, view, optimizer)
            smooth = SMOOTHING * smooth + (1 - SMOOTHING) * loss
            if not math.isfinite(loss):
                if len(rates) < FEWEST:
                    raise LossIsNoNumber(1, [Rate("everything", rate)])
                break
            rates.append(rate)
            losses.append(smooth / (1 - SMOOTHING**number))
            if learner.throttle.open():
                yield Step(1, number, steps, loss)
            if number == steps or (number >= FEWEST and losses[-1] > HOPELESS * min(losses)):
                break
        yield RateTest(tuple(rates), tuple(losses), _steepest(rates, losses), perf_counter() - began)
    finally:
        if keeper:
            keeper.restore_best()
        model.unfreeze(learning)
        model.to(home).eval()


def _for_ever(learner: Learner) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from batches(learner)


def _steepest(rates: list[float], losses: list[float]) -> float:
    """The rate at which the smoothed loss falls fastest, before it is lowest."""
    lowest = min(range(len(losses)), key=losses.__getitem__)
    falls = [losses[i - 1] - losses[i + 1] for i in range(1, max(2, lowest))]
    return rates[1 + max(range(len(falls)), key=falls.__getitem__)]
