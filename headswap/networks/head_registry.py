"""Registers heads under names, and builds and describes them from a name, a callable or a module.

Knows no particular head, and nothing of backbones but the width of their features.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from headswap.common.deprecation import renamed_function
from headswap.common.text import suggest_names

HeadFactory = Callable[..., nn.Module]  # (in_features, num_classes, **options)
HeadSpec = str | HeadFactory  # a name, a callable, or a module, which is a callable as well

_HEADS: dict[str, HeadFactory] = {}
HEADS: Mapping[str, HeadFactory] = MappingProxyType(_HEADS)


@dataclass(frozen=True)
class HeadConfig:
    """What a registered head can be built again from.

    Attributes:
        head_name: its name in ``HEADS``.
        options: all its options, defaults included.
    """

    head_name: str
    options: Mapping[str, Any]


def register_head(name: str, head: HeadFactory) -> None:
    """Give a head of your own a name, so that it can be chosen, saved and loaded like any other.

    A model file contains no code, so whoever loads a model with such a head registers it first.

    Args:
        name: a Python identifier that is not taken.
        head: ``(in_features, num_classes, *, options with defaults) -> nn.Module``; the defaults are numbers, texts or
            tuples of whole numbers, and the first line of its docstring describes it.

    Raises:
        ValueError: if the name is taken or no identifier, or an option has no such default.
    """
    if not name.isidentifier() or name in HEADS:
        raise ValueError(f"A head's name is a word of its own, such as my_head, and not '{name}'.")
    parameters = list(inspect.signature(head).parameters.values())
    for p in parameters[2:]:
        is_tuple_of_ints = isinstance(p.default, tuple) and all(isinstance(n, int) for n in p.default)
        is_plain = is_tuple_of_ints or isinstance(p.default, bool | int | float | str)
        if p.kind is not p.KEYWORD_ONLY or not is_plain:
            raise ValueError(
                f"The option '{p.name}' of the head '{name}' is wanted by keyword, with a number, a text or a tuple of "
                "whole numbers as its default."
            )
    _HEADS[name] = head


def heads() -> dict[str, str]:
    """List every head that has a name, those of ``register_head`` included, with its description."""
    return {name: describe_head(name) for name in HEADS}


def describe_head(head: str) -> str:
    """The first line of a registered head's docstring; its name where it has none."""
    first_line, *_ = (inspect.getdoc(HEADS[head]) or head).splitlines()
    return first_line


def get_head_options(head: str) -> dict[str, Any]:
    """The options of a registered head, with their defaults."""
    parameters = inspect.signature(HEADS[head]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def build_head(head: HeadSpec, in_features: int, num_classes: int, /, **options: Any) -> nn.Module:
    """Build a new head with random weights.

    Args:
        head: one of ``HEADS``, any callable ``(in_features, num_classes, **options) -> nn.Module``, or a module, of
            which a copy is taken.
        in_features: width of the backbone's pooled features, or channels of its last map.
        num_classes: number of logits.
        **options: the head's own options.

    Returns:
        The head; one of ``HEADS`` has its ``HeadConfig`` as the attribute ``head_config``.

    Raises:
        ValueError: for an unknown name (with the nearest ones), an option that the head does not take (with those that
            it takes and the heads that take this one) or a value out of range; and for what builds no module.
    """
    if callable(head):
        head = next((name for name, registered in HEADS.items() if registered is head), head)  # for its HeadConfig
    if callable(head):
        return _build_custom_head(head, in_features, num_classes, options)
    if not isinstance(head, str):
        raise ValueError(
            f"head is one of the names {', '.join(HEADS)}, a callable (features_in, classes) that makes a module, or a "
            f"module, not {type(head).__name__}."
        )
    if head not in HEADS:
        raise ValueError(f"There is no head '{head}'. {suggest_names(head, HEADS)}")
    defaults = get_head_options(head)
    for name in options:
        if name not in defaults:
            takers = [other for other in HEADS if name in get_head_options(other)]
            elsewhere = f" '{name}' belongs to {' and '.join(takers)}." if takers else ""
            raise ValueError(f"The head '{head}' takes {', '.join(defaults) or 'no options'}, not '{name}'.{elsewhere}")
    built = HEADS[head](in_features, num_classes, **options)
    given = {name: tuple(value) if isinstance(defaults[name], tuple) else value for name, value in options.items()}
    built.head_config = HeadConfig(head, defaults | given)  # type: ignore[assignment]  # no tensor, no module
    return built


def _build_custom_head(head: HeadFactory, in_features: int, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Call a head that has no name, or copy a module."""
    if isinstance(head, nn.Module):
        if options:
            raise ValueError(
                f"The head is a {type(head).__name__} that is built already, so it takes no options, not "
                f"{', '.join(options)}. Give its class instead."
            )
        return copy.deepcopy(head)
    name = get_head_name(head)
    signature = _get_signature(head)
    if signature:
        try:
            signature.bind(in_features, num_classes, **options)
        except TypeError as error:
            raise ValueError(
                f"The head {name} cannot be called with (features_in, classes{', **options' if options else ''}): "
                f"{error}."
            ) from error
    built: object = head(in_features, num_classes, **options)
    if not isinstance(built, nn.Module):
        raise ValueError(f"The head {name} gave {type(built).__name__}; it is to make an nn.Module.")
    return built


def get_head_config(head: nn.Module) -> HeadConfig | None:
    """What a head can be built again from; None for one that was given as a callable or a module."""
    config = getattr(head, "head_config", None)
    return config if isinstance(config, HeadConfig) else None


def get_head_name(head: HeadSpec | nn.Module) -> str:
    """The name of a head in messages: its registered name, or that of its class or function."""
    if isinstance(head, str):
        return head
    name: str = getattr(getattr(head, "func", head), "__name__", type(head).__name__)
    return name


def has_head_option(head: HeadSpec, name: str) -> bool:
    """Whether a head has an option of this name in its signature that is not bound yet, as by a partial."""
    if name in getattr(head, "keywords", ()):
        return False
    factory = resolve_head(head)
    signature = None if factory is None or isinstance(factory, nn.Module) else _get_signature(factory)
    return signature is not None and name in list(signature.parameters)[2:]


def resolve_head(head: HeadSpec | nn.Module) -> HeadFactory | None:
    """The head of this name, or the callable or module itself; None for an unknown name."""
    return HEADS.get(head) if isinstance(head, str) else head


def _get_signature(head: HeadFactory) -> inspect.Signature | None:
    try:
        return inspect.signature(head)
    except (TypeError, ValueError):  # a callable written in C may have none
        return None


heads.register = renamed_function(register_head, "heads.register")  # type: ignore[attr-defined]  # a module once
