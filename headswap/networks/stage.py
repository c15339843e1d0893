"""Defines ``Stage`` (a freezable ``nn.Sequential``) and ``StagedNetwork``, with helpers that inspect modules.

Knows no particular network.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

BlockT = TypeVar("BlockT")
MAX_STAGE_GROUPS = 12  # more stages than these cannot be read in a drawing


class Stage(nn.Sequential):
    """A part of a backbone that is frozen or trained as a whole.

    A frozen stage stays in evaluation mode, whoever calls ``train()``: its batch norms keep their statistics and its
    dropout is off, so the same input always gives the same output. The feature cache relies on this.

    Attributes:
        frozen: whether the stage is frozen.
    """

    frozen: bool = False

    def train(self, mode: bool = True) -> Stage:
        """Set the training mode as ``nn.Module.train`` does, except that a frozen stage stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def freeze(self) -> None:
        """Turn gradients off and enter evaluation mode for good."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def unfreeze(self) -> None:
        """Turn gradients on; the stage enters training mode with the next ``train()``."""
        self.frozen = False
        self.requires_grad_(True)


@dataclass(frozen=True)
class StagedNetwork:
    """A network as stages, a pooling stage and its original classification layer, to be run in this order.

    Attributes:
        stages: named ``Stage`` modules, from the image to the last feature map or tokens.
        pool: from the last map or tokens to one vector ``[N, features]``.
        original_head: the network's own last layer; it takes the pooled vector, or the map in SqueezeNet.
        channel_dim: dimension of the last map that holds the channels: 1, or -1 for tokens and Swin.
        note: a sentence for whoever chose the network; mostly empty.
    """

    stages: nn.Sequential
    pool: Stage
    original_head: nn.Module
    channel_dim: int = 1
    note: str = ""

    def flatten_positions(self, features: Tensor) -> Tensor:
        """Reshape a map or tokens to ``[N, positions, channels]``."""
        return flatten_positions(features, self.channel_dim)

    def infer_feature_shape(self, size: int, is_map_input: bool) -> tuple[int, ...]:
        """Infer the shape of a head's input for one image, on the meta device.

        Args:
            size: pixels a side of the square image.
            is_map_input: whether the head takes the last map instead of the pooled vector.

        Returns:
            ``(features,)`` or ``(positions, channels)``.
        """
        if not is_map_input:
            return (get_in_features(self),)
        tensors = chain(self.stages.named_parameters(), self.stages.named_buffers())
        shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
        image = torch.empty(1, 3, size, size, device="meta")
        with torch.no_grad():
            features = torch.func.functional_call(self.stages, shapes, (image,))
        return tuple(self.flatten_positions(features).shape[1:])


def flatten_positions(features: Tensor, channel_dim: int) -> Tensor:
    """Reshape a map or tokens, whose channels are in ``channel_dim``, to ``[N, positions, channels]``."""
    return features.movedim(channel_dim, -1).flatten(1, -2)


def get_in_features(staged_network: StagedNetwork) -> int:
    """Width of the pooled vector, which is what the network's original last layer takes."""
    layer = next(m for m in staged_network.original_head.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    return layer.weight.shape[1]


def get_map_channels(staged_network: StagedNetwork, size: int) -> int:
    """Number of channels of the last map or tokens, for images of ``size`` pixels a side."""
    return staged_network.infer_feature_shape(size, True)[-1]


def make_stages(**modules: nn.Module | list[nn.Module]) -> nn.Sequential:
    """Build a sequence of named stages, each from one module or from several in a row."""
    as_list = {name: part if isinstance(part, list) else [part] for name, part in modules.items()}
    return nn.Sequential(OrderedDict((name, Stage(*part)) for name, part in as_list.items()))


def list_stages(stages: nn.Sequential) -> tuple[Stage, ...]:
    """The stages of a sequence that ``make_stages`` built, with their type."""
    return cast(tuple[Stage, ...], tuple(stages))


def group_blocks(blocks: Sequence[BlockT]) -> dict[str, list[BlockT]]:
    """Group blocks under their numbers "1", "2", or neighbours as "1-2", "3-4" where there are too many to show."""
    group_size = -(-len(blocks) // MAX_STAGE_GROUPS)
    return {
        str(i + 1) if group_size == 1 else f"{i + 1}-{min(i + group_size, len(blocks))}": list(
            blocks[i : i + group_size]
        )
        for i in range(0, len(blocks), group_size)
    }


def count_parameters(module: nn.Module) -> int:
    """Count the parameters of a module, frozen ones included."""
    return sum(p.numel() for p in module.parameters())


def fingerprint_modules(modules: Iterable[nn.Module], extra: str = "") -> str:
    """Hash modules by their ``repr`` and the bits of their state; ``extra`` is hashed as well.

    Modules of equal structure and equal weights have equal fingerprints.
    """
    digest = hashlib.blake2b(extra.encode())
    for module in modules:
        digest.update(repr(module).encode())
        for tensor in module.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def to_channels_last(x: Tensor) -> Tensor:
    """Bring a map to the channels-last memory format, which saves a third of the time of convolutions on two cores."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and back into the mode that it was in."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
