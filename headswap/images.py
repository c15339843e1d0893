"""``LabelledImages``: images with their classes, the report of their loading, their store, and a fair split.

Knows nothing of where images come from or how they got their classes, nor of networks, and of pixels only how
to ask for them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from headswap.errors import InputError
from headswap.pixels import PictureError, read_pixels
from headswap.splits import draw

STORE_BYTES = 512 * 1024**2
SIDE = 256
INTERPOLATION = "bicubic"


@dataclass(frozen=True)
class Report:
    """What loading did: how many images it read, which files it skipped and why, and what else to know."""

    read: int
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{how_many(self.read)} read, {len(self.skipped)} skipped.", *self.notes]
        return "\n".join(lines + [f"{name}: {reason}." for name, reason in self.skipped])


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes, in a fixed order: by class, then by name.

    Iterating gives ``(uint8 tensor [3, H, W], label)``; where an image may carry several labels or none
    (``multi_label``), a label is the tuple of them. Halves and subsets share their parent's files and
    decoded pixels; the files go away with the last that shares them, or by ``close()``. To keep images
    together that belong together (one plant, one patient), give them the same group:
    ``dataclasses.replace(images, groups=...)``.
    """

    classes: tuple[str, ...]  # naturally sorted: photo2 before photo10
    labels: tuple[int, ...] | tuple[tuple[int, ...], ...]  # places in classes: one an image, or several or none
    groups: tuple[int, ...]  # a group never sits on both sides of a split
    names: tuple[str, ...]  # as the source has them, for people; never used as paths
    paths: tuple[Path, ...]  # the private copies
    report: Report
    _held_out: tuple[bool, ...]  # lies in a validation folder
    _store: Store
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int | tuple[int, ...]]]:
        for i, label in enumerate(self.labels):
            yield self.pixels(i), label

    @property
    def shown(self) -> tuple[tuple[int, ...], ...]:
        """For each image the places in ``classes`` of what it shows: one of them unless ``multi_label``."""
        return self.labels if self.multi_label else tuple((label,) for label in self.labels)

    @property
    def targets(self) -> torch.Tensor:
        """The labels for a loss: int64 ``[N]``, or with ``multi_label`` float ``[N, classes]`` of 0 and 1."""
        if not self.multi_label:
            return torch.tensor(self.labels, dtype=torch.int64)
        marks = torch.zeros(len(self), len(self.classes))
        for row, labels in zip(marks, self.labels, strict=True):
            row[list(labels)] = 1
        return marks

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each class, zero included."""
        counted = Counter(label for labels in self.shown for label in labels)
        return {name: counted[label] for label, name in enumerate(self.classes)}

    @property
    def together(self) -> list[list[int]]:
        """The places of the images of each group."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i, group in enumerate(self.groups):
            groups[group].append(i)
        return list(groups.values())

    def pixels(self, i: int, side: int = SIDE, interpolation: str = INTERPOLATION) -> torch.Tensor:
        """Image ``i`` as ``read_pixels`` gives it: uint8 ``[3, H, W]``.

        The tensor is the store's own, so do not write into it. The store keeps one combination of side and
        interpolation, the one asked for last. Threads may ask at once.

        Raises:
            InputError: if the file has been damaged or lost since it was loaded.
            ValueError: after ``close()``, or for an unknown interpolation.
        """
        try:
            return self._store.pixels(self.paths[i], side, interpolation)
        except PictureError as error:
            raise PictureError(self.names[i], error.reason) from error

    def subset(self, indices: Iterable[int]) -> LabelledImages:
        """The images at these places, in this order, with all the classes of the whole."""
        places = [int(i) for i in indices]
        columns = ("labels", "groups", "names", "paths", "_held_out")
        return replace(self, **{name: tuple(getattr(self, name)[i] for i in places) for name in columns})

    def as_multi_label(self) -> LabelledImages:
        """The same images, each with a tuple of labels even where every image has just one."""
        return replace(self, labels=self.shown, multi_label=True)

    def fitting(self, classes: tuple[str, ...], multi_label: bool) -> LabelledImages:
        """The images for a model of these classes, with several labels each if it is one of ``multi_label``.

        Raises:
            InputError: if they are not the model's.
        """
        if self.multi_label and not multi_label:
            raise InputError(
                "Some of these images carry several labels or none; adapt a model with multi_label=True for them."
            )
        if self.classes != classes:
            raise InputError(
                f"The images show {', '.join(self.classes)}, but the model's classes are {', '.join(classes)}. "
                "Adapt a model with classes=images.classes."
            )
        return self.as_multi_label() if multi_label else self

    def split(self, validation: float = 0.2, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
        """Two halves ``(training, validation)``, the same for the same seed.

        Where the source had a validation folder, that is the validation half whatever the arguments.
        Otherwise about the share ``validation`` of each class is drawn, groups whole, at least one image of
        each class on both sides.

        Raises:
            InputError: if a class has only one image, or groups leave a class no second side.
            ValueError: if ``validation`` does not lie between 0 and 1.
        """
        if not 0.0 < validation < 1.0:
            raise ValueError(f"validation is a share between 0 and 1, such as 0.2, not {validation}.")
        held_out = {i for i, held in enumerate(self._held_out) if held}
        if not 0 < len(held_out) < len(self):
            held_out = self._drawn(validation, seed)
        return self.subset(i for i in range(len(self)) if i not in held_out), self.subset(sorted(held_out))

    def close(self) -> None:
        """Remove the private files now, for everyone who shares them. Closing twice does no harm."""
        self._store.close()

    def _drawn(self, validation: float, seed: int) -> set[int]:
        for name, count in self.counts.items():
            if count == 1:
                raise InputError(
                    f"The class '{name}' has one image; a class needs at least two, one to learn from and "
                    "one to check on. Add one or remove the folder."
                )
        drawn, torn = draw(self.shown, self.together, validation, seed)
        if torn is not None:
            raise InputError(
                f"The groups leave the class '{self.classes[torn]}' no image on one side of the split, "
                "because a group stays whole. Add images of it that belong to another group."
            )
        return drawn


class Store:
    """The kept files of one loading, removed when nobody refers to it, and what is decoded of them."""

    def __init__(self, limit: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="headswap-"))  # made for its owner alone: mode 0o700
        self._limit = limit
        self._lock = threading.Lock()
        self._asked = (SIDE, INTERPOLATION)
        self._decoded: dict[Path, torch.Tensor] = {}
        self._bytes = 0
        self._removal = weakref.finalize(self, _remove, self.folder, os.getpid())

    def pixels(self, path: Path, side: int, interpolation: str) -> torch.Tensor:
        """What ``read_pixels`` gives for this file, from memory where possible; ``ValueError`` after ``close()``."""
        asked = (side, interpolation)
        with self._lock:
            if not self._removal.alive:
                raise ValueError("These images have been closed; load them again.")
            if self._asked == asked and path in self._decoded:
                return self._decoded[path]
        # Outside the lock, so that threads decode side by side; of one image decoded twice, one is dropped.
        pixels = read_pixels(path, side, interpolation)
        with self._lock:
            self._remember(asked, path, pixels)
        return pixels

    def _remember(self, asked: tuple[int, str], path: Path, pixels: torch.Tensor) -> None:
        if self._asked != asked:
            self._asked, self._decoded, self._bytes = asked, {}, 0
        # A full store keeps what it has: epochs go round and round, where dropping the oldest always misses.
        if path not in self._decoded and self._bytes + pixels.nbytes <= self._limit and self._removal.alive:
            self._decoded[path] = pixels
            self._bytes += pixels.nbytes

    def close(self) -> None:
        """Forget what is decoded and remove the folder. Closing twice does no harm."""
        with self._lock:
            self._decoded = {}
            self._removal()


def _remove(folder: Path, owner: int) -> None:
    # A forked child that drops its copy must not take the files away from its parent.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def how_many(count: int) -> str:
    """Of images, in words: 1 image, 2 images."""
    return f"{count} image" if count == 1 else f"{count} images"
