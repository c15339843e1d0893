"""Which networks are tried of all that can be named, and how each of them is made ready. Knows no fixtures."""

import pytest
import timm
import torch

from headswap.networks.catalogue import backbones, find_backbone

ROWS = [row for row in backbones() if row.source == "torchvision"]
SMALLEST = {
    min((row for row in ROWS if row.family == family), key=lambda row: row.million_weights).name
    for family in {row.family for row in ROWS}
}
TIMMS = timm.list_models("test_*")
ORDINARY = {  # five architectures; their smallest networks
    "resnet18",
    "test_resnet",
    "mobilenet_v3_small",
    "squeezenet1_0",
    "squeezenet1_1",
    "efficientnet_lite0",
    "test_efficientnet",
    "test_vit",
}


def five_ordinarily(names):
    """Names of networks as parameters of a test; what is of none of the five architectures is slow."""

    def is_ordinary(name):
        return name.split(",")[0].removeprefix("timm/").removeprefix("tf_") in ORDINARY

    return [pytest.param(name, marks=[] if is_ordinary(name) else [pytest.mark.slow]) for name in names]


def side_of(name):
    """Its own size where nothing else will do, else pixels enough for the deepest."""
    return find_backbone(name).input_size if name.startswith(("vit", "maxvit", "timm/")) else 96


@torch.no_grad()
def enliven(network):
    """Let no part be zero or one, as many are at the start: skipping it would then go unnoticed."""
    for p in network.parameters():
        if p.ndim == 1 or p.std() == 0:
            p.uniform_(0.5, 1.0)
