"""Phone photographs of 12 megapixels read and reduced by `load_images`, against a plain loop of Pillow's.

    python benchmarks/reading.py
    python benchmarks/reading.py --many 20000

The photographs are the sample's leaves, enlarged to 4032 x 3024 and given a sensor's noise: 2 to 4 MB each. With
--many, so many small JPEGs in ten classes are loaded instead. The peak memory is what is resident and belongs to no
file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from common import in_turn, machine, watched
from PIL import Image

import headswap

LEAVES = Path(__file__).parents[1] / "assets" / "leaves"
PHONE, SMALL, SIDE = (4032, 3024), (64, 64), 256
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--many", type=int, default=0, metavar="N", help="load N small JPEGs instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.many:
            draw(Path(folder), given.many, SMALL)
            seconds, peak = alone(folder)
            print(f"{given.many:,} JPEGs of 64 x 64: loaded in {seconds:.0f} s; {told(peak)}")
            return
        size = draw(Path(folder), given.images, PHONE) / given.images
        ours, plain = in_turn(given.rounds, lambda: headswap.load_images(folder).close(), lambda: loop(folder))
        _, peak = alone(folder)
    print(
        f"{given.images} photographs of 12 megapixels, {size / 1e6:.1f} MB each: load_images {ours:.1f} s, "
        f"a plain loop {plain:.1f} s, {plain / ours:.1f} times as long; {told(peak)}"
    )


def draw(folder: Path, count: int, size: tuple[int, int]) -> int:
    """So many JPEGs in ten classes; returns their bytes."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(photograph, [folder] * count, range(count), [size] * count, chunksize=8))


def photograph(folder: Path, number: int, size: tuple[int, int]) -> int:
    """One leaf, enlarged or reduced, with noise that is its own; returns its bytes."""
    leaves = sorted(LEAVES.rglob("*.jpg"))
    with Image.open(leaves[number % len(leaves)]) as leaf:
        light = np.asarray(leaf.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    noise = np.random.default_rng(number).normal(0, 7, (*light.shape[:2], 1)).astype(np.int16)
    path = folder / f"class {number % CLASSES}" / f"{number}.jpg"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((light + noise).clip(0, 255).astype(np.uint8)).save(path, quality=85)
    return path.stat().st_size


def loop(folder: str) -> None:
    """What one writes first."""
    for path in sorted(Path(folder).rglob("*.jpg")):
        with Image.open(path) as picture:
            width, height = picture.size
            scale = SIDE / min(width, height)
            picture.convert("RGB").resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)


def alone(folder: str) -> tuple[float, float]:
    """Seconds and peak bytes of loading in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(load, (folder,))


def load(folder: str) -> tuple[float, float]:
    return watched(lambda: headswap.load_images(folder).close())


def told(peak: float) -> str:
    return f"peak memory {peak / 1e9:.2f} GB; {os.cpu_count()} cores, {machine()}"


if __name__ == "__main__":
    main()
