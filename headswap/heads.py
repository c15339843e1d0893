"""The heads: what turns a backbone's features into the logits of new classes.

A head is an ``nn.Sequential`` whose ``__init__`` names its parts; ``print(model.head)`` reads like a drawing. To add
one, write its class and put it into ``HEADS``: the page, the command line, the tests and ``adapt`` find it there, its
options in its signature and its sentence in the first line of its docstring.

Knows nothing of backbones but the width of their features.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from torch import nn

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


HEADS: Mapping[str, type[nn.Module]] = MappingProxyType({"linear": Linear, "bottleneck": Bottleneck, "mlp": MLP})

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
            raise ValueError(f"The head '{head}' takes {', '.join(known)}, not '{name}'.{elsewhere}")
    _check_range(options)
    return HEADS[head](features_in, classes, **options)


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
    for width in [options.get("bottleneck_dim", 1), *options.get("hidden_dims", ())]:
        if width < 1:
            raise ValueError(f"A layer needs at least one unit, not {width}.")
