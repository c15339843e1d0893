"""ZeroGPU of Hugging Face Spaces: a GPU that is borrowed for one call at a time.

There the GPU belongs to the event, and what runs on it runs in a forked process: arguments and results are pickled, and
nothing that is changed there comes back. So only a pure function from a batch to features is lent a GPU; learning
itself stays on the processor, over what was kept. Knows no component and no visitor.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headswap.common.devices import ON_LOAN
from headswap.features.inference import Cuts, Run
from headswap.networks.stage import channels_last

SECONDS = 60  # for which a call may hold the GPU; an anonymous visitor has two minutes of it a day
AT_ONCE = 32  # pictures that fit every GPU


def features(parts: Sequence[nn.Module], cuts: Sequence[int], batch: Tensor) -> list[Tensor]:
    """What arrives after so many of the parts, for each cut: ``[N, ...]`` on the processor, as ``batch`` is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = Cuts(parts, cuts).eval().to(device)
    exact = torch.backends.cudnn.flags(allow_tf32=False) if device.type == "cuda" else torch.no_grad()
    with torch.no_grad(), exact:
        told = [[each.cpu() for each in plain(channels_last(x.to(device)))] for x in batch.split(AT_ONCE)]
    return [torch.cat(each) for each in zip(*told, strict=True)]


class Borrowed:
    """An engine that asks for a GPU with every batch. Batches are large, because each call costs a process."""

    batch = 128  # pictures: 77 MB of pixels travel

    def __init__(self, spaces: Any) -> None:
        """``spaces`` is the module of that name; its decorator has to be met when the program starts."""
        self._features = spaces.GPU(duration=SECONDS)(features)

    def __call__(self, parts: Sequence[nn.Module], cuts: Sequence[int]) -> Run:
        """A function from what arrives before ``parts`` to what arrives after so many of them."""
        return lambda batch: self._features(list(parts), tuple(cuts), batch)


def engine() -> Borrowed | None:
    """The engine of this Space; None where no GPU can be borrowed."""
    if not os.environ.get(ON_LOAN):
        return None
    try:
        import spaces
    except ImportError:
        return None
    return Borrowed(spaces)
