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

from headswap.common.devices import ZEROGPU_ENV
from headswap.features.inference import MultiOutput, StageRunner
from headswap.networks.stage import to_channels_last

GPU_CALL_SECONDS = 60  # for which a call may hold the GPU; an anonymous visitor has two minutes of it a day
GPU_BATCH_SIZE = 32  # pictures that fit every GPU


def compute_features_on_gpu(stages: Sequence[nn.Module], boundaries: Sequence[int], batch: Tensor) -> list[Tensor]:
    """What arrives after so many of the parts, for each cut: ``[N, ...]`` on the processor, as ``batch`` is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = MultiOutput(stages, boundaries).eval().to(device)
    exact = torch.backends.cudnn.flags(allow_tf32=False) if device.type == "cuda" else torch.no_grad()
    with torch.no_grad(), exact:
        told = [[each.cpu() for each in plain(to_channels_last(x.to(device)))] for x in batch.split(GPU_BATCH_SIZE)]
    return [torch.cat(each) for each in zip(*told, strict=True)]


class ZeroGpuEngine:
    """An engine that asks for a GPU with every batch. Batches are large, because each call costs a process."""

    batch_size = 128  # pictures: 77 MB of pixels travel

    def __init__(self, spaces: Any) -> None:
        """``spaces`` is the module of that name; its decorator has to be met when the program starts."""
        self._gpu_compute_features = spaces.GPU(duration=GPU_CALL_SECONDS)(compute_features_on_gpu)

    def __call__(self, stages: Sequence[nn.Module], boundaries: Sequence[int]) -> StageRunner:
        """A function from what arrives before ``parts`` to what arrives after so many of them."""
        return lambda batch: self._gpu_compute_features(list(stages), tuple(boundaries), batch)


def create_zerogpu_engine() -> ZeroGpuEngine | None:
    """The engine of this Space; None where no GPU can be borrowed."""
    if not os.environ.get(ZEROGPU_ENV):
        return None
    try:
        import spaces
    except ImportError:
        return None
    return ZeroGpuEngine(spaces)
