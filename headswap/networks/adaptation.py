"""Gives a pretrained network a new head: ``adapt`` from a name, a module or a ``Classifier``; ``attach_head`` in place.

Knows nothing of how training goes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from headswap.data.class_names import validate_class_names
from headswap.networks.build import build_staged_network
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import check_head, has_map_input, is_solvable
from headswap.networks.head_registry import HeadSpec, build_head, get_head_name, has_head_option
from headswap.networks.preprocess import CROP_MODES, Preprocess, get_preprocess
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import StagedNetwork
from headswap.networks.weights import DownloadProgress


def adapt(
    backbone: str | Classifier | nn.Module,
    classes: Sequence[str] | int,
    head: HeadSpec = "linear",
    pretrained: bool = True,
    multi_label: bool = False,
    crop: str | None = None,
    progress: DownloadProgress | None = None,
    head_options: Mapping[str, Any] | None = None,
    **more_head_options: Any,
) -> Classifier:
    """Give a pretrained network a new head.

    The backbone is frozen at first; ``Classifier.unfreeze`` changes that.

    Args:
        backbone: one of ``headswap.backbones()``, or a ``Classifier`` (whose trained backbone is copied), or a
            classification network of torchvision or timm. A module is copied and stays as it was.
        classes: the names of the new classes in a list, or how many there are.
        head: one of ``headswap.heads()``, any callable ``(in_features, num_classes) -> nn.Module``, or a module, of
            which a copy is taken. It returns logits ``[N, classes]``.
        pretrained: start from ImageNet weights; without it everything is random. It does not apply to a module.
        multi_label: an image may show several of the classes, or none.
        crop: "centre", as the weights were evaluated, or "fit": the whole image, squeezed to a square. By default the
            centre, or what a ``Classifier`` had.
        progress: called with the bytes of the weights that were downloaded and all of them, during a download.
        head_options: the head's own options in a mapping, which is the way for one that is named like an argument of
            this function, as ``head_options={"crop": "fit"}``.
        **more_head_options: the others by keyword, such as ``bottleneck_dim=256``.

    Returns:
        A classifier whose backbone is frozen.

    Raises:
        ValueError: for an unknown backbone, head or crop (with the nearest names), classes that are no names, an
            option that the head does not take, or a head that is solved with ``multi_label``.
        InputError: if the weights have to be downloaded and cannot be, a module cannot be split into stages, or the
            head does not return a logit for each class.
    """
    names = validate_class_names(classes)
    meant_for_head = _find_head_options(head, crop, progress) if head_options is None else {}
    crop = None if "crop" in meant_for_head else crop
    progress = None if "progress" in meant_for_head else progress
    head_options = {**(head_options or {}), **more_head_options, **meant_for_head}
    if progress is not None and not callable(progress):
        raise ValueError(f"progress is a function (done, total) that is called meanwhile, not {progress!r}.")
    staged_network, preprocess, name, pretrained = _resolve_backbone(backbone, pretrained, progress)
    preprocess = replace(preprocess, crop=crop or preprocess.crop)
    new_head = _build_fitting_head(head, staged_network, preprocess.size, len(names), multi_label, head_options)
    model = Classifier(
        staged_network, new_head, names, preprocess, backbone=name, pretrained=pretrained, multi_label=multi_label
    ).freeze()
    if isinstance(backbone, Classifier):  # its stages may have been trained on these images
        model.seen = backbone.seen
    return model


def attach_head(model: Classifier, head: HeadSpec, /, **head_options: Any) -> Classifier:
    """Build another classifier on the very same backbone, as ``adapt`` but without a copy.

    Args:
        model: whose backbone both share; it has to be frozen in both.
        head: as for ``adapt``.
        **head_options: the head's own options.

    Raises:
        ValueError: for an unknown head, or an option that it does not take.
    """
    size, num_classes = model.preprocess.size, len(model.classes)
    new_head = _build_fitting_head(head, model.staged_network, size, num_classes, model.multi_label, head_options)
    attached = Classifier(
        model.staged_network,
        new_head,
        model.classes,
        model.preprocess,
        backbone=model.backbone,
        pretrained=model.pretrained,
        multi_label=model.multi_label,
    ).freeze()
    attached.seen = model.seen
    return attached


def _find_head_options(head: HeadSpec, crop: Any, progress: Any) -> dict[str, Any]:
    """Find the arguments of ``adapt`` that can only be meant for the head, which has options of the same names.

    Raises:
        ValueError: where an argument may be meant either way.
    """
    meant_for_head = {}
    for name, value, suits_adapt in (("crop", crop, crop in CROP_MODES), ("progress", progress, callable(progress))):
        if value is None or not has_head_option(head, name):
            continue
        if suits_adapt:
            raise ValueError(
                f"The head {get_head_name(head)} has an option {name}, and so has adapt. Give the head's in a mapping, "
                f"head_options={{'{name}': ...}}; an empty one says that adapt's was meant."
            )
        meant_for_head[name] = value
    return meant_for_head


def _build_fitting_head(
    head: HeadSpec,
    staged_network: StagedNetwork,
    size: int,
    num_classes: int,
    multi_label: bool,
    options: Mapping[str, Any],
) -> nn.Module:
    """Build a head for the features of a network and check it."""
    is_map_input = has_map_input(head)
    shape = staged_network.infer_feature_shape(size, is_map_input)
    new_head = build_head(head, shape[-1], num_classes, **options)
    if has_map_input(new_head) != is_map_input:  # a callable that does not declare what the heads take that it builds
        shape = staged_network.infer_feature_shape(size, not is_map_input)
        new_head = build_head(head, shape[-1], num_classes, **options)
    if not is_solvable(new_head):
        check_head(new_head, shape, num_classes)
    elif multi_label:
        raise ValueError(f"The head '{head}' tells one class from the others, so an image cannot have several labels.")
    return new_head


def _resolve_backbone(
    backbone: str | Classifier | nn.Module, pretrained: bool, progress: DownloadProgress | None
) -> tuple[StagedNetwork, Preprocess, str, bool]:
    """Return a staged network of its own, its preprocessing, its name and whether it has pretrained weights."""
    if isinstance(backbone, str):
        return *build_staged_network(backbone, pretrained, progress), backbone, pretrained
    if isinstance(backbone, Classifier):
        copied = copy.deepcopy(backbone)
        return copied.staged_network, copied.preprocess, copied.backbone, copied.pretrained
    network = copy.deepcopy(backbone)
    return split_into_stages(network), get_preprocess(network), type(network).__name__, True
