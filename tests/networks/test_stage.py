"""Helpers that inspect modules or change their mode leave everything else as it was."""

import pytest
import torch
from torch import nn

from headswap.networks.head_interface import add_output
from headswap.networks.head_registry import HEADS, register_head
from headswap.networks.heads import BUILT_IN_HEADS, is_built_in_head
from headswap.networks.stage import Stage, eval_mode, flatten_positions
from headswap.networks.torchvision_tables import TORCHVISION_SHAPES, find_torchvision_family


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_mode_ends_where_an_error_is_raised(training):
    frozen = Stage(nn.Dropout())
    frozen.freeze()
    network = nn.Sequential(frozen, nn.Dropout()).train(training)
    with pytest.raises(RuntimeError, match="stumbled"), eval_mode(network):
        assert not any(module.training for module in network.modules())
        raise RuntimeError("stumbled")
    assert network.training == network[1].training == training and not frozen.training


@pytest.mark.parametrize("bias", [True, False])
def test_one_more_output_leaves_the_others_as_they_were(bias):
    layer = nn.Linear(6, 3, bias=bias)
    layer.note = "its own"
    wider, x = add_output(layer), torch.randn(5, 6)
    assert (wider.out_features, wider.note, layer.out_features) == (4, "its own", 3)
    assert torch.allclose(wider(x)[:, :3], layer(x), atol=1e-6) and wider(x).shape == (5, 4)


def test_positions_come_before_channels_wherever_the_channels_are():
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(flatten_positions(tokens, -1), tokens)
    nchw = torch.arange(48.0).reshape(2, 4, 2, 3)
    assert torch.equal(flatten_positions(nchw, 1), nchw.flatten(2).transpose(1, 2))
    assert torch.equal(flatten_positions(nchw.permute(0, 2, 3, 1), -1), flatten_positions(nchw, 1))


def test_built_in_heads_are_registered_as_any_other_head_is():
    assert list(HEADS)[: len(BUILT_IN_HEADS)] == list(BUILT_IN_HEADS)
    for name, head in BUILT_IN_HEADS.items():
        assert HEADS[name] is head and is_built_in_head(head(8, 3))
        with pytest.raises(ValueError, match=f"not '{name}'"):
            register_head(name, head)
    assert not is_built_in_head(nn.Linear(8, 3))


def test_every_network_of_the_tables_has_a_family():
    assert all(find_torchvision_family(name) for name in TORCHVISION_SHAPES)
    assert find_torchvision_family("resnet_of_tomorrow") == ""
