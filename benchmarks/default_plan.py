"""The default plan against its own frozen phase and the closed-form reference, on photographs that are held back.

    python benchmarks/default_plan.py FOLDER [FOLDER ...] [--each 5 10 20 30] [--seeds 5] [--head linear]

Of each class so many photographs are given to ``headswap.train`` with default settings, which holds a fifth of them
back by itself; all others judge the frozen network, the one that is kept, and the reference. One line for each folder
and number, and one for all. A class with too few photographs to leave five gives what it can.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from common import BACKBONE, machine, parted, through

import headswap
from headswap.features.cache import FeatureCache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--each", type=int, nargs="+", default=[5, 10, 20, 30])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--head", default="linear")
    given = parser.parse_args()
    rows = []
    for folder in given.folders:
        images = headswap.load_images(folder)
        fewest = min(images.counts.values())
        for each in given.each:
            if each + 5 <= fewest:
                runs = [run(images, each, seed, given.head) for seed in range(given.seeds)]
                rows.append(mean(runs))
                print(f"{Path(folder).name}, {each} of each class: {told(rows[-1])}", flush=True)
    worst = min(row["kept"] - row["frozen"] for row in rows)
    whole = mean(rows)
    gained, against = whole["kept"] - whole["frozen"], whole["frozen"] - whole["reference"]
    print(
        f"{given.head}, {given.seeds} seeds: {told(whole)}; unfreezing {gained:+.3f} on average and {worst:+.3f} in "
        f"the worst setting; the frozen head {against:+.3f} against the reference; {machine()}"
    )


def run(images: headswap.LabelledImages, each: int, seed: int, head: str) -> dict[str, float]:
    """Accuracies on what is held back, and seconds of the training."""
    given, held_back = parted(images, each, seed)
    torch.manual_seed(seed)
    model = headswap.adapt(BACKBONE, images.classes, head)
    began = time.perf_counter()
    kept = headswap.fit(model, given)
    row = {"seconds": time.perf_counter() - began}
    below = model.boundary
    still = headswap.adapt(BACKBONE, images.classes)
    judged = FeatureCache(still, held_back)
    through(judged.compute([below]))
    row["kept"] = accuracy(model, judged, below)
    for name in ("frozen", "reference"):
        row[name] = accuracy(headswap.restore(model, kept.candidates[name]), judged, below)
    return row


@torch.no_grad()
def accuracy(model: headswap.Classifier, judged: FeatureCache, boundary: int) -> float:
    answers = torch.cat([model.forward_logits(x, boundary) for x in judged.iterate_plain_view(boundary, 16)])
    return (answers.argmax(1) == judged.targets).float().mean().item()


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.mean(row[name] for row in rows) for name in rows[0]}


def told(row: dict[str, float]) -> str:
    return (
        f"reference {row['reference']:.3f}, frozen {row['frozen']:.3f}, kept {row['kept']:.3f}, {row['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
