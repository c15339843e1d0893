"""Defines and registers the built-in classification heads: linear, bottleneck, MLP, attention and LDA.

A head is a module from a backbone's features to the logits of new classes, mostly an ``nn.Sequential`` whose
``__init__`` names its parts, so that ``print(model.head)`` shows the layers by name. To add one, write its class and
put it into ``BUILT_IN_HEADS``: the page, the command line, the tests and ``adapt`` find it there, take its options from
its signature and its description from the first line of its docstring.

Knows nothing of backbones but the width of their features.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn

from headswap.common.text import suggest_names
from headswap.networks.head_registry import register_head
from headswap.networks.lda import LDA

ActivationName = str
ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
)

NUM_ATTENTION_HEADS = 4  # dim is a multiple of it
MAX_UNITS_PER_LAYER = 65_536
MAX_LAYERS = 32


def rms_norm(in_features: int) -> nn.Module:
    """RMS normalization without weights: features of mean square one for every image.

    One learning rate then suits every backbone, and unfrozen stages cannot make predictions more confident by
    growing the features: without it, unfreezing the last stages with 20 photographs a class cost 0.02 of accuracy, with
    it it gained 0.015 (EfficientNet-Lite0, ten classes of clothing). Zhang and Sennrich, "Root mean square layer
    normalization" (2019).
    """
    return nn.RMSNorm(in_features, elementwise_affine=False)


class Linear(nn.Sequential):
    """Replace the last layer: one weight for each feature and class.

    The fewest weights, the least to overfit with. ``[N, in_features]`` to logits ``[N, num_classes]``. The bare layer
    is ``head=torch.nn.Linear``.

    Args:
        in_features: width of the pooled features.
        num_classes: number of logits.
        dropout: share of features that is dropped in training, from 0 to below 1.

    Raises:
        ValueError: if ``dropout`` is out of range.
    """

    def __init__(self, in_features: int, num_classes: int, *, dropout: float = 0.0) -> None:
        _check_dropout(dropout)
        linear = nn.Linear(in_features, num_classes)
        # Few images never unlearn the random weights of features that they rarely show, so these weights begin small.
        nn.init.normal_(linear.weight, std=1e-3)
        nn.init.zeros_(linear.bias)
        super().__init__(OrderedDict(dropout=nn.Dropout(dropout), normalise=rms_norm(in_features), linear=linear))


class Bottleneck(nn.Sequential):
    """Squeeze the features through a narrow layer before the last one.

    ``[N, in_features]`` to ``bottleneck_dim`` to logits ``[N, num_classes]``; named after the layer of DeCAF and DANN.

    Args:
        in_features: width of the pooled features.
        num_classes: number of logits.
        bottleneck_dim: width of the narrow layer.
        activation: one of ``ACTIVATIONS``.
        dropout: share of the narrow layer's outputs that is dropped in training, from 0 to below 1.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bottleneck_dim: int = 512,
        activation: ActivationName = "relu",
        dropout: float = 0.2,
    ) -> None:
        _check_dropout(dropout)
        _check_widths(bottleneck_dim)
        super().__init__(
            OrderedDict(
                normalise=rms_norm(in_features),
                bottleneck=nn.Linear(in_features, bottleneck_dim),
                activation=_build_activation(activation),
                dropout=nn.Dropout(dropout),
                linear=nn.Linear(bottleneck_dim, num_classes),
            )
        )


class MLP(nn.Sequential):
    """A small network of its own on top, for classes that no straight line separates.

    ``[N, in_features]`` through each of ``hidden_dims`` to logits ``[N, num_classes]``. It has the most weights, so it
    needs the most images.

    Args:
        in_features: width of the pooled features.
        num_classes: number of logits.
        hidden_dims: widths of the hidden layers.
        dropout: share of each hidden layer's outputs that is dropped in training, from 0 to below 1.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        hidden_dims: Sequence[int] = (1024, 512),
        dropout: float = 0.3,
    ) -> None:
        _check_dropout(dropout)
        _check_widths(*hidden_dims)
        _check_depth(len(hidden_dims), minimum=0)
        parts: OrderedDict[str, nn.Module] = OrderedDict(normalise=rms_norm(in_features))
        widths = [in_features, *hidden_dims]
        for i, (width, next_width) in enumerate(pairwise(widths), 1):
            parts[f"hidden{i}"] = nn.Linear(width, next_width)
            parts[f"activation{i}"] = nn.ReLU()
            parts[f"dropout{i}"] = nn.Dropout(dropout)
        parts["linear"] = nn.Linear(widths[-1], num_classes)
        super().__init__(parts)


class Attention(nn.Module):
    """Look at every place of the picture and weigh them, before one query decides.

    A small transformer over the last map's positions or ViT's tokens, with a learned class query: ``[N, positions,
    in_features]`` to logits ``[N, num_classes]``. Its class attention is that of Touvron et al., "Going deeper with
    image transformers" (2021), but the positions attend to each other as well.

    Args:
        in_features: channels of the map.
        num_classes: number of logits.
        dim: width of the transformer, a multiple of 4.
        layers: number of its layers.
        dropout: of the transformer, from 0 to below 1.

    Raises:
        ValueError: if an option is out of range.
    """

    input_kind = "map"
    normalise: nn.LayerNorm
    project: nn.Linear
    query: nn.Parameter
    transformer: nn.TransformerEncoder
    linear: nn.Linear

    def __init__(
        self, in_features: int, num_classes: int, *, dim: int = 256, layers: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__()
        _check_dropout(dropout)
        if dim % NUM_ATTENTION_HEADS or dim < 1:
            raise ValueError(f"dim is shared by {NUM_ATTENTION_HEADS} heads of attention; {dim} is no multiple.")
        _check_widths(dim)
        _check_depth(layers)
        self.normalise = nn.LayerNorm(in_features)
        self.project = nn.Linear(in_features, dim)
        self.query = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(
            dim, NUM_ATTENTION_HEADS, 2 * dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, positions: Tensor) -> Tensor:
        """Compute logits ``[N, num_classes]`` of positions ``[N, positions, in_features]``."""
        places = self.project(self.normalise(positions))
        query = self.query.expand(places.shape[0], -1, -1)
        logits: Tensor = self.linear(self.transformer(torch.cat([query, places], 1))[:, 0])
        return logits


def _build_activation(name: ActivationName) -> nn.Module:
    if name not in ACTIVATIONS:
        raise ValueError(f"There is no activation '{name}'. {suggest_names(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _check_dropout(dropout: float) -> None:
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is the share of features that is dropped, from 0 to below 1, not {dropout}.")


def _check_widths(*widths: int) -> None:
    for width in widths:
        if not 1 <= width <= MAX_UNITS_PER_LAYER:
            raise ValueError(f"A layer has from one unit to {MAX_UNITS_PER_LAYER:,}, not {width}.")


def _check_depth(layers: int, minimum: int = 1) -> None:
    if not minimum <= layers <= MAX_LAYERS:
        raise ValueError(f"A head has from one layer to {MAX_LAYERS}, not {layers}.")


BUILT_IN_HEADS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"linear": Linear, "bottleneck": Bottleneck, "mlp": MLP, "attention": Attention, "lda": LDA}
)
for _name, _head in BUILT_IN_HEADS.items():
    register_head(_name, _head)


def is_built_in_head(head: nn.Module) -> bool:
    """Whether a head is one of ``BUILT_IN_HEADS``; none of these compares the images of a batch with one another."""
    return isinstance(head, tuple(BUILT_IN_HEADS.values()))
