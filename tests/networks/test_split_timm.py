"""A network of timm comes apart and is proved, or is one stage and says so."""

import copy

import pytest
import timm
import torch
from every_network import five_ordinarily
from torch import nn

from headswap import adapt
from headswap.common.errors import InputError
from headswap.networks.build import build_staged_network
from headswap.networks.catalogue import find_backbone
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import Stage, get_in_features

TESTS = timm.list_models("test_*")


def run(parts, images):
    with torch.no_grad():
        return parts.original_head(parts.pool(parts.stages(images)))


def evaluating(parts):
    for module in (parts.stages, parts.pool, parts.original_head):
        module.eval()
    return parts


def small(kind=None, name="test_resnet"):
    """A tiny network, made another one by another class."""
    torch.manual_seed(0)
    network = timm.create_model(name)
    if kind is not None:
        network.__class__ = kind(type(network))
    return network


# Apart


@pytest.mark.parametrize("name", five_ordinarily(TESTS))
def test_a_network_comes_apart_and_every_weight_is_held_once(name):
    network = timm.create_model(name)
    parts = split_into_stages(network)
    held = [id(p) for part in (parts.stages, parts.pool, parts.original_head) for p in part.parameters()]
    assert parts.note == "" and 5 <= len(parts.stages) <= 10
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in network.parameters()}
    assert all(isinstance(part, Stage) for part in (*parts.stages, parts.pool))


@pytest.mark.parametrize("name", five_ordinarily(TESTS))
def test_parts_outlive_copies_files_and_another_precision(name, tmp_path):
    parts = evaluating(split_into_stages(small(name=name)))
    images = torch.randn(2, 3, 160, 160)
    expected = run(parts, images)
    assert torch.equal(run(copy.deepcopy(parts), images), expected)
    other = evaluating(split_into_stages(timm.create_model(name)))
    for mine, theirs in zip(
        (other.stages, other.pool, other.original_head), (parts.stages, parts.pool, parts.original_head), strict=True
    ):
        torch.save(theirs.state_dict(), tmp_path / "part")
        mine.load_state_dict(torch.load(tmp_path / "part", weights_only=True))
    assert torch.equal(run(other, images), expected)
    for module in (other.stages, other.pool, other.original_head):
        module.to(torch.float64)
    assert torch.allclose(run(other, images.double()).float(), expected, atol=1e-3)


@pytest.mark.parametrize("name", five_ordinarily(TESTS))
def test_a_drawing_of_it_without_numbers_has_the_same_stages(name):
    with torch.device("meta"):
        drawn = split_into_stages(timm.create_model(name))
    assert list(dict(drawn.stages.named_children())) == list(
        dict(split_into_stages(small(name=name)).stages.named_children())
    )


@pytest.mark.parametrize("head", ["linear", "attention"])
@pytest.mark.parametrize("name", five_ordinarily(TESTS))
def test_it_learns_with_each_kind_of_head(name, head):
    model = adapt(f"timm/{name}", 3, head, pretrained=False).unfreeze().train()
    side = model.preprocess.size
    model(torch.randn(2, 3, side, side)).sum().backward()
    assert all(p.grad is not None for stage in model.stages for p in stage.parameters())


def test_rotary_positions_go_with_the_blocks():
    network = timm.create_model("eva02_tiny_patch14_224", img_size=56, depth=2, num_classes=10)
    network.pretrained_cfg["input_size"] = (3, 56, 56)
    parts = evaluating(split_into_stages(network.eval()))
    assert list(dict(parts.stages.named_children())) == ["patches", "1", "2"]
    images = torch.randn(2, 3, 56, 56)
    assert torch.equal(run(parts, images), network(images))


def test_many_blocks_are_put_together():
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=26, embed_dim=24)
    network.pretrained_cfg["input_size"] = (3, 32, 32)
    assert list(dict(split_into_stages(network).stages.named_children()))[:3] == ["patches", "1-3", "4-6"]


def test_a_network_without_classes_says_how_wide_its_features_are():
    network = timm.create_model("test_resnet", num_classes=0)
    assert get_in_features(split_into_stages(network)) == network.head_hidden_size


def test_the_last_layer_of_a_network_of_convolutions_takes_the_vector():
    network = timm.create_model("resnetv2_50", layers=(1, 1, 1, 1), channels=(32, 32, 32, 32), stem_chs=8)
    network.pretrained_cfg["input_size"] = (3, 64, 64)
    parts = evaluating(split_into_stages(network.eval()))
    images = torch.randn(2, 3, 64, 64)
    assert isinstance(parts.original_head, nn.Sequential) and parts.note == ""
    assert torch.equal(run(parts, images), network(images))


def test_taking_apart_leaves_no_trace():
    network = small()
    network.train()
    torch.manual_seed(1)
    expected = torch.rand(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(1)
    parts = split_into_stages(network)
    assert torch.equal(torch.rand(1), expected)
    assert all(m.training for part in (parts.stages, parts.pool) for m in part.modules())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


# Not apart


def mirroring(kind):
    class Mirroring(kind):
        def forward_features(self, x):
            return super().forward_features(x).flip(-1)

    return Mirroring


def adding_nothing(kind):
    """It adds what is zero only as long as it has learned nothing: the numbers alone would not tell."""

    class AddingNothing(kind):
        def forward_features(self, x):
            return super().forward_features(x) + self.bn1.bias.sum()

    return AddingNothing


def giving_two(kind):
    class GivingTwo(kind):
        def forward_features(self, x):
            features = super().forward_features(x)
            return features, features

        def forward_head(self, x, pre_logits=False):
            return super().forward_head(x[0] + x[1], pre_logits=pre_logits)

    return GivingTwo


@pytest.mark.parametrize("kind", [mirroring, adding_nothing, giving_two])
def test_what_does_not_come_apart_is_one_stage_and_says_so(kind):
    network = small(kind)
    parts = split_into_stages(network)
    assert len(parts.stages) == 1
    assert parts.note.startswith(f"{type(network).__name__} does not come apart into stages")
    images = torch.randn(2, 3, 160, 160)
    network.eval()
    assert torch.equal(run(evaluating(parts), images), network(images))
    held = [id(p) for part in (parts.stages, parts.pool, parts.original_head) for p in part.parameters()]
    assert sorted(held) == sorted({id(p) for p in network.parameters()})


def test_what_makes_no_vector_of_a_picture_is_refused():
    def broken(kind):
        class Broken(kind):
            def forward_features(self, x):
                raise NotImplementedError

        return Broken

    with pytest.raises(InputError, match="Broken does not make one vector"):
        split_into_stages(small(broken))


# Names


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18.a1_in1k",
        "hf_hub:timm/resnet18.a1_in1k",
        "local-dir:/tmp/model",
        "timm/hf-hub:timm/resnet18.a1_in1k",
        "timm/local-dir:/tmp/model",
        "timm/",
        "timm/../resnet18",
        "/tmp/model",
        "timm/resnet18.a1_in1k",
        "timm/Resnet18",
        "timm/timm/resnet18",
    ],
)
@pytest.mark.parametrize("ask", [find_backbone, build_staged_network, lambda name: adapt(name, 2)])
def test_only_exact_names_of_timm_are_known(name, ask, monkeypatch):
    monkeypatch.setattr(timm, "create_model", None)
    with pytest.raises(ValueError, match="There is no backbone"):
        ask(name)


def test_the_nearest_names_of_timm_are_offered():
    with pytest.raises(ValueError, match=r"Did you mean .*timm/resnet18"):
        find_backbone("timm/resnet18.a1_in1k")
    with pytest.raises(ValueError, match=r"Did you mean timm/test_vit\?"):
        find_backbone("test_vit")


def test_pixels_are_as_the_weights_want_them():
    _, preprocess = build_staged_network("timm/test_vit", pretrained=False)
    assert (preprocess.size, preprocess.interpolation, preprocess.mean) == (160, "bicubic", (0.5, 0.5, 0.5))


def test_pictures_that_are_not_square_are_refused():
    with pytest.raises(InputError, match="not square"):
        build_staged_network("timm/vit_base_patch16_sapiens2", pretrained=False)
