"""Honest figures on few images: every image is judged once, by a head that has not seen it.

Only heads are taught here, on activations that are computed once, so ten heads cost hardly more than one. Knows nothing
of phases in which stages thaw.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from headswap.common import devices
from headswap.common.errors import InputError
from headswap.common.rng import Seeded
from headswap.common.text import how_many
from headswap.data.dataset import LabelledImages
from headswap.data.splits import folds as drawn
from headswap.evaluation import metrics
from headswap.features.cache import Activations
from headswap.features.frozen_pass import FrozenPass, frozen_pass
from headswap.networks.classifier import Classifier, adapt, crown
from headswap.networks.heads import Head, solvable
from headswap.training.event_stream import EventStream
from headswap.training.events import Step
from headswap.training.loop import Learner, answers, epoch_of
from headswap.training.plan import Plan


@dataclass(frozen=True)
class Fold:
    """One part of the images was judged by a head that had learned from the others."""

    seed: int
    number: int  # from 1
    folds: int
    right: int
    of: int
    seconds: float


@dataclass(frozen=True)
class CrossValidated:
    """Every image has been judged once for each seed."""

    score: float  # of all answers: the mean over the seeds
    metric: str
    by_seed: tuple[float, ...]  # one dot each: how much of a figure is luck
    right: float  # images, the mean over the seeds
    of: int
    seconds: float
    learned_from: int = 0  # images that the stages below the heads have learned from

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, for the share that is right: where it lies for all such images, 19 times of 20."""
        return metrics.wilson(round(self.right), self.of)

    @property
    def sentence(self) -> str:
        """For a beginner."""
        low, high = self.interval
        leaked = ""
        if self.learned_from:
            leaked = f" The stages below have learned from {self.learned_from:,} of them, so the figures flatter."
        seeds = f"; between {min(self.by_seed):.0%} and {max(self.by_seed):.0%} by seed" if self.by_seed[1:] else ""
        return (
            f"Judged by heads that had not seen them, {self.right:.0f} of {self.of} images are named rightly "
            f"({low:.0%} to {high:.0%}{seeds}).{leaked}"
        )


def cross_validate(
    images: LabelledImages,
    backbone: str | Classifier | nn.Module,
    head: Head = "linear",
    folds: int = 5,
    seeds: Sequence[int] = (0,),
    plan: Plan | str | None = None,
    engine: str | None = None,
    head_options: Mapping[str, Any] | None = None,
    **more_head_options: Any,
) -> EventStream[FrozenPass | Step | Fold | CrossValidated]:
    """k-fold validation of a head on frozen stages, where it costs next to nothing.

    The arguments are checked at once; loop over what is returned, or call its ``run()``. Groups stay whole. Where the
    backbone is a model whose stages have learned from some of the images, the result says so.

    Args:
        images: all of them.
        backbone: as for ``adapt``.
        head: as for ``adapt``.
        folds: into how many parts the images are divided.
        seeds: for each the images are divided, and the head begins, anew.
        plan: as for ``train``; only its first phase counts.
        engine: as for ``train``.
        head_options, more_head_options: as for ``adapt``.

    Raises:
        ValueError: for fewer than two folds or no seed, for an unknown plan, and as ``adapt``.
        InputError: if some class has fewer images, or groups of them, than there are folds; and from the generator, if
            the loss is no number any more.
    """
    if folds < 2 or not seeds:
        raise ValueError("Cross-validation needs two folds and one seed at least.")
    for name, (count, apart) in _apart(images).items():
        if apart < folds:
            together = f" in {apart} that stay together" if apart < count else ""
            raise InputError(
                f"The class '{name}' has {how_many(count)}{together}, too few for {folds} folds. Add some, or choose "
                "fewer folds."
            )
    plan, options = Plan.chosen(plan), {**(head_options or {}), **more_head_options}
    carrier = adapt(backbone, images.classes, multi_label=images.multi_label)
    model = crown(carrier, head, **options)
    plan = plan or Plan.suggest(images, model)
    some = images.fitting(carrier.classes, carrier.multi_label)
    kept = Activations(carrier, some, plan.views, plan.seed, engine)
    Learner(model, plan, kept).check(0, plan.phases[0].batch_size)
    events = _run(carrier, lambda: crown(carrier, head, **options), kept, plan, folds, tuple(seeds))
    return EventStream("headswap.cross_validate(...)", events)


def _run(
    carrier: Classifier,
    fresh: Callable[[], Classifier],
    kept: Activations,
    plan: Plan,
    folds: int,
    seeds: tuple[int, ...],
) -> Generator[FrozenPass | Step | Fold | CrossValidated, None, None]:
    began = perf_counter()
    carrier.to(devices.best())
    yield from frozen_pass([kept], [fresh().boundary])
    answered = []
    for seed in seeds:
        logits = torch.empty(len(kept.images), len(kept.images.classes))
        for number, fold in enumerate(drawn(kept.images.shown, kept.images.together, folds, seed), 1):
            since = perf_counter()
            places = torch.tensor(fold)
            with Seeded(seed):
                model = fresh()
            yield from _taught(model, plan, kept.subset(_others(places, len(logits))))
            judged = kept.subset(places)
            logits[places] = answers(model, judged)
            right = metrics.right(logits[places], judged.targets)
            yield Fold(seed, number, folds, right, len(places), perf_counter() - since)
        answered.append(logits)
    scores = tuple(metrics.score(logits, kept.targets) for logits in answered)
    right = sum(metrics.right(logits, kept.targets) for logits in answered) / len(seeds)
    mean = sum(scores) / len(scores)
    known = len(carrier.seen.learned_from(kept.images)) if carrier.seen.stages else 0
    yield CrossValidated(mean, carrier.metric, scores, right, len(kept.images), perf_counter() - began, known)


def _taught(model: Classifier, plan: Plan, learned: Activations) -> Iterator[Step]:
    """Teach the head; whoever listens may stop at each step that is told."""
    phase = plan.phases[0]
    learner = Learner(model, plan, learned)
    learner.settle()
    if solvable(model.head):
        model.head.solve(learned.at(model.boundary).float(), learned.targets)
        return
    optimizer = learner.enter(phase)
    for number in range(1, phase.epochs + 1):
        yield from epoch_of(learner, number, optimizer)


def _apart(images: LabelledImages) -> dict[str, tuple[int, int]]:
    """How many images of each class there are, and how many groups of them: so many folds can show it."""
    groups: dict[str, set[int]] = {name: set() for name in images.classes}
    for labels, group in zip(images.shown, images.groups, strict=True):
        for label in labels:
            groups[images.classes[label]].add(group)
    return {name: (count, len(groups[name])) for name, count in images.counts.items()}


def _others(places: Tensor, count: int) -> Tensor:
    others = torch.ones(count, dtype=torch.bool)
    others[places] = False
    return others.nonzero().flatten()
