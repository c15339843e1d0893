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
    TIMM,
    Backbone,
    Package,
    find,
    packaged_file,
    published,
)
from headswap.networks.preprocess import Preprocess, _as_timm_wants, preprocess_of
from headswap.networks.split_torchvision import Parts, take_apart
from headswap.networks.weights import DownloadError, Progress, fetch, fetch_from_hub


def build(name: str, pretrained: bool = True, progress: Progress | None = None) -> tuple[Parts, Preprocess]:
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
    network, preprocess = build_whole(name, pretrained, progress)
    return take_apart(network), preprocess


def build_whole(name: str, pretrained: bool = True, progress: Progress | None = None) -> tuple[nn.Module, Preprocess]:
    """The same in one piece, as its authors made it, with its original last layer; arguments as for ``build``."""
    row = find(name)
    build_one = {"bundled": _build_bundled, "torchvision": _build_torchvision, "timm": _build_timm}[row.source]
    return build_one(row, pretrained, progress)


def _build_bundled(row: Backbone, pretrained: bool, _: Progress | None) -> tuple[nn.Module, Preprocess]:
    package = BUNDLED[row.name]
    network = timm.create_model(package.timm_name, pretrained=False)
    if pretrained:
        theirs = torch.load(io.BytesIO(_packaged_weights(row.name, package)), map_location="cpu", weights_only=True)
        ours = network.state_dict()
        # The same tensors in the same order under other names; strict=True in zip and in loading would notice if not.
        network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return network, _as_timm_wants(network)


def _packaged_weights(name: str, package: Package) -> bytes:
    """The file of weights, whole and as it was published."""
    file = packaged_file(package)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"The weights of {name} cannot be read from {file}. {package.remedy}") from error
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise InputError(
            f"The file {file} does not hold the weights of {name} as they were published; it is damaged, or was "
            f"replaced. {package.remedy}"
        )
    return content


def _build_timm(row: Backbone, pretrained: bool, progress: Progress | None) -> tuple[nn.Module, Preprocess]:
    name = row.name.removeprefix(TIMM)
    config = timm.get_pretrained_cfg(name)
    if config.input_size[-1] != config.input_size[-2]:
        raise InputError(f"{row.name} sees pictures that are not square. Choose another network.")
    if not pretrained:
        network = timm.create_model(name)
        return network, _as_timm_wants(network)
    if not row.has_weights:
        raise _no_weights(row)
    file = row.weights_file
    if row.needs_download:
        with _explaining_no_download(row, config.hf_hub_id or config.url):
            hub = config.hf_hub_id
            file = fetch_from_hub(hub, progress) if hub else fetch(config.url, progress)
    with _explaining_damage(row, file):
        # A file given by its path is loaded without a question to anybody.
        file_alone = {"file": str(file), "custom_load": False}
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=file_alone)
    return network, _as_timm_wants(network)


def _build_torchvision(row: Backbone, pretrained: bool, progress: Progress | None) -> tuple[nn.Module, Preprocess]:
    weights = published(row.name)
    if weights is None:
        if pretrained:
            raise _no_weights(row)
        network = tv.get_model(row.name)
        return network, preprocess_of(network)
    wanted = weights.transforms()
    try:
        sides = wanted.crop_size[0], wanted.resize_size[0]
        preprocess = Preprocess(*sides, wanted.interpolation.value, tuple(wanted.mean), tuple(wanted.std))
    except (AttributeError, TypeError) as error:  # of a network that came after this was written
        raise InputError(f"How {row.name} wants its pictures is not known here. Choose another network.") from error
    if not pretrained:
        return _random_torchvision(row), preprocess
    if row.needs_download:
        with _explaining_no_download(row, weights.url):
            fetch(weights.url, progress)
    with _explaining_damage(row, row.weights_file):
        return tv.get_model(row.name, weights=weights), preprocess


def _no_weights(row: Backbone) -> InputError:
    return InputError(
        f"Nobody has published weights of {row.name}. Choose pretrained=False to start from random ones, or "
        f"another network, such as one of {', '.join(BUNDLED)}."
    )


class _Counting(TorchFunctionMode):
    """Lets the few numbers of which a network works out its widths be real ones, whatever the device."""

    def __torch_function__(self, called: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        return called(*args, **(options or {}) | ({"device": "cpu"} if called in (torch.arange, torch.tensor) else {}))


def _random_torchvision(row: Backbone) -> nn.Module:
    if row.name.startswith("regnet") and torch.get_default_device().type == "meta":
        # It works out its widths with tensors, and on the meta device these have no numbers.
        with _Counting():
            return tv.get_model(row.name, weights=None)
    return tv.get_model(row.name, weights=None, **options_without_weights(row))


def options_without_weights(row: Backbone) -> dict[str, Any]:
    """With what one of torchvision's networks is to be built where no weights say it."""
    if row.name in ("googlenet", "inception_v3"):
        # Initialising takes a minute; and the weights would say that pictures are to be transformed.
        return {"init_weights": False, "transform_input": True}
    return {"image_size": row.side} if row.name.startswith("vit") else {}


@contextmanager
def _explaining_no_download(row: Backbone, source: str) -> Iterator[None]:
    try:
        yield
    except DownloadError as error:
        size = "" if row.megabytes is None else f" ({row.megabytes:.0f} MB)"
        raise InputError(
            f"The weights of {row.name}{size} could not be downloaded from {source}. Connect to the "
            f"internet, or put that file at {row.weights_file}, or choose one of {', '.join(BUNDLED)}, which need no "
            "download."
        ) from error


@contextmanager
def _explaining_damage(row: Backbone, file: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle stumbles in any way that there is
        raise InputError(
            f"The file {file} does not hold the weights of {row.name}; it may be a broken download. Delete it and try "
            f"again, or choose one of {', '.join(BUNDLED)}, which need no download."
        ) from error
