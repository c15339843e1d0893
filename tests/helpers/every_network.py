"""Which networks are tried of all that can be named, and how each of them is made ready. Knows no fixtures."""

import timm
import torch

from headswap.networks.catalogue import backbones, find_backbone

ROWS = [row for row in backbones() if row.source == "torchvision"]
SMALLEST = {
    min((row for row in ROWS if row.family == family), key=lambda row: row.million_weights).name
    for family in {row.family for row in ROWS}
}
TIMMS = timm.list_models("test_*")


def side_of(name):
    """Its own size where nothing else will do, else pixels enough for the deepest."""
    return find_backbone(name).input_size if name.startswith(("vit", "maxvit", "timm/")) else 96


@torch.no_grad()
def enliven(network):
    """Let no part be zero or one, as many are at the start: skipping it would then go unnoticed."""
    for p in network.parameters():
        if p.ndim == 1 or p.std() == 0:
            p.uniform_(0.5, 1.0)
