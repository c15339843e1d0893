"""Every head of the table has the size that it says, explains itself and refuses what it cannot take."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from headswap import adapt
from headswap.networks.head_interface import find_last_linear, has_map_input, is_solvable
from headswap.networks.head_registry import HEADS, build_head, describe_head, get_head_options
from headswap.networks.heads import ACTIVATIONS, Attention
from headswap.networks.lda import compute_out_of_fold_logits
from headswap.training.calibration import raise_temperature

WITH_DROPOUT = [head for head in HEADS if "dropout" in get_head_options(head)]


def weights(module):
    return sum(p.numel() for p in module.parameters())


def features(head, count=7):
    """Random features as this head takes them, 24 wide."""
    torch.manual_seed(0)
    return torch.randn(count, 6, 24) if has_map_input(head) else torch.randn(count, 24)


@pytest.mark.parametrize(
    ("backbone", "head", "options", "count"),
    [
        ("resnet18", "linear", {}, 5_130),
        ("resnet18", "bottleneck", {"bottleneck_dim": 256}, 133_898),
        ("resnet18", "mlp", {"hidden_dims": (2048, 1024)}, 3_159_050),
        ("vgg16", "linear", {}, 40_970),
    ],
)
def test_a_new_head_has_exactly_so_many_weights(backbone, head, options, count):
    with torch.device("meta"):
        model = adapt(backbone, classes=10, head=head, pretrained=False, **options)
    assert weights(model.head) == count


@pytest.mark.parametrize("head", HEADS)
def test_every_head_turns_features_into_logits(head):
    module = build_head(head, 24, 5).eval()
    logits = module(features(head))
    assert logits.shape == (7, 5)
    assert torch.allclose(module(features(head)[:3]), logits[:3], atol=1e-5)  # no picture looks at its neighbours
    assert logits.std(0).min() > 0  # every class looks at the features


@pytest.mark.parametrize("head", HEADS)
def test_every_weight_of_every_head_learns(head):
    module = build_head(head, 24, 5).eval()
    module(features(head, 64)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_every_head_leaves_its_features_as_they_are(head):
    given = features(head)
    build_head(head, 24, 5).train()(given)
    assert torch.equal(given, features(head))


@pytest.mark.parametrize("head", WITH_DROPOUT)
def test_dropout_is_on_in_training_and_off_afterwards(head):
    module = build_head(head, 24, 5, dropout=0.5)
    given = features(head)
    assert not torch.equal(module.train()(given), module(given))
    assert torch.equal(module.eval()(given), module(given))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_explains_itself_in_a_sentence(head):
    sentence = describe_head(head)
    assert sentence[0].isupper() and sentence.endswith(".") and 20 < len(sentence) < 120


def test_no_two_heads_say_the_same():
    assert len({describe_head(head) for head in HEADS}) == len(HEADS)


def test_the_options_of_the_heads_and_their_defaults():
    assert get_head_options("linear") == {"dropout": 0.0}
    assert get_head_options("bottleneck") == {"bottleneck_dim": 512, "activation": "relu", "dropout": 0.2}
    assert get_head_options("mlp") == {"hidden_dims": (1024, 512), "dropout": 0.3}
    assert get_head_options("attention") == {"dim": 256, "layers": 1, "dropout": 0.1}
    assert get_head_options("lda") == {}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_built_with_its_defaults_is_the_one_built_without(head):
    assert repr(build_head(head, 24, 5)) == repr(build_head(head, 24, 5, **get_head_options(head)))


@pytest.mark.parametrize("head", WITH_DROPOUT)
def test_dropout_reaches_every_layer_of_the_head(head):
    module = build_head(head, 24, 5, dropout=0.25)
    assert {m.p for m in module.modules() if isinstance(m, nn.Dropout)} == {0.25}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_bottleneck_takes_every_activation(name):
    assert isinstance(build_head("bottleneck", 24, 5, activation=name).activation, ACTIVATIONS[name])


def test_an_mlp_has_as_many_hidden_layers_as_it_is_told():
    module = build_head("mlp", 24, 5, hidden_dims=(9, 8, 7))
    shapes = [(m.in_features, m.out_features) for m in module if isinstance(m, nn.Linear)]
    assert shapes == [(24, 9), (9, 8), (8, 7), (7, 5)]
    assert sum(isinstance(m, nn.ReLU) for m in module) == 3


def test_any_callable_is_a_head():
    def plain(features, classes):
        return nn.Linear(features, classes, bias=False)

    model = adapt("squeezenet1_1", ["rose", "tulip"], plain, pretrained=False)
    assert model.head.weight.shape == (2, 512)


def test_a_callable_gets_its_options():
    head = build_head(lambda features, classes, bias: nn.Linear(features, classes, bias), 24, 5, bias=False)
    assert head.bias is None


# Attention


def test_only_attention_takes_the_map():
    assert [head for head in HEADS if has_map_input(head)] == ["attention"]
    assert has_map_input(Attention(8, 2)) and not has_map_input(nn.Linear(8, 2)) and not has_map_input(nn.Linear)


def test_attention_looks_at_every_place():
    module = build_head("attention", 24, 5).eval()
    given = features("attention", 2).requires_grad_()
    module(given)[:, 0].sum().backward()
    assert (given.grad.abs().sum(2) > 0).all()


def test_attention_does_not_mind_how_many_places_there_are():
    module = build_head("attention", 24, 5, dim=32, layers=2)
    assert module(torch.randn(2, 49, 24)).shape == module(torch.randn(2, 197, 24)).shape == (2, 5)
    assert len(module.transformer.layers) == 2 and module.project.out_features == 32


# LDA


def clouds(each=12, views=2, spread=0.3, shift=0.0, classes=3):
    """Features `[images, views, 6]` around a corner for each class, and their labels."""
    torch.manual_seed(1)
    labels = torch.arange(classes).repeat_interleave(each)
    middles = F.one_hot(labels, 6).float()
    return middles.unsqueeze(1) + spread * torch.randn(len(labels), views, 6) + shift, labels


def solved(each=12, **how):
    given, labels = clouds(each, **how)
    head = build_head("lda", 6, 3)
    head.solve(given, labels)
    return head, given, labels


def test_only_lda_is_solved():
    assert [head for head in HEADS if is_solvable(build_head(head, 24, 5))] == ["lda"]


def test_solving_tells_the_classes_apart():
    head, given, labels = solved()
    assert (head(given[:, 0]).argmax(1) == labels).float().mean() > 0.9


def test_solving_gives_linear_discriminants_with_half_the_covariance_shrunk():
    head, given, labels = solved()
    x = F.normalize(given, dim=2).double()
    means = torch.stack([x[labels == c].flatten(0, 1).mean(0) for c in range(3)])
    inside = (x - means[labels, None]).flatten(0, 1)
    covariance = inside.T @ inside / len(inside)
    shrunk = 0.5 * covariance + 0.5 * covariance.trace() / 6 * torch.eye(6, dtype=torch.double)
    weight = means @ shrunk.inverse()
    bias = -0.5 * (weight * means).sum(1)
    temperature = (head.linear.weight.double() * weight).sum() / weight.square().sum()
    assert temperature > 0
    assert torch.allclose(head.linear.weight.double(), temperature * weight, atol=1e-4)
    assert torch.allclose(head.linear.bias.double(), temperature * bias, atol=1e-4)


def test_the_length_of_the_features_says_nothing():
    head, given, _ = solved()
    assert torch.allclose(head(given[:, 0] * 7), head(given[:, 0]), atol=1e-4)


def test_the_root_is_taken_where_features_are_never_negative():
    assert solved(shift=3.0)[0].normalise.root
    assert not solved()[0].normalise.root
    taken = build_head("lda", 6, 3)
    taken.load_state_dict(solved(shift=3.0)[0].state_dict())
    assert taken.normalise.root


def test_no_image_is_judged_by_discriminants_that_saw_one_of_its_views():
    given, labels = clouds()
    wrong = given.clone()
    wrong[0] += 100  # as strange as can be, but alone: what others get may change, what it gets may not
    before, after = compute_out_of_fold_logits(given, labels, 3), compute_out_of_fold_logits(wrong, labels, 3)
    slope = (after - before)[0] / 100
    again = given.clone()
    again[0] += 200
    assert torch.allclose((compute_out_of_fold_logits(again, labels, 3) - before)[0] / 200, slope, rtol=1e-3, atol=1e-4)


def test_classes_that_overlap_are_told_apart_with_less_confidence():
    sure, given, _ = solved(spread=0.1)
    unsure, others, _ = solved(spread=0.8)
    assert sure(given[:, 0]).softmax(1).amax(1).mean() > unsure(others[:, 0]).softmax(1).amax(1).mean() + 0.2


@pytest.mark.parametrize("each", [1, 2])
def test_one_or_two_images_of_a_class_are_enough(each):
    head, given, labels = solved(each, spread=0.1)
    assert (head(given[:, 0]).argmax(1) == labels).all()
    assert all(p.isfinite().all() for p in head.parameters())


def test_images_without_any_difference_within_a_class_are_told_apart():
    head, given, labels = solved(views=1, spread=0.0)
    assert (head(given[:, 0]).argmax(1) == labels).all()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_softening_lowers_the_confidence_and_nothing_else(share):
    head, given, labels = solved(spread=0.1)
    order = head(given[:, 0]).argsort(1)
    raise_temperature(head, given[:, 0], labels, share)
    loss = F.cross_entropy(head(given[:, 0]), labels).item()
    assert loss == pytest.approx(share * math.log(3), rel=0.1)
    assert torch.equal(head(given[:, 0]).argsort(1), order)


@pytest.mark.parametrize("head", [name for name in HEADS if find_last_linear(build_head(name, 4, 2))])
def test_every_head_that_ends_in_a_linear_layer_can_be_softened(head):
    module, given = build_head(head, 24, 3).eval(), features(head)
    with torch.no_grad():
        torch.manual_seed(0)
        torch.nn.init.normal_(find_last_linear(module).weight, std=5)
        sure = module(given).clone()
    labels = sure.argmax(1)
    assert F.cross_entropy(sure, labels) < 0.3 * math.log(3)
    raise_temperature(module, given, labels, 0.6)
    assert F.cross_entropy(module(given), labels).item() == pytest.approx(0.6 * math.log(3), rel=0.1)
    assert torch.equal(module(given).argmax(1), labels)
    assert all(p.requires_grad for p in module.parameters())


def test_with_several_labels_the_share_is_of_a_guess_on_each():
    head = nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(20 * torch.eye(4))
        head.bias.fill_(-10)
    marks = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    raise_temperature(head, marks, marks, 0.5)
    told = F.binary_cross_entropy_with_logits(head(marks), marks).item()
    assert told == pytest.approx(0.5 * math.log(2), rel=0.1)


def test_a_head_without_a_linear_layer_is_not_softened():
    head = nn.Conv1d(1, 1, 1)
    before = head.weight.clone()
    raise_temperature(head, torch.ones(2, 1, 3), torch.tensor([0, 1]), 0.6)
    assert torch.equal(head.weight, before)


def test_a_head_that_is_unsure_already_is_not_softened():
    head, given, labels = solved()
    with torch.no_grad():
        head.linear.weight.mul_(1e-3)
        head.linear.bias.mul_(1e-3)
    before = head.linear.weight.clone()
    raise_temperature(head, given[:, 0], labels, 0.6)
    assert torch.equal(head.linear.weight, before)


# What is refused


def test_an_option_of_another_head_says_which_head_takes_it():
    with pytest.raises(ValueError, match=r"'linear' takes dropout, not 'bottleneck_dim'\. .*belongs to bottleneck\."):
        build_head("linear", 24, 5, bottleneck_dim=256)


def test_an_option_of_no_head_says_what_the_head_takes():
    with pytest.raises(ValueError, match=r"takes hidden_dims, dropout, not 'depth'\.$"):
        build_head("mlp", 24, 5, depth=3)


def test_a_head_without_options_says_so():
    with pytest.raises(ValueError, match=r"'lda' takes no options, not 'dropout'\. .*linear and bottleneck"):
        build_head("lda", 24, 5, dropout=0.1)


@pytest.mark.parametrize("dim", [0, -4, 30])
def test_a_width_that_the_heads_of_attention_cannot_share_is_refused(dim):
    with pytest.raises(ValueError, match=f"shared by 4 heads of attention; {dim} is no multiple"):
        build_head("attention", 24, 5, dim=dim)


def test_an_unknown_head_offers_the_nearest():
    with pytest.raises(ValueError, match=r"no head 'botleneck'\. Did you mean bottleneck\?"):
        build_head("botleneck", 24, 5)


def test_an_unknown_head_that_is_near_to_none_offers_them_all():
    with pytest.raises(ValueError, match=", ".join(HEADS)):
        build_head("xyz", 24, 5)


def test_an_unknown_activation_offers_the_nearest():
    with pytest.raises(ValueError, match=r"no activation 'rellu'\. Did you mean relu"):
        build_head("bottleneck", 24, 5, activation="rellu")


@pytest.mark.parametrize("head", WITH_DROPOUT)
@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_a_dropout_out_of_range_is_refused(head, dropout):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        build_head(head, 24, 5, dropout=dropout)


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("bottleneck", {"bottleneck_dim": 0}),
        ("mlp", {"hidden_dims": (8, -1)}),
        ("mlp", {"hidden_dims": [0]}),
        ("attention", {"layers": 0}),
    ],
)
def test_a_layer_without_units_is_refused(head, options):
    with pytest.raises(ValueError, match=r"from one (unit|layer)"):
        build_head(head, 24, 5, **options)
