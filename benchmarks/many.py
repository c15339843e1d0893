"""2,000 images against 500: time and peak memory of the default plan's frozen pass and phases.

    python benchmarks/many.py FOLDER

The photographs are repeated as often as it takes. Each side runs in a process of its own, for its peak memory: what is
resident and belongs to no file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics

from common import BACKBONE, machine, watched

import headswap
from headswap.features.memory import MEMORY_BUDGET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    told: dict[int, list] = {500: [], 2000: []}
    for _ in range(given.rounds):
        for count, runs in told.items():
            with context.Pool(1) as pool:
                runs.append(pool.apply(run, (given.folder, count)))
    few, many = (statistics.median(seconds for seconds, _ in runs) for runs in told.values())
    peak = max(peak for _, peak in told[2000])
    print(
        f"500 images {few:.0f} s, 2,000 images {many:.0f} s, {many / few:.2f} times as long; peak memory "
        f"{peak / 1e9:.2f} GB, the budget {MEMORY_BUDGET.limit / 1e9:.2f} GB; {machine()}"
    )


def run(folder: str, count: int) -> tuple[float, float]:
    """Seconds of the default plan, and the most bytes that were resident."""
    images = headswap.load_images(folder)
    images = images.subset(i % len(images) for i in range(count))
    model = headswap.adapt(BACKBONE, images.classes)
    return watched(lambda: headswap.fit(model, images))


if __name__ == "__main__":
    main()
