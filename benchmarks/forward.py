"""The forward pass through all stages, as frozen stages are run, against eager PyTorch, NCHW, in batches of 32.

    python benchmarks/forward.py FOLDER

Pictures are decoded beforehand and the engines set up; each side runs the same ones.
"""

from __future__ import annotations

import torch
from common import BACKBONE, arguments, in_turn, load, machine
from torch import nn

import headswap
from headswap.features.cache import FROZEN_BATCH_SIZE
from headswap.features.inference import build_stage_runner


def main() -> None:
    given = arguments(__doc__, images=200)
    images = load(given.folder, given.images)
    model = headswap.adapt(BACKBONE, images.classes).eval()
    wanted = model.preprocess
    pixels = torch.stack([wanted(images.pixels(i, wanted.resize, wanted.interpolation)) for i in range(len(images))])
    plain = nn.Sequential(*model.feature_stages)
    engines = {
        name: build_stage_runner(model.feature_stages, [len(model.feature_stages)], name)
        for name in ("folded", "onnxruntime")
    }

    @torch.no_grad()
    def eager() -> torch.Tensor:
        return torch.cat([plain(x) for x in pixels.split(32)])

    def by(name: str) -> torch.Tensor:
        return torch.cat([engines[name](x)[0] for x in pixels.split(FROZEN_BATCH_SIZE)])

    truth = eager()
    apart = {name: (by(name) - truth).abs().max().item() for name in engines}
    base, *ours = in_turn(given.rounds, eager, *(lambda name=name: by(name) for name in engines))
    told = ", ".join(
        f"{name} {len(images) / t:.0f} images a second, {base / t:.1f} times faster (differs by {apart[name]:.0e})"
        for name, t in zip(engines, ours, strict=True)
    )
    print(f"Forward pass: eager {len(images) / base:.0f} images a second; {told}; {machine()}")


if __name__ == "__main__":
    main()
