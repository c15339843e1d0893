"""The outputs of frozen stages, computed once for each image and view, and kept.

A frozen stage gives the same output for the same picture for ever, so training only ever runs what learns. Knows
nothing of losses, of heads or of how long anything is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from headswap.data.dataset import LabelledImages
from headswap.features.augment import squares
from headswap.features.inference import Engine, check, frozen
from headswap.features.memory import Room
from headswap.networks.classifier import Classifier

BATCH = 4  # small batches stay in the processor's cache (13 ms an image; 21 in batches of 16), and Stop is heard soon


class Activations:
    """What arrives at the boundaries of a model whose earlier parts stand still.

    A boundary is how many parts of ``model.sequence`` an image has passed; at 0 its normalised pixels are kept.

    Attributes:
        model: whose parts before a boundary stand still when it is filled.
        images: N of them.
        views: of each.
        targets: int64 ``[N]``, or with several labels an image float ``[N, classes]``.
    """

    def __init__(
        self,
        model: Classifier,
        images: LabelledImages,
        views: int = 1,
        seed: int = 0,
        engine: Engine | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: whose parts before a boundary stand still when it is filled.
            images: N of them.
            views: 1 is the weights' own centre crop alone, 2 adds its mirror image, more add random crops.
            seed: of the random crops.
            engine: how frozen stages are run, one of ``engines.ENGINES`` or an engine of one's own, whose ``batch``
                is how many pictures it wants at a time; by default the fastest that suits them.

        Raises:
            ValueError: for an unknown engine.
        """
        check(engine)
        self.model, self.images, self.views, self.targets = model, images, views, images.targets
        self._seed, self._engine, self._batch = seed, engine, getattr(engine, "batch", BATCH)
        self._rooms: dict[int, Room] = {}
        self._places: Tensor | None = None

    @property
    def total(self) -> int:
        """How many views of images there are to compute."""
        return len(self.images) * self.views

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Where something is kept."""
        return tuple(sorted(self._rooms))

    def at(self, boundary: int) -> Tensor:
        """All that is kept at a boundary, ``[N, views, ...]``; in half precision where memory was short.

        Raises:
            KeyError: if nothing is kept there.
        """
        kept = self._whole(boundary)
        return kept if self._places is None else kept[self._places]

    def batch(self, boundary: int, images: Tensor, views: Tensor | int = 0) -> Tensor:
        """What is kept of these images ``[n]``, each in one of its views, in the model's own precision."""
        places = images if self._places is None else self._places[images]
        return self._whole(boundary)[places, views].to(next(self.model.parameters()))

    def plain(self, boundary: int, batch: int) -> Iterator[Tensor]:
        """The plain view of every image in order, so many at a time."""
        for chosen in torch.arange(len(self.images)).split(batch):
            yield self.batch(boundary, chosen)

    def subset(self, places: Tensor) -> Activations:
        """What is kept of these images alone; it shares the memory, and fills nothing."""
        part = copy.copy(self)
        part.images = self.images.subset(places.tolist())
        part.targets = self.targets[places]
        part._places = places if self._places is None else self._places[places]
        return part

    def bytes_per_image(self, boundary: int) -> int:
        """What is kept for each image at a boundary, all its views together."""
        one = self._whole(boundary)[0]
        return one.numel() * one.element_size()

    def fill(self, boundaries: Iterable[int]) -> Iterator[int]:
        """Compute what is not kept yet, from the nearest boundary before it that is, or else from the images.

        Yields after each batch how many views are through. Closed too early, nothing new is kept.

        Raises:
            InputError: if an image's file has been damaged or lost, or neither memory nor disk has room.
        """
        missing = sorted(set(boundaries) - self._rooms.keys())
        if not missing:
            return
        if self._places is not None:
            raise ValueError("A subset fills nothing; fill the whole that it was taken from.")
        start = max((kept for kept in self._rooms if kept < missing[0]), default=None)
        first = start or 0
        model = self.model
        was_training = model.training
        rooms: dict[int, Room] = {}
        done = 0
        try:
            model.eval()
            run = frozen(model.sequence[first : missing[-1]], [b - first for b in missing], self._engine, self.total)
            for x in self._pixels() if start is None else self._kept(start):
                for boundary, told in zip(missing, run(x), strict=True):
                    if boundary not in rooms:
                        rooms[boundary] = Room(self.total, told[0])
                    rooms[boundary].tensor[done : done + len(x)] = told
                done += len(x)
                yield done
        finally:
            model.train(was_training)
        self._rooms |= rooms

    def reads_like(self, other: Activations) -> bool:
        """Whether both see the same squares of the same images, through the same engine; their stages may differ.

        An engine of one's own stands for the one that would be taken by default.
        """
        mine, theirs = (
            (
                each.images.paths,
                each.views,
                each._seed,
                None if callable(each._engine) else each._engine,
                each.model.preprocess,
                each._places is None,
            )
            for each in (self, other)
        )
        return mine == theirs

    def adopt(self, other: Activations) -> None:
        """Keep what another keeps that reads like this and whose stages are equal; both share the memory."""
        self._rooms = other._rooms | self._rooms

    def forget(self, boundaries: Iterable[int]) -> None:
        """Give the memory back of what nobody asks for any more."""
        for boundary in boundaries:
            self._rooms.pop(boundary, None)

    def thaw(self, boundary: int) -> None:
        """The parts behind a boundary are going to learn, so what was kept behind them is true no longer."""
        self.forget([kept for kept in self._rooms if kept > boundary])

    def _whole(self, boundary: int) -> Tensor:
        """As ``at``, of all images that were filled, of which this may be a subset."""
        return self._rooms[boundary].tensor.unflatten(0, (-1, self.views))

    def _pixels(self) -> Iterator[Tensor]:
        wanted = next(self.model.parameters())
        singles = (
            view for views in squares(self.images, self.model.preprocess, self.views, self._seed) for view in views
        )
        while batch := list(islice(singles, self._batch)):
            yield self.model.preprocess.normalise(torch.stack(batch)).to(wanted)

    def _kept(self, boundary: int) -> Iterator[Tensor]:
        wanted = next(self.model.parameters())
        for x in self._rooms[boundary].tensor.split(self._batch):
            yield x.to(wanted)
