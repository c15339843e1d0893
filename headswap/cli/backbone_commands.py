"""The commands for backbones: ``backbones`` lists them, ``fetch`` downloads their weights."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from headswap.cli.console import console, print_json_line, print_line
from headswap.cli.inputs import JsonOption, adapt_backbone, translate_option_errors
from headswap.common.plain_data import dataclass_to_dict
from headswap.networks.catalogue import Backbone, backbones, find_backbone


def backbones_command(as_json: JsonOption = False) -> None:
    """List the backbones with their size and accuracy."""
    if as_json:
        for backbone in backbones():
            fields = dataclass_to_dict(backbone) | {
                "weights_file": str(backbone.weights_file),
                "needs_download": backbone.needs_download,
            }
            print_json_line(event="Backbone", **fields)
        return
    table = Table()
    table.add_column("name", no_wrap=True)
    for heading in ("million weights", "ImageNet top-1", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("weights", no_wrap=True)
    for backbone in backbones():
        table.add_row(*_format_backbone(backbone))
    console.print(table)


def _format_backbone(backbone: Backbone) -> tuple[str, str, str, str, str]:
    weights = "none"
    if backbone.has_weights:
        weights = "to download" if backbone.needs_download else "on this machine"
    return (
        backbone.name,
        "" if backbone.million_weights is None else f"{backbone.million_weights:.1f}",
        f"{backbone.accuracy:.1f} %" if backbone.accuracy else "",
        "" if backbone.megabytes is None else f"{backbone.megabytes:.0f}",
        weights,
    )


def fetch_command(
    names: Annotated[
        list[str], typer.Argument(help="Names listed by `headswap backbones`, or timm/ and a name of timm's.")
    ],
) -> None:
    """Download pretrained weights in advance, so that a class needs no internet."""
    with translate_option_errors():
        found = [find_backbone(name) for name in names]
    for backbone in found:
        was_there = backbone.has_weights and not backbone.needs_download
        # Builds the network once, so that a damaged file is noticed now.
        adapt_backbone(backbone.name, ("one", "other"), "linear", {}, as_json=False)
        weights_file = find_backbone(backbone.name).weights_file
        size = "" if backbone.megabytes is None else f"{backbone.megabytes:.0f} MB "
        print_line(f"{backbone.name}: {'was here already' if was_there else f'{size}fetched'}, {weights_file}")
