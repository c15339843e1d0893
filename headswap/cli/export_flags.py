"""Gives a Typer command one flag for each registered export form."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from headswap.export.forms import EXPORT_FORMS, ExportForm


def with_export_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter ``forms`` of a command by a flag for each registered export form, in alphabetical order.

    Typer reads the options of a command from the signature of its function, so the signature is built here. Forms that
    are registered later get no flag.

    Args:
        command: a function that takes a list of the chosen ``ExportForm`` as ``forms``.
    """
    forms = sorted(EXPORT_FORMS.values(), key=lambda form: form.name)

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        chosen = [form for form in forms if arguments.pop(form.name)]
        command(forms=chosen, **arguments)

    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name == "forms":
            parameters += [_make_flag(form) for form in forms]
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))
    wrapper.__dict__["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def join_export_flags() -> str:
    """The flags of all export forms for a sentence: ``--onnx, --program, --script or --space``."""
    *others, last = sorted(map(_flag, EXPORT_FORMS.values()))
    return f"{', '.join(others)} or {last}" if others else last


def _make_flag(form: ExportForm) -> inspect.Parameter:
    option = Annotated[bool, typer.Option(_flag(form), help=form.help)]
    return inspect.Parameter(form.name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)


def _flag(form: ExportForm) -> str:
    return f"--{form.name.replace('_', '-')}"
