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

from headswap.common.limits import MEGABYTE, limits
from headswap.common.text import harmless
from headswap.data.decoding import INTERPOLATIONS
from headswap.data.leakage import NOTHING_SEEN, Seen
from headswap.networks.catalogue import find
from headswap.networks.classifier import Classifier, adapt
from headswap.networks.heads import HEADS, head_options, recipe
from headswap.networks.preprocess import Preprocess
from headswap.training.record import Record, Several

FORMAT = 1
MOST_DESCRIBED = 16 * MEGABYTE  # of JSON
MOST_PARTS = 100_000  # lists and tables in JSON, and what one of them holds
LONGEST_SAID = 100  # characters of a file's own words in a refusal
LARGEST_SIDE = 1024  # pixels of the square that a network sees


class Unfit(ValueError):
    """Why a file is no model, in a few words, and what to do."""

    def __init__(self, why: str, remedy: str = "Save or download it again.") -> None:
        super().__init__(f"{why}. {remedy}")


@dataclass(frozen=True)
class Description:
    """All that is said of a model besides its numbers."""

    format: int
    backbone: str
    pretrained: bool
    licence: str  # of the backbone's weights
    head: str
    head_options: Mapping[str, bool | int | float | str | Several[int]]
    classes: Several[str]
    multi_label: bool
    preprocess: Preprocess
    learning_stages: int  # the last so many do not stand still
    record: Record | None
    saved: str  # when, in ISO 8601
    versions: Mapping[str, str]
    sha256: str  # of the weights
    # What follows is missing in files of older versions.
    entries: Mapping[str, str] = field(default_factory=dict)  # the SHA-256 of everything else in the file
    seen: Seen = NOTHING_SEEN  # which images it knows


def describe(model: Classifier, sha256: str = "", entries: Mapping[str, str] = MappingProxyType({})) -> Description:
    """What a file says of a model with weights of this hash, and of everything else in it."""
    made = recipe(model.head)
    return Description(
        FORMAT,
        model.backbone,
        model.pretrained,
        find(model.backbone).licence,
        made.name,
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


def read(content: bytes) -> Description:
    """What a file says, as it can be.

    Raises:
        Unfit: if it is of a newer headswap, or cannot be.
        ValueError: if it is no JSON of this kind.
    """
    # Its format is looked at first, because a newer one may say other things.
    plain = parsed(content)
    number = plain.get("format")
    if type(number) is int and number > FORMAT:
        raise Unfit(
            f"a newer headswap saved it, in format {brief(str(number))} instead of {FORMAT}", "Update headswap."
        )
    if number != FORMAT or not _all_sound(plain):
        raise Unfit("some of its figures make no sense")
    described = _adapter().validate_python(plain)
    _check(described)
    return described


def written(described: Description) -> bytes:
    """The same as JSON."""
    return _adapter().dump_json(described, indent=1)


def skeleton(described: Description) -> Classifier:
    """The described network without any numbers.

    Raises:
        ValueError: for a network or an option that nobody knows.
    """
    with torch.device("meta"):
        model = built(described)
        wanted = described.preprocess
        answer = model.eval()(torch.empty(1, 3, wanted.size, wanted.size))
    if answer.shape != (1, len(described.classes)):
        raise Unfit("its network does not answer with its classes")
    return model


def built(described: Description) -> Classifier:
    """The described network, with numbers at random unless the default device has none.

    Raises:
        Unfit: if its backbone or its head is unknown, or cannot be built so.
    """
    try:
        find(described.backbone)
    except ValueError as error:
        raise Unfit(f"its backbone '{brief(described.backbone)}' is unknown here", "Update timm.") from error
    told = {"pretrained": False, "multi_label": described.multi_label}
    try:
        return adapt(described.backbone, described.classes, described.head, **told, head_options=described.head_options)
    except ValueError as error:
        raise Unfit(f"its network cannot be built: {brief(str(error).rstrip('.'))}") from error


def parsed(content: bytes) -> dict[str, Any]:
    """A table from JSON that is neither deep nor wide, so that nothing is built of a million parts."""

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs) or len(made) > MOST_PARTS:
            raise Unfit("it says too much, or something twice")
        return made

    if content.count(b"[") + content.count(b"{") > MOST_PARTS:
        raise Unfit("it says too much")
    parsed = json.loads(content, object_pairs_hook=table)
    if not isinstance(parsed, dict):
        raise Unfit("it does not say what it is")
    return parsed


def _check(described: Description) -> None:
    """What a description says must be possible before anything is built from it."""
    names = described.classes
    if not 2 <= len(names) <= limits().classes or len(set(names)) < len(names):
        raise Unfit(f"it has {len(names):,} classes instead of two to {limits().classes:,} with names of their own")
    if any(len(name) > limits().name or not encodable(name) for name in names):
        raise Unfit("the name of a class is too long, or half a character")
    if described.head not in HEADS:
        raise Unfit(
            f"its head '{brief(described.head)}' is unknown here",
            "Register it with headswap.networks.heads.register; a file brings no code.",
        )
    _check_options(described.head, described.head_options)
    wanted = described.preprocess
    numbers = (*wanted.mean, *wanted.deviation)
    if (
        not 1 <= wanted.size <= LARGEST_SIDE
        or not 1 <= wanted.resize <= 4 * LARGEST_SIDE
        or wanted.interpolation not in INTERPOLATIONS
        or max(map(abs, numbers)) > 1000
        or min(wanted.deviation) < 0.001
    ):
        raise Unfit("how its pixels are to be prepared makes no sense")


def _check_options(head: str, options: Mapping[str, Any]) -> None:
    known = head_options(head)
    kinds = {name: (int, float) if isinstance(default, float) else type(default) for name, default in known.items()}
    if options.keys() != known.keys() or not all(isinstance(options[name], kind) for name, kind in kinds.items()):
        raise Unfit(f"the options of its {head} head are not those of that head")


def _all_sound(value: Any) -> bool:
    """Whether every number in plain data is one that can be reckoned with, and no list is endless."""
    if isinstance(value, dict):
        return all(map(_all_sound, value.values()))
    if isinstance(value, list):
        return len(value) <= MOST_PARTS and all(map(_all_sound, value))
    return not isinstance(value, int | float) or abs(value) < 2**64


def encodable(text: str) -> bool:
    """Whether a text is made of whole characters."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def brief(text: str) -> str:
    """Somebody's text short enough for a sentence."""
    return harmless(text[:LONGEST_SAID])[:LONGEST_SAID]


def _adapter():
    """Turns a description to JSON and back, and lets nothing else pass."""
    from pydantic import TypeAdapter

    return TypeAdapter(Description)
