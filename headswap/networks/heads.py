"""The heads: what turns a backbone's features into the logits of new classes.

A head is an ``nn.Sequential`` whose ``__init__`` names its parts; ``print(model.head)`` reads like a drawing. To add
one, write its class and put it into ``HEADS``, or ``register`` one of your own: the page, the command line, the tests
and ``adapt`` find it there, its options in its signature and its sentence in the first line of its docstring.

Knows nothing of backbones but the width of their features.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from headswap.common.deprecation import warn_renamed
from headswap.common.errors import InputError
from headswap.common.text import suggest_names
from headswap.networks.lda import LDA

ActivationName = str
ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
)


def rms_norm(in_features: int) -> nn.Module:
    """Features of the same length for every picture, their mean square one.

    So one learning rate suits every backbone, and stages that learn beneath it cannot make an answer surer by making
    the features longer: without it, letting the last stages learn from 20 photographs a class cost 0.02 of accuracy,
    with it it gained 0.015 (EfficientNet-Lite0, ten classes of clothing). Zhang and Sennrich, "Root mean square layer
    normalization" (2019), without its weights.
    """
    return nn.RMSNorm(in_features, elementwise_affine=False)


class Linear(nn.Sequential):
    """Replace the last layer: one weight for each feature and class.

    The fewest weights, the least to overfit with. ``[N, features_in]`` to logits ``[N, classes]``. The bare layer is
    ``head=torch.nn.Linear``.
    """

    def __init__(self, in_features: int, num_classes: int, *, dropout: float = 0.0) -> None:
        _check_dropout(dropout)
        linear = nn.Linear(in_features, num_classes)
        # What random weights say about directions that few images ever show is never unlearned, so they begin small.
        nn.init.normal_(linear.weight, std=1e-3)
        nn.init.zeros_(linear.bias)
        super().__init__(OrderedDict(dropout=nn.Dropout(dropout), normalise=rms_norm(in_features), linear=linear))


class Bottleneck(nn.Sequential):
    """Squeeze the features through a narrow layer before the last one.

    ``[N, features_in]`` to ``bottleneck_dim`` to logits ``[N, classes]``; DeCAF and DANN call this layer so.
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

    ``[N, features_in]`` through each of ``hidden_dims`` to logits ``[N, classes]``. It has the most weights, so it
    wants the most images.
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
        for i, (wide, next_wide) in enumerate(pairwise(widths), 1):
            parts[f"hidden{i}"] = nn.Linear(wide, next_wide)
            parts[f"activation{i}"] = nn.ReLU()
            parts[f"dropout{i}"] = nn.Dropout(dropout)
        parts["linear"] = nn.Linear(widths[-1], num_classes)
        super().__init__(parts)


class Attention(nn.Module):
    """Look at every place of the picture and weigh them, before one query decides.

    A small transformer over the last map's positions or ViT's tokens, with a learned class query: ``[N, positions,
    channels]`` to logits ``[N, classes]``. After Touvron et al., "Going deeper with image transformers" (2021), whose
    class attention it is, with the positions attending to each other as well.
    """

    input_kind = "map"

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
        places = self.project(self.normalise(positions))
        query = self.query.expand(places.shape[0], -1, -1)
        return self.linear(self.transformer(torch.cat([query, places], 1))[:, 0])


def find_last_linear(head: nn.Module) -> nn.Linear | None:
    """The linear layer that gives the logits, where a head ends in one."""
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None


NUM_ATTENTION_HEADS = 4  # of which dim is a multiple

MAX_UNITS_PER_LAYER = 65_536  # units of a layer
MAX_LAYERS = 32  # layers in a row

_HEADS: dict[str, Callable[..., nn.Module]] = {
    "linear": Linear,
    "bottleneck": Bottleneck,
    "mlp": MLP,
    "attention": Attention,
    "lda": LDA,
}
HEADS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(_HEADS)

HeadSpec = str | Callable[..., nn.Module]


@dataclass(frozen=True)
class HeadConfig:
    """By which a head can be built again: its name in ``HEADS`` and all its options."""

    head_name: str
    options: Mapping[str, Any]


def register_head(name: str, head: Callable[..., nn.Module]) -> None:
    """Give a head of your own a name, so that it can be chosen, saved and loaded like any other.

    Whoever loads a model with it registers it first: a model's file brings no code.

    Args:
        name: a Python identifier that is not taken.
        head: ``(features_in, classes, *, options with defaults) -> nn.Module``; the defaults are numbers, texts or
            tuples of whole numbers, and the first line of its docstring is its sentence.

    Raises:
        ValueError: if the name is taken or none, or an option has no such default.
    """
    if not name.isidentifier() or name in HEADS:
        raise ValueError(f"A head's name is a word of its own, such as my_head, and not '{name}'.")
    parameters = list(inspect.signature(head).parameters.values())
    for p in parameters[2:]:
        plain = isinstance(p.default, tuple) and all(isinstance(n, int) for n in p.default)
        if p.kind is not p.KEYWORD_ONLY or not (plain or isinstance(p.default, bool | int | float | str)):
            raise ValueError(
                f"The option '{p.name}' of the head '{name}' is wanted by keyword, with a number, a text or a tuple of "
                "whole numbers as its default."
            )
    _HEADS[name] = head


def build_head(head: HeadSpec, in_features: int, num_classes: int, /, **options: Any) -> nn.Module:
    """A new head with random weights.

    Args:
        head: one of ``HEADS``, any callable ``(features_in, classes, **options) -> nn.Module``, or a module, of which
            a copy is taken.
        features_in: width of the backbone's pooled features.
        classes: number of logits.
        options: the head's own options.

    Raises:
        ValueError: for an unknown name (with the nearest ones), an option that the head does not take (with those that
            it takes and the heads that take this one) or a value out of range; and for what makes no module.
    """
    if callable(head):
        head = next((name for name, made in HEADS.items() if made is head), head)  # so it has its recipe
    if callable(head):
        return _build_custom_head(head, in_features, num_classes, options)
    if not isinstance(head, str):
        raise ValueError(
            f"head is one of the names {', '.join(HEADS)}, a callable (features_in, classes) that makes a module, or a "
            f"module, not {type(head).__name__}."
        )
    if head not in HEADS:
        raise ValueError(f"There is no head '{head}'. {suggest_names(head, HEADS)}")
    known = get_head_options(head)
    for name in options:
        if name not in known:
            takers = [other for other in HEADS if name in get_head_options(other)]
            elsewhere = f" '{name}' belongs to {' and '.join(takers)}." if takers else ""
            raise ValueError(f"The head '{head}' takes {', '.join(known) or 'no options'}, not '{name}'.{elsewhere}")
    built = HEADS[head](in_features, num_classes, **options)
    told = {name: tuple(value) if isinstance(known[name], tuple) else value for name, value in options.items()}
    built.recipe = HeadConfig(head, known | told)
    return built


def _build_custom_head(
    head: Callable[..., nn.Module], in_features: int, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """What somebody's own head makes, or a copy of a module that is one."""
    if isinstance(head, nn.Module):
        if options:
            raise ValueError(
                f"The head is a {type(head).__name__} that is built already, so it takes no options, not "
                f"{', '.join(options)}. Give its class instead."
            )
        return copy.deepcopy(head)
    called = get_head_name(head)
    signature = _get_signature(head)
    if signature:
        try:
            signature.bind(in_features, num_classes, **options)
        except TypeError as error:
            raise ValueError(
                f"The head {called} cannot be called with (features_in, classes{', **options' if options else ''}): "
                f"{error}."
            ) from error
    made = head(in_features, num_classes, **options)
    if not isinstance(made, nn.Module):
        raise ValueError(f"The head {called} gave {type(made).__name__}; it is to make an nn.Module.")
    return made


def get_head_name(head: HeadSpec | nn.Module) -> str:
    """What a head is called in a sentence: its name, or that of its class or function."""
    if isinstance(head, str):
        return head
    return getattr(getattr(head, "func", head), "__name__", type(head).__name__)


def has_head_option(head: HeadSpec, name: str) -> bool:
    """Whether a head that is somebody's own says that it takes an option of this name; a partial has its already."""
    if name in getattr(head, "keywords", ()):
        return False
    signature = (
        None if isinstance(head, nn.Module) else _get_signature(HEADS.get(head) if isinstance(head, str) else head)
    )
    return signature is not None and name in list(signature.parameters)[2:]


def _get_signature(head: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(head)
    except (TypeError, ValueError):  # what is written in C does not say
        return None


@torch.no_grad()
def check_head(head: nn.Module, feature_shape: Sequence[int], num_classes: int) -> None:
    """Ask a head once, in evaluation mode, with features that are nothing; lazy layers learn their width of it.

    Args:
        head: one that is not solved.
        features: the shape of what it takes of one image.
        classes: how many logits it is to give.

    Raises:
        InputError: if it cannot take such features, or answers with anything but logits ``[N, classes]``.
    """
    name, shape = type(head).__name__, ", ".join(map(str, feature_shape))
    modes = {module: module.training for module in head.modules()}
    held = next(chain(head.parameters(), head.buffers()), torch.empty(0))
    kind = held.dtype if held.is_floating_point() else torch.get_default_dtype()
    lazy = any(map(is_lazy, (*head.parameters(), *head.buffers())))
    head.eval()
    try:
        # Whoever watches the head by a hook need not hear of this; but it is a hook that makes a lazy layer.
        answer = (head if lazy else head.forward)(torch.zeros(2, *feature_shape, dtype=kind, device=held.device))
    except Exception as error:  # whatever it stumbles over, it would in training
        raise InputError(
            f"The head {name} cannot take what this backbone gives, features [N, {shape}]: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(answer, Tensor):
        raise InputError(
            f"The head {name} answers with {type(answer).__name__} instead of one tensor; let it return the logits "
            "[N, classes] alone."
        )
    if tuple(answer.shape) != (2, num_classes):
        raise InputError(
            f"The head {name} answers with {list(answer.shape)} for two images, but there are {num_classes} classes: let "
            f"it return logits [N, {num_classes}], or give it as many classes as it has logits."
        )


def is_built_in_head(head: nn.Module) -> bool:
    """Whether a head is one of this table's own; of these none compares the images of a batch with one another."""
    return isinstance(head, (Linear, Bottleneck, MLP, Attention, LDA))


def get_head_config(head: nn.Module) -> HeadConfig | None:
    """How a head can be built again; None for one that was given as a callable or a module."""
    made = getattr(head, "recipe", None)
    return made if isinstance(made, HeadConfig) else None


def has_map_input(head: HeadSpec | nn.Module) -> bool:
    """Whether a head, or the head of this name, takes the last map or tokens instead of the pooled vector."""
    made = HEADS.get(head) if isinstance(head, str) else head
    made = getattr(made, "func", made)  # a partial hides what it calls
    kind = getattr(made, "input_kind", None)
    if kind is None and hasattr(made, "takes"):
        warn_renamed("A head's attribute takes", "input_kind")
        kind = made.takes
    return kind == "map"


def is_solvable(head: HeadSpec | nn.Module) -> bool:
    """Whether a head, or the head of this name, is solved on frozen features (by its ``solve``) instead of trained."""
    made = HEADS.get(head) if isinstance(head, str) else head
    return callable(getattr(getattr(made, "func", made), "solve", None))


def heads() -> dict[str, str]:
    """Lists every head that can be named, those of ``register_head`` included, with a sentence that describes it."""
    return {name: describe_head(name) for name in HEADS}


def get_head_options(head: str) -> dict[str, Any]:
    """The options that the head of this name takes, with their defaults."""
    parameters = inspect.signature(HEADS[head]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def describe_head(head: str) -> str:
    """What the head of this name does, in one sentence."""
    return (inspect.getdoc(HEADS[head]) or "").splitlines()[0]


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
