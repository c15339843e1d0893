"""One training loop, a generator of events; whoever watches only draws them.

Frozen stages are run once, before the first phase; a phase runs the head, and the stages that learn, on what was kept.
Knows nothing of screens and files.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from headswap.activations import Activations
from headswap.errors import InputError
from headswap.heads import solvable
from headswap.images import LabelledImages
from headswap.model import Classifier
from headswap.plan import Phase, Plan


@dataclass(frozen=True)
class FrozenPass:
    """How far the images are through the stages that stand still."""

    done: int  # of the views of all images
    total: int
    seconds: float  # since it began


@dataclass(frozen=True)
class PhaseBegins:
    """What stands still and what learns from now on."""

    number: int  # from 1
    phases: int
    phase: Phase
    first_epoch: int  # counted over the whole run, from 1
    epochs: int  # of the whole run
    learning_stages: tuple[str, ...]  # their names, in order; the head always learns
    learning_weights: int
    still_weights: int
    kept_bytes: int  # at the boundary, for each training image


@dataclass(frozen=True)
class Step:
    """A batch was learned from."""

    epoch: int
    step: int  # from 1
    steps: int  # in the epoch
    loss: float


@dataclass(frozen=True)
class Epoch:
    """The figures after an epoch. Training figures are the mean over the epoch's batches, as they were learned."""

    number: int  # counted over the whole run, from 1
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    right: int  # validation images named rightly, of `of`
    of: int
    best: bool  # so far: more right than ever before, or as many with a lower loss
    seconds: float


@dataclass(frozen=True)
class Kept:
    """The training is over; the model holds the weights of its best epoch."""

    epoch: int
    right: int
    of: int
    seconds: float

    @property
    def interval(self) -> tuple[float, float]:
        """Where the accuracy on all such images lies, 19 times of 20."""
        return wilson(self.right, self.of)


Event = FrozenPass | PhaseBegins | Step | Epoch | Kept


def train(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | None = None,
    validation: LabelledImages | None = None,
) -> Generator[Event, None, None]:
    """Teach a model its classes.

    The arguments are checked at once; the training itself goes on as the returned generator is run. Closing it stops
    the training; the model then holds the best weights so far.

    Args:
        model: as ``adapt`` made it; it is changed in place.
        images: to learn from; their classes are the model's.
        plan: its phases; ``Plan.suggest`` by default.
        validation: images that choose the weights and are never learned from; by default a part of ``images``.

    Raises:
        InputError: if the images' classes are not the model's, or a class has too few images to hold one back.
        ValueError: if the plan asks for more stages than the network has.
    """
    plan = plan or Plan.suggest(images, model)
    learned, checked = images.split(plan.validation, plan.seed) if validation is None else (images, validation)
    for some in (learned, checked):
        if some.classes != model.classes:
            raise InputError(
                f"The images show {', '.join(some.classes)}, but the model's classes are {', '.join(model.classes)}. "
                "Adapt a model with classes=images.classes."
            )
    boundaries = [model.boundary_of(phase.learning_stages) for phase in plan.phases]
    return _run(model, learned, checked, plan, boundaries)


def fit(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | None = None,
    validation: LabelledImages | None = None,
) -> Kept:
    """``train`` without watching; returns the last event."""
    *_, last = train(model, images, plan, validation)
    return last


def wilson(right: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a share (1927): lowest and highest accuracy that ``right`` of ``of`` leave likely."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = right / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _run(
    model: Classifier, learned: LabelledImages, checked: LabelledImages, plan: Plan, boundaries: list[int]
) -> Iterator[Event]:
    began = perf_counter()
    best = _Best(model)
    try:
        model.freeze()
        known = yield from _frozen_pass(model, learned, checked, plan, boundaries)
        first_epoch = 1
        for number, phase in enumerate(plan.phases, 1):
            yield from _phase(model, *known, plan, number, first_epoch, best)
            first_epoch += phase.epochs
        kept = best.epoch
        yield Kept(kept.number, kept.right, kept.of, perf_counter() - began)
    finally:
        best.restore()
        model.freeze().eval()


def _frozen_pass(
    model: Classifier, learned: LabelledImages, checked: LabelledImages, plan: Plan, boundaries: list[int]
) -> Generator[FrozenPass, None, tuple[Activations, Activations]]:
    """Both halves through the frozen stages, told as one progress; validation images only ever in their plain view."""
    began, done = perf_counter(), 0
    halves = (
        Activations(model, learned, boundaries, plan.views, plan.seed),
        Activations(model, checked, boundaries),
    )
    total = sum(half.total for half in halves)
    for half in halves:
        for through in half.fill():
            yield FrozenPass(done + through, total, perf_counter() - began)
        done += half.total
    return halves


def _phase(
    model: Classifier,
    learned: Activations,
    checked: Activations,
    plan: Plan,
    number: int,
    first_epoch: int,
    best: _Best,
) -> Iterator[Event]:
    phase = plan.phases[number - 1]
    model.unfreeze(phase.learning_stages)
    best.cover_what_learns()
    boundary = model.boundary
    yield PhaseBegins(
        number,
        len(plan.phases),
        phase,
        first_epoch,
        sum(p.epochs for p in plan.phases),
        model.learning_stages,
        *_weights(model),
        learned.bytes_per_image(boundary),
    )
    inputs, labels = learned.outputs[boundary], learned.labels
    if solvable(model.head):
        if not model.learning_stages:
            yield best.judge(_solve(model, learned, checked, boundary, first_epoch))
            return
        _soften(model, inputs, labels, boundary, plan.batch_size)
    steps = -(-len(labels) // plan.batch_size)
    optimizer = torch.optim.AdamW(_groups(model, phase, plan.weight_decay))
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps * phase.epochs, pct_start=0.25)
    chance = torch.Generator().manual_seed(plan.seed + number)
    for epoch in range(first_epoch, first_epoch + phase.epochs):
        began = perf_counter()
        _training_mode(model)
        losses, right = 0.0, 0
        for step, chosen in enumerate(torch.randperm(len(labels), generator=chance).split(plan.batch_size), 1):
            view = torch.randint(inputs.shape[1], chosen.shape, generator=chance)
            logits = model.logits(inputs[chosen, view], boundary)
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=plan.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item() * len(chosen)
            right += (logits.argmax(1) == labels[chosen]).sum().item()
            yield Step(epoch, step, steps, loss.item())
        measured = _measure(model, checked, boundary, plan.batch_size)
        figures = Epoch(epoch, losses / len(labels), right / len(labels), *measured, False, perf_counter() - began)
        yield best.judge(figures)


def _solve(model: Classifier, learned: Activations, checked: Activations, boundary: int, number: int) -> Epoch:
    """A head that is solved needs no steps: its one epoch."""
    began = perf_counter()
    model.head.solve(learned.outputs[boundary], learned.labels)
    loss, accuracy, *_ = _measure(model, learned, boundary, len(learned.labels))
    return Epoch(number, loss, accuracy, *_measure(model, checked, boundary, 256), False, perf_counter() - began)


def _soften(model: Classifier, inputs: Tensor, labels: Tensor, boundary: int, batch: int) -> None:
    model.eval()
    with torch.no_grad():
        model.head.soften(torch.cat([model.run(some[:, 0], boundary) for some in inputs.split(batch)]), labels)


def _measure(model: Classifier, checked: Activations, boundary: int, batch: int) -> tuple[float, float, int, int]:
    """Loss, accuracy, how many are right and of how many, on the validation images."""
    model.eval()
    inputs = checked.outputs[boundary][:, 0]
    with torch.no_grad():
        logits = torch.cat([model.logits(some, boundary) for some in inputs.split(batch)])
    right = int((logits.argmax(1) == checked.labels).sum())
    return F.cross_entropy(logits, checked.labels).item(), right / len(inputs), right, len(inputs)


class _Best:
    """The weights of the best epoch so far, of everything that has ever learned in this run."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.epoch: Epoch | None = None
        self.weights: dict[str, Tensor] = {}

    def cover_what_learns(self) -> None:
        """A stage that begins to learn only now is, in the best weights, as it stands now."""
        self.weights |= {key: t for key, t in self._learning().items() if key not in self.weights}

    def judge(self, epoch: Epoch) -> Epoch:
        score = (epoch.right, -epoch.validation_loss)
        if self.epoch and score <= (self.epoch.right, -self.epoch.validation_loss):
            return epoch
        self.epoch = replace(epoch, best=True)
        self.weights |= self._learning()
        return self.epoch

    def restore(self) -> None:
        self.model.load_state_dict(self.weights, strict=False)

    def _learning(self) -> dict[str, Tensor]:
        names = {name for name, p in self.model.named_parameters() if p.requires_grad}
        return {key: t.detach().clone() for key, t in self.model.state_dict().items() if key in names}


def _training_mode(model: Classifier) -> None:
    """Training mode, but batch norms keep ImageNet's statistics: sixteen images are too few for their own."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _groups(model: Classifier, phase: Phase, weight_decay: float) -> list[dict]:
    """What learns, by learning rate and by whether weight decay applies: it spares norms and biases."""
    groups = []
    for module, rate in ((model.head, phase.head_rate), (nn.ModuleList(model.sequence), phase.backbone_rate)):
        learning = [p for p in module.parameters() if p.requires_grad]
        for decay in (weight_decay, 0.0):
            chosen = [p for p in learning if (p.ndim > 1) == (decay > 0)]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def _weights(model: Classifier) -> tuple[int, int]:
    """How many weights learn and how many stand still."""
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return learning, sum(p.numel() for p in model.parameters()) - learning
