"""Builds a backbone with pretrained or random weights and returns its stages and its preprocessing.

Knows nothing of heads and of training.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.networks.bundled_weights import BUNDLED, read_package_weights
from headswap.networks.catalogue import TIMM_PREFIX, Backbone, find_backbone, get_default_weights, get_timm_config
from headswap.networks.preprocess import Preprocess, get_preprocess, get_timm_preprocess
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import StagedNetwork
from headswap.networks.weights import DownloadError, DownloadProgress, download_from_hub, download_to_torch_cache


def build_staged_network(
    name: str, pretrained: bool = True, progress: DownloadProgress | None = None
) -> tuple[StagedNetwork, Preprocess]:
    """Build a network, split into stages, with its preprocessing.

    Args:
        name: one of ``backbones()``, or ``timm/<name>``.
        pretrained: with pretrained weights; otherwise random ones, and nothing is downloaded.
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
    """Build a network as its authors made it, with its original last layer; else as ``build_staged_network``."""
    info = find_backbone(name)
    builders = {"bundled": _build_bundled, "torchvision": _build_torchvision, "timm": _build_timm}
    return builders[info.source](info, pretrained, progress)


def _build_bundled(info: Backbone, pretrained: bool, _: DownloadProgress | None) -> tuple[nn.Module, Preprocess]:
    package = BUNDLED[info.name]
    network = timm.create_model(package.timm_name, pretrained=False)
    if pretrained:
        file = io.BytesIO(read_package_weights(info.name, package))
        weights = torch.load(file, map_location="cpu", weights_only=True)
        # The same tensors in the same order under other names; strict=True in zip and in loading would notice if not.
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network, get_timm_preprocess(network)


def _build_timm(info: Backbone, pretrained: bool, progress: DownloadProgress | None) -> tuple[nn.Module, Preprocess]:
    name = info.name.removeprefix(TIMM_PREFIX)
    config = get_timm_config(name)
    if config.input_size[-1] != config.input_size[-2]:
        raise InputError(f"{info.name} sees pictures that are not square. Choose another network.")
    if not pretrained:
        network = timm.create_model(name)
        return network, get_timm_preprocess(network)
    if not info.has_weights:
        raise _make_no_weights_error(info)
    file = info.weights_file
    if info.needs_download:
        repo_id, url = config.hf_hub_id, str(config.url)
        with _explain_download_error(info, repo_id or url):
            file = download_from_hub(repo_id, progress) if repo_id else download_to_torch_cache(url, progress)
    with _explain_damaged_weights(info, file):
        # timm loads a file given by its path without asking the hub.
        overlay = {"file": str(file), "custom_load": False}
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return network, get_timm_preprocess(network)


def _build_torchvision(
    info: Backbone, pretrained: bool, progress: DownloadProgress | None
) -> tuple[nn.Module, Preprocess]:
    weights = get_default_weights(info.name)
    if weights is None:
        if pretrained:
            raise _make_no_weights_error(info)
        network = tv.get_model(info.name)
        return network, get_preprocess(network)
    transforms = weights.transforms()
    try:
        preprocess = Preprocess(
            transforms.crop_size[0],
            transforms.resize_size[0],
            transforms.interpolation.value,
            tuple(transforms.mean),
            tuple(transforms.std),
        )
    except (AttributeError, TypeError) as error:  # a network of a newer version of torchvision
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
    """Creates tensors by ``torch.arange`` and ``torch.tensor`` on the CPU, whatever the default device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        device = {"device": "cpu"} if func in (torch.arange, torch.tensor) else {}
        return func(*args, **{**(kwargs or {}), **device})


def _build_random_torchvision(info: Backbone) -> nn.Module:
    network: nn.Module
    if info.name.startswith("regnet") and torch.get_default_device().type == "meta":
        # It computes its widths with tensors, which have no values on the meta device.
        with _ConcreteTensors():
            network = tv.get_model(info.name, weights=None)
    else:
        network = tv.get_model(info.name, weights=None, **get_random_init_kwargs(info))
    return network


def get_random_init_kwargs(info: Backbone) -> dict[str, Any]:
    """The arguments that one of torchvision's networks needs to be built without weights as it is with them."""
    if info.name in ("googlenet", "inception_v3"):
        # Their initialization takes a minute, and transform_input is what their weights would set.
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
    except Exception as error:  # a damaged pickle raises errors of any kind
        raise InputError(
            f"The file {file} does not hold the weights of {info.name}; it may be a broken download. Delete it and try "
            f"again, or choose one of {', '.join(BUNDLED)}, which need no download."
        ) from error
