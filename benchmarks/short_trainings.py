"""Many short trainings in one process: how much memory stays behind.

    python benchmarks/short_trainings.py N [--images 8]

Each loads a folder of drawings, trains the head for a few epochs, names a picture and lets go of everything. The first
third warms up what is set up once; growth is counted from there.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path

from common import BACKBONE, drawn, machine, resident

import headswap
from headswap import Phase, Plan

NAMES = ("disc", "square", "triangle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainings", type=int)
    parser.add_argument("--images", type=int, default=8, help="of each of three classes")
    given = parser.parse_args()
    began, held = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as home:
        folder = drawn(Path(home, "drawings"), NAMES, given.images)
        for _ in range(given.trainings):
            train(folder)
            gc.collect()
            held.append(resident())
    warm = held[len(held) // 3 :]
    each = (warm[-1] - warm[0]) / max(1, len(warm) - 1)
    print(
        f"{given.trainings} trainings, {time.perf_counter() - began:.0f} s: {held[0] / 1e6:.0f} MB after the first, "
        f"{warm[0] / 1e6:.0f} MB after a third, {held[-1] / 1e6:.0f} MB in the end, {each / 1e6:+.2f} MB each from "
        f"there; {machine()}"
    )


def train(folder: Path) -> None:
    images = headswap.load_images(folder)
    model = headswap.adapt(BACKBONE, classes=images.classes)
    headswap.fit(model, images, Plan((Phase(3, 0, 1e-3),), views=1))
    model.predict(folder / NAMES[0] / "0.png")
    images.close()


if __name__ == "__main__":
    main()
