"""Modules made of parts of a timm network: its forward pass up to some point, and copies with some of its children.

They share the parameters of the network. Knows nothing of stages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard, TypeVar

from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class TimmNetwork(nn.Module):
    """What the networks of timm have in common, for the type checker; none of them is a subclass.

    Attributes:
        pretrained_cfg: the pretrained configuration.
        blocks: of a transformer.
        norm: of a transformer, after its blocks.
    """

    pretrained_cfg: Mapping[str, Any]
    blocks: nn.Sequential
    norm: nn.Module

    def forward_features(self, x: Any) -> Any:
        """Compute the last map or tokens; some networks return several tensors."""
        raise NotImplementedError

    def forward_head(self, x: Any, pre_logits: bool = False) -> Tensor:
        """Compute the logits, or with ``pre_logits`` the vector before the last layer."""
        raise NotImplementedError


def is_timm_network(network: nn.Module) -> TypeGuard[TimmNetwork]:
    """Whether a network has the interface of timm's."""
    return all(hasattr(network, name) for name in ("pretrained_cfg", "forward_features", "forward_head"))


class ForwardFeatures(nn.Module):
    """A network up to its last map or tokens."""

    def __init__(self, network: TimmNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        """Compute the last map or tokens of images ``[N, 3, H, W]``."""
        return self.network.forward_features(x)


class PreLogitsPool(ForwardFeatures):
    """A network from its last map to the vector ``[N, features]`` before its last layer."""

    def forward(self, x: Any) -> Tensor:
        """Compute the vector of the last map or tokens."""
        return self.network.forward_head(x, pre_logits=True)


class PreLogitsExtractor(PreLogitsPool):
    """A network up to the vector before its last layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the vector of images ``[N, 3, H, W]``."""
        return super().forward(self.network.forward_features(x))


class ModuleCall(NamedTuple):
    """A call of a module.

    Attributes:
        module: that was called.
        args: positional arguments after the first.
        kwargs: keyword arguments.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class BoundModule(nn.Module):
    """A module with further arguments that its network passes for every image alike, such as rotary positions."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, call: ModuleCall) -> None:
        super().__init__()
        self.module, self.args, self.kwargs = call.module, call.args, dict(call.kwargs)
        for name, value in call.kwargs.items():
            if isinstance(value, Tensor):
                self.register_buffer(name, self.kwargs.pop(name))
        if any(isinstance(value, Tensor) for value in call.args):
            raise TypeError("Only a named tensor can move to another device with its module.")

    def forward(self, x: Tensor) -> Tensor:
        """Call the module with ``x`` and the bound arguments."""
        y: Tensor = self.module(x, *self.args, **self.kwargs, **dict(self.named_buffers(recurse=False)))
        return y


def bind_call(call: ModuleCall) -> nn.Module:
    """The module of a call, with its further arguments where these are not all None."""
    arguments = (*call.args, *call.kwargs.values())
    return call.module if all(value is None for value in arguments) else BoundModule(call)


def keep_children(network: ModuleT, predicate: Callable[[nn.Module], bool]) -> ModuleT:
    """Copy a network with those children that satisfy a predicate or have no weights, and identities for the others."""
    children = {
        name: child if not child.state_dict() or predicate(child) else nn.Identity()
        for name, child in network.named_children()
    }
    return copy_with_children(network, **children)


def replace_with_identity(module: ModuleT, replaced: list[nn.Module]) -> ModuleT | nn.Identity:
    """Copy a module with identities for some of the modules in it; it shares all others."""
    if module in replaced:
        return nn.Identity()
    if not any(m in replaced for m in module.modules()):
        return module
    return copy_with_children(
        module, **{name: replace_with_identity(child, replaced) for name, child in module.named_children()}
    )


def copy_with_children(module: ModuleT, **children: nn.Module) -> ModuleT:
    """Copy a module shallowly with other children in place of its own."""
    other = copy.copy(module)
    other._modules = {**module._modules, **children}
    return other


def find_classifiers(network: nn.Module) -> list[nn.Module]:
    """Find the last layer of a network; several for one that was distilled, or none."""
    get_classifier = getattr(network, "get_classifier", None)
    found: object = get_classifier() if callable(get_classifier) else None
    layers = found if isinstance(found, tuple | list | nn.ModuleList) else [found]
    layers = [getattr(layer, "fc", layer) for layer in layers]  # some name the whole head, with its pooling
    return [layer for layer in layers if isinstance(layer, nn.Module) and layer.state_dict()]
