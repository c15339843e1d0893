"""Heads of somebody's own learn, whatever they are made of; what cannot be one is said at once."""

import functools

import pytest
import torch
from bundles import tiny_model
from drawings import NARROW, copied, load_shapes, moved, small_model
from torch import nn

import headswap
from headswap import InputError, Phase, Plan
from headswap.networks.head_registry import HEADS, register_head
from headswap.training.calibration import raise_temperature

PLAN = Plan((Phase(2, 0, 1e-2), Phase(1, 1, 1e-3, 1e-3)), views=1, batch_size=7)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=6)  # 15 to learn from


def own(images, head, **options):
    return small_model(images.classes, head, backbone=NARROW, **options)


def normed(features, classes):
    return nn.Sequential(nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


class Optional(nn.Sequential):
    """A layer with options that are called like others."""

    def __init__(self, features, classes, *, dim=30, crop=2, progress=False):
        super().__init__(nn.Linear(features, dim), nn.Linear(dim, classes))
        self.told = dim, crop, progress


class Positions(nn.Module):
    """A layer on the mean of the map."""

    input_kind = "map"

    def __init__(self, features, classes):
        super().__init__()
        self.layer = nn.Linear(features, classes)

    def forward(self, x):
        assert x.ndim == 3
        return self.layer(x.mean(1))


# Batches


@pytest.mark.parametrize("batch_size", range(2, 17))
def test_a_head_is_never_shown_a_single_image_while_it_learns(images, batch_size):
    shown = []
    model = own(images, normed)
    model.head.register_forward_pre_hook(lambda head, given: shown.append(len(given[0])) if head.training else None)
    learned, checked = images.split()
    headswap.fit(model, learned, Plan((Phase(2, 0, 1e-3),), views=1, batch_size=batch_size), checked)
    assert min(shown) > 1 and sum(shown) == 2 * len(learned) and max(shown) <= batch_size + 1
    list(headswap.lr_find(model, learned, steps=10, plan=Plan((Phase(1, 0, 1e-3),), batch_size=batch_size)))


def test_heads_of_the_table_learn_in_the_batches_of_the_plan(images):
    shown = []
    model = own(images, "linear")
    model.head.register_forward_pre_hook(lambda head, given: shown.append(len(given[0])) if head.training else None)
    headswap.fit(model, images.split()[0], Plan((Phase(1, 0, 1e-3),), views=1, batch_size=7), images.split()[1])
    assert shown == [7, 7, 1]


def test_batches_of_one_image_are_refused_at_once_where_the_head_has_batch_norm(images):
    for plan in (Plan((Phase(1, 0, 1e-3),), batch_size=1), Plan((Phase(1, 0, 1e-3, batch_size=1),))):
        with pytest.raises(
            InputError, match=r"Sequential has batch norm, .* batches of one image\. Let batch_size be two"
        ):
            headswap.train(own(images, normed), images, plan)
        headswap.train(own(images, nn.Linear), images, plan).close()


def test_folds_of_a_head_with_batch_norm_are_judged(images):
    plan = Plan((Phase(1, 0, 1e-3),), views=1, batch_size=11)  # of twelve
    assert headswap.cross_validate(images, own(images, "linear"), normed, folds=3, plan=plan).run().total == 18


# What a head may be


@pytest.mark.parametrize(
    "head",
    [
        lambda features, classes: nn.LazyLinear(classes),
        lambda features, classes: nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(classes)),
        lambda features, classes: Positions(features, classes),
        functools.partial(Positions),
        nn.Linear(512, 3),
    ],
    ids=["lazy", "lazy norm", "map", "map of a partial", "a module"],
)
def test_every_kind_of_head_learns(images, head):
    model = own(images, head)
    before = copied(model.head)
    assert headswap.fit(model, images, PLAN).total == 3
    assert moved(before, model.head)
    assert len(model.predict(images.paths[0])) == 3


def test_a_module_stays_as_it_was(images):
    given = nn.Linear(512, 3)
    before = copied(given)
    headswap.fit(own(images, given), images, PLAN)
    assert moved(before, given) == set()
    with pytest.raises(ValueError, match="Linear that is built already, so it takes no options, not bias"):
        own(images, given, bias=False)


def test_the_parts_of_a_head_that_stand_still_do(images):
    model = own(images, lambda f, c: nn.Sequential(nn.Linear(f, 8).requires_grad_(False), nn.Linear(8, c)))
    before = copied(model.head)
    headswap.fit(model, images, PLAN)
    assert moved(before, model.head) == {"1.weight", "1.bias"}


class Fixed(nn.Module):
    """Its weights are no parameters."""

    def __init__(self, features, classes):
        super().__init__()
        self.register_buffer("weight", torch.ones(features, classes))

    def forward(self, x):
        return x @ self.weight


class Means(Fixed):
    """The same, solved."""

    def solve(self, features, labels):
        self.weight.copy_(torch.stack([features[labels == c].flatten(0, 1).mean(0) for c in labels.unique()]).T)


def test_a_head_without_parameters_is_solved_or_stages_learn_beneath_it_or_it_is_refused_at_once(images):
    assert headswap.fit(own(images, Means), images, PLAN).total == 3
    assert headswap.fit(own(images, Fixed), images, Plan((Phase(1, 1, 1e-3, 1e-3),), views=1)).total == 3
    for verb in (headswap.train, headswap.lr_find):
        with pytest.raises(InputError, match="The head Fixed has no weights that learn"):
            verb(own(images, Fixed), images, plan=PLAN)
    with pytest.raises(InputError, match="The head Fixed has no weights that learn"):
        headswap.cross_validate(images, own(images, "linear"), Fixed, folds=2)


# What is refused at once


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (
            lambda f, c: nn.Linear(f, c + 1),
            r"Linear answers with \[2, 4\] .*, of which it gets features \[2, 512\], but there are 3 classes",
        ),
        (lambda f, c: nn.Sequential(nn.Linear(f, c), nn.Softmax(1)), "Sequential ends in a Softmax, .* Leave it out"),
        (lambda f, c: nn.Linear(f + 1, c), r"cannot take what this backbone gives, features \[N, 512\]"),
        (lambda f, c: nn.Bilinear(f, f, c), "Bilinear cannot take"),
        (lambda f, c: 3, "<lambda> gave int; it is to make an nn.Module"),
        (lambda f: nn.Linear(f, 3), r"cannot be called with \(features_in, classes\)"),
        (None, "head is one of the names linear, .* not NoneType"),
        ([nn.Linear], "head is one of the names linear, .* not list"),
    ],
)
def test_what_is_no_head_for_this_network_is_said_when_it_is_given(images, head, words):
    with pytest.raises(ValueError, match=words):
        own(images, head)


@pytest.mark.parametrize("pack", [lambda x: {"logits": x}, lambda x: (x, x), lambda x: None])
def test_an_answer_that_is_not_one_tensor_is_refused(images, pack):
    class Packing(nn.Linear):
        def forward(self, x):
            return pack(super().forward(x))

    with pytest.raises(InputError, match=r"Packing answers with (dict|tuple|NoneType) instead of one tensor"):
        own(images, Packing)


# Options


def test_options_may_be_called_like_arguments_of_adapt(images):
    model = own(images, Optional, head_options={"crop": "fit", "progress": True}, dim=31)
    assert model.head.told == (31, "fit", True) and model.preprocess.crop == "centre"
    model = own(images, Optional, head_options={"crop": 7}, crop="fit")
    assert model.head.told == (30, 7, False) and model.preprocess.crop == "fit"
    assert own(images, functools.partial(Optional, crop=5), crop="fit").head.told == (30, 5, False)
    assert own(images, Optional, crop=5, progress=True).head.told == (30, 5, True)  # adapt could not mean these


def test_an_option_that_may_be_meant_either_way_is_asked_about(images):
    for name, value in (("crop", "fit"), ("progress", print)):
        with pytest.raises(ValueError, match=rf"The head Optional has an option {name}, and so has adapt\."):
            own(images, Optional, **{name: value})


def test_an_option_that_nobody_takes_is_refused(images):
    with pytest.raises(ValueError, match=r"The head Optional cannot be called with .*'depth'"):
        own(images, Optional, depth=3)
    with pytest.raises(ValueError, match="progress is a function"):
        own(images, "linear", progress=True)


@pytest.fixture
def registry(monkeypatch):
    """What is registered in this test is forgotten afterwards."""
    table = dict(HEADS)
    monkeypatch.setattr("headswap.networks.head_registry._HEADS", table)
    monkeypatch.setattr("headswap.networks.head_registry.HEADS", table)
    monkeypatch.setattr("headswap.export.schema.HEADS", table)


@pytest.fixture
def optional(registry):
    """The name of a registered head, in this test alone."""
    register_head("optional", Optional)
    return "optional"


def test_a_registered_head_needs_no_docstring(registry, tmp_path):
    register_head("plain", lambda in_features, num_classes: nn.Linear(in_features, num_classes))
    assert headswap.heads()["plain"] == "plain"
    headswap.save(tiny_model(head="plain"), tmp_path / "plain.headswap")
    assert headswap.load(tmp_path / "plain.headswap").head.out_features == 3


@pytest.mark.parametrize("by_name", [True, False])
def test_a_registered_head_with_any_options_comes_back_from_its_file(optional, tmp_path, by_name):
    model = tiny_model(head=optional if by_name else Optional, head_options={"crop": 9, "progress": True, "dim": 31})
    headswap.save(model, tmp_path / "x.headswap")
    assert headswap.load(tmp_path / "x.headswap").head.told == (31, 9, True)


# A head that was replaced


def test_a_head_that_is_replaced_by_assignment_learns_and_says_why_it_cannot_be_saved(images, tmp_path):
    model = own(images, "linear")
    model.head = nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    assert len(model.summarize_stages()) == 9
    kept = headswap.fit(model, images, PLAN)
    assert headswap.refit(model, images, None, kept).run().refitted
    assert headswap.lr_find(model, images, steps=10, plan=PLAN).run().suggestion
    assert len(model.predict(images.paths[0])) == 3
    with pytest.raises(InputError, match=r"Sequential was given as a callable or set by hand.* Register it with"):
        headswap.save(model, tmp_path / "x.headswap")
    model.head = Positions(512, 3)
    assert headswap.fit(model, images, PLAN).total == 3


@pytest.mark.parametrize("head", [nn.Linear(512, 4), nn.Identity(), nn.Linear(100, 3), HEADS["linear"](512, 5)])
def test_a_replaced_head_that_does_not_fit_is_refused_before_anything_is_learned(images, head):
    model = own(images, "linear")
    model.head = head
    for verb in (headswap.train, headswap.fit, headswap.lr_find):
        with pytest.raises(
            InputError, match=r"answers with \[2, \d+\] for two images, of which .* there are 3|cannot take"
        ):
            verb(model, images, plan=PLAN)
    with pytest.raises(
        InputError, match=r"answers with \[2, \d+\] for two images, of which .* there are 3|cannot take"
    ):
        model.predict(images.paths[0])


# The layer that gives the logits


class Backwards(nn.Module):
    """Its last layer is named first."""

    def __init__(self, features, classes):
        super().__init__()
        self.out, self.hidden = nn.Linear(3, classes), nn.Linear(features, 3)

    def forward(self, x):
        return self.out(self.hidden(x).tanh())


def test_a_layer_that_is_not_the_last_is_not_softened():
    torch.manual_seed(0)
    head, features = Backwards(512, 3).eval(), torch.randn(9, 512)
    with torch.no_grad():
        head.out.weight.mul_(50)
        targets = head(features).argmax(1)
        before = head(features)
        assert raise_temperature(head, features, targets, 0.9) == 1.0
        assert torch.allclose(head(features), before, atol=1e-3)


def test_a_layer_that_is_not_the_last_is_not_widened(images):
    model = own(images, Backwards)
    before = copied(model.head)
    with pytest.raises(ValueError, match="does not end in a linear layer with a row for each class"):
        model.add_class("stars")
    assert model.classes == images.classes and moved(before, model.head) == set()
