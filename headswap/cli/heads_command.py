"""The command that lists the heads: ``heads``. It reads their source, because importing them would import torch."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from rich.table import Table

from headswap.cli.console import console, format_default

HEADS_MODULE = "headswap.networks.heads"
HeadRow = tuple[str, str, dict[str, object]]  # name, description, options with their defaults


def heads_command() -> None:
    """List the heads with their options."""
    table = Table("name", "what it does", "options")
    for name, description, options in _list_heads():
        table.add_row(name, description, ", ".join(f"{key}={format_default(value)}" for key, value in options.items()))
    console.print(table)


def _list_heads() -> list[HeadRow]:
    if HEADS_MODULE in sys.modules:  # somebody may have registered more
        from headswap.networks.head_registry import HEADS, describe_head, get_head_options

        return [(name, describe_head(name), get_head_options(name)) for name in HEADS]
    return read_built_in_heads()


def read_built_in_heads() -> list[HeadRow]:
    """What the source of ``BUILT_IN_HEADS`` says: names, first lines of docstrings, keyword-only arguments."""
    tree = _parse_module(HEADS_MODULE)
    classes = _classes_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headswap.networks."):
            wanted = {alias.name for alias in node.names}
            found = _classes_of(_parse_module(node.module or "")).items()
            classes.update((name, definition) for name, definition in found if name in wanted)
    [table] = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "BUILT_IN_HEADS"
    )
    assert isinstance(table, ast.Call) and isinstance(table.args[0], ast.Dict)
    names = [(ast.literal_eval(key), value.id) for key, value in _items(table.args[0])]
    return [(name, *_describe_class(classes[class_name])) for name, class_name in names]


def _parse_module(name: str) -> ast.Module:
    path = Path(__file__).parents[2].joinpath(*name.split("."))
    return ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))


def _classes_of(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _items(table: ast.Dict) -> list[tuple[ast.expr, ast.Name]]:
    return [
        (key, value) for key, value in zip(table.keys, table.values, strict=True) if key and isinstance(value, ast.Name)
    ]


def _describe_class(definition: ast.ClassDef) -> tuple[str, dict[str, object]]:
    [constructor] = (n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    arguments = zip(constructor.args.kwonlyargs, constructor.args.kw_defaults, strict=True)
    options = {argument.arg: ast.literal_eval(default) for argument, default in arguments if default}
    return inspect.cleandoc(ast.get_docstring(definition) or "").splitlines()[0], options
