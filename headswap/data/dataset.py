"""``LabelledImages``: images with their classes, the report of their loading, their store, and a fair split.

Knows nothing of where images come from or how they got their classes, nor of networks, and of pixels only how
to ask for them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import index
from pathlib import Path
from typing import Any

import torch

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import ImageReadError, InputError
from headswap.common.text import format_image_count, natural_sort_key
from headswap.data.class_names import validate_class_name
from headswap.data.duplicates import ImageStats
from headswap.data.splits import stratified_group_split
from headswap.data.store import DEFAULT_INTERPOLATION, DEFAULT_SIDE, ImageStore

_PER_IMAGE_FIELDS = ("labels", "groups", "names", "paths", "stats", "bursts", "held_out")


@renamed_attributes(read="num_read", understood="interpretation")
@dataclass(frozen=True)
class LoadReport:
    """What loading did: how many images it read, what it understood, which files it skipped and why, and what else
    to know."""

    num_read: int
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason)
    notes: tuple[str, ...] = ()
    interpretation: tuple[str, ...] = ()  # a sentence for each table of labels, and for the halves

    def __str__(self) -> str:
        lines = [
            f"{format_image_count(self.num_read)} read, {len(self.skipped)} skipped.",
            *self.interpretation,
            *self.notes,
        ]
        return "\n".join(lines + [f"{name}: {reason}." for name, reason in self.skipped])


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
    """Images with their classes, in a fixed order: by class, then by name.

    A map-style dataset, as ``torch.utils.data`` calls it: ``images[i]`` and iterating give ``(uint8 tensor [3, H, W],
    label)``; where an image may carry several labels or none (``multi_label``), a label is the tuple of them. Images
    differ in size; ``images.with_transform(model.preprocess)`` is ready for a ``DataLoader``, with workers or without.
    It can be pickled: a copy in another process reads the same files for as long as the original is not let go of.

    Halves and subsets share their parent's files and
    decoded pixels; the files go away with the last that shares them, or by ``close()``. Copies of one image
    and the frames of one burst are one group. To keep more together that belongs together (one plant, one
    patient), give them the same group: ``dataclasses.replace(images, groups=...)``.
    """

    classes: tuple[str, ...]  # naturally sorted: photo2 before photo10
    labels: tuple[int, ...] | tuple[tuple[int, ...], ...]  # places in classes: one an image, or several or none
    groups: tuple[int, ...]  # a group never sits on both sides of a split
    names: tuple[str, ...]  # as the source has them, for people; never used as paths
    paths: tuple[Path, ...]  # the private copies
    stats: tuple[ImageStats, ...]  # what was measured of each
    bursts: tuple[str, ...]  # the series of a camera that each comes from, or ""
    report: LoadReport
    held_out: tuple[bool, ...]  # lies in a validation folder
    _store: ImageStore
    multi_label: bool = False
    transform: Callable[[torch.Tensor], Any] | None = None  # of what iterating and `images[i]` give; nothing else asks

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Any, int | tuple[int, ...]]]:
        for i in range(len(self)):
            yield self[i]

    def __getitem__(self, key: int | slice) -> Any:
        """One image with its label; or for a slice the images there, as ``subset`` gives them.

        Raises:
            IndexError: beyond the last.
            TypeError: for anything else, such as a list of places.
            InputError, ValueError: as ``pixels``.
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
        """The same, of which ``images[i]`` and iterating give what ``transform`` makes of the pixels, such as
        ``model.preprocess``; training and everything else here see the pixels as they are."""
        return replace(self, transform=transform)

    @property
    def label_sets(self) -> tuple[tuple[int, ...], ...]:
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
        counted = Counter(label for labels in self.label_sets for label in labels)
        return {name: counted[label] for label, name in enumerate(self.classes)}

    @property
    def group_indices(self) -> list[list[int]]:
        """The places of the images of each group."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i, group in enumerate(self.groups):
            groups[group].append(i)
        return list(groups.values())

    def pixels(self, i: int, side: int = DEFAULT_SIDE, interpolation: str = DEFAULT_INTERPOLATION) -> torch.Tensor:
        """Image ``i`` as ``read_pixels`` gives it: uint8 ``[3, H, W]``.

        The tensor is the store's own, so do not write into it. The store keeps one combination of side and
        interpolation, the one asked for last. Threads may ask at once.

        Raises:
            InputError: if the file has been damaged or lost since it was loaded.
            ValueError: after ``close()``, or for an unknown interpolation.
        """
        try:
            return self._store.pixels(self.paths[i], side, interpolation)
        except ImageReadError as error:
            raise ImageReadError(self.names[i], error.reason) from error

    def subset(self, indices: Iterable[int]) -> LabelledImages:
        """The images at these places, in this order, with all the classes of the whole."""
        places = [int(i) for i in indices]
        return replace(self, **{name: tuple(getattr(self, name)[i] for i in places) for name in _PER_IMAGE_FIELDS})

    def concatenate(self, other: LabelledImages) -> LabelledImages:
        """These and then others of the same store, which show nothing until ``showing`` says what."""
        report = LoadReport(
            self.report.num_read + other.report.num_read,
            self.report.skipped + other.report.skipped,
            self.report.notes + other.report.notes,
            self.report.interpretation + other.report.interpretation,
        )
        columns = {name: getattr(self, name) + getattr(other, name) for name in _PER_IMAGE_FIELDS}
        return replace(self, report=report, multi_label=self.multi_label or other.multi_label, **columns)

    def without(self, indices: Iterable[int]) -> LabelledImages:
        """The others; a class that loses all its images goes with them."""
        gone = {int(i) for i in indices}
        kept = self.subset(i for i in range(len(self)) if i not in gone)
        return kept.with_labels(kept.label_names)

    def without_class(self, name: str) -> LabelledImages:
        """The same without a class: its images go, but where there are several labels only the label does."""
        if self.multi_label:
            return self.with_labels([tuple(label for label in names if label != name) for names in self.label_names])
        return self.without(i for i, names in enumerate(self.label_names) if name in names)

    def rename_class(self, old: str, new: str) -> LabelledImages:
        """The same with another name for a class; under the name of another class, both become one.

        Raises:
            ValueError: if the new name is no text, or an empty one.
        """
        new = validate_class_name(new)
        return self.with_labels([tuple(new if name == old else name for name in names) for names in self.label_names])

    def relabel(self, image_index: int, name: str) -> LabelledImages:
        """The same with another class for one image; ``ValueError`` if its name is no text, or an empty one."""
        name = validate_class_name(name)
        return self.with_labels([(name,) if i == image_index else names for i, names in enumerate(self.label_names)])

    @property
    def label_names(self) -> list[tuple[str, ...]]:
        """For each image the names of what it shows."""
        return [tuple(self.classes[label] for label in labels) for labels in self.label_sets]

    def with_labels(self, label_names: Sequence[tuple[str, ...]]) -> LabelledImages:
        """The same images showing something else: the names of each one's classes; sorted anew."""
        label_names = [tuple(dict.fromkeys(names)) for names in label_names]
        classes = tuple(sorted({name for names in label_names for name in names}, key=natural_sort_key))
        places = {name: place for place, name in enumerate(classes)}
        order = sorted(
            range(len(self)),
            key=lambda i: ([natural_sort_key(n) for n in label_names[i]], natural_sort_key(self.names[i])),
        )
        labels = [tuple(sorted(places[name] for name in names)) for names in label_names]
        labelled = replace(
            self,
            classes=classes,
            labels=tuple(labels if self.multi_label else (label for (label,) in labels)),
        )
        return labelled.subset(order)

    def as_multi_label(self) -> LabelledImages:
        """The same images, each with a tuple of labels even where every image has just one."""
        return replace(self, labels=self.label_sets, multi_label=True)

    def aligned_to(self, classes: tuple[str, ...], multi_label: bool) -> LabelledImages:
        """The images for a model of these classes, in its order, with several labels each if it is one of
        ``multi_label``. They need not show all of them.

        Raises:
            InputError: if they show a class that the model does not know.
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
        fitting = self.as_multi_label() if multi_label else self
        return fitting if self.classes == classes else fitting._reorder_classes(classes)

    def _reorder_classes(self, classes: tuple[str, ...]) -> LabelledImages:
        places = [classes.index(name) for name in self.classes]
        shown = [tuple(sorted(places[label] for label in labels)) for labels in self.label_sets]
        return replace(self, classes=classes, labels=tuple(shown if self.multi_label else (s[0] for s in shown)))

    def split(
        self,
        validation: float = 0.2,
        seed: int = 0,
        training_indices: Collection[int] = (),
        validation_indices: Collection[int] = (),
    ) -> tuple[LabelledImages, LabelledImages]:
        """Two halves ``(training, validation)``, the same for the same seed.

        Where the source had a validation folder, that is the validation half whatever the share and the seed.
        Otherwise about the share ``validation`` of each class is drawn, groups whole, at least one image of
        each class on both sides.

        It knows of no model. One that has learned already says by ``model.seen.split(images)`` which images it has
        learned from.

        Args:
            validation: the share of the validation half.
            seed: of the draw.
            learned: places of images that are in the training half, whatever else is said of them; what is new in
                their groups goes with them.
            judged: places of images that are in the validation half, and what is new in groups of theirs alone. Only
                the other images are divided.

        Raises:
            InputError: if a class has only one image, or groups leave a class no second side.
            ValueError: if ``validation`` does not lie between 0 and 1.
        """
        if not 0.0 < validation < 1.0:
            raise ValueError(f"validation is a share between 0 and 1, such as 0.2, not {validation}.")
        kept, held = self._expand_to_groups(set(training_indices), set(validation_indices))
        held_out = {i for i, held in enumerate(self.held_out) if held}
        if 0 < len(held_out) < len(self):
            held_out = held | (held_out - kept)
        else:
            held_out = self._sample_validation(validation, seed, held, kept)
        return self.subset(i for i in range(len(self)) if i not in held_out), self.subset(sorted(held_out))

    def shares_files_with(self, others: LabelledImages) -> bool:
        """Whether they come from the same loading, so that one keeps the files of the other."""
        return self._store is others._store

    def close(self) -> None:
        """Remove the private files now, for everyone who shares them. Closing twice does no harm."""
        self._store.close()

    def _expand_to_groups(self, training_indices: set[int], validation_indices: set[int]) -> tuple[set[int], set[int]]:
        """These on their sides, and on the same ones whatever belongs to them and is on none: first to ``learned``."""
        kept, held = set(training_indices), validation_indices - training_indices
        if kept or held:
            for group in self.group_indices:
                new = set(group) - training_indices - validation_indices
                if not training_indices.isdisjoint(group):
                    kept |= new
                elif not validation_indices.isdisjoint(group):
                    held |= new
        return kept, held

    def _sample_validation(
        self, validation: float, seed: int, validation_indices: set[int], training_indices: set[int]
    ) -> set[int]:
        shown = self.label_sets
        known = {self.classes[label] for i in validation_indices | training_indices for label in shown[i]}
        for name, images in self.counts.items():
            if images == 1 and name not in known:
                raise InputError(
                    f"The class '{name}' has one image; a class needs at least two, one to learn from and "
                    "one to check on. Add one or remove the class."
                )
        drawn, torn = stratified_group_split(
            self.label_sets, self.group_indices, validation, seed, validation_indices, training_indices
        )
        if torn is not None:
            raise InputError(self._explain_split_error(torn))
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
            f"The groups leave the class '{name}' no image on one side of the split, because copies of one image, and "
            "the frames of one burst, stay together. Add images of it that differ."
        )


def load_report_to_dict(images: LabelledImages) -> dict[str, Any]:
    """What loading images understood: their number, the classes, and all that its report says."""
    report = images.report
    return {
        "images": len(images),
        "classes": images.counts,
        "understood": list(report.interpretation),
        "notes": list(report.notes),
        "skipped": [{"file": name, "reason": reason} for name, reason in report.skipped],
    }
