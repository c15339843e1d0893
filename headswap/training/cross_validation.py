"""Runs grouped, stratified k-fold cross-validation of a head on cached features of a frozen backbone.

Only heads are trained, on features that are computed once, so ten heads take hardly longer than one. Knows nothing of
phases in which stages are unfrozen.
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
from headswap.data.splits import stratified_group_folds
from headswap.evaluation import metrics
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass, run_frozen_pass
from headswap.networks.adaptation import adapt, attach_head
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import is_solvable
from headswap.networks.head_registry import HeadSpec
from headswap.training.event_stream import EventStream
from headswap.training.events import Step
from headswap.training.loop import Learner, predict_logits, solve_head, train_epoch
from headswap.training.plan import Plan


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class Fold:
    """One fold was evaluated by a head that was trained on the others.

    Attributes:
        seed: of the split and of the head.
        number: of the fold, from 1.
        folds: number of folds.
        correct: number of correctly classified images.
        total: number of images in the fold.
        seconds: that training and evaluation took.
    """

    seed: int
    number: int
    folds: int
    correct: int
    total: int
    seconds: float


@renamed_attributes(right="correct", of="total")
@dataclass(frozen=True)
class CrossValidated(metrics.HasAccuracyInterval):
    """Every image was evaluated once for each seed.

    Attributes:
        score: the mean over the seeds of the score of all predictions.
        metric: "accuracy", or with several labels an image "mean average precision".
        by_seed: the score of each seed, which shows how much of it is chance.
        correct: number of correctly classified images, the mean over the seeds.
        total: number of images.
        seconds: that everything took.
        learned_from: number of images that the stages below the heads have learned from.
    """

    score: float
    metric: str
    by_seed: tuple[float, ...]
    correct: float
    total: int
    seconds: float
    learned_from: int = 0

    @property
    def sentence(self) -> str:
        """The result in words, for a beginner."""
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
    """Run k-fold cross-validation of a head on frozen stages, which takes hardly longer than one training.

    The arguments are checked at once; iterate what is returned, or call its ``run()``. Groups of images stay in one
    fold. Where the backbone is a model whose stages have learned from some of the images, the result says so.

    Args:
        images: all of them.
        backbone: as for ``adapt``.
        head: as for ``adapt``.
        folds: number of parts into which the images are divided.
        seeds: for each the images are divided, and the head is initialised, anew.
        plan: as for ``train``; only its first phase is used.
        engine: as for ``train``.
        head_options: as for ``adapt``.
        **more_head_options: as for ``adapt``.

    Returns:
        The events; the last one is ``CrossValidated``.

    Raises:
        ValueError: for fewer than two folds or no seed, for an unknown plan, and as ``adapt``.
        InputError: if some class has fewer images, or groups of them, than there are folds; and from the generator, if
            the loss is not finite any more.
    """
    if folds < 2 or not seeds:
        raise ValueError("Cross-validation needs two folds and one seed at least.")
    _check_group_counts(images, folds)
    plan, options = Plan.resolve(plan), {**(head_options or {}), **more_head_options}
    backbone_model = adapt(backbone, images.classes, multi_label=images.multi_label)
    model = attach_head(backbone_model, head, **options)
    plan = plan or Plan.suggest(images, model)
    aligned = images.aligned_to(backbone_model.classes, backbone_model.multi_label)
    cache = FeatureCache(backbone_model, aligned, plan.views, plan.seed, engine)
    Learner(model, plan, cache).check_phase(0, plan.phases[0].batch_size)

    def build_model() -> Classifier:
        return attach_head(backbone_model, head, **options)

    events = _run_folds(backbone_model, build_model, cache, plan, folds, tuple(seeds))
    return EventStream("headswap.cross_validate(...)", events)


def _run_folds(
    backbone_model: Classifier,
    build_model: Callable[[], Classifier],
    cache: FeatureCache,
    plan: Plan,
    num_folds: int,
    seeds: tuple[int, ...],
) -> Generator[FrozenPass | Step | Fold | CrossValidated, None, None]:
    began, images = perf_counter(), cache.images
    backbone_model.to(devices.select_device())
    yield from run_frozen_pass([cache], [build_model().boundary])
    logits_by_seed = []
    for seed in seeds:
        logits = torch.empty(len(images), len(images.classes))
        folds = stratified_group_folds(images.label_sets, images.group_indices, num_folds, seed)
        for number, fold in enumerate(folds, 1):
            fold_began, indices = perf_counter(), torch.tensor(fold)
            with SeededRandomMode(seed):
                model = build_model()
            yield from _train_head(model, plan, cache.subset(_complement_indices(indices, len(logits))))
            held_out = cache.subset(indices)
            logits[indices] = predict_logits(model, held_out)
            fold_correct = metrics.count_correct(logits[indices], held_out.targets)
            yield Fold(seed, number, num_folds, fold_correct, len(indices), perf_counter() - fold_began)
        logits_by_seed.append(logits)
    scores = tuple(metrics.score(logits, cache.targets) for logits in logits_by_seed)
    correct = sum(metrics.count_correct(logits, cache.targets) for logits in logits_by_seed) / len(seeds)
    mean_score = sum(scores) / len(scores)
    seen = backbone_model.seen
    learned_from = len(seen.find_training_indices(images)) if seen.stages_trained else 0
    seconds = perf_counter() - began
    yield CrossValidated(mean_score, backbone_model.metric, scores, correct, len(images), seconds, learned_from)


def _train_head(model: Classifier, plan: Plan, train_cache: FeatureCache) -> Iterator[Step]:
    """Train the head in the plan's first phase, or solve it."""
    phase = plan.phases[0]
    learner = Learner(model, plan, train_cache)
    learner.move_to_device()
    if is_solvable(model.head):
        solve_head(model.head, train_cache.get_features(model.boundary).float(), train_cache.targets)
        return
    optimizer = learner.start_phase(phase)
    for number in range(1, phase.epochs + 1):
        yield from train_epoch(learner, number, optimizer)


def _check_group_counts(images: LabelledImages, num_folds: int) -> None:
    """Check that every class has a group of images for each fold.

    Raises:
        InputError: if one has not.
    """
    groups: dict[str, set[int]] = {name: set() for name in images.classes}
    for labels, group in zip(images.label_sets, images.groups, strict=True):
        for label in labels:
            groups[images.classes[label]].add(group)
    for name, count in images.counts.items():
        num_groups = len(groups[name])
        if num_groups < num_folds:
            together = f" in {num_groups} that stay together" if num_groups < count else ""
            raise InputError(
                f"The class '{name}' has {format_image_count(count)}{together}, too few for {num_folds} folds. Add "
                "some, or choose fewer folds."
            )


def _complement_indices(indices: Tensor, count: int) -> Tensor:
    is_other = torch.ones(count, dtype=torch.bool)
    is_other[indices] = False
    return is_other.nonzero().flatten()
