"""How well and how fast the default learns real photographs: one line.

    python benchmarks/clothing.py FOLDER [--seeds 3] [--backbone NAME] [--head NAME]

FOLDER has one sub-folder for each class. Of each class a fifth is held back before anything looks at it, by the seed;
the rest is given to ``headswap.fit`` with default settings. Reading, training and classifying are timed.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import headswap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--head", default="linear")
    given = parser.parse_args()
    runs = [run(given.folder, given.backbone, given.head, seed) for seed in range(given.seeds)]
    accuracies, seconds, counts = zip(*runs, strict=True)
    print(
        f"{given.backbone} + {given.head}: {statistics.mean(accuracies):.3f} of the held-back photographs right "
        f"({', '.join(f'{a:.3f}' for a in accuracies)}; {counts[0][0]} to learn from, {counts[0][1]} held back), "
        f"{statistics.median(seconds):.0f} s to read, train and classify (median, {torch.get_num_threads()} threads)"
    )


def run(folder: str, backbone: str, head: str, seed: int) -> tuple[float, float, tuple[int, int]]:
    """Share of held-back images that are named rightly, seconds, and how many images were on each side."""
    began = time.perf_counter()
    images = headswap.load_images(folder)
    given, held_back = images.split(0.2, seed=1000 + seed)
    torch.manual_seed(seed)
    model = headswap.adapt(backbone, images.classes, head)
    headswap.fit(model, given)
    right = model.predict_proba(held_back.paths).argmax(1) == torch.tensor(held_back.labels)
    return right.float().mean().item(), time.perf_counter() - began, (len(given), len(held_back))


if __name__ == "__main__":
    main()
