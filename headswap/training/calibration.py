"""How sure a network is: lowered before stages are unfrozen, and set by held-out images (temperature scaling)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headswap.evaluation.metrics import classification_loss
from headswap.networks.head_interface import find_last_linear


@torch.no_grad()
def raise_temperature(head: nn.Module, features: Tensor, targets: Tensor, target_loss_ratio: float) -> float:
    """Lower a head's confidence until its mean cross-entropy on ``features`` is ``share`` of what guessing has.

    A head that already fits what it has seen leaves the stages that thaw beneath it nothing to learn. Its last linear
    layer is scaled; a head without one, or whose logits do not follow it, stays as it is.

    Args:
        features: what the head takes.
        targets: int64 ``[N]``, or float ``[N, classes]`` for several labels an image.
        share: of ln(classes), or with several labels of ln(2).

    Returns:
        By what the layer was multiplied.
    """
    if find_last_linear(head) is None:
        return 1.0
    logits = head(features)
    wanted = target_loss_ratio * math.log(2 if targets.is_floating_point() else logits.shape[1])
    scales = torch.logspace(0, -3, 61).tolist()
    scale = next((s for s in scales if classification_loss(logits * s, targets).item() >= wanted), scales[-1])
    apply_temperature_scale(head, scale)
    softer = logits * scale
    if (head(features) - softer).abs().max() > 1e-2 * softer.abs().max():
        apply_temperature_scale(
            head, 1 / scale
        )  # something of somebody's own follows the layer, which this does not scale
        return 1.0
    return scale


def fit_temperature_scale(logits: Tensor, targets: Tensor, max_scale: float) -> float:
    """The factor from 1 to ``most`` by which these answers, to images that were held back, should be surer.

    Their cross-entropy is the lowest then: temperature scaling, Guo et al., "On calibration of modern neural networks"
    (2017), which changes no answer.
    """
    factors = torch.logspace(0, math.log10(max_scale), 41).tolist()
    return min(factors, key=lambda factor: classification_loss(logits * factor, targets).item())


@torch.no_grad()
def apply_temperature_scale(head: nn.Module, scale: float) -> None:
    """Make the answers of a head that ends in a linear layer so many times surer."""
    layer = find_last_linear(head)
    for parameter in layer.parameters() if layer else ():
        parameter.mul_(scale)
