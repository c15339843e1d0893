"""The heads: what turns a backbone's features into the logits of new classes.

A head is an ``nn.Sequential`` whose ``__init__`` names its parts; ``print(model.head)`` reads like a drawing. To add
one, write its class and put it into ``HEADS``: the page, the command line, the tests and ``adapt`` find it there, its
options in its signature and its sentence in the first line of its docstring.

Knows nothing of backbones but the width of their features.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headswap.names import nearest

Activation = str
ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
)


class Linear(nn.Sequential):
    """Replace the last layer: one weight for each feature and class.

    The fewest weights, the least to overfit with. ``[N, features_in]`` to logits ``[N, classes]``.
    """

    def __init__(self, features_in: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__(OrderedDict(dropout=nn.Dropout(dropout), linear=nn.Linear(features_in, classes)))


class Bottleneck(nn.Sequential):
    """Squeeze the features through a narrow layer before the last one.

    ``[N, features_in]`` to ``bottleneck_dim`` to logits ``[N, classes]``; DeCAF and DANN call this layer so.
    """

    def __init__(
        self,
        features_in: int,
        classes: int,
        *,
        bottleneck_dim: int = 512,
        activation: Activation = "relu",
        dropout: float = 0.2,
    ) -> None:
        super().__init__(
            OrderedDict(
                bottleneck=nn.Linear(features_in, bottleneck_dim),
                activation=_activation(activation),
                dropout=nn.Dropout(dropout),
                linear=nn.Linear(bottleneck_dim, classes),
            )
        )


class MLP(nn.Sequential):
    """A small network of its own on top, for classes that no straight line separates.

    ``[N, features_in]`` through each of ``hidden_dims`` to logits ``[N, classes]``. It has the most weights, so it
    wants the most images.
    """

    def __init__(
        self,
        features_in: int,
        classes: int,
        *,
        hidden_dims: Sequence[int] = (1024, 512),
        dropout: float = 0.3,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        widths = [features_in, *hidden_dims]
        for i, (wide, next_wide) in enumerate(pairwise(widths), 1):
            parts[f"hidden{i}"] = nn.Linear(wide, next_wide)
            parts[f"activation{i}"] = nn.ReLU()
            parts[f"dropout{i}"] = nn.Dropout(dropout)
        parts["linear"] = nn.Linear(widths[-1], classes)
        super().__init__(parts)


class Attention(nn.Module):
    """Look at every place of the picture and weigh them, before one query decides.

    A small transformer over the last map's positions or ViT's tokens, with a learned class query: ``[N, positions,
    channels]`` to logits ``[N, classes]``. After Touvron et al., "Going deeper with image transformers" (2021), whose
    class attention it is, with the positions attending to each other as well.
    """

    takes = "map"

    def __init__(
        self, features_in: int, classes: int, *, dim: int = 256, layers: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.normalise = nn.LayerNorm(features_in)
        self.project = nn.Linear(features_in, dim)
        self.query = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, HEADS_OF_ATTENTION, 2 * dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.linear = nn.Linear(dim, classes)

    def forward(self, positions: Tensor) -> Tensor:
        places = self.project(self.normalise(positions))
        query = self.query.expand(len(places), -1, -1)
        return self.linear(self.transformer(torch.cat([query, places], 1))[:, 0])


class RootNormalise(nn.Module):
    """Features of length one, whose square root was taken first where they are never negative.

    The root calms the few features that shout. Features that can be negative go without. Measured on ten
    classes of clothing with EfficientNet-Lite0 before its last ReLU (eight splits of 400 photographs): length alone
    0.827, signed root 0.819, root of what is positive 0.739, root of the softplus 0.827.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("root", torch.tensor(False))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(features.clamp(min=1e-4).sqrt() if self.root else features, dim=1)


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

    def __init__(self, features_in: int, classes: int) -> None:
        linear = nn.Linear(features_in, classes)
        super().__init__(OrderedDict(normalise=RootNormalise(), linear=linear, scale=Scale()))

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
        logits = out_of_fold(normal, labels, self.linear.out_features)
        scales = torch.logspace(-3, 1, 41)
        best = min(scales, key=lambda scale: F.cross_entropy(logits * scale, labels).item())
        weight, bias = discriminants(normal, labels, self.linear.out_features)
        self.linear.weight.copy_(weight * best / 10)
        self.linear.bias.copy_(bias * best / 10)

    @torch.no_grad()
    def soften(self, features: Tensor, labels: Tensor) -> None:
        """Lower the confidence until the mean cross-entropy on ``features`` ``[N, features_in]`` is 0.6 ln(classes).

        A solved head already fits what it has seen, so that stages that thaw beneath it would have nothing to learn.
        """
        wanted = 0.6 * math.log(self.linear.out_features)
        logits = self(features)
        scales = torch.logspace(0, -3, 61)
        scale = next((s for s in scales if F.cross_entropy(logits * s, labels).item() >= wanted), scales[-1])
        self.linear.weight.mul_(scale)
        self.linear.bias.mul_(scale)


def discriminants(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weight ``[classes, D]`` and bias ``[classes]`` of the discriminants of ``features`` ``[images, views, D]``.

    Equal priors; the pooled covariance within classes, shrunk by a half to its mean variance.
    """
    width = features.shape[-1]
    means = torch.stack([features[labels == c].reshape(-1, width).mean(0) for c in range(classes)])
    inside = (features - means[labels].unsqueeze(1)).reshape(-1, width)
    covariance = inside.T @ inside / len(inside)
    # The least that is added keeps the covariance of identical images invertible.
    ball = (SHRINKAGE * covariance.trace() / width).clamp(min=1e-6)
    covariance.mul_(1 - SHRINKAGE).diagonal().add_(ball)
    weight = torch.linalg.solve(covariance, means.T).T
    return weight, -0.5 * (weight * means).sum(1)


def out_of_fold(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Logits ``[images, classes]`` of each image's first view from discriminants that never saw the image."""
    folds = min(FOLDS, int(labels.bincount(minlength=classes).min()))
    if folds < 2:  # a class of one image is in no fold's training
        return F.linear(features[:, 0], *discriminants(features, labels, classes))
    fold = torch.empty_like(labels)
    fold[labels.argsort(stable=True)] = torch.arange(len(labels)) % folds  # each has its share of every class
    logits = torch.empty(len(labels), classes)
    for k in range(folds):
        seen = fold != k
        logits[~seen] = F.linear(features[~seen, 0], *discriminants(features[seen], labels[seen], classes))
    return logits


FOLDS = 4
SHRINKAGE = 0.5
HEADS_OF_ATTENTION = 4  # of which dim is a multiple

HEADS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"linear": Linear, "bottleneck": Bottleneck, "mlp": MLP, "attention": Attention, "lda": LDA}
)

Head = str | Callable[..., nn.Module]


def build_head(head: Head, features_in: int, classes: int, **options: Any) -> nn.Module:
    """A new head with random weights.

    Args:
        head: one of ``HEADS`` or any callable ``(features_in, classes, **options) -> nn.Module``.
        features_in: width of the backbone's pooled features.
        classes: number of logits.
        options: the head's own options.

    Raises:
        ValueError: for an unknown name (with the nearest ones), an option that the head does not take (with those that
            it takes and the heads that take this one) or a value out of range.
    """
    if callable(head):
        return head(features_in, classes, **options)
    if head not in HEADS:
        raise ValueError(f"There is no head '{head}'. {nearest(head, HEADS)}")
    known = head_options(head)
    for name in options:
        if name not in known:
            takers = [other for other in HEADS if name in head_options(other)]
            elsewhere = f" '{name}' belongs to {' and '.join(takers)}." if takers else ""
            raise ValueError(f"The head '{head}' takes {', '.join(known) or 'no options'}, not '{name}'.{elsewhere}")
    _check_range(options)
    return HEADS[head](features_in, classes, **options)


def takes_map(head: Head | nn.Module) -> bool:
    """Whether a head, or the head of this name, takes the last map or tokens instead of the pooled vector."""
    return getattr(HEADS.get(head) if isinstance(head, str) else head, "takes", "vector") == "map"


def solvable(head: nn.Module) -> bool:
    """Whether a head is solved on frozen features (by its ``solve`` and ``soften``, as ``LDA``) instead of trained."""
    return callable(getattr(head, "solve", None))


def head_options(head: str) -> dict[str, Any]:
    """The options that the head of this name takes, with their defaults."""
    parameters = inspect.signature(HEADS[head]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def head_sentence(head: str) -> str:
    """What the head of this name does, in one sentence."""
    return (inspect.getdoc(HEADS[head]) or "").splitlines()[0]


def _activation(name: Activation) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"There is no activation '{name}'. {nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _check_range(options: Mapping[str, Any]) -> None:
    dropout = options.get("dropout", 0.0)
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is the share of features that is dropped, from 0 to below 1, not {dropout}.")
    for width in [*(options.get(name, 1) for name in ("bottleneck_dim", "layers")), *options.get("hidden_dims", ())]:
        if width < 1:
            raise ValueError(f"A layer needs at least one unit, not {width}.")
    if options.get("dim", 256) % HEADS_OF_ATTENTION or options.get("dim", 256) < 1:
        raise ValueError(f"dim is shared by {HEADS_OF_ATTENTION} heads of attention; {options['dim']} is no multiple.")
