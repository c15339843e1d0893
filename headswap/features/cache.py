"""Caches the outputs of frozen stages for every image and view, so that training runs only unfrozen modules.

Knows nothing of losses, of heads or of the length of a training.
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
from headswap.networks.stage import eval_mode

# Small batches fit the CPU's cache (13 ms an image; 21 in batches of 16), and a stop takes effect soon.
FROZEN_BATCH_SIZE = 4


class FeatureCache:
    """The outputs of a model's frozen stages at some boundaries.

    A boundary is the number of ``model.feature_stages`` that an image has passed; at boundary 0 are its normalized
    pixels.

    Attributes:
        model: whose stages before a boundary have to be frozen while it is filled.
        images: N of them.
        num_views: of each image.
        targets: int64 ``[N]``, or for several labels an image float ``[N, classes]``.
    """

    model: Classifier
    images: LabelledImages
    num_views: int
    targets: Tensor

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
            model: whose stages before a boundary have to be frozen while it is filled.
            images: N of them.
            num_views: 1 is the weights' own centre crop alone, 2 adds its mirror image, more add random crops.
            seed: of the random crops.
            engine: how frozen stages are run, one of ``inference.ENGINES`` or an engine of one's own, whose attribute
                ``batch_size`` is the number of images that it takes at a time; by default the fastest that suits them.

        Raises:
            ValueError: for an unknown engine.
        """
        check_engine(engine)
        self.model, self.images, self.num_views, self.targets = model, images, num_views, images.targets
        self._seed, self._engine = seed, engine
        self._batch_size: int = getattr(engine, "batch_size", FROZEN_BATCH_SIZE)
        self._buffers: dict[int, Buffer] = {}
        self._indices: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Number of views of all images."""
        return len(self.images) * self.num_views

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The boundaries that are filled, ascending."""
        return tuple(sorted(self._buffers))

    def get_features(self, boundary: int) -> Tensor:
        """The features at a boundary, ``[N, num_views, ...]``; in half precision where memory was short.

        Raises:
            KeyError: if the boundary is not filled.
        """
        features = self._get_all_features(boundary)
        return features if self._indices is None else features[self._indices]

    def get_batch(self, boundary: int, indices: Tensor, view_indices: Tensor | int = 0) -> Tensor:
        """Select the features of some images in one view each.

        Args:
            boundary: that is filled.
            indices: of images, ``[n]``.
            view_indices: of a view for each image ``[n]``, or for all.

        Returns:
            ``[n, ...]`` in the model's precision and on its device.
        """
        rows = indices if self._indices is None else self._indices[indices]
        return self._get_all_features(boundary)[rows, view_indices].to(next(self.model.parameters()))

    def iterate_plain_view(self, boundary: int, batch_size: int) -> Iterator[Tensor]:
        """Yield the features of the first view, the plain crop, of every image in order, in batches."""
        for indices in torch.split(torch.arange(len(self.images)), batch_size):
            yield self.get_batch(boundary, indices)

    def subset(self, indices: Tensor) -> FeatureCache:
        """A cache of some images that shares the memory of this one, and cannot be filled."""
        part = copy.copy(self)
        part.images = self.images.subset(indices.tolist())
        part.targets = self.targets[indices]
        part._indices = indices if self._indices is None else self._indices[indices]
        return part

    def bytes_per_image(self, boundary: int) -> int:
        """Number of bytes that all views of an image take at a boundary."""
        image_features = self._get_all_features(boundary)[0]
        return image_features.numel() * image_features.element_size()

    def compute(self, boundaries: Iterable[int]) -> Iterator[int]:
        """Fill boundaries, from the nearest filled one before them, or else from the images.

        Closed before its end, it fills nothing.

        Yields:
            After each batch the number of views that are computed.

        Raises:
            ValueError: if this is a subset.
            InputError: if an image's file has been damaged or lost, or neither memory nor disk has room.
        """
        missing = sorted(set(boundaries) - self._buffers.keys())
        if not missing:
            return
        if self._indices is not None:
            raise ValueError("A subset fills nothing; fill the whole that it was taken from.")
        start = max((filled for filled in self._buffers if filled < missing[0]), default=None)
        first = start or 0
        buffers: dict[int, Buffer] = {}
        done = 0
        with eval_mode(self.model):
            stages = self.model.feature_stages[first : missing[-1]]
            run = build_stage_runner(stages, [b - first for b in missing], self._engine, self.num_samples)
            for x in self._iterate_pixels() if start is None else self._iterate_cached(start):
                for boundary, features in zip(missing, run(x), strict=True):
                    if boundary not in buffers:
                        buffers[boundary] = Buffer(self.num_samples, features[0])
                    buffers[boundary].tensor[done : done + len(x)] = features
                done += len(x)
                yield done
        self._buffers |= buffers

    def has_same_inputs(self, other: FeatureCache) -> bool:
        """Whether both have the same views of the same images and the same engine; their stages may differ.

        An engine of one's own counts as the default.
        """
        mine, theirs = (
            (
                cache.images.paths,
                cache.num_views,
                cache._seed,
                None if callable(cache._engine) else cache._engine,
                cache.model.preprocess,
                cache._indices is None,
            )
            for cache in (self, other)
        )
        return mine == theirs

    def share_buffers(self, other: FeatureCache) -> None:
        """Add the filled boundaries of a cache with the same inputs and equal stages; both share the memory."""
        self._buffers = other._buffers | self._buffers

    def drop(self, boundaries: Iterable[int]) -> None:
        """Free the memory of boundaries that are no longer needed."""
        for boundary in boundaries:
            self._buffers.pop(boundary, None)

    def drop_after(self, boundary: int) -> None:
        """Free what is behind a boundary, because the stages behind it are about to be trained."""
        self.drop([filled for filled in self._buffers if filled > boundary])

    def _get_all_features(self, boundary: int) -> Tensor:
        """As ``get_features``, but for a subset those of all images."""
        tensor = self._buffers[boundary].tensor
        return tensor.view(-1, self.num_views, *tensor.shape[1:])

    def _iterate_pixels(self) -> Iterator[Tensor]:
        parameter = next(self.model.parameters())
        views = (
            view
            for image_views in iterate_views(self.images, self.model.preprocess, self.num_views, self._seed)
            for view in image_views
        )
        while batch := list(islice(views, self._batch_size)):
            yield self.model.preprocess.normalize(torch.stack(batch)).to(parameter)

    def _iterate_cached(self, boundary: int) -> Iterator[Tensor]:
        parameter = next(self.model.parameters())
        for x in torch.split(self._buffers[boundary].tensor, self._batch_size):
            yield x.to(parameter)
