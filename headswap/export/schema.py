"""What a model's file says of its model, and the network that this describes; nothing of what it says is trusted.

Plain data in JSON: a backbone and a head by their names in our tables, classes, pixels, plan and past. It is bounded
before it is understood, and checked before anything is built from it.

Knows nothing of weights and of how a file is packed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import torch

from headswap.common.limits import MEGABYTE, get_limits
from headswap.common.text import sanitize
from headswap.data.decoding import INTERPOLATIONS
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.export.format_1 import upgrade_format_1
from headswap.networks.adaptation import adapt
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS, get_head_config, get_head_options
from headswap.networks.preprocess import Preprocess
from headswap.training.record import FailFastTuple, Record

FORMAT = 2
MAX_DESCRIPTION_BYTES = 16 * MEGABYTE  # of JSON
MAX_JSON_ITEMS = 100_000  # lists and tables in JSON, and what one of them holds
MAX_QUOTED_LENGTH = 100  # characters of a file's own words in a refusal
MAX_INPUT_SIZE = 1024  # pixels of the square that a network sees


class InvalidModelFile(ValueError):
    """Why a file is no model, in a few words, and what to do."""

    def __init__(self, reason: str, remedy: str = "Save or download it again.") -> None:
        super().__init__(f"{reason}. {remedy}")


@dataclass(frozen=True)
class ModelDescription:
    """All that is said of a model besides its numbers."""

    format: int
    backbone: str
    pretrained: bool
    license: str  # of the backbone's weights
    head: str
    head_options: Mapping[str, bool | int | float | str | FailFastTuple[int]]
    classes: FailFastTuple[str]
    multi_label: bool
    preprocess: Preprocess
    learning_stages: int  # the last so many do not stand still
    record: Record | None
    saved: str  # when, in ISO 8601
    versions: Mapping[str, str]
    sha256: str  # of the weights
    # What follows is missing in files of older versions.
    entries: Mapping[str, str] = field(default_factory=dict)  # the SHA-256 of everything else in the file
    seen: SeenImages = NO_SEEN_IMAGES  # which images it knows


def describe_model(
    model: Classifier, sha256: str = "", entries: Mapping[str, str] = MappingProxyType({})
) -> ModelDescription:
    """What a file says of a model with weights of this hash, and of everything else in it."""
    made = get_head_config(model.head)
    return ModelDescription(
        FORMAT,
        model.backbone,
        model.pretrained,
        find_backbone(model.backbone).license,
        made.head_name,
        made.options,
        model.classes,
        model.multi_label,
        model.preprocess,
        len(model.learning_stages),
        model.record,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        {name: version(name) for name in ("torch", "torchvision", "timm")},
        sha256,
        dict(entries),
        model.seen,
    )


def parse_description(content: bytes) -> ModelDescription:
    """What a file says, as it can be.

    Raises:
        Unfit: if it is of a newer headswap, or cannot be.
        ValueError: if it is no JSON of this kind.
    """
    # Its format is looked at first, because a newer one may say other things.
    plain = parse_bounded_json(content)
    number = plain.get("format")
    if type(number) is int and number > FORMAT:
        raise InvalidModelFile(
            f"a newer headswap saved it, in format {sanitize_and_truncate(str(number))} instead of {FORMAT}",
            "Update headswap.",
        )
    if type(number) is not int or number < 1 or not _has_bounded_values(plain):
        raise InvalidModelFile("some of its figures make no sense")
    if number == 1:
        plain = upgrade_format_1(plain)
    described = _make_type_adapter().validate_python(plain)
    _check_description(described)
    return described


def dump_description(description: ModelDescription) -> bytes:
    """The same as JSON."""
    return _make_type_adapter().dump_json(description, indent=1)


def build_on_meta_device(description: ModelDescription) -> Classifier:
    """The described network without any numbers.

    Raises:
        ValueError: for a network or an option that nobody knows.
    """
    with torch.device("meta"):
        model = build_from_description(description)
        wanted = description.preprocess
        answer = model.eval()(torch.empty(1, 3, wanted.size, wanted.size))
    if answer.shape != (1, len(description.classes)):
        raise InvalidModelFile("its network does not answer with its classes")
    return model


def build_from_description(description: ModelDescription) -> Classifier:
    """The described network, with numbers at random unless the default device has none.

    Raises:
        Unfit: if its backbone or its head is unknown, or cannot be built so.
    """
    try:
        find_backbone(description.backbone)
    except ValueError as error:
        raise InvalidModelFile(
            f"its backbone '{sanitize_and_truncate(description.backbone)}' is unknown here", "Update timm."
        ) from error
    told = {"pretrained": False, "multi_label": description.multi_label}
    try:
        return adapt(
            description.backbone, description.classes, description.head, **told, head_options=description.head_options
        )
    except ValueError as error:
        raise InvalidModelFile(
            f"its network cannot be built: {sanitize_and_truncate(str(error).rstrip('.'))}"
        ) from error


def parse_bounded_json(content: bytes) -> dict[str, Any]:
    """A table from JSON that is neither deep nor wide, so that nothing is built of a million parts."""

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs) or len(made) > MAX_JSON_ITEMS:
            raise InvalidModelFile("it says too much, or something twice")
        return made

    if content.count(b"[") + content.count(b"{") > MAX_JSON_ITEMS:
        raise InvalidModelFile("it says too much")
    parsed = json.loads(content, object_pairs_hook=table)
    if not isinstance(parsed, dict):
        raise InvalidModelFile("it does not say what it is")
    return parsed


def _check_description(description: ModelDescription) -> None:
    """What a description says must be possible before anything is built from it."""
    names = description.classes
    if not 2 <= len(names) <= get_limits().classes or len(set(names)) < len(names):
        raise InvalidModelFile(
            f"it has {len(names):,} classes instead of two to {get_limits().classes:,} with names of their own"
        )
    if any(len(name) > get_limits().name or not is_utf8_encodable(name) for name in names):
        raise InvalidModelFile("the name of a class is too long, or half a character")
    if description.head not in HEADS:
        raise InvalidModelFile(
            f"its head '{sanitize_and_truncate(description.head)}' is unknown here",
            "Register it with headswap.register_head; a file brings no code.",
        )
    _check_head_options(description.head, description.head_options)
    wanted = description.preprocess
    numbers = (*wanted.mean, *wanted.std)
    if (
        not 1 <= wanted.size <= MAX_INPUT_SIZE
        or not 1 <= wanted.resize <= 4 * MAX_INPUT_SIZE
        or wanted.interpolation not in INTERPOLATIONS
        or max(map(abs, numbers)) > 1000
        or min(wanted.std) < 0.001
    ):
        raise InvalidModelFile("how its pixels are to be prepared makes no sense")


def _check_head_options(head: str, options: Mapping[str, Any]) -> None:
    known = get_head_options(head)
    kinds = {name: (int, float) if isinstance(default, float) else type(default) for name, default in known.items()}
    if options.keys() != known.keys() or not all(isinstance(options[name], kind) for name, kind in kinds.items()):
        raise InvalidModelFile(f"the options of its {head} head are not those of that head")


def _has_bounded_values(value: Any) -> bool:
    """Whether every number in plain data is one that can be reckoned with, and no list is endless."""
    if isinstance(value, dict):
        return all(map(_has_bounded_values, value.values()))
    if isinstance(value, list):
        return len(value) <= MAX_JSON_ITEMS and all(map(_has_bounded_values, value))
    return not isinstance(value, int | float) or abs(value) < 2**64


def is_utf8_encodable(text: str) -> bool:
    """Whether a text is made of whole characters."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def sanitize_and_truncate(text: str) -> str:
    """Somebody's text short enough for a sentence."""
    return sanitize(text[:MAX_QUOTED_LENGTH])[:MAX_QUOTED_LENGTH]


def _make_type_adapter():
    """Turns a description to JSON and back, and lets nothing else pass."""
    from pydantic import TypeAdapter

    return TypeAdapter(ModelDescription)
