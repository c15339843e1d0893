"""Finds Python expressions for the parts of a Classifier in the network that timm or torchvision builds.

Knows how a script builds a network, removes its last layer and names the modules that are trained. Knows nothing of the
plan and the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import nn
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.common.text import join_names
from headswap.export.python_source import to_python_literal
from headswap.networks.build import build_unsplit_network, get_random_init_kwargs
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import TIMM_PREFIX, Backbone, find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import has_map_input
from headswap.networks.head_registry import HeadConfig, get_head_config
from headswap.networks.heads import ACTIVATIONS
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import Stage, StagedNetwork, count_parameters, get_in_features, get_map_channels
from headswap.networks.timm_modules import BoundModule
from headswap.training.plan import Phase

SCRIPT_HEADS = ("linear", "bottleneck", "mlp", "attention", "lda")  # that the template can build


class ScriptNetwork:
    """A model's backbone as its library builds it, on the meta device, and the places of the model's parts in it.

    Attributes:
        head_name: the name of the model's head.
        freezable_stages: the stages of the backbone that a phase counts, in order.

    Raises:
        InputError: if the backbone or the head cannot be built by name.
    """

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._info, self._head_config = _find_named_backbone(model), _find_script_head(model)
        self.head_name: str = self._head_config.head_name
        # On the meta device nothing is drawn by torch, but some networks draw random numbers elsewhere.
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            self._backbone, _ = build_unsplit_network(self._info.name, pretrained=False)
            self._staged = split_into_stages(self._backbone.eval())
        self._has_map_input = has_map_input(model.head)
        stages, pool = list(self._staged.stages.children()), self._staged.pool
        pool_is_stage = not self._has_map_input and count_parameters(pool) > 0
        self.freezable_stages: list[nn.Module] = [*stages, pool] if pool_is_stage else stages
        # A pool that is not a stage is trained with the last stage.
        self._pool_after_stages: list[nn.Module] = [] if self._has_map_input or pool_is_stage else [pool]

    def template_variables(self) -> dict[str, Any]:
        """What the template needs to build the network, its head and its preprocessing."""
        preprocess = self._model.preprocess
        if self._has_map_input:
            in_features, feature_map = get_map_channels(self._staged, preprocess.size), self._feature_map_source()
        else:
            in_features, feature_map = get_in_features(self._staged), None
        return {
            "info": self._info,
            "pretrained": self._model.pretrained,
            "constructor": self._constructor_source(),
            "package": BUNDLED.get(self._info.name),
            "head_removal": self._head_removal_source(),
            "head": self.head_name,
            "options": dict(self._head_config.options),
            "activations": {name: activation.__name__ for name, activation in ACTIVATIONS.items()},
            "root_features": bool(getattr(getattr(self._model.head, "normalise", None), "root", False)),
            "in_features": in_features,
            "feature_map": feature_map,
            "preprocess": preprocess,
            "batch_norms": sorted(self._batch_norm_types()),
            "last_layer": "model.head.linear" if self._has_map_input else "model.head[-1]",
        }

    def trainable_expressions(self, phase: Phase) -> list[tuple[str, float]]:
        """The parts of the backbone that a phase trains, as Python expressions, each with its peak learning rate."""
        stages = self._trained_stages(phase)
        if not stages:
            return []
        if phase.layer_decay == 1:
            modules = [*stages, *self._pool_after_stages]
            return [(source, phase.backbone_lr) for source in self._minimal_expressions(modules)]
        with_weights = [stage for stage in (*stages, *self._pool_after_stages) if count_parameters(stage)]
        expressions: list[tuple[str, float]] = []
        for depth, stage in enumerate(reversed(with_weights)):
            lr = phase.backbone_lr * phase.layer_decay**depth
            expressions[:0] = [(source, lr) for source in self._minimal_expressions([stage])]
        return expressions

    def trainable_stage_names(self, phase: Phase) -> list[str]:
        """The names of the stages that a phase trains."""
        names = [*dict(self._staged.stages.named_children()), "pool"][: len(self.freezable_stages)]
        return names[len(names) - len(self._trained_stages(phase)) :]

    def _trained_stages(self, phase: Phase) -> list[nn.Module]:
        total = len(self.freezable_stages)
        return self.freezable_stages[total - (total if phase.learning_stages is None else phase.learning_stages) :]

    def _constructor_source(self) -> str:
        name = self._info.name
        if self._info.source == "bundled":
            return f'timm.create_model("{BUNDLED[name].timm_name}")'
        if self._info.source == "timm":
            return f'timm.create_model("{name.removeprefix(TIMM_PREFIX)}", pretrained={self._model.pretrained})'
        if self._model.pretrained:
            return f'models.get_model("{name}", weights="DEFAULT")'
        options = "".join(f", {key}={value}" for key, value in get_random_init_kwargs(self._info).items())
        return f'models.get_model("{name}", weights=None{options})'

    def _head_removal_source(self) -> str:
        """The line that removes the last layer."""
        if isinstance(self._backbone, tv.SqueezeNet):
            return "backbone.classifier = nn.AdaptiveAvgPool2d(1)"
        if self._info.source != "torchvision":
            self._check_reset_classifier()
            return "backbone.reset_classifier(0)"
        return f"{self._to_expression(self._module_path(self._staged.original_head))} = nn.Identity()"

    def _check_reset_classifier(self) -> None:
        """Try ``reset_classifier`` on another instance: not every network of timm gives its features after it."""
        size = self._model.preprocess.size
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            network: Any = build_unsplit_network(self._info.name, pretrained=False)[0]
            network.eval().reset_classifier(0)
            shape = network(torch.empty(1, 3, size, size)).shape
        if shape != (1, get_in_features(self._staged)):
            raise self._unaddressable_error()

    def _feature_map_source(self) -> dict[str, Any]:
        """Which module's output is the last feature map, and its layout."""
        last_stage = cast(Stage, self._staged.stages[-1])
        modules = [module.module if isinstance(module, BoundModule) else module for module in last_stage]
        adds_relu = isinstance(modules[-1], nn.ReLU) and modules[-1] not in set(self._backbone.modules())
        path = self._module_path(modules[-2 if adds_relu else -1])
        size = self._model.preprocess.size
        return {
            "module": self._to_expression(path),
            "relu": adds_relu,
            "ndim": _feature_map_ndim(self._staged, size),
            "channel_dim": self._staged.channel_dim,
        }

    def _module_path(self, module: nn.Module) -> str:
        for name, candidate in self._backbone.named_modules():
            if candidate is module and name:
                return str(name)
        raise self._unaddressable_error()

    def _unaddressable_error(self) -> InputError:
        return InputError(
            f"The parts of {self._info.name} do not lie in it as modules of its own, so no script can name them. "
            "Choose the linear head and a plan whose stages stand still, or one of torchvision's networks."
        )

    def _batch_norm_types(self) -> set[str]:
        types = (nn.BatchNorm1d, nn.BatchNorm2d)
        return {
            f"nn.{type_.__name__}" for type_ in types if any(isinstance(m, type_) for m in self._backbone.modules())
        }

    def _minimal_expressions(self, stages: Iterable[nn.Module]) -> list[str]:
        """The fewest modules of the network that hold what these stages hold and nothing of other stages."""
        wanted = {id_ for stage in stages for id_ in _trainable_ids(stage)}
        known = {id_ for part in (*self._staged.stages.children(), self._staged.pool) for id_ in _trainable_ids(part)}
        if wanted >= known:
            return ["backbone"]
        found = list(_iter_covering_modules(self._backbone, wanted, known))
        if {id_ for _, _, ids in found for id_ in ids} != wanted:
            raise self._unaddressable_error()
        modules = [self._to_expression(path) for path, is_parameter, _ in found if not is_parameter]
        parameters = ", ".join(self._to_expression(path) for path, is_parameter, _ in found if is_parameter)
        return modules + ([f"nn.ParameterList([{parameters}])"] if parameters else [])

    def _to_expression(self, path: str) -> str:
        """A module or parameter of the network as Python source: ``backbone.features[3].conv``."""
        source, module = "backbone", self._backbone
        for name in path.split("."):
            if name.isdigit() and isinstance(module, nn.Sequential | nn.ModuleList):
                source += f"[{name}]"
            else:
                source += f".{name}" if name.isidentifier() else f".get_submodule({to_python_literal(name)})"
            module = getattr(module, name)
        return source


def _find_named_backbone(model: Classifier) -> Backbone:
    try:
        return find_backbone(model.backbone)
    except ValueError as error:
        raise InputError(
            f"The backbone {model.backbone} was given as a module, so a script cannot say where it comes from. Adapt "
            "the model by one of the names of headswap.backbones(), or by timm/<name>."
        ) from error


def _find_script_head(model: Classifier) -> HeadConfig:
    config = get_head_config(model.head)
    if config is None or config.head_name not in SCRIPT_HEADS:
        name = config.head_name if config else type(model.head).__name__
        raise InputError(
            f"The script's template cannot build the head {name}. Adapt the model with one of the heads "
            f"{join_names(SCRIPT_HEADS)}, or copy your head's class into such a script."
        )
    return config


def _feature_map_ndim(staged: StagedNetwork, input_size: int) -> int:
    with torch.no_grad():
        feature_map: torch.Tensor = staged.stages(torch.empty(1, 3, input_size, input_size, device="meta"))
    return feature_map.ndim


def _trainable_ids(module: nn.Module) -> set[int]:
    """The ids of what training changes or uses in a module: its parameters, and its active dropout layers."""
    dropouts = (m for m in module.modules() if isinstance(m, nn.Dropout) and m.p)
    return {id(part) for part in (*module.parameters(), *dropouts)}


def _iter_covering_modules(
    module: nn.Module, wanted_ids: set[int], known_ids: set[int], prefix: str = ""
) -> Iterator[tuple[str, bool, set[int]]]:
    """The paths of modules that hold wanted parts alone, whether each is a single parameter, and what it holds."""
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) in wanted_ids:
            yield f"{prefix}{name}", True, {id(parameter)}
    for name, child in module.named_children():
        held = _trainable_ids(child) & known_ids
        if held and held <= wanted_ids:
            yield f"{prefix}{name}", False, held
        elif held & wanted_ids:
            yield from _iter_covering_modules(child, wanted_ids, known_ids, f"{prefix}{name}.")
