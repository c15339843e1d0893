"""The command that starts the page: ``app``. Imports Gradio when it is run."""

from __future__ import annotations

from typing import Annotated

import typer


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
