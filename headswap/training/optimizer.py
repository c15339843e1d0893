"""Builds the optimizer, the learning rates and their schedule for one phase.

Knows nothing of images, losses and epochs.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]  # public, but not in an __all__
from torch import Tensor, nn
from torch.optim import lr_scheduler

from headswap.networks.classifier import Classifier
from headswap.training.events import LearningRate
from headswap.training.plan import Phase


class PhaseOptimizer:
    """AdamW with a learning-rate schedule, for everything that learns in a phase.

    Attributes:
        learning_rates: the highest of each part, the head last.
    """

    def __init__(self, model: Classifier, phase: Phase, weight_decay: float, steps: int) -> None:
        """Collect the parameters that learn.

        Args:
            model: unfrozen as the phase has it.
            phase: its learning rates and schedule.
            weight_decay: of weights; norms and biases have none.
            steps: in an epoch.
        """
        parts = assign_learning_rates(model, phase)
        self.learning_rates: tuple[LearningRate, ...] = tuple(LearningRate(name, lr) for name, _, lr in parts)
        groups = [group for _, module, lr in parts for group in _parameter_groups(module, lr, weight_decay)]
        self._optimizer: torch.optim.AdamW | None = None
        self._scheduler: lr_scheduler.LRScheduler | None = None
        if groups:  # a head that is solved may have no parameters
            # Fused, since a step of AdamW over a few million weights takes as long as the rest of a training step.
            self._optimizer = torch.optim.AdamW(groups, fused=True)
            self._scheduler = build_lr_scheduler(self._optimizer, phase, steps * phase.epochs)

    @property
    def optimizer(self) -> torch.optim.AdamW:
        """The optimizer.

        Raises:
            RuntimeError: if there is no parameter to learn.
        """
        if self._optimizer is None:
            raise RuntimeError("Nothing in this phase has a parameter that learns.")
        return self._optimizer

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of every part, and end the schedule."""
        self._scheduler = None
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def backward_and_step(self, loss: Tensor) -> None:
        """Backward pass, one optimizer step and one scheduler step."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self._scheduler:
            self._scheduler.step()


def assign_learning_rates(model: Classifier, phase: Phase) -> list[tuple[str, nn.Module, float]]:
    """The name, module and highest learning rate of each part that learns, in order, the head last.

    The last stage learns at ``backbone_lr``, each one before it at ``layer_decay`` times the rate of the next.
    """
    names = [*dict(model.stages.named_children()), "pool"]
    unfrozen = [
        (name, stage)
        for name, stage in zip(names, model.feature_stages, strict=False)
        if not stage.frozen and _has_parameters(stage)
    ]
    stages = [
        (name, stage, phase.backbone_lr * phase.layer_decay**depth)
        for depth, (name, stage) in enumerate(reversed(unfrozen))
    ]
    return [*reversed(stages), ("head", model.head, phase.head_lr)]


def build_lr_scheduler(optimizer: torch.optim.Optimizer, phase: Phase, steps: int) -> lr_scheduler.LRScheduler:
    """Build the schedule of a phase, from the learning rates that the optimizer's groups have.

    Args:
        optimizer: whose groups have the highest rates of the schedule.
        phase: its schedule and warm-up.
        steps: in the whole phase.
    """
    if phase.schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        # A warm-up of exactly one step makes torch divide by zero.
        warmup_ratio = phase.warmup_ratio if abs(phase.warmup_ratio * steps - 1) > 1e-6 else 1.5 / steps
        return lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps, pct_start=min(warmup_ratio, 0.9))
    warmup_steps = max(1, round(phase.warmup_ratio * steps))
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps - warmup_steps))
    return lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])


def _parameter_groups(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters with weight decay, then those without: biases and norms."""
    groups = param_groups_weight_decay(module, weight_decay)
    return [{**group, "lr": lr} for group in reversed(groups) if group["params"]]


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
