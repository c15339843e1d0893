"""Defines what any head has to provide, and asks a head for it: its input, its solver, its logits, its last layer.

Knows nothing of backbones but the shape of their features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from headswap.common.deprecation import warn_renamed
from headswap.common.errors import InputError
from headswap.networks.head_registry import HeadSpec, resolve_head


def has_map_input(head: HeadSpec | nn.Module) -> bool:
    """Whether a head, or the head of this name, takes the last map or tokens instead of the pooled vector.

    It says so by an attribute ``input_kind = "map"``.
    """
    factory = resolve_head(head)
    factory = getattr(factory, "func", factory)  # of a partial
    kind: object = getattr(factory, "input_kind", None)
    if kind is None and hasattr(factory, "takes"):
        warn_renamed("A head's attribute takes", "input_kind")
        kind = getattr(factory, "takes", None)
    return kind == "map"


def is_solvable(head: HeadSpec | nn.Module) -> bool:
    """Whether a head, or the head of this name, is solved on frozen features by its ``solve`` instead of trained."""
    factory = resolve_head(head)
    return callable(getattr(getattr(factory, "func", factory), "solve", None))


@torch.no_grad()
def check_head(head: nn.Module, feature_shape: Sequence[int], num_classes: int) -> None:
    """Check the shape of a head's logits by running it once on zeros, in evaluation mode.

    Lazy layers of the head are initialized by this.

    Args:
        head: one that is not solved.
        feature_shape: shape of its input for one image.
        num_classes: number of logits that it has to return.

    Raises:
        InputError: if it cannot take such features, or returns anything but logits ``[N, num_classes]``.
    """
    name, shape = type(head).__name__, ", ".join(map(str, feature_shape))
    *_, last = head.modules()
    if isinstance(last, nn.Softmax):
        raise InputError(
            f"The head {name} ends in a Softmax, but training and predictions apply one to its logits. Leave it out."
        )
    modes = {module: module.training for module in head.modules()}
    tensors = [*head.parameters(), *head.buffers()]
    first = tensors[0] if tensors else torch.empty(0)
    dtype = first.dtype if first.is_floating_point() else torch.get_default_dtype()
    head.eval()
    try:
        # Called without hooks, which somebody may have registered to watch it, but for lazy layers, which need theirs.
        run = head if any(map(is_lazy, tensors)) else head.forward
        logits: object = run(torch.zeros(2, *feature_shape, dtype=dtype, device=first.device))
    except Exception as error:  # whatever it raises, it would raise in training
        raise InputError(
            f"The head {name} cannot take what this backbone gives, features [N, {shape}]: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(logits, Tensor):
        raise InputError(
            f"The head {name} answers with {type(logits).__name__} instead of one tensor; let it return the logits "
            "[N, classes] alone."
        )
    if tuple(logits.shape) != (2, num_classes):
        raise InputError(
            f"The head {name} answers with {list(logits.shape)} for two images, of which it gets features "
            f"[2, {shape}], but there are {num_classes} classes: let it return logits [N, {num_classes}], or give it "
            "as many classes as it has logits."
        )


def find_last_linear(head: nn.Module) -> nn.Linear | None:
    """The linear layer that computes the logits, where a head ends in one."""
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    return layers[-1] if layers else None


def add_output(layer: nn.Linear) -> nn.Linear:
    """Copy a linear layer, or a head that is one, with one more output, whose weights are random."""
    num_outputs = layer.out_features + 1
    initialized = nn.Linear(layer.in_features, num_outputs, layer.bias is not None).to(layer.weight)
    with torch.no_grad():
        for new, old in zip(initialized.parameters(), layer.parameters(), strict=True):
            new[: len(old)] = old
    wider = copy.deepcopy(layer)  # a subclass keeps its attributes, such as head_config
    wider.weight, wider.bias, wider.out_features = initialized.weight, initialized.bias, num_outputs
    return wider
