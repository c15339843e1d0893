"""``LabelledImages``, the dataset of images with class labels, and its train/validation split.

Knows nothing of where images come from or how they got their labels, nor of networks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import ImageReadError, InputError
from headswap.common.text import join_names, natural_sort_key
from headswap.data.class_names import validate_class_name
from headswap.data.duplicates import ImageStats
from headswap.data.load_report import LoadReport
from headswap.data.splits import expand_sides_to_groups, stratified_group_split
from headswap.data.store import DEFAULT_INTERPOLATION, DEFAULT_SIDE, ImageStore

Labels: TypeAlias = tuple[int, ...] | tuple[tuple[int, ...], ...]  # of each image one, or with multi_label any number

_PER_IMAGE_FIELDS = ("labels", "groups", "names", "paths", "stats", "bursts", "held_out")
_MAX_NAMES_IN_REPR = 10


@renamed_attributes(
    shown="label_sets",
    together="group_indices",
    named="label_names",
    showing="with_labels",
    fitting="aligned_to",
    plus="concatenate",
    traits="stats",
    renamed="rename_class",
    relabelled="relabel",
)
@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with class labels, loaded from files.

    A map-style dataset for ``torch.utils.data``: ``images[i]`` and iterating give ``(uint8 tensor [3, H, W], label)``;
    with ``multi_label`` a label is a tuple of any number of class indices. Images differ in size;
    ``images.with_transform(model.preprocess)`` is ready for a ``DataLoader``, with workers or without. It can be
    pickled: a copy in another process reads the same files while the original exists.

    Loading orders images by class, then by name. Splits and subsets share their parent's files and decoded pixels; the
    files are removed with the last dataset that shares them, or by ``close()``. Copies of one image and the frames of
    one burst have the same group. To keep other images together (one plant, one patient), give them the same group:
    ``dataclasses.replace(images, groups=...)``.

    Attributes:
        classes: their names; as loaded in natural order: photo2 before photo10.
        labels: of each image the index in ``classes``, or with ``multi_label`` a tuple of any number of them.
        groups: images of one group are on the same side of a split.
        names: as the source has them, for display; never used as paths.
        paths: of the private copies.
        stats: what was measured of each image.
        bursts: a key of the camera burst that the image comes from, or "".
        report: what loading read, understood and skipped.
        held_out: whether the image lies in a validation folder of the source.
        multi_label: whether an image may carry several labels or none.
        transform: applied by ``images[i]`` and iterating only.
    """

    classes: tuple[str, ...]
    labels: Labels
    groups: tuple[int, ...]
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    stats: tuple[ImageStats, ...]
    bursts: tuple[str, ...]
    report: LoadReport
    held_out: tuple[bool, ...]
    _store: ImageStore
    multi_label: bool = False
    transform: Callable[[torch.Tensor], Any] | None = None

    def __repr__(self) -> str:
        """The number of images, and the classes; ``report`` says what was read."""
        names = join_names(self.classes, _MAX_NAMES_IN_REPR)
        return f"<LabelledImages: {len(self)} images of {len(self.classes)} classes: {names}>"

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Any, int | tuple[int, ...]]]:
        for i in range(len(self)):
            yield self[i]

    def __getitem__(self, key: int | slice) -> Any:
        """One image with its label; for a slice the subset of these images.

        Raises:
            IndexError: if the index is out of range.
            TypeError: if the key is neither an integer nor a slice.
            InputError: as ``pixels``.
            ValueError: as ``pixels``.
        """
        if isinstance(key, slice):
            return self.subset(range(len(self))[key])
        try:
            i = index(key)
        except TypeError as error:
            raise TypeError(
                f"images[...] takes a whole number or a slice, not {type(key).__name__}; images.subset([0, 3]) gives "
                "several."
            ) from error
        if not -len(self) <= i < len(self):
            raise IndexError(f"There is no image {i} among {len(self)}.")
        pixels = self.pixels(i % len(self))
        return (self.transform(pixels) if self.transform else pixels), self.labels[i]

    def with_transform(self, transform: Callable[[torch.Tensor], Any] | None) -> LabelledImages:
        """The same images; ``images[i]`` and iterating apply ``transform``, such as ``model.preprocess``.

        Training and all other methods see the pixels without it.
        """
        return replace(self, transform=transform)

    @property
    def label_sets(self) -> tuple[tuple[int, ...], ...]:
        """For each image the tuple of its class indices: one of them unless ``multi_label``."""
        if self.multi_label:
            return cast("tuple[tuple[int, ...], ...]", self.labels)
        return tuple((label,) for label in cast("tuple[int, ...]", self.labels))

    @property
    def targets(self) -> torch.Tensor:
        """The labels for a loss: int64 ``[N]``, or with ``multi_label`` float32 ``[N, classes]`` of 0 and 1."""
        if not self.multi_label:
            return torch.tensor(self.labels, dtype=torch.int64)
        targets = torch.zeros(len(self), len(self.classes))
        for row, labels in zip(targets, self.label_sets, strict=True):
            row[list(labels)] = 1
        return targets

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each class, classes without images included."""
        counts = Counter(label for labels in self.label_sets for label in labels)
        return {name: counts[label] for label, name in enumerate(self.classes)}

    @property
    def group_indices(self) -> list[list[int]]:
        """For each group the indices of its images."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i, group in enumerate(self.groups):
            groups[group].append(i)
        return list(groups.values())

    def pixels(self, i: int, side: int = DEFAULT_SIDE, interpolation: str = DEFAULT_INTERPOLATION) -> torch.Tensor:
        """Decode image ``i`` as ``read_pixels`` does, or take it from the cache.

        The cache holds one combination of side and interpolation, the last one asked for. Thread-safe.

        Args:
            i: index of the image.
            side: length of the shorter side in pixels.
            interpolation: one of ``decoding.INTERPOLATIONS``.

        Returns:
            uint8 ``[3, H, W]``. It may be the cache's own tensor, so do not write into it.

        Raises:
            InputError: if the file has been damaged or lost since it was loaded.
            ValueError: after ``close()``, or for an unknown interpolation.
        """
        try:
            return self._store.pixels(self.paths[i], side, interpolation)
        except ImageReadError as error:
            raise ImageReadError(self.names[i], error.reason) from error

    def subset(self, indices: Iterable[int]) -> LabelledImages:
        """The images at these indices, in this order, with all classes of the whole."""
        order = [int(i) for i in indices]
        columns: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in order) for name in _PER_IMAGE_FIELDS}
        return replace(self, **columns)

    def concatenate(self, other: LabelledImages) -> LabelledImages:
        """These images followed by others of the same store.

        The classes are those of ``self``, so the labels of ``other`` mean nothing until ``with_labels`` sets them.
        """
        columns: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in _PER_IMAGE_FIELDS}
        report, multi_label = self.report.concatenate(other.report), self.multi_label or other.multi_label
        return replace(self, report=report, multi_label=multi_label, **columns)

    def without(self, indices: Iterable[int]) -> LabelledImages:
        """Remove the images at these indices, and every class that has no image left."""
        removed = {int(i) for i in indices}
        others = self.subset(i for i in range(len(self)) if i not in removed)
        return others.with_labels(others.label_names)

    def without_class(self, name: str) -> LabelledImages:
        """Remove a class with its images; with ``multi_label`` the images stay and lose the label."""
        if self.multi_label:
            return self.with_labels([tuple(label for label in names if label != name) for names in self.label_names])
        return self.without(i for i, names in enumerate(self.label_names) if name in names)

    def rename_class(self, old: str, new: str) -> LabelledImages:
        """Rename a class; if another class has the new name, the two are merged.

        Raises:
            ValueError: if the new name is no string or is empty.
        """
        new = validate_class_name(new)
        return self.with_labels([tuple(new if name == old else name for name in names) for names in self.label_names])

    def relabel(self, image_index: int, name: str) -> LabelledImages:
        """Give one image another class, which may be a new one, in place of its labels.

        Raises:
            ValueError: if the name is no string or is empty.
        """
        name = validate_class_name(name)
        return self.with_labels([(name,) if i == image_index else names for i, names in enumerate(self.label_names)])

    @property
    def label_names(self) -> list[tuple[str, ...]]:
        """For each image the names of its classes."""
        return [tuple(self.classes[label] for label in labels) for labels in self.label_sets]

    def with_labels(self, label_names: Sequence[tuple[str, ...]]) -> LabelledImages:
        """Replace all labels and sort the images by class, then by name.

        Args:
            label_names: for each image, in the present order, the names of its classes.
        """
        label_names = [tuple(dict.fromkeys(names)) for names in label_names]
        classes = tuple(sorted({name for names in label_names for name in names}, key=natural_sort_key))
        index_of = {name: label for label, name in enumerate(classes)}
        order = sorted(
            range(len(self)),
            key=lambda i: ([natural_sort_key(n) for n in label_names[i]], natural_sort_key(self.names[i])),
        )
        label_sets = [tuple(sorted(index_of[name] for name in names)) for names in label_names]
        return replace(self, classes=classes, labels=_to_labels(label_sets, self.multi_label)).subset(order)

    def as_multi_label(self) -> LabelledImages:
        """The same images with ``multi_label``: each label becomes a tuple of one."""
        return replace(self, labels=self.label_sets, multi_label=True)

    def aligned_to(self, classes: tuple[str, ...], multi_label: bool) -> LabelledImages:
        """Reindex the labels for a model with other or more classes.

        Args:
            classes: the model's, in the order of its logits.
            multi_label: whether the model predicts several labels.

        Raises:
            InputError: if the images have a class that the model lacks, or several labels and the model does not.
        """
        if self.multi_label and not multi_label:
            raise InputError(
                "Some of these images carry several labels or none; adapt a model with multi_label=True for them."
            )
        if not set(self.classes) <= set(classes):
            raise InputError(
                f"The images show {', '.join(self.classes)}, but the model's classes are {', '.join(classes)}. "
                "Adapt a model with classes=images.classes."
            )
        aligned = self.as_multi_label() if multi_label else self
        return aligned if self.classes == classes else aligned._reorder_classes(classes)

    def _reorder_classes(self, classes: tuple[str, ...]) -> LabelledImages:
        new_index = [classes.index(name) for name in self.classes]
        label_sets = [tuple(sorted(new_index[label] for label in labels)) for labels in self.label_sets]
        return replace(self, classes=classes, labels=_to_labels(label_sets, self.multi_label))

    def split(
        self,
        validation: float = 0.2,
        seed: int = 0,
        training_indices: Collection[int] = (),
        validation_indices: Collection[int] = (),
    ) -> tuple[LabelledImages, LabelledImages]:
        """Split into ``(training, validation)``, the same for the same seed.

        If the source has a validation folder, its images are the validation side, apart from ``training_indices`` and
        their groups. Otherwise about the fraction ``validation`` of each class is drawn, in whole groups, with at least
        one image of each class on both sides.

        For a model that has been trained before, use ``model.seen.split(images)``, which fills in the indices.

        Args:
            validation: the fraction of the validation side.
            seed: of the random draw.
            training_indices: images that are on the training side, and with them the other images of their groups.
            validation_indices: images that are on the validation side, and with them the other images of their groups,
                unless these have an image in ``training_indices``. Only the remaining images are divided.

        Raises:
            InputError: if a class has only one image, or its groups leave it no image on one side.
            ValueError: if ``validation`` is not between 0 and 1.
        """
        if not 0.0 < validation < 1.0:
            raise ValueError(f"validation is a share between 0 and 1, such as 0.2, not {validation}.")
        in_training, in_validation = expand_sides_to_groups(
            self.group_indices, set(training_indices), set(validation_indices)
        )
        held_out = {i for i, is_held_out in enumerate(self.held_out) if is_held_out}
        if 0 < len(held_out) < len(self):
            held_out = in_validation | (held_out - in_training)
        else:
            held_out = self._sample_validation(validation, seed, in_validation, in_training)
        return self.subset(i for i in range(len(self)) if i not in held_out), self.subset(sorted(held_out))

    def shares_files_with(self, others: LabelledImages) -> bool:
        """Whether both use the same store, so that the files exist as long as either of them does."""
        return self._store is others._store

    def close(self) -> None:
        """Remove the private files, also for all datasets that share them; a second call does nothing."""
        self._store.close()

    def _sample_validation(
        self, validation: float, seed: int, validation_indices: set[int], training_indices: set[int]
    ) -> set[int]:
        """The indices of the validation side, drawn by ``stratified_group_split``."""
        label_sets = self.label_sets
        assigned = {self.classes[label] for i in validation_indices | training_indices for label in label_sets[i]}
        for name, count in self.counts.items():
            if count == 1 and name not in assigned:
                raise InputError(
                    f"The class '{name}' has one image; a class needs at least two, one to learn from and "
                    "one to check on. Add one or remove the class."
                )
        drawn, missing_label = stratified_group_split(
            label_sets, self.group_indices, validation, seed, validation_indices, training_indices
        )
        if missing_label is not None:
            raise InputError(self._explain_split_error(missing_label))
        return drawn

    def _explain_split_error(self, label: int) -> str:
        name = self.classes[label]
        bursts = {burst for burst, labels in zip(self.bursts, self.label_sets, strict=True) if label in labels}
        if len(bursts) == 1 and bursts != {""}:
            return (
                f"All images of '{name}' come from one burst of the camera. Take another, a moment later and from "
                "another side: one is learned from, the other checks."
            )
        return (
            f"The images of '{name}' look too much alike to learn from some and check with others: copies of one "
            "image, and frames of one burst, stay together. Add images of it that differ; before a camera turn it, or "
            "move it, and take another burst."
        )


def _to_labels(label_sets: Iterable[tuple[int, ...]], multi_label: bool) -> Labels:
    return tuple(label_sets) if multi_label else tuple(label for (label,) in label_sets)


def load_report_to_dict(images: LabelledImages) -> dict[str, Any]:
    """The report of loading as a dictionary for JSON, with the number of images in all and of each class."""
    report = images.report
    return {
        "images": len(images),
        "classes": images.counts,
        "understood": list(report.interpretation),
        "notes": list(report.notes),
        "skipped": [{"file": name, "reason": reason} for name, reason in report.skipped],
    }
