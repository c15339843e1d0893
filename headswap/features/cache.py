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
from headswap.features.augment import iterate_views
from headswap.features.inference import EngineSpec, build_stage_runner, check_engine
from headswap.features.memory import Buffer
from headswap.networks.classifier import Classifier

FROZEN_BATCH_SIZE = (
    4  # small batches stay in the processor's cache (13 ms an image; 21 in batches of 16), and Stop is heard soon
)


class FeatureCache:
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
        num_views: int = 1,
        seed: int = 0,
        engine: EngineSpec | None = None,
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
        check_engine(engine)
        self.model, self.images, self.num_views, self.targets = model, images, num_views, images.targets
        self._seed, self._engine, self._batch_size = seed, engine, getattr(engine, "batch_size", FROZEN_BATCH_SIZE)
        self._buffers: dict[int, Buffer] = {}
        self._indices: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """How many views of images there are to compute."""
        return len(self.images) * self.num_views

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Where something is kept."""
        return tuple(sorted(self._buffers))

    def get_features(self, boundary: int) -> Tensor:
        """All that is kept at a boundary, ``[N, views, ...]``; in half precision where memory was short.

        Raises:
            KeyError: if nothing is kept there.
        """
        kept = self._get_buffer(boundary)
        return kept if self._indices is None else kept[self._indices]

    def get_batch(self, boundary: int, indices: Tensor, view_indices: Tensor | int = 0) -> Tensor:
        """What is kept of these images ``[n]``, each in one of its views, in the model's own precision."""
        places = indices if self._indices is None else self._indices[indices]
        return self._get_buffer(boundary)[places, view_indices].to(next(self.model.parameters()))

    def iterate_plain_view(self, boundary: int, batch_size: int) -> Iterator[Tensor]:
        """The plain view of every image in order, so many at a time."""
        for chosen in torch.arange(len(self.images)).split(batch_size):
            yield self.get_batch(boundary, chosen)

    def subset(self, indices: Tensor) -> FeatureCache:
        """What is kept of these images alone; it shares the memory, and fills nothing."""
        part = copy.copy(self)
        part.images = self.images.subset(indices.tolist())
        part.targets = self.targets[indices]
        part._indices = indices if self._indices is None else self._indices[indices]
        return part

    def bytes_per_image(self, boundary: int) -> int:
        """What is kept for each image at a boundary, all its views together."""
        one = self._get_buffer(boundary)[0]
        return one.numel() * one.element_size()

    def compute(self, boundaries: Iterable[int]) -> Iterator[int]:
        """Compute what is not kept yet, from the nearest boundary before it that is, or else from the images.

        Yields after each batch how many views are through. Closed too early, nothing new is kept.

        Raises:
            InputError: if an image's file has been damaged or lost, or neither memory nor disk has room.
        """
        missing = sorted(set(boundaries) - self._buffers.keys())
        if not missing:
            return
        if self._indices is not None:
            raise ValueError("A subset fills nothing; fill the whole that it was taken from.")
        start = max((kept for kept in self._buffers if kept < missing[0]), default=None)
        first = start or 0
        model = self.model
        was_training = model.training
        rooms: dict[int, Buffer] = {}
        done = 0
        try:
            model.eval()
            run = build_stage_runner(
                model.feature_stages[first : missing[-1]], [b - first for b in missing], self._engine, self.num_samples
            )
            for x in self._iterate_pixels() if start is None else self._iterate_cached(start):
                for boundary, told in zip(missing, run(x), strict=True):
                    if boundary not in rooms:
                        rooms[boundary] = Buffer(self.num_samples, told[0])
                    rooms[boundary].tensor[done : done + len(x)] = told
                done += len(x)
                yield done
        finally:
            model.train(was_training)
        self._buffers |= rooms

    def has_same_inputs(self, other: FeatureCache) -> bool:
        """Whether both see the same squares of the same images, through the same engine; their stages may differ.

        An engine of one's own stands for the one that would be taken by default.
        """
        mine, theirs = (
            (
                each.images.paths,
                each.num_views,
                each._seed,
                None if callable(each._engine) else each._engine,
                each.model.preprocess,
                each._indices is None,
            )
            for each in (self, other)
        )
        return mine == theirs

    def share_buffers(self, other: FeatureCache) -> None:
        """Keep what another keeps that reads like this and whose stages are equal; both share the memory."""
        self._buffers = other._buffers | self._buffers

    def drop(self, boundaries: Iterable[int]) -> None:
        """Give the memory back of what nobody asks for any more."""
        for boundary in boundaries:
            self._buffers.pop(boundary, None)

    def drop_after(self, boundary: int) -> None:
        """The parts behind a boundary are going to learn, so what was kept behind them is true no longer."""
        self.drop([kept for kept in self._buffers if kept > boundary])

    def _get_buffer(self, boundary: int) -> Tensor:
        """As ``at``, of all images that were filled, of which this may be a subset."""
        return self._buffers[boundary].tensor.unflatten(0, (-1, self.num_views))

    def _iterate_pixels(self) -> Iterator[Tensor]:
        wanted = next(self.model.parameters())
        singles = (
            view
            for views in iterate_views(self.images, self.model.preprocess, self.num_views, self._seed)
            for view in views
        )
        while batch := list(islice(singles, self._batch_size)):
            yield self.model.preprocess.normalize(torch.stack(batch)).to(wanted)

    def _iterate_cached(self, boundary: int) -> Iterator[Tensor]:
        wanted = next(self.model.parameters())
        for x in self._buffers[boundary].tensor.split(self._batch_size):
            yield x.to(wanted)
