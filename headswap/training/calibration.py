"""Scales the temperature of a head: raised before stages are unfrozen, and fitted on held-out images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headswap.evaluation.metrics import classification_loss
from headswap.networks.head_interface import find_last_linear


@torch.no_grad()
def raise_temperature(head: nn.Module, features: Tensor, targets: Tensor, target_loss_ratio: float) -> float:
    """Lower a head's confidence until its mean cross-entropy is a given share of a uniform guess's.

    A head that fits its training images already gives the stages below it hardly any gradient. Its last linear layer is
    scaled; a head without one, or whose logits are not proportional to it, is not changed.

    Args:
        head: changed in place.
        features: its input for the training images.
        targets: int64 ``[N]``, or float ``[N, classes]`` for several labels an image.
        target_loss_ratio: of ln(classes), or with several labels of ln(2).

    Returns:
        The factor of the logits.
    """
    if find_last_linear(head) is None:
        return 1.0
    logits = head(features)
    target_loss = target_loss_ratio * math.log(2 if targets.is_floating_point() else logits.shape[1])
    scales: list[float] = torch.logspace(0, -3, 61).tolist()
    scale = next((s for s in scales if classification_loss(logits * s, targets).item() >= target_loss), scales[-1])
    apply_temperature_scale(head, scale)
    scaled = logits * scale
    if (head(features) - scaled).abs().max() > 1e-2 * scaled.abs().max():
        # A user's own module may have something behind its last linear layer.
        apply_temperature_scale(head, 1 / scale)
        return 1.0
    return scale


def fit_temperature_scale(logits: Tensor, targets: Tensor, max_scale: float) -> float:
    """Find the factor of the logits from 1 to ``max_scale`` under which their cross-entropy is the lowest.

    Temperature scaling, Guo et al., "On calibration of modern neural networks" (2017), which changes no prediction.

    Args:
        logits: ``[N, classes]`` of held-out images.
        targets: as for ``classification_loss``.
        max_scale: at least 1.
    """
    scales: list[float] = torch.logspace(0, math.log10(max_scale), 41).tolist()
    return min(scales, key=lambda scale: classification_loss(logits * scale, targets).item())


@torch.no_grad()
def apply_temperature_scale(head: nn.Module, scale: float) -> None:
    """Multiply the logits of a head that ends in a linear layer."""
    layer = find_last_linear(head)
    for parameter in layer.parameters() if layer else ():
        parameter.mul_(scale)
