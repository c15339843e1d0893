"""Inference engine for Hugging Face ZeroGPU, which lends a GPU for one call.

The GPU belongs to an event of the page, and the call runs in a forked process: arguments and results are pickled, and
state that changes there is lost. So only a pure function from a batch to features uses the GPU; training runs on the
CPU, on cached features. Knows no component and no session.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from headswap.common.devices import ZEROGPU_ENV
from headswap.features.inference import MultiOutput, StageRunner
from headswap.networks.stage import to_channels_last

GPU_CALL_SECONDS = 60  # seconds that a call may hold the GPU; an anonymous user has two minutes a day
GPU_BATCH_SIZE = 32  # images that fit every GPU


def compute_features_on_gpu(stages: Sequence[nn.Module], boundaries: Sequence[int], batch: Tensor) -> list[Tensor]:
    """Compute the outputs of a sequence of stages at several boundaries.

    Args:
        stages: modules that are applied one after another.
        boundaries: for each output, after how many stages it is taken.
        batch: inputs of the first stage, ``[N, ...]`` on the CPU.

    Returns:
        The outputs in the order of ``boundaries``, ``[N, ...]`` each, on the CPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = MultiOutput(stages, boundaries).eval().to(device)
    exact = torch.backends.cudnn.flags(allow_tf32=False) if device.type == "cuda" else torch.no_grad()
    with torch.no_grad(), exact:
        parts = torch.split(batch, GPU_BATCH_SIZE)
        outputs = [[each.cpu() for each in network(to_channels_last(part.to(device)))] for part in parts]
    return [torch.cat(each) for each in zip(*outputs, strict=True)]


class ZeroGpuEngine:
    """An engine that borrows a GPU for every batch. Batches are large, because each call starts a process."""

    batch_size = 128  # images: 77 MB of pixels are pickled

    def __init__(self, spaces: ModuleType) -> None:
        """Apply the decorator of ``spaces``, which has to happen when the program starts."""
        self._gpu_compute_features = spaces.GPU(duration=GPU_CALL_SECONDS)(compute_features_on_gpu)

    def __call__(self, stages: Sequence[nn.Module], boundaries: Sequence[int]) -> StageRunner:
        """A function from inputs of the first stage to the outputs at the boundaries."""
        return lambda batch: self._gpu_compute_features(list(stages), tuple(boundaries), batch)


def create_zerogpu_engine() -> ZeroGpuEngine | None:
    """The engine on a Space with ZeroGPU; None elsewhere."""
    if not os.environ.get(ZEROGPU_ENV):
        return None
    try:
        import spaces
    except ImportError:
        return None
    return ZeroGpuEngine(spaces)
