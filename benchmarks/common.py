"""What the benchmarks share: the arguments, a fair choice of photographs, and two sides that take turns."""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

import headswap
from headswap.data.store import ImageStore

BACKBONE = "efficientnet_lite0"


def arguments(doc: str, rounds: int = 3, images: int = 300, heads: Iterable[str] = ()) -> argparse.Namespace:
    """FOLDER, --rounds and --images, as every benchmark takes them, and --heads where it has some."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("folder", help="one sub-folder for each class")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--images", type=int, default=images)
    if heads:
        parser.add_argument("--heads", nargs="+", default=list(heads))
    return parser.parse_args()


def chosen(images: headswap.LabelledImages, each: int, seed: int = 0) -> headswap.LabelledImages:
    """So many of each class, drawn by the seed; all of a class that has fewer."""
    chance = torch.Generator().manual_seed(seed)
    labels, places = torch.tensor(images.labels), []
    for label in range(len(images.classes)):
        of_class = (labels == label).nonzero().flatten()
        places += of_class[torch.randperm(len(of_class), generator=chance)[:each]].tolist()
    return images.subset(sorted(places))


def parted(
    images: headswap.LabelledImages, each: int, seed: int
) -> tuple[headswap.LabelledImages, headswap.LabelledImages]:
    """So many of each class, and all others."""
    some = chosen(images, each, seed)
    taken = set(some.names)
    return some, images.subset(i for i, name in enumerate(images.names) if name not in taken)


def load(folder: str, count: int) -> headswap.LabelledImages:
    """About so many photographs, the same number of each class."""
    images = headswap.load_images(folder)
    return chosen(images, max(1, count // len(images.classes)))


def undecoded(images: headswap.LabelledImages) -> headswap.LabelledImages:
    """The same images with an empty store beside theirs, so that each side decodes every photograph itself."""
    store = ImageStore(images._store._max_decoded_bytes, borrowed_folder=images._store.folder)
    return replace(images, _store=store)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(rounds: int, *sides: Callable[[], object]) -> list[float]:
    """The median seconds of each side; they take turns, so that a noisy moment hits all of them."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for mine, side in zip(times, sides, strict=True):
            mine.append(seconds(side))
    return [statistics.median(mine) for mine in times]


def through(events: Iterable[object]) -> object:
    """Run a generator to its end; returns what it gave last."""
    last = None
    for last in events:  # noqa: B007
        pass
    return last


def machine() -> str:
    return f"{torch.get_num_threads()} threads"


def watched(act: Callable[[], object], process: int | str = "self") -> tuple[float, float]:
    """Seconds of it, and the most bytes of a process meanwhile that were resident and belong to no file."""
    peak, over = [0.0], threading.Event()
    watching = threading.Thread(target=_watch, args=(peak, over, process))
    watching.start()
    began = time.perf_counter()
    act()
    taken = time.perf_counter() - began
    over.set()
    watching.join()
    return taken, peak[0]


def resident(process: int | str = "self") -> float:
    """Bytes of a process that are resident and belong to no file."""
    with open(f"/proc/{process}/status") as status:
        anonymous = next(line for line in status if line.startswith("RssAnon"))
    return 1024.0 * int(anonymous.split()[1])


def _watch(peak: list[float], over: threading.Event, process: int | str) -> None:
    while not over.wait(0.2):
        peak[0] = max(peak[0], resident(process))


def drawn(folder: Path, names: Iterable[str], each: int, side: int = 160) -> Path:
    """A folder with one sub-folder for each name: forms in three colours, somewhere on paper that is nearly white."""
    forms = [("crimson", "ellipse"), ("royalblue", "rectangle"), ("seagreen", "regular_polygon")]
    for name, (colour, form) in zip(names, forms, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            chance = random.Random(f"{name} {number}")
            picture = Image.new("RGB", (side, side), tuple(chance.randint(225, 255) for _ in range(3)))
            radius = chance.randint(side // 5, side // 3)
            x, y = (chance.randint(radius, side - radius) for _ in range(2))
            pen = ImageDraw.Draw(picture)
            if form == "regular_polygon":
                pen.regular_polygon((x, y, radius), 3, chance.randint(0, 90), fill=colour)
            else:
                getattr(pen, form)((x - radius, y - radius, x + radius, y + radius), fill=colour)
            picture.save(folder / name / f"{number}.png")
    return folder


def answers(address: str) -> None:
    """Wait until the page does."""
    for _ in range(900):
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("The page did not answer.")
