"""Trains and evaluates on cached features: batches, one epoch, logits of the validation images.

Knows nothing of the order of phases, of checkpoints and of who receives the events.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headswap.common import devices
from headswap.common.errors import InputError
from headswap.common.rng import SeededRandomMode
from headswap.evaluation import metrics
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import Throttle
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import is_solvable
from headswap.networks.heads import is_built_in_head
from headswap.training.events import ClassificationMetrics, LearningRate, Step
from headswap.training.optimizer import PhaseOptimizer
from headswap.training.plan import Phase, Plan

EVAL_BATCH_SIZE = 16


class TrainingRandomness:
    """Random numbers of one training: the same seed gives the same ones, whatever others draw meanwhile.

    Attributes:
        shuffle_generator: of the order of the images and of their views.
        seeded_mode: the block in which torch draws without a generator, as dropout does.
    """

    def __init__(self, seed: int) -> None:
        self.shuffle_generator: torch.Generator = torch.Generator().manual_seed(seed)
        self.seeded_mode: SeededRandomMode = SeededRandomMode(seed)


class NonFiniteLossError(InputError):
    """The loss is NaN or infinite, since the learning rates were too high; the message says what to change."""

    def __init__(self, epoch: int, learning_rates: Sequence[LearningRate]) -> None:
        rates = " and ".join(f"{rate.rate:g} for {rate.name}" for rate in learning_rates[-2:])
        super().__init__(
            f"In epoch {epoch} the loss was no number any more, so the training ended there. Its learning rates were "
            f"{rates}; choose a tenth of that."
        )


class Learner:
    """A model with the cached features that it learns from, and the settings of the plan.

    Attributes:
        model: that learns.
        plan: its settings.
        train_cache: features of the training images.
        randomness: of this training.
        throttle: of ``Step`` events.
        device: where it computes, after ``move_to_device``.
        batch_size: of the present phase.
    """

    model: Classifier
    plan: Plan
    train_cache: FeatureCache
    randomness: TrainingRandomness
    throttle: Throttle
    device: torch.device
    batch_size: int

    def __init__(self, model: Classifier, plan: Plan, train_cache: FeatureCache) -> None:
        self.model, self.plan, self.train_cache = model, plan, train_cache
        self.randomness, self.throttle = TrainingRandomness(plan.seed), Throttle()
        self.device = torch.device("cpu")
        self.batch_size = plan.batch_size
        # A user's own head may have batch norm, which needs two images.
        self._min_batch_size = 1 if is_built_in_head(model.head) else 2
        self._tracks_random_draws = True
        self._class_weights = (
            metrics.compute_class_weights(train_cache.targets, len(model.classes)) if plan.balance_classes else None
        )

    def move_to_device(self) -> None:
        """Move the model to where its stages are, if that is an accelerator, or to the best device there is."""
        present = next(self.model.stages.parameters()).device
        self.device = present if present.type != "cpu" else devices.select_device()
        self.model.to(self.device)

    @contextmanager
    def frozen_on_device(self, original_device: torch.device) -> Iterator[None]:
        """Within the block the model is on the device, at first frozen; afterwards back, in evaluation mode."""
        try:
            self.move_to_device()
            self.model.freeze()
            yield
        finally:
            self.model.to(original_device).eval()

    def check_phase(self, learning_stages: int | None, batch_size: int | None) -> None:
        """Check whether a phase is possible.

        Args:
            learning_stages: as ``Phase.learning_stages``.
            batch_size: the plan's by default.

        Raises:
            InputError: if the head does not give a logit for each class, if nothing has a weight that could learn, or
                if batch norm in the head would have to learn from a single image.
        """
        self.model.check_head()
        head, count = self.model.head, len(self.train_cache.targets)
        if learning_stages == 0 and not is_solvable(head) and not any(p.requires_grad for p in head.parameters()):
            raise InputError(
                f"The head {type(head).__name__} has no weights that learn. Give it parameters, set requires_grad of "
                "those that it has, or let stages learn beneath it."
            )
        has_batch_norm = not is_solvable(head) and any(isinstance(module, _BatchNorm) for module in head.modules())
        if has_batch_norm and min(count, batch_size or self.plan.batch_size) < 2:
            why = (
                "there is only one image to learn from. Add images"
                if count < 2
                else "the plan has batches of one image. Let batch_size be two or more"
            )
            raise InputError(
                f"The head {type(head).__name__} has batch norm, which compares the images of a batch, but {why}, or "
                "choose a head without batch norm."
            )

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return len(self.split_batches(torch.arange(len(self.train_cache.targets))))

    def split_batches(self, order: Tensor) -> list[Tensor]:
        """Split indices into batches; a last one that is too small for the head is added to the one before it."""
        batches = list(torch.split(order, self.batch_size))
        if len(batches) > 1 and len(batches[-1]) < self._min_batch_size <= self.batch_size:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def start_phase(self, phase: Phase) -> PhaseOptimizer:
        """Set the batch size of a phase, and build its optimizer."""
        self.batch_size = phase.batch_size or self.plan.batch_size
        self._tracks_random_draws, self.randomness.seeded_mode.was_used = True, False
        return PhaseOptimizer(self.model, phase, self.plan.weight_decay, self.steps_per_epoch)

    @contextmanager
    def seeded_step(self) -> Iterator[None]:
        """The block of a step, in which torch draws from the training's own random numbers.

        The dispatch mode takes as long as half a step of a small head, and such a head draws in every step or in none,
        so it is left out where the first step drew nothing.
        """
        with self.randomness.seeded_mode if self._tracks_random_draws else nullcontext():
            yield
        only_head = is_built_in_head(self.model.head) and self.model.boundary == len(self.model.feature_stages)
        self._tracks_random_draws = self.randomness.seeded_mode.was_used or not only_head

    def compute_loss(self, logits: Tensor, indices: Tensor) -> Tensor:
        """The loss of the logits ``[n, classes]`` of the training images at these indices ``[n]``."""
        class_weights = None if self._class_weights is None else self._class_weights.to(logits)
        targets = self.train_cache.targets[indices].to(logits.device)
        return metrics.classification_loss(logits, targets, self.plan.label_smoothing, class_weights)


class SolvableHead(Protocol):
    """A head that is solved in closed form; ``is_solvable`` says whether a module is one."""

    def solve(self, features: Tensor, labels: Tensor) -> None:
        """Fit the head to features ``[N, views, D]`` and labels int64 ``[N]``."""


def solve_head(head: nn.Module, features: Tensor, targets: Tensor) -> None:
    """Fit a head for which ``is_solvable`` holds to features ``[N, views, D]`` and targets int64 ``[N]``."""
    cast(SolvableHead, head).solve(features, targets)


def train_epoch(learner: Learner, number: int, optimizer: PhaseOptimizer) -> Generator[Step, None, tuple[float, float]]:
    """Learn from every image once, in one of its views.

    Returns:
        The mean loss and the score of the logits before each step. With mixup these are logits of mixed images, scored
        by the labels of the first image of each pair.

    Raises:
        NonFiniteLossError: if the loss is NaN or infinite.
    """
    total_loss, all_logits, all_indices = 0.0, [], []
    set_train_mode(learner.model)
    for step, (indices, view_indices) in enumerate(iterate_batches(learner), 1):
        loss, logits = train_batch(learner, indices, view_indices, optimizer)
        if not math.isfinite(loss):
            raise NonFiniteLossError(number, optimizer.learning_rates)
        total_loss += loss * len(indices)
        all_logits.append(logits)
        all_indices.append(indices)
        if learner.throttle.should_emit():
            yield Step(number, step, learner.steps_per_epoch, loss)
    targets = learner.train_cache.targets
    return total_loss / len(targets), metrics.score(torch.cat(all_logits), targets[torch.cat(all_indices)])


def iterate_batches(learner: Learner) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffle the training images once, with a random view of each: indices ``[n]`` and view indices ``[n]``."""
    generator, cache = learner.randomness.shuffle_generator, learner.train_cache
    for indices in learner.split_batches(torch.randperm(len(cache.targets), generator=generator)):
        yield indices, torch.randint(learner.plan.views, indices.shape, generator=generator)


def train_batch(
    learner: Learner, indices: Tensor, view_indices: Tensor, optimizer: PhaseOptimizer
) -> tuple[float, Tensor]:
    """Make one optimizer step.

    Returns:
        The loss and the logits ``[n, classes]`` before the step.
    """
    model, boundary = learner.model, learner.model.boundary
    x = learner.train_cache.get_batch(boundary, indices, view_indices)
    with learner.seeded_step():
        x, share, partners = _mixup(x, learner.plan.mixup)
        with devices.autocast(learner.device):
            logits = model.forward_logits(x, boundary).to(x.dtype)
        loss = learner.compute_loss(logits, indices)
        if share < 1:
            loss = share * loss + (1 - share) * learner.compute_loss(logits, indices[partners])
    optimizer.backward_and_step(loss)
    return loss.item(), logits.detach().cpu()


def predict_logits(model: Classifier, cache: FeatureCache) -> Tensor:
    """The logits ``[N, classes]`` of the plain view of each image, computed from the present boundary on."""
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                model.forward_logits(x, model.boundary).cpu()
                for x in cache.iterate_plain_view(model.boundary, EVAL_BATCH_SIZE)
            ]
        )


def compute_classification_metrics(model: Classifier, logits: Tensor, targets: Tensor) -> ClassificationMetrics:
    """The metrics of logits ``[N, classes]``."""
    return ClassificationMetrics(
        metrics.score(logits, targets),
        model.metric,
        metrics.count_correct(logits, targets),
        len(targets),
        metrics.classification_loss(logits, targets).item(),
        metrics.predict_from_logits(logits, targets),
    )


def pooled_features(model: Classifier, cache: FeatureCache) -> Tensor:
    """The pooled features ``[N, views, D]`` of frozen stages; cached maps are pooled here."""
    boundary = model.boundary
    cached = cache.get_features(boundary)
    if boundary > len(model.stages):
        return cached.float()
    with torch.no_grad():
        batches = torch.split(cached.flatten(0, 1), EVAL_BATCH_SIZE)
        pooled = [model.pool(x.to(next(model.parameters()))).cpu().float() for x in batches]
    return torch.unflatten(torch.cat(pooled), 0, cached.shape[:2])


def center_crop_features(model: Classifier, cache: FeatureCache) -> Tensor:
    """The head's input for the plain view of each image."""
    boundary = model.boundary
    with torch.no_grad():
        return torch.cat(
            [model.forward_features(x, boundary) for x in cache.iterate_plain_view(boundary, EVAL_BATCH_SIZE)]
        )


def estimate_epoch_seconds(learner: Learner, boundary: int, num_validation_images: int) -> float:
    """Estimate the duration of an epoch by running one batch: a training step takes three forward passes."""
    model, n = learner.model, min(learner.batch_size, len(learner.train_cache.targets))
    began = perf_counter()
    with torch.no_grad():
        model.eval().forward_logits(learner.train_cache.get_batch(boundary, torch.arange(n)), boundary)
    seconds_per_image = (perf_counter() - began) / n
    return seconds_per_image * (3 * len(learner.train_cache.targets) + num_validation_images)


def set_train_mode(model: Classifier) -> None:
    """Set training mode, but leave the stages' batch norms in evaluation mode: a batch is too small for statistics."""
    model.train()
    for stage in model.feature_stages:
        for module in stage.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _mixup(x: Tensor, alpha: float) -> tuple[Tensor, float, Tensor]:
    """Mix a batch with a permutation of itself: Zhang et al., "mixup" (2018), on cached features.

    Returns:
        The mixed batch, the share of the first image of each pair, and the indices of the second.
    """
    if not alpha:
        return x, 1.0, torch.arange(len(x))
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(len(x))
    return share * x + (1 - share) * x[partners.to(x.device)], share, partners
