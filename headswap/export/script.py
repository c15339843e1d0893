"""A training as one script of plain PyTorch: the lesson to take home.

What a model was taught by, its network, its head and its plan, becomes a page of Python that needs nothing of this
library: only what this plan and this head need stands in it. Names of classes and files are somebody else's text, so
they enter it as literals and in no other way.

Knows where a network's parts lie in the network itself. Does not know how anything is learned here: the template beside
it says it once more in its own words, and ``benchmarks/ejected.py`` looks that both come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from torch import nn
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.data import sources
from headswap.data.dataset import LabelledImages
from headswap.data.decoding import has_16_bit_colors
from headswap.networks.build import build_unsplit_network, get_random_init_kwargs
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import TIMM_PREFIX, Backbone, find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import has_map_input
from headswap.networks.head_registry import HeadConfig, get_head_config
from headswap.networks.heads import ACTIVATIONS
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import StagedNetwork, count_parameters, get_in_features, get_map_channels
from headswap.networks.timm_modules import BoundModule
from headswap.training.plan import Phase, Plan
from headswap.training.trainer import SOLVED_HEAD_LOSS_RATIO

MAX_LINE_LENGTH = 120  # characters of a line
TEMPLATE_NAME = "script.py.jinja"
SCRIPT_IMAGE_SUFFIXES = tuple(
    sorted(sources.IMAGE_EXTENSIONS - sources.HEIC_EXTENSIONS)
)  # that the script looks for: Pillow alone reads no HEIC


def eject(model: Classifier, images: LabelledImages | None = None, folder: str = "images") -> str:
    """The training of a model as one Python script that needs torch, torchvision and perhaps timm, and no headswap.

    ``python script.py FOLDER`` learns as the model did, says how many validation images it names rightly and writes its
    weights beside itself; ``python script.py --predict a.jpg`` answers with them.

    Args:
        model: that was taught here; its ``record`` has the plan.
        images: that it was taught from. The script then holds back the same of them; without images it draws its own.
        folder: where the script looks for the images, unless it is told another one.

    Raises:
        InputError: if the model was never taught, its backbone or its head has no name, or the images are others.
    """
    if model.record is None:
        raise InputError("This model was not taught yet, so there is no training to write down; train it first.")
    network = _NetworkSource(model)
    told = {
        **_plan_variables(model, network),
        **_image_variables(model, images),
        **network.template_variables(),
        "folder": folder,
    }
    told["deep_colours"] = images is None or any(map(has_16_bit_colors, images.paths))
    return _load_template().render(told)


def to_python_literal(value: Any) -> str:
    """Python source that means exactly this text, number, or list, dict or set of such; with double quotes."""
    if isinstance(value, str):
        said = repr(value)
        return f'"{said[1:-1]}"' if said[0] == "'" and '"' not in said else said
    if isinstance(value, dict):
        return f"{{{', '.join(f'{to_python_literal(k)}: {to_python_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | set):
        opened, closed = "[]" if isinstance(value, list) else "{}"
        return (
            f"{opened}{', '.join(map(to_python_literal, sorted(value) if isinstance(value, set) else value))}{closed}"
        )
    return repr(value)


def format_assignment(name: str, value: list | dict | set) -> str:
    """``name = value`` on one line, or on several with as many items on each as it holds."""
    line = f"{name} = {to_python_literal(value)}"
    if len(line) <= MAX_LINE_LENGTH:
        return line
    if isinstance(value, dict):
        items = [f"{to_python_literal(key)}: {to_python_literal(item)}," for key, item in value.items()]
    else:
        items = [f"{to_python_literal(item)}," for item in (sorted(value) if isinstance(value, set) else value)]
    opened, closed = "[]" if isinstance(value, list) else "{}"
    return "\n".join(["# fmt: off", f"{name} = {opened}", *_wrap_items(items), closed, "# fmt: on"])


def _wrap_items(items: Iterable[str]) -> Iterator[str]:
    row = ""
    for item in items:
        if row and len(row) + 1 + len(item) > MAX_LINE_LENGTH:
            yield row
            row = ""
        row = f"{row} {item}" if row else f"    {item}"
        if len(row) > MAX_LINE_LENGTH:
            yield f"{row}  # noqa: E501"
            row = ""
    if row:
        yield row


@lru_cache(maxsize=1)
def _load_template() -> Template:
    house = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates"), encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=False,  # it is no HTML; whatever is somebody else's text goes through `literal`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    house.filters["literal"] = to_python_literal
    house.globals["assigned"] = format_assignment
    return house.get_template(TEMPLATE_NAME)


# The network


class _NetworkSource:
    """A model's network as its authors made it, without any numbers, and where the model's parts lie in it."""

    def __init__(self, model: Classifier) -> None:
        self.model, self.backbone_info, self.recipe = model, _find_named_backbone(model), _find_built_in_head(model)
        # Nothing is drawn on the meta device, but some networks draw beside it.
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            self.network, _ = build_unsplit_network(self.backbone_info.name, pretrained=False)
            self.parts = split_into_stages(self.network.eval())
        self.uses_feature_map = has_map_input(model.head)
        counted = not self.uses_feature_map and count_parameters(self.parts.pool)
        self.freezable_stages = [*self.parts.stages, *([self.parts.pool] if counted else [])]
        self._pool_without_stage = (
            [] if self.uses_feature_map or counted else [self.parts.pool]
        )  # goes with the last stage

    def template_variables(self) -> dict[str, Any]:
        wanted = self.model.preprocess
        return {
            "row": self.backbone_info,
            "pretrained": self.model.pretrained,
            "build": self._constructor_source(),
            "package": BUNDLED.get(self.backbone_info.name),
            "swap": self._head_removal_source(),
            "head": self.recipe.head_name,
            "options": dict(self.recipe.options),
            "activations": {name: kind.__name__ for name, kind in ACTIVATIONS.items()},
            "root": bool(getattr(getattr(self.model.head, "normalise", None), "root", False)),
            "width": get_map_channels(self.parts, wanted.size)
            if self.uses_feature_map
            else get_in_features(self.parts),
            "map": self._feature_map_source() if self.uses_feature_map else None,
            "wanted": wanted,
            "norms": sorted(self._batch_norm_types()),
            "endings": list(SCRIPT_IMAGE_SUFFIXES),
            "last": "model.head.linear" if self.uses_feature_map else "model.head[-1]",
        }

    def trainable_expressions(self, phase: Phase) -> list[tuple[str, float]]:
        """The parts that learn beneath the head, as expressions, each with its highest rate."""
        count = len(self.freezable_stages) if phase.learning_stages is None else phase.learning_stages
        if not count:
            return []
        stages = [*self.freezable_stages[len(self.freezable_stages) - count :], *self._pool_without_stage]
        if phase.layer_decay == 1:
            return [(path, phase.backbone_lr) for path in self._minimal_expressions(stages)]
        weighing = [stage for stage in stages if count_parameters(stage)]
        rated: list[tuple[str, float]] = []
        for depth, stage in enumerate(reversed(weighing)):
            rated[:0] = [
                (path, phase.backbone_lr * phase.layer_decay**depth) for path in self._minimal_expressions([stage])
            ]
        return rated

    def trainable_stage_names(self, phase: Phase) -> list[str]:
        """The names of the stages that learn."""
        names = [*dict(self.parts.stages.named_children()), "pool"][: len(self.freezable_stages)]
        return names if phase.learning_stages is None else names[len(names) - phase.learning_stages :]

    def _constructor_source(self) -> str:
        name = self.backbone_info.name
        if self.backbone_info.source == "bundled":
            return f'timm.create_model("{BUNDLED[name].timm_name}")'
        if self.backbone_info.source == "timm":
            return f'timm.create_model("{name.removeprefix(TIMM_PREFIX)}", pretrained={self.model.pretrained})'
        if self.model.pretrained:
            return f'models.get_model("{name}", weights="DEFAULT")'
        options = "".join(f", {key}={value}" for key, value in get_random_init_kwargs(self.backbone_info).items())
        return f'models.get_model("{name}", weights=None{options})'

    def _head_removal_source(self) -> str:
        """The line that takes the last layer away."""
        if isinstance(self.network, tv.SqueezeNet):
            return "backbone.classifier = nn.AdaptiveAvgPool2d(1)"
        if self.backbone_info.source != "torchvision":
            self._check_reset_classifier()
            return "backbone.reset_classifier(0)"
        return f"{self._to_expression(self._module_path(self.parts.original_head))} = nn.Identity()"

    def _check_reset_classifier(self) -> None:
        """timm's networks are too many to know them all, so it is tried on another one without numbers."""
        side = self.model.preprocess.size
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            other, _ = build_unsplit_network(self.backbone_info.name, pretrained=False)
            other.eval().reset_classifier(0)
            shape = other(torch.empty(1, 3, side, side)).shape
        if shape != (1, get_in_features(self.parts)):
            raise self._unaddressable_error()

    def _feature_map_source(self) -> dict[str, Any]:
        """Which module's output is the last map, and how it becomes positions."""
        (*_, last), side = list(self.parts.stages.children()), self.model.preprocess.size
        modules = [module.module if isinstance(module, BoundModule) else module for module in last]
        relu = isinstance(modules[-1], nn.ReLU) and modules[-1] not in set(self.network.modules())
        path = self._module_path(modules[-2 if relu else -1])
        shape = {"ndim": _feature_map_ndim(self.parts, side), "channels": self.parts.channel_dim}
        return {"module": self._to_expression(path), "relu": relu, **shape}

    def _module_path(self, module: nn.Module) -> str:
        path = next((name for name, known in self.network.named_modules() if known is module and name), None)
        if path is None:
            raise self._unaddressable_error()
        return path

    def _unaddressable_error(self) -> InputError:
        return InputError(
            f"The parts of {self.backbone_info.name} do not lie in it as modules of its own, so no script can name them. Choose "
            "the linear head and a plan whose stages stand still, or one of torchvision's networks."
        )

    def _batch_norm_types(self) -> set[str]:
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
        return {
            f"nn.{kind.__name__}" for kind in kinds for module in self.network.modules() if isinstance(module, kind)
        }

    def _minimal_expressions(self, stages: Iterable[nn.Module]) -> list[str]:
        """The fewest modules of the network that hold what these stages hold, and nothing of any other stage."""
        wanted = {key for stage in stages for key in _trainable_ids(stage)}
        owned = {key for part in (*self.parts.stages, self.parts.pool) for key in _trainable_ids(part)}
        if wanted >= owned:
            return ["backbone"]
        found = list(_iter_covering_modules(self.network, wanted, owned))
        if {key for _, _, keys in found for key in keys} != wanted:
            raise self._unaddressable_error()
        said = [(self._to_expression(path), loose) for path, loose, _ in found]
        alone = ", ".join(text for text, loose in said if loose)
        return [text for text, loose in said if not loose] + ([f"nn.ParameterList([{alone}])"] if alone else [])

    def _to_expression(self, path: str) -> str:
        """A module or parameter of the network as Python writes it: ``backbone.features[3].conv``."""
        said, module = "backbone", self.network
        for name in path.split("."):
            if name.isdigit() and isinstance(module, nn.Sequential | nn.ModuleList):
                said += f"[{name}]"
            else:
                said += f".{name}" if name.isidentifier() else f".get_submodule({to_python_literal(name)})"
            module = getattr(module, name)
        return said


def _find_named_backbone(model: Classifier) -> Backbone:
    try:
        return find_backbone(model.backbone)
    except ValueError as error:
        raise InputError(
            f"The backbone {model.backbone} was given as a module, so a script cannot say where it comes from. Adapt "
            "the model by one of the names of headswap.backbones(), or by timm/<name>."
        ) from error


def _find_built_in_head(model: Classifier) -> HeadConfig:
    made = get_head_config(model.head)
    if made is None or made.head_name not in ("linear", "bottleneck", "mlp", "attention", "lda"):
        name = made.head_name if made else type(model.head).__name__
        raise InputError(
            f"The head {name} is somebody's own, so a script cannot say how it is built. Adapt the model with one of "
            "the heads linear, bottleneck, mlp, attention and lda, or copy your head's class into such a script."
        )
    return made


def _feature_map_ndim(parts: StagedNetwork, input_size: int) -> int:
    """How many dimensions the last map has; only shapes are passed on."""
    with torch.no_grad():
        return parts.stages(torch.empty(1, 3, input_size, input_size, device="meta")).ndim


def _trainable_ids(module: nn.Module) -> set[int]:
    """What of a module makes a difference when it learns: its weights, and its dropout."""
    dropouts = (m for m in module.modules() if isinstance(m, nn.Dropout) and m.p)
    return {id(thing) for thing in (*module.parameters(), *dropouts)}


def _iter_covering_modules(
    module: nn.Module, wanted_ids: set[int], known_ids: set[int], prefix: str = ""
) -> Iterator[tuple[str, bool, set[int]]]:
    """Paths of what holds wanted things alone, whether each is a parameter by itself, and what it holds."""
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) in wanted_ids:
            yield f"{prefix}{name}", True, {id(parameter)}
    for name, child in module.named_children():
        held = _trainable_ids(child) & known_ids
        if held and held <= wanted_ids:
            yield f"{prefix}{name}", False, held
        elif held & wanted_ids:
            yield from _iter_covering_modules(child, wanted_ids, known_ids, f"{prefix}{name}.")


# The plan


@dataclass(frozen=True)
class _ScriptPhase:
    """A phase as the script goes through it."""

    number: int
    phase: Phase
    batch_size: int
    trainable: list[tuple[str, float]]  # beneath the head
    stage_names: list[str]  # of the stages that learn
    computes_features: bool  # frozen features have to be computed before it
    is_first_unfreeze: bool  # stages learn for the first time

    @property
    def trainable_text(self) -> str:
        """What learns, in words."""
        if self.trainable[0][0] == "backbone":
            return "Everything learns"
        first, *_, last = *self.stage_names, self.stage_names[-1]
        return f"The stages from {first} to {last} learn" if len(self.stage_names) > 1 else f"The stage {first} learns"

    @property
    def learning_rates(self) -> str:
        """A dict of what learns to its highest rate, as Python writes it."""
        pairs = [f"{part}: {rate!r}" for part, rate in [*self.trainable, ("model.head", self.phase.head_lr)]]
        line = f"{{{', '.join(pairs)}}}"
        if len(f"    rates = {line}") <= MAX_LINE_LENGTH:
            return line
        return "\n".join(["{", *(f"        {pair}," for pair in pairs), "    }"])


def _plan_variables(model: Classifier, source: _NetworkSource) -> dict[str, Any]:
    plan = _effective_plan(model)
    steps = list(_iter_script_phases(plan, source))
    solved = source.recipe.head_name == "lda"
    thaws = any(step.is_first_unfreeze for step in steps)
    learns = [step for step in steps if step.trainable or not solved]
    return {
        "plan": plan,
        "steps": steps,
        "record": model.record,
        "multi_label": model.multi_label,
        "solves": solved and any(not step.trainable for step in steps),
        "learns": bool(learns),
        "schedules": sorted({step.phase.schedule for step in learns}),
        "thaws": thaws,
        # Nothing is soft to begin with unless the head learned before.
        "soften": (plan.head_loss_ratio or (SOLVED_HEAD_LOSS_RATIO if solved else 0.0))
        if thaws and not steps[0].trainable
        else 0.0,
        "between": plan.checkpoint == "between" and thaws and plan.weight_interpolation < 1,
        "best": bool(learns) and plan.checkpoint == "best",
        "patience": plan.patience if learns else None,
    }


def _effective_plan(model: Classifier) -> Plan:
    """The plan, or the part of it whose network was kept in place of what it came to."""
    plan, kept = model.record.plan, model.record.checkpoint
    if kept == "reference":
        return replace(plan, phases=(replace(plan.phases[0], learning_stages=0),), checkpoint="last")
    if kept == "frozen":
        still = next((i for i, phase in enumerate(plan.phases) if phase.learning_stages != 0), len(plan.phases))
        return replace(plan, phases=plan.phases[:still] or plan.phases, checkpoint="last")
    return plan


def _iter_script_phases(plan: Plan, network: _NetworkSource) -> Iterator[_ScriptPhase]:
    ready = thawed = False
    for number, phase in enumerate(plan.phases, 1):
        learning = network.trainable_expressions(phase)
        names = network.trainable_stage_names(phase) if learning else []
        size = phase.batch_size or plan.batch_size
        yield _ScriptPhase(
            number, phase, size, learning, names, not learning and not ready, bool(learning) and not thawed
        )
        ready, thawed = not learning, thawed or bool(learning)


# The images


def _image_variables(model: Classifier, images: LabelledImages | None) -> dict[str, Any]:
    told: dict[str, Any] = {"classes": list(model.classes), "held_back": None, "table": None, "class_of": None}
    told["accents"] = not all(map(str.isascii, (*model.classes, *(images.names if images else ()))))
    if images is None:
        return told
    images = images.aligned_to(model.classes, model.multi_label)
    _, checked = model.seen.split(images, model.record.plan.validation_fraction, model.record.plan.seed)
    depth = _class_folder_depth(images)
    if depth is None:
        labels = [list(shown) for shown in images.labels] if model.multi_label else images.labels
        return {**told, "table": dict(zip(images.names, labels, strict=True)), "held_back": set(checked.names)}
    folders = {
        name.split("/")[depth]: images.classes[label] for name, label in zip(images.names, images.labels, strict=True)
    }
    renamed = any(folder != name for folder, name in folders.items())
    inside = {"/".join(name.split("/")[depth:]) for name in checked.names}
    return {**told, "held_back": inside, "class_of": folders if renamed else None}


def _class_folder_depth(images: LabelledImages) -> int | None:
    """How many folders stand above those that say the class; None where folders do not say it, or not all of it."""
    # Where images were taken out or could not be read, the folders hold more than is wanted.
    unread = any(Path(name).suffix.lower() in SCRIPT_IMAGE_SUFFIXES for name, _ in images.report.skipped)
    if images.multi_label or any(images.held_out) or unread or len(images) != images.report.num_read:
        return None
    parts = [name.split("/") for name in images.names]
    for depth in range(min(map(len, parts)) - 1):
        if len({tuple(some[:depth]) for some in parts}) > 1:
            return None
        pairs = {(some[depth], label) for some, label in zip(parts, images.labels, strict=True)}
        if len(pairs) == len(dict(pairs)):
            return depth
    return None
