"""One training loop, a generator of events; whoever watches only draws them.

Frozen stages are run once, before the first phase; a phase runs the head, and the stages that learn, on what was kept.
Knows nothing of screens and files.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headswap import metrics
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
class LabelFigures:
    """Of one label among several an image: NaN where no validation image carries it."""

    name: str
    average_precision: float
    f1: float  # at the threshold
    threshold: float  # the probability above which calling the label gives the highest F1


@dataclass(frozen=True)
class Epoch:
    """The figures after an epoch. Training figures are the mean over the epoch's batches, as they were learned."""

    number: int  # counted over the whole run, from 1
    training_loss: float
    training_score: float  # what `metric` says, from 0 to 1
    validation_loss: float
    validation_score: float
    right: int  # validation images named rightly, of `of`: with several labels exactly those, called above one half
    of: int
    metric: str  # "accuracy", or with several labels an image "mean average precision"
    seconds: float
    best: bool = False  # so far: a higher score than ever before, or the same with a lower loss
    labels: tuple[LabelFigures, ...] = ()  # of the best epoch, where images carry several labels


@dataclass(frozen=True)
class Kept:
    """The training is over; the model holds the weights of its best epoch."""

    epoch: int
    score: float
    metric: str
    right: int
    of: int
    labels: tuple[LabelFigures, ...]
    seconds: float

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of images that are named rightly lies for all such images, 19 times of 20."""
        return metrics.wilson(self.right, self.of)


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
    if images.multi_label and not model.multi_label:
        raise InputError(
            "Some of these images carry several labels or none; adapt a model with multi_label=True for them."
        )
    learned, checked = images.split(plan.validation, plan.seed) if validation is None else (images, validation)
    if model.multi_label:
        learned, checked = learned.as_multi_label(), checked.as_multi_label()
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


@dataclass
class _Course:
    """What the parts of one training share."""

    model: Classifier
    plan: Plan
    learned: Activations
    checked: Activations
    best: _Best


def _run(
    model: Classifier, learned: LabelledImages, checked: LabelledImages, plan: Plan, boundaries: list[int]
) -> Iterator[Event]:
    began = perf_counter()
    halves = (
        Activations(model, learned, boundaries, plan.views, plan.seed),
        Activations(model, checked, boundaries),  # validation images are only ever seen plain
    )
    course = _Course(model, plan, *halves, _Best(model, halves[1].targets))
    try:
        model.freeze()
        yield from _frozen_pass(halves)
        first_epoch = 1
        for number, phase in enumerate(plan.phases, 1):
            yield from _phase(course, number, first_epoch)
            first_epoch += phase.epochs
        kept = course.best.epoch
        if kept is None:
            raise InputError("The loss is no number any more, so nothing was learned. Choose lower learning rates.")
        course.best.restore()  # before it is told, so that whoever hears of it can use the model at once
        model.freeze().eval()
        yield Kept(
            kept.number, kept.validation_score, kept.metric, kept.right, kept.of, kept.labels, perf_counter() - began
        )
    finally:
        course.best.restore()
        model.freeze().eval()


def _frozen_pass(halves: tuple[Activations, Activations]) -> Iterator[FrozenPass]:
    """Both halves through the frozen stages, told as one progress."""
    began, done = perf_counter(), 0
    total = sum(half.total for half in halves)
    for half in halves:
        for through in half.fill():
            yield FrozenPass(done + through, total, perf_counter() - began)
        done += half.total


def _phase(course: _Course, number: int, first_epoch: int) -> Iterator[Event]:
    model, plan, phase = course.model, course.plan, course.plan.phases[number - 1]
    model.unfreeze(phase.learning_stages)
    course.best.cover_what_learns()
    yield _begins(course, number, first_epoch)
    if solvable(model.head):
        if not model.learning_stages:
            yield course.best.judge(*_solve(course, first_epoch))
            return
        _soften(course)
    steps = -(-len(course.learned.targets) // plan.batch_size)
    optimizer = torch.optim.AdamW(_groups(model, phase, plan.weight_decay))
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps * phase.epochs)
    chance = torch.Generator().manual_seed(plan.seed + number)
    for epoch in range(first_epoch, first_epoch + phase.epochs):
        began = perf_counter()
        learned = yield from _epoch(course, epoch, steps, optimizer, schedule, chance)
        yield course.best.judge(*_figures(course, epoch, *learned, began))


def _begins(course: _Course, number: int, first_epoch: int) -> PhaseBegins:
    model, phases = course.model, course.plan.phases
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return PhaseBegins(
        number,
        len(phases),
        phases[number - 1],
        first_epoch,
        sum(phase.epochs for phase in phases),
        model.learning_stages,
        learning,
        sum(p.numel() for p in model.parameters()) - learning,
        course.learned.bytes_per_image(model.boundary),
    )


def _epoch(
    course: _Course,
    number: int,
    steps: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    chance: torch.Generator,
) -> Generator[Step, None, tuple[float, float]]:
    """Learn from every image once, in one of its views; returns the loss and the score while learning."""
    model, plan = course.model, course.plan
    boundary, targets = model.boundary, course.learned.targets
    inputs, losses, answers = course.learned.outputs[boundary], 0.0, []
    _training_mode(model)
    order = torch.randperm(len(targets), generator=chance)
    for step, chosen in enumerate(order.split(plan.batch_size), 1):
        view = torch.randint(inputs.shape[1], chosen.shape, generator=chance)
        logits = model.logits(inputs[chosen, view], boundary)
        loss = metrics.loss(logits, targets[chosen], plan.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses += loss.item() * len(chosen)
        answers.append(logits.detach())
        yield Step(number, step, steps, loss.item())
    return losses / len(targets), metrics.score(torch.cat(answers), targets[order])


def _solve(course: _Course, number: int) -> tuple[Epoch, Tensor]:
    """A head that is solved needs no steps: its one epoch."""
    began, model, learned = perf_counter(), course.model, course.learned
    model.head.solve(learned.outputs[model.boundary], learned.targets)
    logits = _logits(model, learned, course.plan.batch_size)
    loss = metrics.loss(logits, learned.targets).item()
    return _figures(course, number, loss, metrics.score(logits, learned.targets), began)


def _soften(course: _Course) -> None:
    model, boundary = course.model.eval(), course.model.boundary
    plain = course.learned.outputs[boundary][:, 0]
    with torch.no_grad():
        features = torch.cat([model.run(some, boundary) for some in plain.split(course.plan.batch_size)])
    model.head.soften(features, course.learned.targets)


def _figures(course: _Course, number: int, loss: float, score: float, began: float) -> tuple[Epoch, Tensor]:
    """The epoch with its validation figures, and the logits of the validation images."""
    targets = course.checked.targets
    logits = _logits(course.model, course.checked, course.plan.batch_size)
    validation = metrics.loss(logits, targets).item(), metrics.score(logits, targets), metrics.right(logits, targets)
    epoch = Epoch(number, loss, score, *validation, len(targets), course.model.metric, perf_counter() - began)
    return epoch, logits


def _logits(model: Classifier, some: Activations, batch: int) -> Tensor:
    """What the model answers to the plain view of each image, from the present boundary on."""
    model.eval()
    with torch.no_grad():
        plain = some.outputs[model.boundary][:, 0]
        return torch.cat([model.logits(x, model.boundary) for x in plain.split(batch)])


class _Best:
    """The weights of the best epoch so far, of everything that has ever learned in this run."""

    def __init__(self, model: Classifier, targets: Tensor) -> None:
        self.model, self.targets = model, targets
        self.epoch: Epoch | None = None
        self.weights: dict[str, Tensor] = {}

    def cover_what_learns(self) -> None:
        """A stage that begins to learn only now is, in the best weights, as it stands now."""
        self.weights |= {key: t for key, t in self._learning().items() if key not in self.weights}

    def judge(self, epoch: Epoch, logits: Tensor) -> Epoch:
        """The epoch, marked if it is the best one so far; then its weights are kept."""
        now = self.epoch
        if not isfinite(epoch.validation_loss):
            return epoch
        if now and (epoch.validation_score, -epoch.validation_loss) <= (now.validation_score, -now.validation_loss):
            return epoch
        labels: tuple[LabelFigures, ...] = ()
        if self.model.multi_label:
            thresholds, f1 = metrics.best_thresholds(logits, self.targets)
            self.model.thresholds.copy_(thresholds)
            figures = (metrics.average_precisions(logits, self.targets), f1, thresholds)
            labels = tuple(map(LabelFigures, self.model.classes, *(column.tolist() for column in figures)))
        self.epoch = replace(epoch, best=True, labels=labels)
        self.weights |= self._learning()
        return self.epoch

    def restore(self) -> None:
        self.model.load_state_dict(self.weights, strict=False)

    def _learning(self) -> dict[str, Tensor]:
        """What learns, and all of the head: a head of somebody's own may have buffers that move."""
        names = {name for name, p in self.model.named_parameters() if p.requires_grad}
        state = self.model.state_dict().items()
        return {key: t.detach().clone() for key, t in state if key in names or key.startswith("head.")}


def _training_mode(model: Classifier) -> None:
    """Training mode, but the stages' batch norms keep their statistics: sixteen images are too few for new ones."""
    model.train()
    for part in model.sequence:
        for module in part.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def _groups(model: Classifier, phase: Phase, weight_decay: float) -> list[dict]:
    """What learns, by learning rate and by whether weight decay applies: it spares norms and biases."""
    groups = []
    for module, rate in ((model.head, phase.head_rate), (nn.ModuleList(model.sequence), phase.backbone_rate)):
        learning = [p for p in module.parameters() if p.requires_grad]
        for chosen, decay in (
            ([p for p in learning if p.ndim > 1], weight_decay),
            ([p for p in learning if p.ndim <= 1], 0.0),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups
