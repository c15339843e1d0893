"""Every family comes apart into stages that together are the network, and a frozen stage stands still."""

import copy
import typing
from types import SimpleNamespace

import pytest
import timm
import torch
from every_network import five_ordinarily
from torch import nn
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.networks.catalogue import backbones
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import Stage, get_in_features, get_map_channels

# The smallest member of each family: its options, the side of the images that it is shown and how many stages it has.
UNTRAINED = {"init_weights": False}
FAMILIES = {
    "alexnet": ({}, 64, 5),
    "vgg11": (UNTRAINED, 64, 5),
    "resnet18": ({}, 64, 5),
    "densenet121": ({}, 64, 5),
    "googlenet": (UNTRAINED, 64, 10),
    "googlenet, input transformed": (UNTRAINED | {"transform_input": True}, 64, 10),
    "inception_v3": (UNTRAINED, 299, 12),
    "inception_v3, input transformed": (UNTRAINED | {"transform_input": True}, 96, 12),
    "squeezenet1_0": ({}, 64, 9),
    "shufflenet_v2_x0_5": ({}, 64, 5),
    "mobilenet_v2": ({}, 64, 9),
    "mobilenet_v3_small": ({}, 64, 7),
    "mnasnet0_5": ({}, 64, 8),
    "efficientnet_b0": ({}, 64, 9),
    "efficientnet_v2_s": ({}, 64, 8),
    "regnet_x_400mf": ({}, 64, 5),
    "convnext_tiny": ({}, 64, 5),
    "vit_b_32": ({}, 224, 13),
    "swin_t": ({}, 64, 5),
    "swin_v2_t": ({}, 64, 5),
    "maxvit_t": ({}, 224, 5),
    "tf_efficientnet_lite0": (None, 64, 9),
}


@pytest.fixture(scope="module", params=five_ordinarily(FAMILIES))
def family(request):
    """A network of each family with lively random weights, its parts, its name, two images and what becomes of them."""
    options, side, _ = FAMILIES[request.param]
    name = request.param.split(",")[0]
    torch.manual_seed(0)
    network = timm.create_model(name) if options is None else tv.get_model(name, weights=None, **options)
    enliven(network)
    parts, images = split_into_stages(network.eval()), torch.randn(2, 3, side, side)
    before = outputs(parts, images)
    return SimpleNamespace(network=network, parts=parts, name=request.param, images=images, outputs=before)


@torch.no_grad()
def enliven(network):
    """Let no part be zero, one or nearly nothing, as many are at the start: skipping it would then go unnoticed."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and (tensor.ndim == 1 or tensor.std() == 0):
            nn.init.uniform_(tensor, 0.5, 1.0)


def outputs(parts, x):
    """What each stage and the pool make of a batch, in order; none may write into what it is given."""
    results = []
    with torch.no_grad():
        for part in (*parts.stages, parts.pool):
            before = x.clone()
            results.append(part(x))
            assert torch.equal(x, before), f"{part} writes into its input"
            x = results[-1]
    return results


def test_stages_pool_and_last_layer_are_the_network(family):
    *_, last_map, pooled = family.outputs
    with torch.no_grad():
        logits = family.parts.original_head(last_map if isinstance(family.network, tv.SqueezeNet) else pooled)
        expected = family.network(family.images)
    assert torch.equal(logits, expected)
    assert expected.isfinite().all() and expected.std(1).min() > 0


def test_there_are_as_many_stages_as_can_be_read_in_a_drawing(family):
    parts = family.parts
    assert len(parts.stages) == FAMILIES[family.name][2]
    assert 4 <= len(parts.stages) <= 13
    assert all(isinstance(part, Stage) for part in (*parts.stages, parts.pool))


def test_the_parts_hold_every_weight_of_the_network_once(family):
    network, parts = family.network, family.parts
    held = [id(p) for part in (parts.stages, parts.pool, parts.original_head) for p in part.parameters()]
    auxiliary = {id(p) for name, p in network.named_parameters() if name.lower().startswith("aux")}
    assert sorted(held) == sorted({id(p) for p in network.parameters()} - auxiliary)


def test_the_channels_of_the_map_are_where_they_are_said_to_be(family):
    network, parts = family.network, family.parts
    *_, last_map, pooled = family.outputs
    assert parts.channel_dim == (-1 if isinstance(network, tv.VisionTransformer | tv.SwinTransformer) else 1)
    if not isinstance(network, tv.AlexNet | tv.VGG | tv.MobileNetV3):  # whose pool has hidden layers of another width
        assert last_map.shape[parts.channel_dim] == pooled.shape[1]
    assert get_map_channels(parts, family.images.shape[-1]) == last_map.shape[parts.channel_dim]
    assert get_in_features(parts) == pooled.shape[1]


def test_a_frozen_stage_gives_the_same_whatever_its_companions_and_whoever_calls_train(family):
    parts, images = family.parts, family.images
    everything = nn.ModuleList([parts.stages, parts.pool, parts.original_head])
    for part in (*parts.stages, parts.pool):
        part.freeze()
    before = {name: tensor.clone() for name, tensor in everything.state_dict().items()}
    everything.train()
    parts.stages.train()
    parts.pool.train()
    others = torch.stack([images[0], 3 * images[1].flip(-1) + 1])
    together = outputs(parts, others)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(family.outputs, together, strict=True))
    assert not any(torch.equal(a[1], b[1]) for a, b in zip(family.outputs, together, strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in everything.state_dict().items())


def test_no_part_writes_into_what_it_is_given_while_it_learns(family):
    parts = family.parts
    for part in (*parts.stages, parts.pool):
        part.unfreeze()
        part.train()
    outputs(parts, family.images)


# One stage


def small_stage():
    return Stage(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))


def test_a_frozen_stage_has_no_gradients():
    stage = small_stage()
    stage.freeze()
    assert not any(p.requires_grad for p in stage.parameters())
    assert not stage(torch.randn(2, 3, 8, 8)).requires_grad


def test_freezing_ends_training_mode_at_once():
    stage = small_stage().train()
    stage.freeze()
    assert not any(m.training for m in stage.modules())


CALLERS = {
    "model": lambda model: model.train(),
    "stages": lambda model: model.stages.train(),
    "stage": lambda model: model.stages[0].train(),
    "copy": lambda model: copy.deepcopy(model),
    "copy in training mode": lambda model: copy.deepcopy(model).train(),
    "eval, then train": lambda model: model.eval().train(),
    "apply": lambda model: model.apply(lambda m: m.train() if isinstance(m, Stage) else m),
}


@pytest.mark.parametrize("call", CALLERS)
def test_nobody_puts_a_frozen_stage_into_training_mode(call):
    model = nn.Module()
    model.stages, model.head = nn.Sequential(small_stage()), nn.Linear(4, 2)
    model.train()
    model.stages[0].freeze()
    returned = CALLERS[call](model)
    for whole in (model, returned if hasattr(returned, "stages") else model):
        stage = whole.stages[0]
        assert stage.frozen and not any(m.training for m in stage.modules())


def test_an_unfrozen_stage_learns_again():
    stage = small_stage()
    stage.freeze()
    stage.unfreeze()
    assert all(p.requires_grad for p in stage.parameters())
    assert all(m.training for m in stage.train().modules())
    before = stage[1].running_mean.clone()
    stage(torch.randn(2, 3, 8, 8) + 5)
    assert not torch.equal(stage[1].running_mean, before)


def test_a_stage_that_was_never_frozen_follows_train_and_eval():
    stage = small_stage()
    assert all(m.training for m in stage.train().modules())
    assert not any(m.training for m in stage.eval().modules())


def test_freezing_one_stage_leaves_its_neighbours_alone():
    first, second = small_stage(), Stage(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    first.freeze()
    nn.Sequential(first, second).train()
    assert not any(m.training for m in first.modules())
    assert all(m.training for m in second.modules())
    assert all(p.requires_grad for p in second.parameters())


# The catalogue


def test_a_network_of_an_unknown_class_is_refused_with_a_way_out():
    class Stranger(nn.Module):
        pass

    with pytest.raises(InputError, match=r"Stranger cannot be taken apart.*headswap\.backbones\(\)"):
        split_into_stages(Stranger())


@pytest.mark.parametrize("name", [row.name for row in backbones() if row.source == "torchvision"])
def test_the_class_of_every_network_of_the_catalogue_can_be_taken_apart(name):
    kind = typing.get_type_hints(tv.get_model_builder(name))["return"]
    assert split_into_stages.dispatch(kind) is not split_into_stages.dispatch(object)


@pytest.mark.parametrize(
    "name", ["densenet201", "efficientnet_b7", "mobilenet_v3_large", "resnet152", "swin_b", "vgg19_bn", "vit_h_14"]
)
def test_the_largest_of_a_family_has_no_more_stages_than_can_be_read(name):
    with torch.device("meta"):
        parts = split_into_stages(tv.get_model(name, weights=None))
    assert 4 <= len(parts.stages) <= 13
