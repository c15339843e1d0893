"""Linear discriminant analysis as a head: solved in closed form on frozen features instead of trained."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_FOLDS = 4  # of the cross-validation that chooses the temperature
SHRINKAGE = 0.5  # of the covariance towards its mean variance


class SqrtL2Norm(nn.Module):
    """L2 normalization, after the square root where features are never negative.

    The root dampens the few features with large values. Features that can be negative are only normalized. Measured on
    ten classes of clothing with EfficientNet-Lite0 before its last ReLU (eight splits of 400 photographs): L2 norm
    alone 0.827, signed root 0.819, root of what is positive 0.739, root of the softplus 0.827.
    """

    root: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("root", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        """Normalize ``[N, in_features]`` to rows of length one."""
        return F.normalize(torch.where(self.root, features.clamp(min=1e-4).sqrt(), features), dim=1)


class Scale(nn.Module):
    """Ten times the input, so that one learning rate suits this layer and those below it."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by ten."""
        return 10 * x


class LDA(nn.Sequential):
    """Solve the last layer at once instead of training it.

    Linear discriminant analysis on L2-normalized features: the class means, and the covariance within classes, shrunk
    by a half to a multiple of the identity. ``[N, in_features]`` to logits ``[N, num_classes]``. It takes milliseconds,
    has no hyperparameters, and where there are few images it is hard to beat. Friedman, "Regularized discriminant
    analysis" (1989).

    Args:
        in_features: width of the pooled features.
        num_classes: number of logits.
    """

    normalise: SqrtL2Norm
    linear: nn.Linear
    scale: Scale

    def __init__(self, in_features: int, num_classes: int) -> None:
        linear = nn.Linear(in_features, num_classes)
        super().__init__(OrderedDict(normalise=SqrtL2Norm(), linear=linear, scale=Scale()))

    @torch.no_grad()
    def solve(self, features: Tensor, labels: Tensor) -> None:
        """Compute the weights.

        The temperature minimizes the cross-entropy of out-of-fold logits.

        Args:
            features: ``[images, views, in_features]``.
            labels: int64 ``[images]``.
        """
        num_classes = self.linear.out_features
        self.normalise.root.fill_(bool((features >= 0).all()))
        normalized: Tensor = self.normalise(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        logits = compute_out_of_fold_logits(normalized, labels, num_classes)
        scales = torch.logspace(-3, 1, 41)
        best = min(scales, key=lambda scale: F.cross_entropy(logits * scale, labels).item())
        weight, bias = solve_discriminants(normalized, labels, num_classes)
        self.linear.weight.copy_(weight * best / 10)
        self.linear.bias.copy_(bias * best / 10)


def solve_discriminants(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Solve for the discriminants, with equal priors and the pooled covariance shrunk by a half.

    Args:
        features: ``[images, views, D]``.
        labels: int64 ``[images]``.
        num_classes: number of discriminants.

    Returns:
        Weight ``[num_classes, D]`` and bias ``[num_classes]``.
    """
    width = features.shape[-1]
    means = torch.stack([features[labels == c].reshape(-1, width).mean(0) for c in range(num_classes)])
    centered = (features - means[labels].unsqueeze(1)).reshape(-1, width)
    # The minimum keeps the covariance of identical images invertible.
    ridge = (SHRINKAGE * centered.square().sum() / len(centered) / width).clamp(min=1e-6)
    weight = _solve_regularized(centered, (1 - SHRINKAGE) / len(centered), ridge, means)
    return weight, -0.5 * (weight * means).sum(1)


def _solve_regularized(rows: Tensor, scale: float, ridge: Tensor, means: Tensor) -> Tensor:
    """Compute ``means @ inverse(scale * rows.T @ rows + ridge * identity)``.

    The smaller of both Gram matrices is inverted, by Woodbury's identity (1950): VGG has 4,096 features, and there may
    be far fewer images.
    """
    solution: Tensor
    if len(rows) >= rows.shape[1]:
        covariance = scale * rows.T @ rows
        covariance.diagonal().add_(ridge)
        solution = torch.linalg.solve(covariance, means.T).T
    else:
        inner = rows @ rows.T
        inner.diagonal().add_(ridge / scale)
        solution = (means - torch.linalg.solve(inner, rows @ means.T).T @ rows) / ridge
    return solution


def compute_out_of_fold_logits(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Compute the logits ``[images, num_classes]`` of each image's first view by discriminants of the other folds.

    A class of one image allows no folds; then the discriminants are those of all images.

    Args:
        features: ``[images, views, D]``.
        labels: int64 ``[images]``.
        num_classes: number of logits.
    """
    num_folds = min(NUM_FOLDS, int(labels.bincount(minlength=num_classes).min()))
    if num_folds < 2:
        return F.linear(features[:, 0], *solve_discriminants(features, labels, num_classes))
    fold = torch.empty_like(labels)
    fold[labels.argsort(stable=True)] = torch.arange(len(labels)) % num_folds  # stratified
    logits = torch.empty(len(labels), num_classes)
    for k in range(num_folds):
        training = fold != k
        weight, bias = solve_discriminants(features[training], labels[training], num_classes)
        logits[~training] = F.linear(features[~training, 0], weight, bias)
    return logits
