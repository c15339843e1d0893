"""From a handler's result to the ``{component: value}`` dict that Gradio takes.

A handler returns a frozen dataclass whose fields are called as the components of its step or panel, so that it can be
called and tested without components. A field that is None leaves its component as it is. Knows no step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, ClassVar, Protocol

import gradio as gr
from gradio.blocks import Block


class DataclassInstance(Protocol):
    """An instance of any dataclass, for type checkers."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def to_component_updates(components: object, update: DataclassInstance) -> dict[Block, object]:
    """Look up the component of each field that is set.

    Args:
        components: the dataclass of a step's or panel's components; a field of ``update`` that is a dataclass itself
            belongs to the panel of that name, a mapping to components by the same keys.
        update: new values, by the names of the components.

    Returns:
        The new values by component; what ``gr.skip`` gives where there are none, as Gradio clears the outputs of an
        event that returns an empty dict.
    """
    return _collect_updates(components, update) or gr.skip()


def _collect_updates(components: object, update: DataclassInstance) -> dict[Block, object]:
    updates: dict[Block, object] = {}
    for field in fields(update):
        value, component = getattr(update, field.name), getattr(components, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            updates |= _collect_updates(component, value)
        elif isinstance(value, Mapping):
            updates |= {component[key]: each for key, each in value.items()}
        elif value is not None:
            updates[component] = value
    return updates
