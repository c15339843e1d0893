"""A network of the catalogue with its weights: built, taken apart, and with how it wants its pixels.

Knows nothing of heads and of training.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.networks.catalogue import (
    BUNDLED,
    TIMM_PREFIX,
    Backbone,
    WeightsPackage,
    find_backbone,
    find_package_weights,
    get_default_weights,
)
from headswap.networks.preprocess import Preprocess, _get_timm_preprocess, get_preprocess
from headswap.networks.split_torchvision import StagedNetwork, split_into_stages
from headswap.networks.weights import DownloadError, DownloadProgress, download_from_hub, download_to_torch_cache


def build_staged_network(
    name: str, pretrained: bool = True, progress: DownloadProgress | None = None
) -> tuple[StagedNetwork, Preprocess]:
    """A network taken apart, with how it wants its pixels.

    Args:
        name: one of ``backbones()``, or ``timm/<name>``.
        pretrained: with learned weights; otherwise random ones, and nothing is downloaded.
        progress: called as ``progress(bytes done, bytes in all)`` while weights are downloaded; for those from the
            Hugging Face hub only at the beginning and the end. What it raises ends the download.

    Raises:
        ValueError: for an unknown name.
        InputError: if there are no weights, or they would have to be downloaded and cannot be, or their file is
            damaged.
    """
    network, preprocess = build_unsplit_network(name, pretrained, progress)
    return split_into_stages(network), preprocess


def build_unsplit_network(
    name: str, pretrained: bool = True, progress: DownloadProgress | None = None
) -> tuple[nn.Module, Preprocess]:
    """The same in one piece, as its authors made it, with its original last layer; arguments as for ``build``."""
    row = find_backbone(name)
    build_one = {"bundled": _build_bundled, "torchvision": _build_torchvision, "timm": _build_timm}[row.source]
    return build_one(row, pretrained, progress)


def _build_bundled(info: Backbone, pretrained: bool, _: DownloadProgress | None) -> tuple[nn.Module, Preprocess]:
    package = BUNDLED[info.name]
    network = timm.create_model(package.timm_name, pretrained=False)
    if pretrained:
        theirs = torch.load(
            io.BytesIO(_read_package_weights(info.name, package)), map_location="cpu", weights_only=True
        )
        ours = network.state_dict()
        # The same tensors in the same order under other names; strict=True in zip and in loading would notice if not.
        network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return network, _get_timm_preprocess(network)


def _read_package_weights(name: str, package: WeightsPackage) -> bytes:
    """The file of weights, whole and as it was published."""
    file = find_package_weights(package)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"The weights of {name} cannot be read from {file}. {package.reinstall_hint}") from error
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise InputError(
            f"The file {file} does not hold the weights of {name} as they were published; it is damaged, or was "
            f"replaced. {package.reinstall_hint}"
        )
    return content


def _build_timm(info: Backbone, pretrained: bool, progress: DownloadProgress | None) -> tuple[nn.Module, Preprocess]:
    name = info.name.removeprefix(TIMM_PREFIX)
    config = timm.get_pretrained_cfg(name)
    if config.input_size[-1] != config.input_size[-2]:
        raise InputError(f"{info.name} sees pictures that are not square. Choose another network.")
    if not pretrained:
        network = timm.create_model(name)
        return network, _get_timm_preprocess(network)
    if not info.has_weights:
        raise _make_no_weights_error(info)
    file = info.weights_file
    if info.needs_download:
        with _explain_download_error(info, config.hf_hub_id or config.url):
            hub = config.hf_hub_id
            file = download_from_hub(hub, progress) if hub else download_to_torch_cache(config.url, progress)
    with _explain_damaged_weights(info, file):
        # A file given by its path is loaded without a question to anybody.
        file_alone = {"file": str(file), "custom_load": False}
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file_alone)
    return network, _get_timm_preprocess(network)


def _build_torchvision(
    info: Backbone, pretrained: bool, progress: DownloadProgress | None
) -> tuple[nn.Module, Preprocess]:
    weights = get_default_weights(info.name)
    if weights is None:
        if pretrained:
            raise _make_no_weights_error(info)
        network = tv.get_model(info.name)
        return network, get_preprocess(network)
    wanted = weights.transforms()
    try:
        sides = wanted.crop_size[0], wanted.resize_size[0]
        preprocess = Preprocess(*sides, wanted.interpolation.value, tuple(wanted.mean), tuple(wanted.std))
    except (AttributeError, TypeError) as error:  # of a network that came after this was written
        raise InputError(f"How {info.name} wants its pictures is not known here. Choose another network.") from error
    if not pretrained:
        return _build_random_torchvision(info), preprocess
    if info.needs_download:
        with _explain_download_error(info, weights.url):
            download_to_torch_cache(weights.url, progress)
    with _explain_damaged_weights(info, info.weights_file):
        return tv.get_model(info.name, weights=weights), preprocess


def _make_no_weights_error(info: Backbone) -> InputError:
    return InputError(
        f"Nobody has published weights of {info.name}. Choose pretrained=False to start from random ones, or "
        f"another network, such as one of {', '.join(BUNDLED)}."
    )


class _ConcreteTensors(TorchFunctionMode):
    """Lets the few numbers of which a network works out its widths be real ones, whatever the device."""

    def __torch_function__(self, called: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        return called(*args, **(options or {}) | ({"device": "cpu"} if called in (torch.arange, torch.tensor) else {}))


def _build_random_torchvision(info: Backbone) -> nn.Module:
    if info.name.startswith("regnet") and torch.get_default_device().type == "meta":
        # It works out its widths with tensors, and on the meta device these have no numbers.
        with _ConcreteTensors():
            return tv.get_model(info.name, weights=None)
    return tv.get_model(info.name, weights=None, **get_random_init_kwargs(info))


def get_random_init_kwargs(info: Backbone) -> dict[str, Any]:
    """With what one of torchvision's networks is to be built where no weights say it."""
    if info.name in ("googlenet", "inception_v3"):
        # Initialising takes a minute; and the weights would say that pictures are to be transformed.
        return {"init_weights": False, "transform_input": True}
    return {"image_size": info.input_size} if info.name.startswith("vit") else {}


@contextmanager
def _explain_download_error(info: Backbone, source: str) -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        size = "" if info.megabytes is None else f" ({info.megabytes:.0f} MB)"
        raise InputError(
            f"The weights of {info.name}{size} could not be downloaded from {source}. Connect to the "
            f"internet, or put that file at {info.weights_file}, or choose one of {', '.join(BUNDLED)}, which need no "
            "download."
        ) from error


@contextmanager
def _explain_damaged_weights(info: Backbone, file: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle stumbles in any way that there is
        raise InputError(
            f"The file {file} does not hold the weights of {info.name}; it may be a broken download. Delete it and try "
            f"again, or choose one of {', '.join(BUNDLED)}, which need no download."
        ) from error
