"""The ``headswap`` command: its sub-commands, and how it ends. Imports Gradio for ``app`` only."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headswap.cli.list_commands import backbones_command, fetch_command, heads_command
from headswap.cli.model_commands import evaluate_command, export_command, predict_command, push_command
from headswap.cli.terminal import EXIT_INTERRUPTED, error_console, print_line
from headswap.cli.training_commands import check_command, race_command, train_command
from headswap.common import devices
from headswap.common.errors import InputError
from headswap.common.version import read_version


class InterruptibleGroup(TyperGroup):
    """Group whose commands end with a message, not a traceback, on Ctrl+C; ``app`` has a handler of its own."""

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
    cls=InterruptibleGroup,
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


@cli.command("app")
def app_command(
    port: Annotated[int | None, typer.Option(help="By default the first free port from 7860 on.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 admits other machines of the network.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    lan: Annotated[
        bool, typer.Option("--lan", help="Listen to the network, and show the address and a QR code for a classroom.")
    ] = False,
) -> None:
    """Start the web page and open it."""
    from headswap.ui import launch

    if lan:
        from headswap.ui.app.lan import ALL_INTERFACES, find_lan_address, format_invitation

        launch(
            lambda port: print(format_invitation(find_lan_address(), port), flush=True),
            server_port=port,
            server_name=ALL_INTERFACES,
            inbrowser=False,
        )
    else:
        launch(server_port=port, server_name=host, inbrowser=browser)


for _name, _command in (
    ("train", train_command),
    ("predict", predict_command),
    ("evaluate", evaluate_command),
    ("export", export_command),
    ("push", push_command),
    ("check", check_command),
    ("race", race_command),
    ("heads", heads_command),
    ("backbones", backbones_command),
    ("fetch", fetch_command),
):
    cli.command(_name)(_command)


def main() -> None:
    """Run the ``headswap`` command; print an ``InputError`` in one line and end with status 1."""
    devices.use_all_cpus()
    try:
        cli()
    except InputError as error:
        error_console.print(str(error), style="red", markup=False, soft_wrap=True)  # what it says to type stays whole
        raise SystemExit(1) from None
