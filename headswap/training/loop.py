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
from headswap.common.rng import Seeded
from headswap.evaluation import metrics
from headswap.features.cache import Activations
from headswap.features.frozen_pass import Throttle
from headswap.networks.classifier import Classifier
from headswap.networks.heads import is_built_in, solvable
from headswap.training.events import Figures, Rate, Step
from headswap.training.plan import Phase, Plan

ANSWERED = 16  # images at once


class Chance:
    """Random numbers of a training's own: the same seed gives the same ones, whoever draws others meanwhile."""

    def __init__(self, seed: int) -> None:
        self.order = torch.Generator().manual_seed(seed)
        self.drawing = Seeded(seed)  # what torch draws by itself in this block, as dropout does, is drawn from here


class LossIsNoNumber(InputError):
    """The rates were too high; says what to change."""

    def __init__(self, epoch: int, rates: Sequence[Rate]) -> None:
        told = " and ".join(f"{rate.rate:g} for {rate.name}" for rate in rates[-2:])
        super().__init__(
            f"In epoch {epoch} the loss was no number any more, so the training ended there. Its learning rates were "
            f"{told}; choose a tenth of that."
        )


class Learner:
    """A model with what it learns from, and how."""

    def __init__(self, model: Classifier, plan: Plan, learned: Activations) -> None:
        self.model, self.plan, self.learned = model, plan, learned
        self.chance, self.throttle = Chance(plan.seed), Throttle()
        self.device = torch.device("cpu")
        self.batch_size = plan.batch_size
        # A head of somebody's own may compare the images of a batch, as batch norm does, so it gets none of one image.
        self._fewest = 1 if is_built_in(model.head) else 2
        self._watches = True
        self._balance = metrics.balance(learned.targets, len(model.classes)) if plan.class_weights else None

    def settle(self) -> None:
        """Compute from now on where the stages lie, if that is an accelerator, or on the best device there is."""
        home = next(self.model.stages.parameters()).device
        self.device = home if home.type != "cpu" else devices.best()
        self.model.to(self.device)

    def check(self, learning_stages: int | None, batch_size: int | None) -> None:
        """Whether a phase can be learned, with so many of the last stages and so many images a batch.

        Raises:
            InputError: if the head does not answer with a logit for each class, if nothing has a weight that could
                learn, or if batch norm in the head would have to learn from a single image.
        """
        self.model.check_head()
        head, count = self.model.head, len(self.learned.targets)
        if learning_stages == 0 and not solvable(head) and not any(p.requires_grad for p in head.parameters()):
            raise InputError(
                f"The head {type(head).__name__} has no weights that learn. Give it parameters, set requires_grad of "
                "those that it has, or let stages learn beneath it."
            )
        normed = not solvable(head) and any(isinstance(module, _BatchNorm) for module in head.modules())
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
    def steps(self) -> int:
        """In an epoch."""
        return len(self.parts(torch.arange(len(self.learned.targets))))

    def parts(self, order: Tensor) -> list[Tensor]:
        """These images in batches; a last one that is too small for the head joins the one before it."""
        parts = list(order.split(self.batch_size))
        if len(parts) > 1 and len(parts[-1]) < self._fewest <= self.batch_size:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def enter(self, phase: Phase) -> Optimizer:
        """A phase begins; its optimizer."""
        self.batch_size = phase.batch_size or self.plan.batch_size
        self._watches, self.chance.drawing.drew = True, False
        return Optimizer(self.model, phase, self.plan.weight_decay, self.steps)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """The block of a step in which torch may draw by itself, from the training's own numbers.

        To watch for it costs half of a small head's step, and such a head draws in every step or in none.
        """
        with self.chance.drawing if self._watches else nullcontext():
            yield
        small = is_built_in(self.model.head) and self.model.boundary == len(self.model.sequence)
        self._watches = self.chance.drawing.drew or not small

    def loss(self, logits: Tensor, images: Tensor) -> Tensor:
        """Of the answers to these images ``[n]``, as the plan wants it."""
        balance = None if self._balance is None else self._balance.to(logits)
        targets = self.learned.targets[images].to(logits.device)
        return metrics.loss(logits, targets, self.plan.label_smoothing, balance)


class Optimizer:
    """AdamW and its schedule for what learns in a phase."""

    def __init__(self, model: Classifier, phase: Phase, weight_decay: float, steps: int) -> None:
        parts = rated(model, phase)
        self.rates = tuple(Rate(name, rate) for name, _, rate in parts)
        groups = [group for _, module, rate in parts for group in _groups(module, rate, weight_decay)]
        self._adamw = self._schedule = None
        if groups:  # a head that is solved may have nothing to learn by steps
            # Fused, since a step of AdamW over a few million weights costs as much as the rest of it.
            self._adamw = torch.optim.AdamW(groups, fused=True)
            self._schedule = schedule(self._adamw, phase, steps * phase.epochs)

    def set(self, rate: float) -> None:
        """Learn at this rate and no other from now on."""
        self._schedule = None
        for group in self._adamw.param_groups:
            group["lr"] = rate

    def step(self, loss: Tensor) -> None:
        """Move a little down."""
        self._adamw.zero_grad()
        loss.backward()
        self._adamw.step()
        if self._schedule:
            self._schedule.step()


def rated(model: Classifier, phase: Phase) -> list[tuple[str, nn.Module, float]]:
    """What learns, with its name and its highest rate, the head last: the deeper a stage, the lower."""
    names = [*dict(model.stages.named_children()), "pool"]
    learning = [(name, part) for name, part in zip(names, model.sequence, strict=False) if not part.frozen]
    stages = [
        (name, part, phase.backbone_rate * phase.deeper**depth)
        for depth, (name, part) in enumerate(reversed([(n, p) for n, p in learning if _weighs(p)]))
    ]
    return [*reversed(stages), ("head", model.head, phase.head_rate)]


def schedule(optimizer: torch.optim.Optimizer, phase: Phase, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The phase's learning rates over its steps."""
    if phase.schedule == "one-cycle":
        rates = [group["lr"] for group in optimizer.param_groups]
        # A warm-up of exactly one step makes torch divide by zero.
        warm_up = phase.warm_up if abs(phase.warm_up * steps - 1) > 1e-6 else 1.5 / steps
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=min(warm_up, 0.9))
    warm = max(1, round(phase.warm_up * steps))

    def share(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def epoch_of(learner: Learner, number: int, optimizer: Optimizer) -> Generator[Step, None, tuple[float, float]]:
    """Learn from every image once, in one of its views; returns the loss and the score while learning.

    Raises:
        LossIsNoNumber: if it is none.
    """
    losses, told, seen = 0.0, [], []
    training_mode(learner.model)
    for number_of_step, (chosen, view) in enumerate(batches(learner), 1):
        loss, logits = step(learner, chosen, view, optimizer)
        if not math.isfinite(loss):
            raise LossIsNoNumber(number, optimizer.rates)
        losses += loss * len(chosen)
        told.append(logits)
        seen.append(chosen)
        if learner.throttle.open():
            yield Step(number, number_of_step, learner.steps, loss)
    targets = learner.learned.targets
    return losses / len(targets), metrics.score(torch.cat(told), targets[torch.cat(seen)])


def batches(learner: Learner) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in an order and each in a view that are drawn: places ``[n]`` and views ``[n]``."""
    order, learned = learner.chance.order, learner.learned
    for chosen in learner.parts(torch.randperm(len(learned.targets), generator=order)):
        yield chosen, torch.randint(learner.plan.views, chosen.shape, generator=order)


def step(learner: Learner, chosen: Tensor, view: Tensor, optimizer: Optimizer) -> tuple[float, Tensor]:
    """One batch: its loss, and the logits as they were before it was learned from."""
    model, boundary = learner.model, learner.model.boundary
    x = learner.learned.batch(boundary, chosen, view)
    with learner.drawing():
        x, share, other = _mixed(x, learner.plan.mixup)
        with devices.autocast(learner.device):
            logits = model.logits(x, boundary).to(x.dtype)
        loss = learner.loss(logits, chosen)
        if share < 1:
            loss = share * loss + (1 - share) * learner.loss(logits, chosen[other])
    optimizer.step(loss)
    return loss.item(), logits.detach().cpu()


def answers(model: Classifier, some: Activations) -> Tensor:
    """The logits ``[N, classes]`` for the plain view of each image, from the present boundary on."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model.logits(x, model.boundary).cpu() for x in some.plain(model.boundary, ANSWERED)])


def figures(model: Classifier, logits: Tensor, targets: Tensor) -> Figures:
    """How good these answers are."""
    return Figures(
        metrics.score(logits, targets),
        model.metric,
        metrics.right(logits, targets),
        len(targets),
        metrics.loss(logits, targets).item(),
        metrics.answers(logits, targets),
    )


def vectors(model: Classifier, some: Activations) -> Tensor:
    """The pooled features ``[N, views, D]`` of frozen stages; of kept maps they are pooled here."""
    boundary = model.boundary
    kept = some.at(boundary)
    if boundary > len(model.stages):
        return kept.float()
    with torch.no_grad():
        flat = kept.flatten(0, 1).split(ANSWERED)
        pooled = [model.pool(x.to(next(model.parameters()))).cpu().float() for x in flat]
    return torch.cat(pooled).unflatten(0, kept.shape[:2])


def plain_features(model: Classifier, some: Activations) -> Tensor:
    """What the head takes of the plain view of each image."""
    boundary = model.boundary
    with torch.no_grad():
        return torch.cat([model.features(x, boundary) for x in some.plain(boundary, ANSWERED)])


def seconds_of_an_epoch(learner: Learner, boundary: int, images: int) -> float:
    """Roughly, from running one batch: a step costs three times the way forward, an answer once."""
    model, n = learner.model, min(learner.batch_size, len(learner.learned.targets))
    began = perf_counter()
    with torch.no_grad():
        model.eval().logits(learner.learned.batch(boundary, torch.arange(n)), boundary)
    an_image = (perf_counter() - began) / n
    return an_image * (3 * len(learner.learned.targets) + images)


def training_mode(model: Classifier) -> None:
    """Training mode, but the stages' batch norms keep their statistics: sixteen images are too few for new ones."""
    model.train()
    for part in model.sequence:
        for module in part.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _mixed(x: Tensor, alpha: float) -> tuple[Tensor, float, Tensor]:
    """Zhang et al., "mixup" (2018), on what is kept: the batch with a share of itself in another order."""
    if not alpha:
        return x, 1.0, torch.arange(len(x))
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    other = torch.randperm(len(x))
    return share * x + (1 - share) * x[other.to(x.device)], share, other


def _groups(module: nn.Module, rate: float, weight_decay: float) -> Iterator[dict]:
    """Weight decay spares norms and biases."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for chosen, decay in (
        ([p for p in learning if p.ndim > 1], weight_decay),
        ([p for p in learning if p.ndim <= 1], 0.0),
    ):
        if chosen:
            yield {"params": chosen, "lr": rate, "weight_decay": decay}


def _weighs(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
