"""Learning from kept activations: the optimizer of a phase, an epoch of steps, and what a network answers.

Knows nothing of the order of phases, of what is kept in the end and of what is told to whom.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter

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
from headswap.training.plan import Phase, Plan

EVAL_BATCH_SIZE = 16  # images at once


class TrainingRandomness:
    """Random numbers of a training's own: the same seed gives the same ones, whoever draws others meanwhile."""

    def __init__(self, seed: int) -> None:
        self.shuffle_generator = torch.Generator().manual_seed(seed)
        self.seeded_mode = SeededRandomMode(
            seed
        )  # what torch draws by itself in this block, as dropout does, is drawn from here


class NonFiniteLossError(InputError):
    """The rates were too high; says what to change."""

    def __init__(self, epoch: int, learning_rates: Sequence[LearningRate]) -> None:
        told = " and ".join(f"{rate.rate:g} for {rate.name}" for rate in learning_rates[-2:])
        super().__init__(
            f"In epoch {epoch} the loss was no number any more, so the training ended there. Its learning rates were "
            f"{told}; choose a tenth of that."
        )


class Learner:
    """A model with what it learns from, and how."""

    def __init__(self, model: Classifier, plan: Plan, train_cache: FeatureCache) -> None:
        self.model, self.plan, self.train_cache = model, plan, train_cache
        self.randomness, self.throttle = TrainingRandomness(plan.seed), Throttle()
        self.device = torch.device("cpu")
        self.batch_size = plan.batch_size
        # A head of somebody's own may compare the images of a batch, as batch norm does, so it gets none of one image.
        self._min_batch_size = 1 if is_built_in_head(model.head) else 2
        self._tracks_random_draws = True
        self._class_weights = (
            metrics.compute_class_weights(train_cache.targets, len(model.classes)) if plan.balance_classes else None
        )

    def move_to_device(self) -> None:
        """Compute from now on where the stages lie, if that is an accelerator, or on the best device there is."""
        home = next(self.model.stages.parameters()).device
        self.device = home if home.type != "cpu" else devices.select_device()
        self.model.to(self.device)

    def check_phase(self, learning_stages: int | None, batch_size: int | None) -> None:
        """Whether a phase can be learned, with so many of the last stages and so many images a batch.

        Raises:
            InputError: if the head does not answer with a logit for each class, if nothing has a weight that could
                learn, or if batch norm in the head would have to learn from a single image.
        """
        self.model.check_head()
        head, count = self.model.head, len(self.train_cache.targets)
        if learning_stages == 0 and not is_solvable(head) and not any(p.requires_grad for p in head.parameters()):
            raise InputError(
                f"The head {type(head).__name__} has no weights that learn. Give it parameters, set requires_grad of "
                "those that it has, or let stages learn beneath it."
            )
        normed = not is_solvable(head) and any(isinstance(module, _BatchNorm) for module in head.modules())
        if normed and min(count, batch_size or self.plan.batch_size) < 2:
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
        """In an epoch."""
        return len(self.split_batches(torch.arange(len(self.train_cache.targets))))

    def split_batches(self, order: Tensor) -> list[Tensor]:
        """These images in batches; a last one that is too small for the head joins the one before it."""
        parts = list(order.split(self.batch_size))
        if len(parts) > 1 and len(parts[-1]) < self._min_batch_size <= self.batch_size:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def start_phase(self, phase: Phase) -> PhaseOptimizer:
        """A phase begins; its optimizer."""
        self.batch_size = phase.batch_size or self.plan.batch_size
        self._tracks_random_draws, self.randomness.seeded_mode.was_used = True, False
        return PhaseOptimizer(self.model, phase, self.plan.weight_decay, self.steps_per_epoch)

    @contextmanager
    def seeded_step(self) -> Iterator[None]:
        """The block of a step in which torch may draw by itself, from the training's own numbers.

        To watch for it costs half of a small head's step, and such a head draws in every step or in none.
        """
        with self.randomness.seeded_mode if self._tracks_random_draws else nullcontext():
            yield
        small = is_built_in_head(self.model.head) and self.model.boundary == len(self.model.feature_stages)
        self._tracks_random_draws = self.randomness.seeded_mode.was_used or not small

    def compute_loss(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Of the answers to these images ``[n]``, as the plan wants it."""
        balance = None if self._class_weights is None else self._class_weights.to(logits)
        targets = self.train_cache.targets[indices].to(logits.device)
        return metrics.classification_loss(logits, targets, self.plan.label_smoothing, balance)


class PhaseOptimizer:
    """AdamW and its schedule for what learns in a phase."""

    def __init__(self, model: Classifier, phase: Phase, weight_decay: float, steps: int) -> None:
        parts = assign_learning_rates(model, phase)
        self.learning_rates = tuple(LearningRate(name, rate) for name, _, rate in parts)
        groups = [group for _, module, rate in parts for group in _parameter_groups(module, rate, weight_decay)]
        self._adamw = self._schedule = None
        if groups:  # a head that is solved may have nothing to learn by steps
            # Fused, since a step of AdamW over a few million weights costs as much as the rest of it.
            self._adamw = torch.optim.AdamW(groups, fused=True)
            self._schedule = build_lr_scheduler(self._adamw, phase, steps * phase.epochs)

    def set_lr(self, lr: float) -> None:
        """Learn at this rate and no other from now on."""
        self._schedule = None
        for group in self._adamw.param_groups:
            group["lr"] = lr

    def backward_and_step(self, loss: Tensor) -> None:
        """Move a little down."""
        self._adamw.zero_grad()
        loss.backward()
        self._adamw.step()
        if self._schedule:
            self._schedule.step()


def assign_learning_rates(model: Classifier, phase: Phase) -> list[tuple[str, nn.Module, float]]:
    """What learns, with its name and its highest rate, the head last: the deeper a stage, the lower."""
    names = [*dict(model.stages.named_children()), "pool"]
    learning = [(name, part) for name, part in zip(names, model.feature_stages, strict=False) if not part.frozen]
    stages = [
        (name, part, phase.backbone_lr * phase.layer_decay**depth)
        for depth, (name, part) in enumerate(reversed([(n, p) for n, p in learning if _has_parameters(p)]))
    ]
    return [*reversed(stages), ("head", model.head, phase.head_lr)]


def build_lr_scheduler(
    optimizer: torch.optim.Optimizer, phase: Phase, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The phase's learning rates over its steps."""
    if phase.schedule == "one-cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        # A warm-up of exactly one step makes torch divide by zero.
        warm_up = phase.warmup_ratio if abs(phase.warmup_ratio * steps - 1) > 1e-6 else 1.5 / steps
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=min(warm_up, 0.9))
    warm = max(1, round(phase.warmup_ratio * steps))

    def share(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def train_epoch(learner: Learner, number: int, optimizer: PhaseOptimizer) -> Generator[Step, None, tuple[float, float]]:
    """Learn from every image once, in one of its views; returns the loss and the score while learning.

    Raises:
        LossIsNoNumber: if it is none.
    """
    losses, told, seen = 0.0, [], []
    set_train_mode(learner.model)
    for number_of_step, (chosen, view) in enumerate(iterate_batches(learner), 1):
        loss, logits = train_batch(learner, chosen, view, optimizer)
        if not math.isfinite(loss):
            raise NonFiniteLossError(number, optimizer.learning_rates)
        losses += loss * len(chosen)
        told.append(logits)
        seen.append(chosen)
        if learner.throttle.should_emit():
            yield Step(number, number_of_step, learner.steps_per_epoch, loss)
    targets = learner.train_cache.targets
    return losses / len(targets), metrics.score(torch.cat(told), targets[torch.cat(seen)])


def iterate_batches(learner: Learner) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in an order and each in a view that are drawn: places ``[n]`` and views ``[n]``."""
    order, learned = learner.randomness.shuffle_generator, learner.train_cache
    for chosen in learner.split_batches(torch.randperm(len(learned.targets), generator=order)):
        yield chosen, torch.randint(learner.plan.views, chosen.shape, generator=order)


def train_batch(
    learner: Learner, indices: Tensor, view_indices: Tensor, optimizer: PhaseOptimizer
) -> tuple[float, Tensor]:
    """One batch: its loss, and the logits as they were before it was learned from."""
    model, boundary = learner.model, learner.model.boundary
    x = learner.train_cache.get_batch(boundary, indices, view_indices)
    with learner.seeded_step():
        x, share, other = _mixup(x, learner.plan.mixup)
        with devices.autocast(learner.device):
            logits = model.forward_logits(x, boundary).to(x.dtype)
        loss = learner.compute_loss(logits, indices)
        if share < 1:
            loss = share * loss + (1 - share) * learner.compute_loss(logits, indices[other])
    optimizer.backward_and_step(loss)
    return loss.item(), logits.detach().cpu()


def predict_logits(model: Classifier, cache: FeatureCache) -> Tensor:
    """The logits ``[N, classes]`` for the plain view of each image, from the present boundary on."""
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                model.forward_logits(x, model.boundary).cpu()
                for x in cache.iterate_plain_view(model.boundary, EVAL_BATCH_SIZE)
            ]
        )


def compute_classification_metrics(model: Classifier, logits: Tensor, targets: Tensor) -> ClassificationMetrics:
    """How good these answers are."""
    return ClassificationMetrics(
        metrics.score(logits, targets),
        model.metric,
        metrics.count_correct(logits, targets),
        len(targets),
        metrics.classification_loss(logits, targets).item(),
        metrics.predict_from_logits(logits, targets),
    )


def vectors(model: Classifier, cache: FeatureCache) -> Tensor:
    """The pooled features ``[N, views, D]`` of frozen stages; of kept maps they are pooled here."""
    boundary = model.boundary
    kept = cache.get_features(boundary)
    if boundary > len(model.stages):
        return kept.float()
    with torch.no_grad():
        flat = kept.flatten(0, 1).split(EVAL_BATCH_SIZE)
        pooled = [model.pool(x.to(next(model.parameters()))).cpu().float() for x in flat]
    return torch.cat(pooled).unflatten(0, kept.shape[:2])


def center_crop_features(model: Classifier, cache: FeatureCache) -> Tensor:
    """What the head takes of the plain view of each image."""
    boundary = model.boundary
    with torch.no_grad():
        return torch.cat(
            [model.forward_features(x, boundary) for x in cache.iterate_plain_view(boundary, EVAL_BATCH_SIZE)]
        )


def estimate_epoch_seconds(learner: Learner, boundary: int, num_validation_images: int) -> float:
    """Roughly, from running one batch: a step costs three times the way forward, an answer once."""
    model, n = learner.model, min(learner.batch_size, len(learner.train_cache.targets))
    began = perf_counter()
    with torch.no_grad():
        model.eval().forward_logits(learner.train_cache.get_batch(boundary, torch.arange(n)), boundary)
    an_image = (perf_counter() - began) / n
    return an_image * (3 * len(learner.train_cache.targets) + num_validation_images)


def set_train_mode(model: Classifier) -> None:
    """Training mode, but the stages' batch norms keep their statistics: sixteen images are too few for new ones."""
    model.train()
    for part in model.feature_stages:
        for module in part.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _mixup(x: Tensor, alpha: float) -> tuple[Tensor, float, Tensor]:
    """Zhang et al., "mixup" (2018), on what is kept: the batch with a share of itself in another order."""
    if not alpha:
        return x, 1.0, torch.arange(len(x))
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(x))
    return share * x + (1 - share) * x[other.to(x.device)], share, other


def _parameter_groups(module: nn.Module, lr: float, weight_decay: float) -> Iterator[dict]:
    """Weight decay spares norms and biases."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for chosen, decay in (
        ([p for p in learning if p.ndim > 1], weight_decay),
        ([p for p in learning if p.ndim <= 1], 0.0),
    ):
        if chosen:
            yield {"params": chosen, "lr": lr, "weight_decay": decay}


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
