"""``Classifier``: a backbone's stages with a head on top and the names of the classes.

The one place that knows what stands still and what learns, and that runs a part of the sequence. Knows nothing of where
images come from or how training goes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from time import perf_counter
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from headswap.common.errors import InputError, PictureError
from headswap.common.plain_data import plain_value
from headswap.data.class_names import class_name, class_names
from headswap.data.leakage import NOTHING_SEEN
from headswap.data.picture_inputs import KINDS, UNNAMED, Picture
from headswap.networks.build import build
from headswap.networks.heads import (
    Head,
    build_head,
    check_head,
    last_layer,
    own_name,
    solvable,
    takes_map,
    takes_option,
)
from headswap.networks.preprocess import CROPS, Preprocess, preprocess_of
from headswap.networks.split_torchvision import Parts, Stage, take_apart
from headswap.networks.stage import channels_last, count_weights
from headswap.networks.weights import Progress

Pictures = list[Picture] | tuple[Picture, ...]  # or an array or tensor of four axes
Ranked = list[tuple[str, float]]  # the classes with their probabilities, most likely first

BATCH = 16  # pictures that are answered together


@dataclass(frozen=True)
class StageOutline:
    """What can be said of a stage in a drawing.

    ``shape`` is its output for one image: a map ``(channels, H, W)``, tokens ``(positions, channels)`` or a vector.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    frozen: bool


class Classifier(nn.Module):
    """An ordinary module: float images ``[N, 3, H, W]`` as ``preprocess`` makes them in, logits ``[N, classes]`` out.

    Attributes:
        stages: the backbone's named stages in order, each a ``Stage``.
        pool: the room between the last map and the head: pooling, norm, and for VGG its hidden layers.
        head: what is trained first; a module that takes the pooled features ``[N, features]``, or, if it says so by an
            attribute ``takes = "map"``, the last map or tokens as ``[N, positions, channels]``.
        classes: the names of the classes, in the order of the logits.
        preprocess: how the backbone wants its pixels.
        backbone: the name that ``adapt`` was given.
        pretrained: whether the backbone started from learned weights.
        note: what is to be said of how the backbone came apart; mostly nothing.
        multi_label: whether an image may show several classes or none; then each class has a probability of its own.
        record: what it has been through, a ``headswap.training.record.Record``; None before it was taught.
        seen: which images it has learned from and which have judged it; going on keeps them apart.
        thresholds: only with ``multi_label``: the probability ``[classes]`` above which ``labels`` names a class.
    """

    def __init__(
        self,
        parts: Parts,
        head: nn.Module,
        classes: Sequence[str],
        preprocess: Preprocess,
        *,
        backbone: str,
        pretrained: bool,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.stages, self.pool, self.head = parts.stages, parts.pool, head
        self._last, self._channels = (parts.last,), parts.channels  # a tuple hides it: it is no part of this network
        self.note = parts.note
        self.classes = tuple(classes)
        self.preprocess = preprocess
        self.backbone = backbone
        self.pretrained = pretrained
        self.multi_label = multi_label
        self.record: Any = None
        self.seen = NOTHING_SEEN
        if multi_label:
            self.register_buffer("thresholds", torch.full((len(self.classes),), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images)

    @property
    def parts(self) -> Parts:
        """The backbone as it was taken apart, with the last layer that the head replaced."""
        return Parts(self.stages, self.pool, *self._last, self._channels, self.note)

    @property
    def sequence(self) -> tuple[Stage, ...]:
        """The parts that an image passes on its way to the head, in order: the stages and, for most heads, the pool."""
        return tuple(self.stages) if takes_map(self.head) else (*self.stages, self.pool)

    def logits(self, x: Tensor, start: int = 0) -> Tensor:
        """Logits ``[N, classes]`` from what stands before part ``start`` of ``sequence``."""
        return self.head(self.features(x, start))

    def features(self, x: Tensor, start: int = 0) -> Tensor:
        """What the head takes, from what stands before part ``start`` of ``sequence``."""
        features = self.run(x, start)
        return self._positions(features) if takes_map(self.head) else features

    def _positions(self, features: Tensor) -> Tensor:
        """A map or tokens as ``[N, positions, channels]``, whichever dimension holds the channels."""
        return features.movedim(self._channels, -1).flatten(1, -2)

    def run(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Send what stands before part ``start`` of ``sequence`` through the parts up to ``stop``."""
        x = channels_last(x)
        for part in self.sequence[start:stop]:
            x = part(x)
        return x

    @property
    def boundary(self) -> int:
        """How many parts of ``sequence`` stand still, counted from the image on."""
        sequence = self.sequence
        return next((i for i, part in enumerate(sequence) if not part.frozen), len(sequence))

    def boundary_of(self, learning: int | None) -> int:
        """The boundary that ``unfreeze(learning)`` would draw."""
        if learning == 0:
            return len(self.sequence)
        return len(self.countable) - self._checked(learning)

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """The names of the stages that learn, in order."""
        return tuple(name for name, stage in self._named if not stage.frozen)

    def freeze(self) -> Classifier:
        """Let only the head learn."""
        return self.unfreeze(0)

    def unfreeze(self, stages: int | None = None) -> Classifier:
        """Let the head and the last ``stages`` stages learn, everything if it is None; what lies before stands still.

        A pool with weights (VGG's hidden layers) counts as a stage; one without moves with the stage before it.
        """
        countable = self.countable
        still = len(countable) - self._checked(stages)
        for i, stage in enumerate(countable):
            stage.freeze() if i < still else stage.unfreeze()
        if self.pool not in countable:
            self.pool.frozen = countable[-1].frozen
            self.pool.requires_grad_(not self.pool.frozen and not takes_map(self.head))
        return self.train(self.training)

    @property
    def countable(self) -> tuple[Stage, ...]:
        """What "the last three stages" counts: the stages, and the pool if it has weights."""
        return self.sequence if count_weights(self.pool) else tuple(self.stages)

    @property
    def _named(self) -> tuple[tuple[str, Stage], ...]:
        names = [*dict(self.stages.named_children()), "pool"]
        return tuple(zip(names, self.countable, strict=False))

    def _checked(self, learning: int | None) -> int:
        count = len(self.countable)
        if learning is None:
            return count
        if not 0 <= learning <= count:
            raise ValueError(f"{self.backbone} has {count} stages, so {learning} of them cannot learn.")
        return learning

    def outline(self) -> tuple[StageOutline, ...]:
        """The stages as they stand, for a drawing; the shapes come from running one black image through them."""
        x = next(self.parameters()).new_zeros(1, 3, self.preprocess.size, self.preprocess.size)
        rows, training = [], self.training
        self.eval()
        with torch.inference_mode():
            for name, stage in self._named:
                x = stage(x)
                shown = x.movedim(self._channels, 1) if x.ndim == 4 else x
                rows.append(StageOutline(name, tuple(shown.shape[1:]), count_weights(stage), stage.frozen))
        self.train(training)
        return tuple(rows)

    @torch.inference_mode()
    def pace(self) -> float:
        """Seconds that a picture takes through the whole network on this machine, measured on four black ones."""
        training, pictures = self.training, next(self.parameters()).new_zeros(4, 3, *[self.preprocess.size] * 2)
        self.eval()
        began = perf_counter()
        self(pictures)
        self.train(training)
        return (perf_counter() - began) / len(pictures)

    def check_head(self, head: nn.Module | None = None) -> None:
        """Whether the head, which anybody may have replaced by assignment, or this one answers with a logit for each
        class; one that is solved cannot be asked before.

        Raises:
            InputError: if it does not, or cannot take this backbone's features.
        """
        head = self.head if head is None else head
        if not solvable(head):
            check_head(head, _features_shape(self.parts, self.preprocess.size, takes_map(head)), len(self.classes))

    @property
    def metric(self) -> str:
        """What its score is called: "accuracy" or "mean average precision"."""
        return AVERAGE_PRECISION if self.multi_label else ACCURACY

    def probabilities(self, pictures: Iterable[Picture]) -> Tensor:
        """Float32 ``[N, classes]`` on the processor, each row adding up to one unless ``multi_label``.

        Pictures are read and answered in batches of 16, so an iterator of many never lies in memory as a whole.

        Args:
            pictures: each a path, a file's bytes or binary stream, a PIL image, an array or a tensor (uint8, or floats
                from 0 to 1), of any size: whatever it is, it gets the answer of its file. A picture that is normalised
                already is for the model itself, ``model(batch)``, and a square that is cut out already for
                ``answer_squares``.

        Raises:
            InputError: if one cannot be read as a picture; it says which.
            TypeError: if one is no picture at all, or ``pictures`` is a single one.
        """
        one = isinstance(pictures, str | bytes | bytearray | memoryview) or hasattr(pictures, "read")
        if one or _axes(pictures) in (2, 3) or not isinstance(pictures, Iterable):
            raise TypeError(f"Several pictures are wanted here, each {KINDS}. Give a list, [picture], or ask predict.")
        return self._answered(pictures, "pictures[{}]")

    def answer_squares(self, squares: Tensor) -> Tensor:
        """Probabilities ``[N, classes]`` of uint8 ``[N, 3, size, size]``, which the network sees as they are.

        One at a time, so that an answer never depends on its neighbours, to the last bit.
        """
        with self._answering():
            rows = [self._logits(self.preprocess.normalise(square)[None]) for square in squares]
            return self._shares(rows)

    @overload
    def labels(self, picture: Picture) -> list[str]: ...
    @overload
    def labels(self, picture: Pictures) -> list[list[str]]: ...
    def labels(self, picture: Picture | Pictures) -> list[str] | list[list[str]]:
        """What a picture shows: the classes above their thresholds, or without ``multi_label`` the most likely one.

        Of a list of pictures, a list of such lists. Arguments and what is raised are those of ``predict``.
        """
        return self._each(picture, self._named_above)

    def _named_above(self, row: Tensor) -> list[str]:
        if not self.multi_label:
            return [self.classes[row.argmax()]]
        return [name for name, shown in zip(self.classes, row > self.thresholds.to(row.device), strict=True) if shown]

    @overload
    def predict(self, picture: Picture) -> Ranked: ...
    @overload
    def predict(self, picture: Pictures) -> list[Ranked]: ...
    def predict(self, picture: Picture | Pictures) -> Ranked | list[Ranked]:
        """The classes with their probabilities, most likely first; of a list of pictures, a list of such answers.

        Args:
            picture: as ``probabilities`` takes them, or a list or tuple of such, or an array or tensor of four axes.

        Raises:
            InputError: if it cannot be read as a picture.
            TypeError: if it is no picture at all.
        """
        return self._each(picture, self._ranked)

    def _ranked(self, row: Tensor) -> Ranked:
        return sorted(zip(self.classes, row.tolist(), strict=True), key=lambda pair: -pair[1])

    def _each(self, picture: Any, told: Callable[[Tensor], Any]) -> Any:
        if isinstance(picture, list | tuple) or _axes(picture) == 4:
            return [told(row) for row in self.probabilities(picture)]
        return told(self._answered([picture], UNNAMED)[0])

    def _answered(self, pictures: Iterable[Picture], name: str) -> Tensor:
        """As ``probabilities``; ``name`` is what to call a picture that has no name of its own, by its place."""
        with self._answering():
            numbered, rows = enumerate(pictures), []
            while batch := [self._prepared(one, name.format(i)) for i, one in islice(numbered, BATCH)]:
                rows.append(self._logits(torch.stack(batch)))
            return self._shares(rows)

    def _prepared(self, picture: Picture, name: str) -> Tensor:
        try:
            return self.preprocess(picture).to(next(self.parameters()).device)
        except PictureError as error:
            raise PictureError(name if error.name == UNNAMED else error.name, error.reason) from error
        except TypeError as error:
            raise TypeError(str(error) if name == UNNAMED else f"{name}: {error}") from error

    def _logits(self, images: Tensor) -> Tensor:
        """In whichever precision the weights have, and float32 in the end."""
        # Contiguous, because the last bit of an answer may depend on how the pixels lie in memory.
        try:
            logits = self(images.to(next(self.parameters())).contiguous())
        except RuntimeError:
            self.check_head()
            raise
        if not isinstance(logits, Tensor) or logits.shape[1:] != (len(self.classes),):
            self.check_head()  # which says what is wrong with a head that was assigned
        return logits.float().cpu()

    def _shares(self, logits: list[Tensor]) -> Tensor:
        together = torch.cat(logits) if logits else torch.empty(0, len(self.classes))
        return together.sigmoid() if self.multi_label else together.softmax(1)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(training)

    def add_class(self, name: str) -> Classifier:
        """One class more, at the end; the rows of the old classes keep their weights, the new one's are random.

        Raises:
            ValueError: if the class is there already, its name is none, or the head does not end in a linear layer.
        """
        names = class_names((*self.classes, class_name(name)))
        layer = last_layer(self.head)
        ends_otherwise = "This head does not end in a linear layer with a row for each class; adapt the model anew."
        if layer is None or layer.out_features != len(self.classes):
            raise ValueError(ends_otherwise)
        wider = nn.Linear(layer.in_features, len(names), layer.bias is not None).to(layer.weight)
        with torch.no_grad():
            for new, old in zip(wider.parameters(), layer.parameters(), strict=True):
                new[: len(old)] = old
        grown = copy.deepcopy(layer)  # it may be more than a layer: a head of its own, with its recipe
        grown.weight, grown.bias, grown.out_features = wider.weight, wider.bias, len(names)
        owner, _, place = next(n for n, m in self.head.named_modules() if m is layer).rpartition(".")
        home, place = (self.head.get_submodule(owner), place) if place else (self, "head")
        before = self.classes
        setattr(home, place, grown)
        self.classes = names
        try:
            self.check_head()
        except InputError as error:  # the layer was not the last one, but had as many rows by chance
            setattr(home, place, layer)
            self.classes = before
            raise ValueError(ends_otherwise) from error
        if self.multi_label:
            self.thresholds = torch.cat([self.thresholds, self.thresholds.new_tensor([0.5])])
        return self


def _axes(given: object) -> int:
    """How many axes an array or a tensor has; of anything else, 0."""
    return given.ndim if isinstance(given, np.ndarray | Tensor) else 0


def adapt(
    backbone: str | Classifier | nn.Module,
    classes: Sequence[str] | int,
    head: Head = "linear",
    pretrained: bool = True,
    multi_label: bool = False,
    crop: str | None = None,
    progress: Progress | None = None,
    head_options: Mapping[str, Any] | None = None,
    **more_head_options: Any,
) -> Classifier:
    """Give a pretrained network a new head.

    The backbone stands still at first; ``unfreeze`` says otherwise.

    Args:
        backbone: one of ``headswap.backbones()``, or a ``Classifier`` (whose backbone is kept as it has learned), or a
            classification network of torchvision or timm. A module is copied and stays as it was.
        classes: the names of the new classes in a list, or how many there are.
        head: one of ``headswap.heads.HEADS``, any callable ``(features_in, classes) -> nn.Module``, or a module, of
            which a copy is taken. It gives logits ``[N, classes]``.
        pretrained: start from ImageNet weights; without it everything is random. It says nothing of a module.
        multi_label: an image may show several of the classes, or none.
        crop: "centre", as the weights were measured, or "fit": the whole picture, squeezed to a square. By default the
            centre, or what a ``Classifier`` had.
        progress: called with the bytes of the weights that have come and all of them, while they are downloaded.
        head_options: the head's own options in a mapping, which is the way for one that is called like an argument of
            this function, as ``head_options={"crop": "fit"}``.
        more_head_options: the others by keyword, such as ``bottleneck_dim=256``.

    Raises:
        ValueError: for an unknown backbone, head or crop (with the nearest names), classes that are no names, an
            option that the head does not take, or a head that is solved with ``multi_label``.
        InputError: if the weights have to be downloaded and cannot be, a module cannot be taken apart, or the head
            does not give a logit for each class.
    """
    names = class_names(classes)
    meant = _meant_for_head(head, crop, progress) if head_options is None else {}
    crop, progress = (None if "crop" in meant else crop), (None if "progress" in meant else progress)
    head_options = {**(head_options or {}), **more_head_options, **meant}
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is a function (done, total) that is called meanwhile, not {progress!r}.")
    parts, preprocess, name, pretrained = _body(backbone, pretrained, progress)
    preprocess = replace(preprocess, crop=crop or preprocess.crop)
    told = {"backbone": name, "pretrained": pretrained, "multi_label": multi_label}
    model = _crowned(parts, preprocess, names, head, head_options, **told)
    if isinstance(backbone, Classifier):  # its stages may know these images
        model.seen = backbone.seen
    return model


def _meant_for_head(head: Head, crop: Any, progress: Any) -> dict[str, Any]:
    """Of these arguments of ``adapt`` those that can only be meant for the head, which has options of the same names.

    Raises:
        ValueError: where an argument may be meant either way.
    """
    meant = {}
    for name, value, fits in (("crop", crop, crop in CROPS), ("progress", progress, callable(progress))):
        if value is None or not takes_option(head, name):
            continue
        if fits:
            raise ValueError(
                f"The head {own_name(head)} has an option {name}, and so has adapt. Give the head's in a mapping, "
                f"head_options={{'{name}': ...}}; an empty one says that adapt's was meant."
            )
        meant[name] = value
    return meant


def crown(model: Classifier, head: Head, /, **head_options: Any) -> Classifier:
    """Another classifier on the very same backbone, which must stand still in both; as ``adapt``, but nothing is
    copied.

    Raises:
        ValueError: for an unknown head, or an option that it does not take.
    """
    told = {"backbone": model.backbone, "pretrained": model.pretrained, "multi_label": model.multi_label}
    crowned = _crowned(model.parts, model.preprocess, model.classes, head, head_options, **told)
    crowned.seen = model.seen
    return crowned


def _crowned(
    parts: Parts,
    preprocess: Preprocess,
    names: tuple[str, ...],
    head: Head,
    options: Mapping[str, Any],
    multi_label: bool,
    **told: Any,
) -> Classifier:
    whole_map = takes_map(head)
    shape = _features_shape(parts, preprocess.size, whole_map)
    new_head = build_head(head, shape[-1], len(names), **options)
    if takes_map(new_head) != whole_map:  # the callable did not say so of what it makes
        shape = _features_shape(parts, preprocess.size, not whole_map)
        new_head = build_head(head, shape[-1], len(names), **options)
    if not solvable(new_head):
        check_head(new_head, shape, len(names))
    if multi_label and solvable(new_head):
        raise ValueError(f"The head '{head}' tells one class from the others, so an image cannot have several labels.")
    return Classifier(parts, new_head, names, preprocess, multi_label=multi_label, **told).freeze()


def _body(
    backbone: str | Classifier | nn.Module, pretrained: bool, progress: Progress | None
) -> tuple[Parts, Preprocess, str, bool]:
    """Parts of a network of their own, how it wants its pixels, its name and whether it has learned anything."""
    if isinstance(backbone, str):
        return *build(backbone, pretrained, progress), backbone, pretrained
    if isinstance(backbone, Classifier):
        kept = copy.deepcopy(backbone)
        return kept.parts, kept.preprocess, kept.backbone, kept.pretrained
    network = copy.deepcopy(backbone)
    return take_apart(network), preprocess_of(network), type(network).__name__, True


def features_in(parts: Parts) -> int:
    """How wide the features are that a network's original last layer takes."""
    layer = next(m for m in parts.last.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    return layer.weight.shape[1]


def map_channels(parts: Parts, size: int) -> int:
    """How many channels the last map or the tokens have."""
    return _features_shape(parts, size, True)[-1]


def _features_shape(parts: Parts, size: int, whole_map: bool) -> tuple[int, ...]:
    """The shape of what a head takes of one image; nothing is computed, only shapes are passed on."""
    if not whole_map:
        return (features_in(parts),)
    tensors = chain(parts.stages.named_parameters(), parts.stages.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    image = torch.empty(1, 3, size, size, device="meta")
    with torch.no_grad():
        features = torch.func.functional_call(parts.stages, shapes, (image,))
    return tuple(features.movedim(parts.channels, -1).flatten(1, -2).shape[1:])


plain_value.register(Classifier, lambda model: model.backbone)


ACCURACY, AVERAGE_PRECISION = "accuracy", "mean average precision"
