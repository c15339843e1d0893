"""Defines the JSON description in a model file, validates it and builds the network that it describes.

The description is plain data: a backbone and a head by their names in the library's tables, classes, preprocessing,
the plan and the record of the training. Nothing in it is trusted: its size is bounded before it is parsed, and its
values are checked before anything is built from them.

Knows nothing of weights but their checksum, and nothing of how a file is packed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from headswap.common.limits import MEGABYTE, get_limits
from headswap.common.text import sanitize
from headswap.data.decoding import INTERPOLATIONS
from headswap.data.leakage import NO_SEEN_IMAGES, SeenImages
from headswap.export.format_1 import rename_format_1_fields
from headswap.networks.adaptation import adapt
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS, get_head_config, get_head_options
from headswap.networks.preprocess import Preprocess
from headswap.training.record import FailFastTuple, Record

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 2
MAX_DESCRIPTION_BYTES = 16 * MEGABYTE  # of JSON
MAX_JSON_ITEMS = 100_000  # arrays and objects in a file, and items in one of them
MAX_QUOTED_LENGTH = 100  # characters that an error message quotes from a file
MAX_INPUT_SIZE = 1024  # pixels of a side of the network's input


class InvalidModelFile(ValueError):
    """A file is not a model file that can be loaded; its message says why, and what to do."""

    def __init__(self, reason: str, remedy: str = "Save or download it again.") -> None:
        super().__init__(f"{reason}. {remedy}")


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says of its model besides the weights; the names of the fields are the file format.

    Attributes:
        format: the number of the file format.
        backbone: the name that ``adapt`` was given.
        pretrained: whether the backbone began with pretrained weights.
        license: of the backbone's pretrained weights.
        head: the name of the head.
        head_options: all options of the head.
        classes: the names of the classes in the order of the logits.
        multi_label: whether an image may show several classes.
        preprocess: the preprocessing of the backbone.
        learning_stages: how many of the last stages are unfrozen.
        record: the training; None for a model that was not trained.
        saved: the time of saving in ISO 8601.
        versions: of the packages that saved it.
        sha256: of the weights' entry, in hexadecimal digits.
        entries: the SHA-256 of every other entry by its name; empty in files of older versions.
        seen: hashes of the images that the model was trained and validated on; empty in files of older versions.
    """

    format: int
    backbone: str
    pretrained: bool
    license: str
    head: str
    head_options: Mapping[str, bool | int | float | str | FailFastTuple[int]]
    classes: FailFastTuple[str]
    multi_label: bool
    preprocess: Preprocess
    learning_stages: int
    record: Record | None
    saved: str
    versions: Mapping[str, str]
    sha256: str
    entries: Mapping[str, str] = field(default_factory=dict)
    seen: SeenImages = NO_SEEN_IMAGES


def describe_model(
    model: Classifier, sha256: str = "", entries: Mapping[str, str] = MappingProxyType({})
) -> ModelDescription:
    """The description of a model whose backbone and head can be built by name.

    Args:
        model: the model.
        sha256: of its weights' entry.
        entries: the SHA-256 of every other entry.
    """
    head_config = get_head_config(model.head)
    if head_config is None:
        raise ValueError(f"The head {type(model.head).__name__} cannot be built by name.")
    return ModelDescription(
        FORMAT,
        model.backbone,
        model.pretrained,
        find_backbone(model.backbone).license,
        head_config.head_name,
        head_config.options,
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
    """Parse and check the description in a file, of this format or of an older one.

    Args:
        content: JSON from an untrusted file.

    Raises:
        InvalidModelFile: if it is of a newer format or its values make no sense.
        ValueError: if it is not JSON, or its fields are not those of a description.
    """
    fields = parse_bounded_json(content)
    number = fields.get("format")
    if type(number) is int and number > FORMAT:  # before anything else, because a newer format may have other fields
        raise InvalidModelFile(
            f"a newer headswap saved it, in format {sanitize_and_truncate(str(number))} instead of {FORMAT}",
            "Update headswap.",
        )
    if type(number) is not int or number < 1 or not _has_bounded_values(fields):
        raise InvalidModelFile("some of its figures make no sense")
    renamed = rename_format_1_fields(fields)
    if number == 1:
        fields = {**renamed, "format": FORMAT}
    elif renamed != fields:
        raise InvalidModelFile("some of its fields have names of an older format")
    description = _make_type_adapter().validate_python(fields)
    _check_description(description)
    return description


def dump_description(description: ModelDescription) -> bytes:
    """The description as JSON."""
    return _make_type_adapter().dump_json(description, indent=1)


def build_on_meta_device(description: ModelDescription) -> Classifier:
    """Build the described network on the meta device, without memory for its weights.

    Raises:
        InvalidModelFile: if the network cannot be built, or has another number of outputs than classes.
    """
    with torch.device("meta"):
        model = build_from_description(description)
        size = description.preprocess.size
        logits = model.eval()(torch.empty(1, 3, size, size))
    if logits.shape != (1, len(description.classes)):
        raise InvalidModelFile("its network does not answer with its classes")
    return model


def build_from_description(description: ModelDescription) -> Classifier:
    """Build the described network on the default device, with random weights.

    Raises:
        InvalidModelFile: if its backbone or its head is unknown, or cannot be built with these options.
    """
    try:
        find_backbone(description.backbone)
    except ValueError as error:
        raise InvalidModelFile(
            f"its backbone '{sanitize_and_truncate(description.backbone)}' is unknown here", "Update timm."
        ) from error
    try:
        return adapt(
            description.backbone,
            description.classes,
            description.head,
            pretrained=False,
            multi_label=description.multi_label,
            head_options=description.head_options,
        )
    except ValueError as error:
        raise InvalidModelFile(
            f"its network cannot be built: {sanitize_and_truncate(str(error).rstrip('.'))}"
        ) from error


def parse_bounded_json(content: bytes) -> dict[str, Any]:
    """Parse an untrusted JSON object with a bounded number of values and without duplicate keys.

    Raises:
        InvalidModelFile: if it has too many values, a duplicate key, or is not an object.
        ValueError: if it is not JSON.
    """

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs) or len(made) > MAX_JSON_ITEMS:
            raise InvalidModelFile("it says too much, or something twice")
        return made

    if content.count(b"[") + content.count(b"{") > MAX_JSON_ITEMS:
        raise InvalidModelFile("it says too much")
    parsed = json.loads(content, object_pairs_hook=make_object)
    if not isinstance(parsed, dict):
        raise InvalidModelFile("it does not say what it is")
    return parsed


def _check_description(description: ModelDescription) -> None:
    """Raise ``InvalidModelFile`` for values from which no network must be built."""
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
    preprocess = description.preprocess
    if (
        not 1 <= preprocess.size <= MAX_INPUT_SIZE
        or not 1 <= preprocess.resize <= 4 * MAX_INPUT_SIZE
        or preprocess.interpolation not in INTERPOLATIONS
        or max(map(abs, (*preprocess.mean, *preprocess.std))) > 1000
        or min(preprocess.std) < 0.001
    ):
        raise InvalidModelFile("how its pixels are to be prepared makes no sense")


def _check_head_options(head: str, options: Mapping[str, Any]) -> None:
    defaults = get_head_options(head)
    types = {name: (int, float) if isinstance(value, float) else type(value) for name, value in defaults.items()}
    if options.keys() != defaults.keys() or not all(isinstance(options[name], type_) for name, type_ in types.items()):
        raise InvalidModelFile(f"the options of its {head} head are not those of that head")


def _has_bounded_values(value: object) -> bool:
    """Whether no number in plain data is beyond 64 bits and no list beyond ``MAX_JSON_ITEMS``."""
    if isinstance(value, dict):
        return all(map(_has_bounded_values, value.values()))
    if isinstance(value, list):
        return len(value) <= MAX_JSON_ITEMS and all(map(_has_bounded_values, value))
    return not isinstance(value, int | float) or abs(value) < 2**64


def is_utf8_encodable(text: str) -> bool:
    """Whether a text holds no lone surrogates, which UTF-8 cannot encode."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def sanitize_and_truncate(text: str) -> str:
    """A text from a file, printable and short enough for an error message."""
    return sanitize(text[:MAX_QUOTED_LENGTH])[:MAX_QUOTED_LENGTH]


@cache  # pydantic compiles it, which takes longer than parsing
def _make_type_adapter() -> TypeAdapter[ModelDescription]:
    from pydantic import TypeAdapter  # takes long to import

    return TypeAdapter(ModelDescription)
