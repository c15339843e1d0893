"""Defines ``Classifier``: a backbone's stages with a head on top and the names of the classes.

It freezes and unfreezes stages and runs parts of the network. Knows nothing of how training goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import InputError
from headswap.common.plain_data import plain_value
from headswap.data.class_names import validate_class_name, validate_class_names
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.networks.head_interface import add_output, check_head, find_last_linear, has_map_input, is_solvable
from headswap.networks.prediction import ImagePredictor
from headswap.networks.preprocess import Preprocess
from headswap.networks.stage import (
    Stage,
    StagedNetwork,
    count_parameters,
    eval_mode,
    flatten_positions,
    list_stages,
    to_channels_last,
)

ACCURACY, MEAN_AVERAGE_PRECISION = "accuracy", "mean average precision"


@dataclass(frozen=True)
class StageSummary:
    """What a drawing shows of a stage.

    Attributes:
        name: of the stage.
        shape: of its output for one image: a map ``(channels, H, W)``, tokens ``(positions, channels)`` or a vector.
        num_parameters: of the stage.
        frozen: whether it is frozen.
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
class Classifier(ImagePredictor):
    """A module from float images ``[N, 3, H, W]``, as ``preprocess`` returns them, to logits ``[N, classes]``.

    Attributes:
        stages: the backbone's named stages in order, each a ``Stage``.
        pool: the pooling module between the last map and the head: pooling, norm, and for VGG its hidden layers.
        head: the classification head; a module that takes the pooled features ``[N, features]``, or, if it has an
            attribute ``input_kind = "map"``, the last map or tokens as ``[N, positions, channels]``.
        classes: the names of the classes, in the order of the logits.
        preprocess: the backbone's preprocessing.
        backbone: the name that ``adapt`` was given.
        pretrained: whether the backbone started from pretrained weights.
        note: a sentence about how the backbone was split into stages; mostly empty.
        multi_label: whether an image may show several classes or none; then each class has a probability of its own.
        record: how it was trained, a ``headswap.training.record.Record``; None before training.
        seen: which images it was trained and validated on; later trainings keep them apart.
        thresholds: only with ``multi_label``: the probability ``[classes]`` above which a class is predicted.
    """

    stages: nn.Sequential
    pool: Stage
    head: nn.Module
    classes: tuple[str, ...]
    note: str
    thresholds: Tensor

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
        """Combine the stages and pool of a network, whose modules are not copied, with a head.

        Args:
            staged_network: the backbone.
            head: gives a logit for each class.
            classes: names of the classes.
            preprocess: the backbone's preprocessing.
            backbone: name of the backbone.
            pretrained: whether the backbone has pretrained weights.
            multi_label: whether an image may show several classes or none.
        """
        super().__init__()
        self.stages, self.pool, self.head = staged_network.stages, staged_network.pool, head
        self._original_head = (staged_network.original_head,)  # a tuple, so that it is no submodule
        self._channel_dim = staged_network.channel_dim
        self.note = staged_network.note
        self.classes = tuple(classes)
        self.preprocess = preprocess
        self.backbone = backbone
        self.pretrained = pretrained
        self.multi_label = multi_label
        self.record: Any = None  # networks must not import training, where its class is
        self.seen: SeenImages = NO_SEEN_IMAGES
        if multi_label:
            self.register_buffer("thresholds", torch.full((len(self.classes),), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits ``[N, classes]`` of normalized images ``[N, 3, H, W]``."""
        return self.forward_logits(images)

    @property
    def staged_network(self) -> StagedNetwork:
        """The backbone as it was split, with the last layer that the head replaced."""
        return StagedNetwork(self.stages, self.pool, *self._original_head, self._channel_dim, self.note)

    @property
    def feature_stages(self) -> tuple[Stage, ...]:
        """The stages that an image passes before the head, in order: the stages and, for most heads, the pool."""
        stages = list_stages(self.stages)
        return stages if has_map_input(self.head) else (*stages, self.pool)

    def forward_logits(self, x: Tensor, start: int = 0) -> Tensor:
        """Compute logits ``[N, classes]`` from the input of feature stage ``start``."""
        logits: Tensor = self.head(self.forward_features(x, start))
        return logits

    def forward_features(self, x: Tensor, start: int = 0) -> Tensor:
        """Compute the head's input from the input of feature stage ``start``."""
        features = self.forward_stages(x, start)
        return flatten_positions(features, self._channel_dim) if has_map_input(self.head) else features

    def forward_stages(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run the feature stages from ``start`` to before ``stop``, by default all that follow."""
        x = to_channels_last(x)
        for stage in self.feature_stages[start:stop]:
            x = stage(x)
        return x

    @property
    def boundary(self) -> int:
        """Number of frozen feature stages, counted from the image on."""
        stages = self.feature_stages
        return next((i for i, stage in enumerate(stages) if not stage.frozen), len(stages))

    def get_boundary(self, num_unfrozen: int | None) -> int:
        """The boundary that there would be after ``unfreeze(num_unfrozen)``."""
        if num_unfrozen == 0:
            return len(self.feature_stages)
        return len(self.freezable_stages) - self._check_num_unfrozen(num_unfrozen)

    @property
    def learning_stages(self) -> tuple[str, ...]:
        """The names of the unfrozen stages, in order."""
        return tuple(name for name, stage in self._named_stages if not stage.frozen)

    def freeze(self) -> Classifier:
        """Freeze the backbone, so that only the head is trained."""
        return self.unfreeze(0)

    def unfreeze(self, num_stages: int | None = None) -> Classifier:
        """Unfreeze the last ``num_stages`` stages, or all if it is None, and freeze the stages before them.

        A pool with weights (VGG's hidden layers) counts as a stage; one without is frozen with the stage before it.

        Raises:
            ValueError: if there are not so many stages.
        """
        stages = self.freezable_stages
        num_frozen = len(stages) - self._check_num_unfrozen(num_stages)
        for i, stage in enumerate(stages):
            stage.freeze() if i < num_frozen else stage.unfreeze()
        if self.pool not in stages:
            self.pool.frozen = stages[-1].frozen
            self.pool.requires_grad_(not self.pool.frozen and not has_map_input(self.head))
        return self.train(self.training)

    @property
    def freezable_stages(self) -> tuple[Stage, ...]:
        """What the argument of ``unfreeze`` counts: the stages, and the pool if it has weights."""
        return self.feature_stages if count_parameters(self.pool) else list_stages(self.stages)

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
        """Summarize the stages for a drawing; the shapes come from running one black image."""
        x = next(self.parameters()).new_zeros(1, 3, self.preprocess.size, self.preprocess.size)
        rows = []
        with eval_mode(self), torch.inference_mode():
            for name, stage in self._named_stages:
                x = stage(x)
                nchw = x.movedim(self._channel_dim, 1) if x.ndim == 4 else x
                rows.append(StageSummary(name, tuple(nchw.shape[1:]), count_parameters(stage), stage.frozen))
        return tuple(rows)

    def count_flops_per_image(self) -> int:
        """Count the floating-point operations of the backbone for one image, on a black one.

        A multiplication and an addition are two; convolutions, matrix products and attention count, nothing else does.
        """
        from torch.utils.flop_counter import FlopCounterMode  # not with torch itself

        image = next(self.parameters()).new_zeros(1, 3, self.preprocess.size, self.preprocess.size)
        with eval_mode(self), torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.forward_features(image)
        flops: int = counter.get_total_flops()
        return flops

    def measure_seconds_per_image(self) -> float:
        """Measure the seconds that an image takes through the whole network on this machine, on four black ones."""
        images = next(self.parameters()).new_zeros(4, 3, self.preprocess.size, self.preprocess.size)
        with eval_mode(self), torch.inference_mode():
            began = perf_counter()
            self(images)
            seconds = perf_counter() - began
        return seconds / len(images)

    def check_head(self, head: nn.Module | None = None) -> None:
        """Check that a head takes this backbone's features and returns a logit for each class.

        A head that is solved cannot be checked before it was.

        Args:
            head: by default the model's own, which somebody may have replaced by assignment.

        Raises:
            InputError: if it does not.
        """
        head = self.head if head is None else head
        if not is_solvable(head):
            shape = self.staged_network.infer_feature_shape(self.preprocess.size, has_map_input(head))
            check_head(head, shape, len(self.classes))

    @property
    def metric(self) -> str:
        """The name of its score: "accuracy" or "mean average precision"."""
        return MEAN_AVERAGE_PRECISION if self.multi_label else ACCURACY

    def add_class(self, name: str) -> Classifier:
        """Add a class at the end; the other classes keep their weights, and those of the new one are random.

        Raises:
            ValueError: if the class is there already, its name is none, or the head does not end in a linear layer.
        """
        names = validate_class_names((*self.classes, validate_class_name(name)))
        layer = find_last_linear(self.head)
        refusal = "This head does not end in a linear layer with a row for each class; adapt the model anew."
        if layer is None or layer.out_features != len(self.classes):
            raise ValueError(refusal)
        path = next(path for path, module in self.head.named_modules() if module is layer)
        parent_path, _, attribute = path.rpartition(".")
        parent, attribute = (self.head.get_submodule(parent_path), attribute) if attribute else (self, "head")
        previous = self.classes
        setattr(parent, attribute, add_output(layer))
        self.classes = names
        try:
            self.check_head()
        except InputError as error:  # the layer was not the last one, but had as many outputs by chance
            setattr(parent, attribute, layer)
            self.classes = previous
            raise ValueError(refusal) from error
        if self.multi_label:
            self.thresholds = torch.cat([self.thresholds, self.thresholds.new_tensor([0.5])])
        return self


plain_value.register(Classifier, lambda model: model.backbone)
