"""What a network taken apart consists of: ``Stage`` and ``Parts``, and what is asked of any part. Knows no network."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

BlockT = TypeVar("T")
MAX_STAGE_GROUPS = 12  # stages that can still be read in a drawing


class Stage(nn.Sequential):
    """A part of a backbone that stands still or learns as a whole.

    A frozen stage never enters training mode again, whoever calls ``train()``: its batch norms keep their statistics
    and its dropout is off, so for the same image it gives the same output for ever. The cache relies on this sentence.
    """

    frozen = False

    def train(self, mode: bool = True) -> Stage:
        """As ``nn.Module.train``, but a frozen stage stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def freeze(self) -> None:
        """Let the stage stand still: no gradients, evaluation mode."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def unfreeze(self) -> None:
        """Let the stage learn; it enters training mode with the next ``train()``."""
        self.frozen = False
        self.requires_grad_(True)


@dataclass(frozen=True)
class StagedNetwork:
    """A network in order. ``stages`` end at the last feature map or tokens, ``pool`` makes one vector of them."""

    stages: nn.Sequential  # of Stage, named
    pool: Stage
    original_head: nn.Module  # the original last layer; it takes the pooled vector, or SqueezeNet's the map
    channel_dim: int = 1  # the dimension of the map that holds its channels: 1, or -1 for tokens and Swin
    note: str = ""  # a sentence for whoever chose the network, where there is something to say


def make_stages(**modules: nn.Module | list[nn.Module]) -> nn.Sequential:
    """Named parts, each one module or several in a row, as a sequence of stages."""
    as_list = {name: part if isinstance(part, list) else [part] for name, part in modules.items()}
    return nn.Sequential(OrderedDict((name, Stage(*part)) for name, part in as_list.items()))


def group_blocks(blocks: Sequence[BlockT]) -> dict[str, list[BlockT]]:
    """Blocks under their numbers, "1", "2" and so on, or neighbours together where there are too many: "1-2", "3-4"."""
    together = -(-len(blocks) // MAX_STAGE_GROUPS)
    return {
        str(i + 1) if together == 1 else f"{i + 1}-{min(i + together, len(blocks))}": list(blocks[i : i + together])
        for i in range(0, len(blocks), together)
    }


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns, or would learn if it did not stand still."""
    return sum(p.numel() for p in module.parameters())


def fingerprint_modules(modules: Iterable[nn.Module], extra: str = "") -> str:
    """The same for modules that are built alike and weigh the same, to the bit; ``also`` goes in as it stands."""
    digest = hashlib.blake2b(extra.encode())
    for module in modules:
        digest.update(repr(module).encode())
        for tensor in module.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def to_channels_last(x: Tensor) -> Tensor:
    """A map with its channels side by side: so convolutions on two cores take two thirds of the time."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
