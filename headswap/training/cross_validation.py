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
from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import InputError
from headswap.common.rng import SeededRandomMode
from headswap.common.text import format_image_count
from headswap.data.dataset import LabelledImages
from headswap.data.splits import stratified_group_folds as drawn
from headswap.evaluation import metrics
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass, run_frozen_pass
from headswap.networks.adaptation import adapt, attach_head
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import is_solvable
from headswap.networks.head_registry import HeadSpec
from headswap.training.event_stream import EventStream
from headswap.training.events import Step
from headswap.training.loop import Learner, predict_logits, train_epoch
from headswap.training.plan import Plan


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class Fold:
    """One part of the images was judged by a head that had learned from the others."""

    seed: int
    number: int  # from 1
    folds: int
    correct: int
    total: int
    seconds: float


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class CrossValidated:
    """Every image has been judged once for each seed."""

    score: float  # of all answers: the mean over the seeds
    metric: str
    by_seed: tuple[float, ...]  # one dot each: how much of a figure is luck
    correct: float  # images, the mean over the seeds
    total: int
    seconds: float
    learned_from: int = 0  # images that the stages below the heads have learned from

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, for the share that is right: where it lies for all such images, 19 times of 20."""
        return metrics.wilson_interval(round(self.correct), self.total)

    @property
    def sentence(self) -> str:
        """For a beginner."""
        low, high = self.interval
        leaked = ""
        if self.learned_from:
            leaked = f" The stages below have learned from {self.learned_from:,} of them, so the figures flatter."
        seeds = f"; between {min(self.by_seed):.0%} and {max(self.by_seed):.0%} by seed" if self.by_seed[1:] else ""
        return (
            f"Judged by heads that had not seen them, {self.correct:.0f} of {self.total} images are named rightly "
            f"({low:.0%} to {high:.0%}{seeds}).{leaked}"
        )


def cross_validate(
    images: LabelledImages,
    backbone: str | Classifier | nn.Module,
    head: HeadSpec = "linear",
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
    for name, (count, apart) in _count_images_and_groups(images).items():
        if apart < folds:
            together = f" in {apart} that stay together" if apart < count else ""
            raise InputError(
                f"The class '{name}' has {format_image_count(count)}{together}, too few for {folds} folds. Add some, or choose "
                "fewer folds."
            )
    plan, options = Plan.resolve(plan), {**(head_options or {}), **more_head_options}
    carrier = adapt(backbone, images.classes, multi_label=images.multi_label)
    model = attach_head(carrier, head, **options)
    plan = plan or Plan.suggest(images, model)
    some = images.aligned_to(carrier.classes, carrier.multi_label)
    kept = FeatureCache(carrier, some, plan.views, plan.seed, engine)
    Learner(model, plan, kept).check_phase(0, plan.phases[0].batch_size)
    events = _run_folds(carrier, lambda: attach_head(carrier, head, **options), kept, plan, folds, tuple(seeds))
    return EventStream("headswap.cross_validate(...)", events)


def _run_folds(
    backbone_model: Classifier,
    build_model: Callable[[], Classifier],
    cache: FeatureCache,
    plan: Plan,
    folds: int,
    seeds: tuple[int, ...],
) -> Generator[FrozenPass | Step | Fold | CrossValidated, None, None]:
    began = perf_counter()
    backbone_model.to(devices.select_device())
    yield from run_frozen_pass([cache], [build_model().boundary])
    answered = []
    for seed in seeds:
        logits = torch.empty(len(cache.images), len(cache.images.classes))
        for number, fold in enumerate(drawn(cache.images.label_sets, cache.images.group_indices, folds, seed), 1):
            since = perf_counter()
            places = torch.tensor(fold)
            with SeededRandomMode(seed):
                model = build_model()
            yield from _train_head(model, plan, cache.subset(_complement_indices(places, len(logits))))
            judged = cache.subset(places)
            logits[places] = predict_logits(model, judged)
            right = metrics.count_correct(logits[places], judged.targets)
            yield Fold(seed, number, folds, right, len(places), perf_counter() - since)
        answered.append(logits)
    scores = tuple(metrics.score(logits, cache.targets) for logits in answered)
    right = sum(metrics.count_correct(logits, cache.targets) for logits in answered) / len(seeds)
    mean = sum(scores) / len(scores)
    known = len(backbone_model.seen.find_training_indices(cache.images)) if backbone_model.seen.stages_trained else 0
    yield CrossValidated(mean, backbone_model.metric, scores, right, len(cache.images), perf_counter() - began, known)


def _train_head(model: Classifier, plan: Plan, train_cache: FeatureCache) -> Iterator[Step]:
    """Teach the head; whoever listens may stop at each step that is told."""
    phase = plan.phases[0]
    learner = Learner(model, plan, train_cache)
    learner.move_to_device()
    if is_solvable(model.head):
        model.head.solve(train_cache.get_features(model.boundary).float(), train_cache.targets)
        return
    optimizer = learner.start_phase(phase)
    for number in range(1, phase.epochs + 1):
        yield from train_epoch(learner, number, optimizer)


def _count_images_and_groups(images: LabelledImages) -> dict[str, tuple[int, int]]:
    """How many images of each class there are, and how many groups of them: so many folds can show it."""
    groups: dict[str, set[int]] = {name: set() for name in images.classes}
    for labels, group in zip(images.label_sets, images.groups, strict=True):
        for label in labels:
            groups[images.classes[label]].add(group)
    return {name: (count, len(groups[name])) for name, count in images.counts.items()}


def _complement_indices(indices: Tensor, count: int) -> Tensor:
    others = torch.ones(count, dtype=torch.bool)
    others[indices] = False
    return others.nonzero().flatten()
