"""Keeps old names of attributes and arguments working for one release, with a ``DeprecationWarning`` at each use."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that ``old`` is called ``new`` now.

    Args:
        old: the old name.
        new: the new name.
        stacklevel: as for ``warnings.warn``; 3 attributes the warning to the caller of this function's caller.
    """
    warnings.warn(
        f"{old} is called {new} now; the old name goes with the next release.", DeprecationWarning, stacklevel
    )


def renamed_attributes(**new_names: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: accept old names of attributes, methods and constructor arguments.

    Args:
        **new_names: the new name for each old one, such as ``right="correct"``.
    """

    def decorate(cls: type[T]) -> type[T]:
        for old, new in new_names.items():
            setattr(cls, old, _Alias(old, new))
        cls.__init__ = renamed_arguments(**new_names)(cls.__init__)  # type: ignore[method-assign]  # the same signature
        return cls

    return decorate


def renamed_arguments(**new_names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Function decorator: accept old names of keyword arguments.

    Args:
        **new_names: the new name for each old one, such as ``beforehand="precomputed"``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **_translate(kwargs, new_names))

        return wrapper

    return decorate


def renamed_function(function: Callable[P, R], old: str) -> Callable[P, R]:
    """Give a public function under the old name ``headswap.<old>``."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        warn_renamed(f"headswap.{old}", f"headswap.{function.__name__}")
        return function(*args, **kwargs)

    return wrapper


def _translate(kwargs: Mapping[str, Any], new_names: Mapping[str, str]) -> dict[str, Any]:
    """Rename the keyword arguments, with a warning for each old name."""
    for old in kwargs.keys() & new_names.keys():
        warn_renamed(f"The argument {old}", new_names[old], stacklevel=4)
    return {new_names.get(name, name): value for name, value in kwargs.items()}


def get_old_names(cls: type) -> dict[str, str]:
    """The old name of each attribute that ``renamed_attributes`` renamed, by its new name."""
    return {alias.new: alias.old for alias in vars(cls).values() if isinstance(alias, _Alias)}


class _Alias:
    """Descriptor that gives an attribute, a method or a class method under its old name."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def __get__(self, instance: object | None, owner: type) -> Any:
        warn_renamed(f"{owner.__name__}.{self.old}", self.new)
        return getattr(owner if instance is None else instance, self.new)
