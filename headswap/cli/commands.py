"""The ``headswap`` command: its sub-commands, each imported when it is run, and how it ends.

``--help`` and ``--version`` answer at once, because neither torch nor Gradio is imported for them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from headswap.cli.console import EXIT_INTERRUPTED, error_console, print_line
from headswap.common.errors import InputError
from headswap.common.version import read_version


@dataclass(frozen=True)
class LazyCommand:
    """A sub-command that is imported when it is run.

    Attributes:
        module: of ``headswap.cli``.
        summary: the first sentence of its docstring, for the list of commands.
    """

    module: str
    summary: str


COMMANDS: Mapping[str, LazyCommand] = MappingProxyType(
    {
        "app": LazyCommand("app_command", "Start the web page and open it."),
        "train": LazyCommand(
            "training_commands",
            "Train a model on a folder of images, and optionally save it or classify images with it.",
        ),
        "predict": LazyCommand("model_commands", "Classify images with a saved model."),
        "evaluate": LazyCommand("model_commands", "Evaluate a saved model on images that it was not trained on."),
        "export": LazyCommand("model_commands", "Export a saved model to other formats, each compared with it."),
        "push": LazyCommand(
            "model_commands",
            "Push a saved model to the Hugging Face Hub, as the user who is logged in on this computer.",
        ),
        "check": LazyCommand(
            "training_commands", "Check a dataset for duplicates, conflicting labels and weak images before training."
        ),
        "race": LazyCommand("training_commands", "Train several heads side by side, and continue with the best."),
        "heads": LazyCommand("heads_command", "List the heads with their options."),
        "backbones": LazyCommand("backbone_commands", "List the backbones with their size and accuracy."),
        "fetch": LazyCommand(
            "backbone_commands", "Download pretrained weights in advance, so that a class needs no internet."
        ),
    }
)


def load_command(name: str) -> Any:
    """Import a sub-command of ``COMMANDS``, the function ``<name>_command`` of its module, as a click command."""
    module = import_module(f"headswap.cli.{COMMANDS[name].module}")
    if "torch" in sys.modules:
        from headswap.common import devices

        devices.use_all_cpus()
    app = typer.Typer(add_completion=False)
    app.command(name)(getattr(module, f"{name}_command"))
    return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """Group that imports a command when it is run, and ends with a message, not a traceback, on Ctrl+C.

    The command ``app`` has a handler of its own for Ctrl+C.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, command in COMMANDS.items():  # for the list; what is run takes its place
            self.add_command(TyperCommand(name, help=command.summary), name)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]  # Typer's is private
        """Find the command that was asked for, and import it."""
        if args[0] in COMMANDS:
            self.add_command(load_command(args[0]), args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # the base class's type is private to Typer
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            if ctx.invoked_subcommand == "app":
                raise
            error_console.print(str(interrupt) or "Stopped.", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


cli: typer.Typer = typer.Typer(
    cls=LazyGroup,
    help="Give a pretrained image network a new head, and watch it learn your pictures.",
    no_args_is_help=True,
    add_completion=False,
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print_line(f"headswap {read_version()}")
        raise typer.Exit


@cli.callback()
def handle_common_options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Handle the options of all commands."""


def main() -> None:
    """Run the ``headswap`` command; print an ``InputError`` in one line and end with status 1."""
    try:
        cli()
    except InputError as error:
        error_console.print(str(error), style="red", markup=False, soft_wrap=True)  # what it says to type stays whole
        raise SystemExit(1) from None
