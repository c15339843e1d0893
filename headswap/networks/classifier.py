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

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import ImageReadError, InputError
from headswap.common.plain_data import plain_value
from headswap.data.class_names import validate_class_name, validate_class_names
from headswap.data.leakage import NO_SEEN_IMAGES
from headswap.data.picture_inputs import ACCEPTED_INPUTS, UNNAMED_IMAGE, ImageInput
from headswap.networks.build import build_staged_network
from headswap.networks.heads import (
    HeadSpec,
    build_head,
    check_head,
    find_last_linear,
    get_head_name,
    has_head_option,
    has_map_input,
    is_solvable,
)
from headswap.networks.preprocess import CROP_MODES, Preprocess, get_preprocess
from headswap.networks.split_torchvision import Stage, StagedNetwork, split_into_stages
from headswap.networks.stage import count_parameters, to_channels_last
from headswap.networks.weights import DownloadProgress

ImageInputs = list[ImageInput] | tuple[ImageInput, ...]  # or an array or tensor of four axes
RankedClasses = list[tuple[str, float]]  # the classes with their probabilities, most likely first

PREDICT_BATCH_SIZE = 16  # pictures that are answered together


@dataclass(frozen=True)
class StageSummary:
    """What can be said of a stage in a drawing.

    ``shape`` is its output for one image: a map ``(channels, H, W)``, tokens ``(positions, channels)`` or a vector.
    """

    name: str
    shape: tuple[int, ...]
    num_parameters: int
    frozen: bool


@renamed_attributes(
    logits="forward_logits",
    features="forward_features",
    outline="summarize_stages",
    probabilities="predict_proba",
    labels="predict_labels",
)
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
        staged_network: StagedNetwork,
        head: nn.Module,
        classes: Sequence[str],
        preprocess: Preprocess,
        *,
        backbone: str,
        pretrained: bool,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.stages, self.pool, self.head = staged_network.stages, staged_network.pool, head
        self._original_head, self._channel_dim = (
            (staged_network.original_head,),
            staged_network.channel_dim,
        )  # a tuple hides it: it is no part of this network
        self.note = staged_network.note
        self.classes = tuple(classes)
        self.preprocess = preprocess
        self.backbone = backbone
        self.pretrained = pretrained
        self.multi_label = multi_label
        self.record: Any = None
        self.seen = NO_SEEN_IMAGES
        if multi_label:
            self.register_buffer("thresholds", torch.full((len(self.classes),), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_logits(images)

    @property
    def staged_network(self) -> StagedNetwork:
        """The backbone as it was taken apart, with the last layer that the head replaced."""
        return StagedNetwork(self.stages, self.pool, *self._original_head, self._channel_dim, self.note)

    @property
    def feature_stages(self) -> tuple[Stage, ...]:
        """The parts that an image passes on its way to the head, in order: the stages and, for most heads, the pool."""
        return tuple(self.stages) if has_map_input(self.head) else (*self.stages, self.pool)

    def forward_logits(self, x: Tensor, start: int = 0) -> Tensor:
        """Logits ``[N, classes]`` from what stands before part ``start`` of ``sequence``."""
        return self.head(self.forward_features(x, start))

    def forward_features(self, x: Tensor, start: int = 0) -> Tensor:
        """What the head takes, from what stands before part ``start`` of ``sequence``."""
        features = self.forward_stages(x, start)
        return self._flatten_positions(features) if has_map_input(self.head) else features

    def _flatten_positions(self, features: Tensor) -> Tensor:
        """A map or tokens as ``[N, positions, channels]``, whichever dimension holds the channels."""
        return features.movedim(self._channel_dim, -1).flatten(1, -2)

    def forward_stages(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Send what stands before part ``start`` of ``sequence`` through the parts up to ``stop``."""
        x = to_channels_last(x)
        for part in self.feature_stages[start:stop]:
            x = part(x)
        return x

    @property
    def boundary(self) -> int:
        """How many parts of ``sequence`` stand still, counted from the image on."""
        sequence = self.feature_stages
        return next((i for i, part in enumerate(sequence) if not part.frozen), len(sequence))

    def get_boundary(self, num_unfrozen: int | None) -> int:
        """The boundary that ``unfreeze(learning)`` would draw."""
        if num_unfrozen == 0:
            return len(self.feature_stages)
        return len(self.freezable_stages) - self._check_num_unfrozen(num_unfrozen)

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """The names of the stages that learn, in order."""
        return tuple(name for name, stage in self._named_stages if not stage.frozen)

    def freeze(self) -> Classifier:
        """Let only the head learn."""
        return self.unfreeze(0)

    def unfreeze(self, num_stages: int | None = None) -> Classifier:
        """Let the head and the last ``stages`` stages learn, everything if it is None; what lies before stands still.

        A pool with weights (VGG's hidden layers) counts as a stage; one without moves with the stage before it.
        """
        countable = self.freezable_stages
        still = len(countable) - self._check_num_unfrozen(num_stages)
        for i, stage in enumerate(countable):
            stage.freeze() if i < still else stage.unfreeze()
        if self.pool not in countable:
            self.pool.frozen = countable[-1].frozen
            self.pool.requires_grad_(not self.pool.frozen and not has_map_input(self.head))
        return self.train(self.training)

    @property
    def freezable_stages(self) -> tuple[Stage, ...]:
        """What "the last three stages" counts: the stages, and the pool if it has weights."""
        return self.feature_stages if count_parameters(self.pool) else tuple(self.stages)

    @property
    def _named_stages(self) -> tuple[tuple[str, Stage], ...]:
        names = [*dict(self.stages.named_children()), "pool"]
        return tuple(zip(names, self.freezable_stages, strict=False))

    def _check_num_unfrozen(self, num_unfrozen: int | None) -> int:
        count = len(self.freezable_stages)
        if num_unfrozen is None:
            return count
        if not 0 <= num_unfrozen <= count:
            raise ValueError(f"{self.backbone} has {count} stages, so {num_unfrozen} of them cannot learn.")
        return num_unfrozen

    def summarize_stages(self) -> tuple[StageSummary, ...]:
        """The stages as they stand, for a drawing; the shapes come from running one black image through them."""
        x = next(self.parameters()).new_zeros(1, 3, self.preprocess.size, self.preprocess.size)
        rows, training = [], self.training
        self.eval()
        with torch.inference_mode():
            for name, stage in self._named_stages:
                x = stage(x)
                shown = x.movedim(self._channel_dim, 1) if x.ndim == 4 else x
                rows.append(StageSummary(name, tuple(shown.shape[1:]), count_parameters(stage), stage.frozen))
        self.train(training)
        return tuple(rows)

    @torch.inference_mode()
    def measure_seconds_per_image(self) -> float:
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
        if not is_solvable(head):
            check_head(
                head,
                _infer_feature_shape(self.staged_network, self.preprocess.size, has_map_input(head)),
                len(self.classes),
            )

    @property
    def metric(self) -> str:
        """What its score is called: "accuracy" or "mean average precision"."""
        return MEAN_AVERAGE_PRECISION if self.multi_label else ACCURACY

    def predict_proba(self, images: Iterable[ImageInput]) -> Tensor:
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
        one = isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")
        if one or _get_ndim(images) in (2, 3) or not isinstance(images, Iterable):
            raise TypeError(
                f"Several pictures are wanted here, each {ACCEPTED_INPUTS}. Give a list, [picture], or ask predict."
            )
        return self._predict_in_batches(images, "pictures[{}]")

    def predict_proba_cropped(self, pixels: Tensor) -> Tensor:
        """Probabilities ``[N, classes]`` of uint8 ``[N, 3, size, size]``, which the network sees as they are.

        One at a time, so that an answer never depends on its neighbours, to the last bit.
        """
        with self._inference_mode():
            rows = [self._forward_float32(self.preprocess.normalize(square)[None]) for square in pixels]
            return self._to_probabilities(rows)

    @overload
    def predict_labels(self, picture: ImageInput) -> list[str]: ...
    @overload
    def predict_labels(self, picture: ImageInputs) -> list[list[str]]: ...
    def predict_labels(self, image: ImageInput | ImageInputs) -> list[str] | list[list[str]]:
        """What a picture shows: the classes above their thresholds, or without ``multi_label`` the most likely one.

        Of a list of pictures, a list of such lists. Arguments and what is raised are those of ``predict``.
        """
        return self._predict_each(image, self._labels_above_threshold)

    def _labels_above_threshold(self, row: Tensor) -> list[str]:
        if not self.multi_label:
            return [self.classes[row.argmax()]]
        return [name for name, shown in zip(self.classes, row > self.thresholds.to(row.device), strict=True) if shown]

    @overload
    def predict(self, picture: ImageInput) -> RankedClasses: ...
    @overload
    def predict(self, picture: ImageInputs) -> list[RankedClasses]: ...
    def predict(self, image: ImageInput | ImageInputs) -> RankedClasses | list[RankedClasses]:
        """The classes with their probabilities, most likely first; of a list of pictures, a list of such answers.

        Args:
            picture: as ``probabilities`` takes them, or a list or tuple of such, or an array or tensor of four axes.

        Raises:
            InputError: if it cannot be read as a picture.
            TypeError: if it is no picture at all.
        """
        return self._predict_each(image, self._rank_classes)

    def _rank_classes(self, row: Tensor) -> RankedClasses:
        return sorted(zip(self.classes, row.tolist(), strict=True), key=lambda pair: -pair[1])

    def _predict_each(self, image: Any, convert_row: Callable[[Tensor], Any]) -> Any:
        if isinstance(image, list | tuple) or _get_ndim(image) == 4:
            return [convert_row(row) for row in self.predict_proba(image)]
        return convert_row(self._predict_in_batches([image], UNNAMED_IMAGE)[0])

    def _predict_in_batches(self, images: Iterable[ImageInput], name_template: str) -> Tensor:
        """As ``probabilities``; ``name`` is what to call a picture that has no name of its own, by its place."""
        with self._inference_mode():
            numbered, rows = enumerate(images), []
            while batch := [
                self._preprocess_image(one, name_template.format(i)) for i, one in islice(numbered, PREDICT_BATCH_SIZE)
            ]:
                rows.append(self._forward_float32(torch.stack(batch)))
            return self._to_probabilities(rows)

    def _preprocess_image(self, image: ImageInput, name: str) -> Tensor:
        try:
            return self.preprocess(image).to(next(self.parameters()).device)
        except ImageReadError as error:
            raise ImageReadError(name if error.name == UNNAMED_IMAGE else error.name, error.reason) from error
        except TypeError as error:
            raise TypeError(str(error) if name == UNNAMED_IMAGE else f"{name}: {error}") from error

    def _forward_float32(self, images: Tensor) -> Tensor:
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

    def _to_probabilities(self, logits: list[Tensor]) -> Tensor:
        together = torch.cat(logits) if logits else torch.empty(0, len(self.classes))
        return together.sigmoid() if self.multi_label else together.softmax(1)

    @contextmanager
    def _inference_mode(self) -> Iterator[None]:
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
        names = validate_class_names((*self.classes, validate_class_name(name)))
        layer = find_last_linear(self.head)
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


def _get_ndim(value: object) -> int:
    """How many axes an array or a tensor has; of anything else, 0."""
    return value.ndim if isinstance(value, np.ndarray | Tensor) else 0


def adapt(
    backbone: str | Classifier | nn.Module,
    classes: Sequence[str] | int,
    head: HeadSpec = "linear",
    pretrained: bool = True,
    multi_label: bool = False,
    crop: str | None = None,
    progress: DownloadProgress | None = None,
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
    names = validate_class_names(classes)
    meant = _find_head_options(head, crop, progress) if head_options is None else {}
    crop, progress = (None if "crop" in meant else crop), (None if "progress" in meant else progress)
    head_options = {**(head_options or {}), **more_head_options, **meant}
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is a function (done, total) that is called meanwhile, not {progress!r}.")
    parts, preprocess, name, pretrained = _resolve_backbone(backbone, pretrained, progress)
    preprocess = replace(preprocess, crop=crop or preprocess.crop)
    told = {"backbone": name, "pretrained": pretrained, "multi_label": multi_label}
    model = _build_classifier(parts, preprocess, names, head, head_options, **told)
    if isinstance(backbone, Classifier):  # its stages may know these images
        model.seen = backbone.seen
    return model


def _find_head_options(head: HeadSpec, crop: Any, progress: Any) -> dict[str, Any]:
    """Of these arguments of ``adapt`` those that can only be meant for the head, which has options of the same names.

    Raises:
        ValueError: where an argument may be meant either way.
    """
    meant = {}
    for name, value, fits in (("crop", crop, crop in CROP_MODES), ("progress", progress, callable(progress))):
        if value is None or not has_head_option(head, name):
            continue
        if fits:
            raise ValueError(
                f"The head {get_head_name(head)} has an option {name}, and so has adapt. Give the head's in a mapping, "
                f"head_options={{'{name}': ...}}; an empty one says that adapt's was meant."
            )
        meant[name] = value
    return meant


def attach_head(model: Classifier, head: HeadSpec, /, **head_options: Any) -> Classifier:
    """Another classifier on the very same backbone, which must stand still in both; as ``adapt``, but nothing is
    copied.

    Raises:
        ValueError: for an unknown head, or an option that it does not take.
    """
    told = {"backbone": model.backbone, "pretrained": model.pretrained, "multi_label": model.multi_label}
    crowned = _build_classifier(model.staged_network, model.preprocess, model.classes, head, head_options, **told)
    crowned.seen = model.seen
    return crowned


def _build_classifier(
    staged_network: StagedNetwork,
    preprocess: Preprocess,
    class_labels: tuple[str, ...],
    head: HeadSpec,
    options: Mapping[str, Any],
    multi_label: bool,
    **classifier_kwargs: Any,
) -> Classifier:
    whole_map = has_map_input(head)
    shape = _infer_feature_shape(staged_network, preprocess.size, whole_map)
    new_head = build_head(head, shape[-1], len(class_labels), **options)
    if has_map_input(new_head) != whole_map:  # the callable did not say so of what it makes
        shape = _infer_feature_shape(staged_network, preprocess.size, not whole_map)
        new_head = build_head(head, shape[-1], len(class_labels), **options)
    if not is_solvable(new_head):
        check_head(new_head, shape, len(class_labels))
    if multi_label and is_solvable(new_head):
        raise ValueError(f"The head '{head}' tells one class from the others, so an image cannot have several labels.")
    return Classifier(
        staged_network, new_head, class_labels, preprocess, multi_label=multi_label, **classifier_kwargs
    ).freeze()


def _resolve_backbone(
    backbone: str | Classifier | nn.Module, pretrained: bool, progress: DownloadProgress | None
) -> tuple[StagedNetwork, Preprocess, str, bool]:
    """Parts of a network of their own, how it wants its pixels, its name and whether it has learned anything."""
    if isinstance(backbone, str):
        return *build_staged_network(backbone, pretrained, progress), backbone, pretrained
    if isinstance(backbone, Classifier):
        kept = copy.deepcopy(backbone)
        return kept.staged_network, kept.preprocess, kept.backbone, kept.pretrained
    network = copy.deepcopy(backbone)
    return split_into_stages(network), get_preprocess(network), type(network).__name__, True


def get_in_features(staged_network: StagedNetwork) -> int:
    """How wide the features are that a network's original last layer takes."""
    layer = next(m for m in staged_network.original_head.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    return layer.weight.shape[1]


def get_map_channels(staged_network: StagedNetwork, size: int) -> int:
    """How many channels the last map or the tokens have."""
    return _infer_feature_shape(staged_network, size, True)[-1]


def _infer_feature_shape(staged_network: StagedNetwork, size: int, is_map_input: bool) -> tuple[int, ...]:
    """The shape of what a head takes of one image; nothing is computed, only shapes are passed on."""
    if not is_map_input:
        return (get_in_features(staged_network),)
    tensors = chain(staged_network.stages.named_parameters(), staged_network.stages.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    image = torch.empty(1, 3, size, size, device="meta")
    with torch.no_grad():
        features = torch.func.functional_call(staged_network.stages, shapes, (image,))
    return tuple(features.movedim(staged_network.channel_dim, -1).flatten(1, -2).shape[1:])


plain_value.register(Classifier, lambda model: model.backbone)


ACCURACY, MEAN_AVERAGE_PRECISION = "accuracy", "mean average precision"
