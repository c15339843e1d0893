"""What is promised of every backbone, said of every one: torchvision's 80, the bundled three, timm's tiny ones.

In the ordinary run stand five architectures; all the others run with ``pytest -m slow``.
"""

import os

import pytest
import timm
import torch
from every_network import ROWS, TIMMS, enliven, five_ordinarily, side_of
from torchvision import models as tv

import headswap
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import find_backbone
from headswap.networks.split_torchvision import split_into_stages

GIANT, MEMORY = 150, 12e9  # millions of weights; bytes that a machine should have for such a network
QUICK = {"init_weights": False}


@pytest.fixture
def room_for_it(name):
    """Skips a giant where there is too little memory for it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if find_backbone(name).million_weights > GIANT and memory < MEMORY:
        pytest.skip(f"{name} needs a machine with {MEMORY / 1e9:.0f} GB of memory")


TORCHVISIONS = [row.name for row in ROWS]


def logits_of_both(network, images, map_to_last=False):
    """The network's own logits, and those of its parts with its original last layer."""
    parts = split_into_stages(network.eval())
    with torch.no_grad():
        last_map = parts.stages.eval()(images)
        pooled = parts.pool.eval()(last_map)
        return network(images), parts.original_head.eval()(last_map if map_to_last else pooled)


@pytest.mark.usefixtures("room_for_it")
@pytest.mark.parametrize("name", five_ordinarily(TORCHVISIONS))
def test_stages_and_the_original_last_layer_are_the_network(name):
    torch.manual_seed(0)
    network = tv.get_model(name, weights=None, **(QUICK if name in ("googlenet", "inception_v3") else {}))
    images = torch.randn(2, 3, *2 * [getattr(network, "image_size", side_of(name))])
    theirs, ours = logits_of_both(network, images, isinstance(network, tv.SqueezeNet))
    assert torch.equal(theirs, ours)
    assert theirs.isfinite().all()


@pytest.mark.parametrize("name", five_ordinarily(f"timm/{name}" for name in TIMMS))
def test_stages_and_the_original_last_layer_are_timms_network(name):
    torch.manual_seed(0)
    network = timm.create_model(name.removeprefix("timm/"))
    enliven(network)
    theirs, ours = logits_of_both(network, torch.randn(2, *network.pretrained_cfg["input_size"]))
    assert torch.equal(theirs, ours)
    assert theirs.isfinite().all()


@pytest.mark.usefixtures("room_for_it")
@pytest.mark.parametrize("name", five_ordinarily([*TORCHVISIONS, *BUNDLED, *(f"timm/{name}" for name in TIMMS)]))
def test_a_backbone_with_seven_new_classes(name):
    torch.manual_seed(0)
    model = headswap.adapt(name, 7, pretrained=False)
    assert learning(model) == {id(p) for p in model.head.parameters()}
    images = torch.randn(2, 3, *2 * [side_of(name)])
    *alone, logits = outputs(model.eval(), images)
    model.train()
    model.stages.train()
    for part in model.feature_stages:
        part.train()
    *together, _ = outputs(model, torch.stack([images[0], images[1].flip(-1) + 1]))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(alone, together, strict=True))
    assert logits.shape == (2, 7) and logits.isfinite().all()


def learning(model):
    return {id(p) for p in model.parameters() if p.requires_grad}


def outputs(model, images):
    """What comes out of each part on the way to the head, and the logits."""
    seen = []
    hooks = [part.register_forward_hook(lambda *call: seen.append(call[-1].clone())) for part in model.feature_stages]
    with torch.no_grad():
        seen.append(model(images))
    for hook in hooks:
        hook.remove()
    return seen
