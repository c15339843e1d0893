"""Linear discriminant analysis as a head: solved at once, without steps."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SqrtL2Norm(nn.Module):
    """Features of length one, whose square root was taken first where they are never negative.

    The root calms the few features that shout. Features that can be negative go without. Measured on ten
    classes of clothing with EfficientNet-Lite0 before its last ReLU (eight splits of 400 photographs): length alone
    0.827, signed root 0.819, root of what is positive 0.739, root of the softplus 0.827.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("root", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(torch.where(self.root, features.clamp(min=1e-4).sqrt(), features), dim=1)


class Scale(nn.Module):
    """Ten times the input, so that one learning rate suits this layer and those below it."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * x


class LDA(nn.Sequential):
    """Solve the last layer at once instead of training it.

    Linear discriminant analysis on features of length one: the class means, and the covariance within classes, shrunk
    by a half towards a ball. ``[N, features_in]`` to logits ``[N, classes]``. It takes milliseconds, has nothing to
    tune, and where there are few images it is hard to beat. Friedman, "Regularized discriminant analysis" (1989).
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        linear = nn.Linear(in_features, num_classes)
        super().__init__(OrderedDict(normalise=SqrtL2Norm(), linear=linear, scale=Scale()))

    @torch.no_grad()
    def solve(self, features: Tensor, labels: Tensor) -> None:
        """Set the weights.

        The temperature is the one that gives the lowest cross-entropy on images that four solutions did not see.

        Args:
            features: ``[images, views, features_in]``.
            labels: int64 ``[images]``.
        """
        self.normalise.root.fill_(bool((features >= 0).all()))
        normal = self.normalise(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        logits = compute_out_of_fold_logits(normal, labels, self.linear.out_features)
        scales = torch.logspace(-3, 1, 41)
        best = min(scales, key=lambda scale: F.cross_entropy(logits * scale, labels).item())
        weight, bias = solve_discriminants(normal, labels, self.linear.out_features)
        self.linear.weight.copy_(weight * best / 10)
        self.linear.bias.copy_(bias * best / 10)


def solve_discriminants(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Weight ``[classes, D]`` and bias ``[classes]`` of the discriminants of ``features`` ``[images, views, D]``.

    Equal priors; the pooled covariance within classes, shrunk by a half to its mean variance.
    """
    width = features.shape[-1]
    means = torch.stack([features[labels == c].reshape(-1, width).mean(0) for c in range(num_classes)])
    inside = (features - means[labels].unsqueeze(1)).reshape(-1, width)
    # The least that is added keeps the covariance of identical images invertible.
    ball = (SHRINKAGE * inside.square().sum() / len(inside) / width).clamp(min=1e-6)
    weight = _solve_regularized(inside, (1 - SHRINKAGE) / len(inside), ball, means)
    return weight, -0.5 * (weight * means).sum(1)


def _solve_regularized(rows: Tensor, scale: float, ridge: Tensor, means: Tensor) -> Tensor:
    """``means`` times the inverse of ``share * rows.T @ rows + ball * 1``.

    By the smaller of both sides, Woodbury's identity (1950): VGG has 4,096 features and few images that wide.
    """
    if len(rows) >= rows.shape[1]:
        covariance = scale * rows.T @ rows
        covariance.diagonal().add_(ridge)
        return torch.linalg.solve(covariance, means.T).T
    inner = rows @ rows.T
    inner.diagonal().add_(ridge / scale)
    return (means - torch.linalg.solve(inner, rows @ means.T).T @ rows) / ridge


def compute_out_of_fold_logits(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Logits ``[images, classes]`` of each image's first view from discriminants that never saw the image."""
    folds = min(NUM_FOLDS, int(labels.bincount(minlength=num_classes).min()))
    if folds < 2:  # a class of one image is in no fold's training
        return F.linear(features[:, 0], *solve_discriminants(features, labels, num_classes))
    fold = torch.empty_like(labels)
    fold[labels.argsort(stable=True)] = torch.arange(len(labels)) % folds  # each has its share of every class
    logits = torch.empty(len(labels), num_classes)
    for k in range(folds):
        seen = fold != k
        logits[~seen] = F.linear(features[~seen, 0], *solve_discriminants(features[seen], labels[seen], num_classes))
    return logits


NUM_FOLDS = 4


SHRINKAGE = 0.5
