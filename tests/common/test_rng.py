"""What a training draws is its own: the same numbers come whoever else draws, seeds, adapts or exports meanwhile."""

import contextlib
import threading

import pytest
import timm
import torch
from drawings import HEAD_ONLY, NARROW, load_shapes, small_model
from listening import events
from timm.layers import DropPath
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

import headswap
from headswap import Phase, Plan
from headswap.common.rng import SeededRandomMode
from headswap.training import loop
from headswap.training.events import Epoch
from headswap.ui.sessions.chosen_network import build_meta_network
from headswap.ui.sessions.state import ModelChoice

X = torch.linspace(-2, 2, 512).view(4, 8, 16)
ATTENTION = nn.MultiheadAttention(16, 2, dropout=0.3, batch_first=True)

DRAWS = {
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(3),
    "randint": lambda: torch.randint(5, (4,)),
    "randint from": lambda: torch.randint(2, 5, (4,)),
    "randperm": lambda: torch.randperm(9),
    "rand_like": lambda: torch.rand_like(X),
    "randn_like": lambda: torch.randn_like(X),
    "normal": lambda: torch.normal(X, 1.0),
    "bernoulli": lambda: torch.bernoulli(X.sigmoid()),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 3),
    "poisson": lambda: torch.poisson(X.abs()),
    "Beta": lambda: torch.distributions.Beta(0.4, 0.4).sample(),
    "exponential_": lambda: torch.empty(5).exponential_(),
    "rrelu": lambda: F.rrelu(X, training=True),
    "dropout": lambda: F.dropout(X, 0.5),
    "dropout1d": lambda: F.dropout1d(X, 0.5),
    "alpha_dropout": lambda: F.alpha_dropout(X, 0.5),
    "native_dropout, which takes no generator": lambda: torch.native_dropout(X, 0.5, True)[0],
    "attention": lambda: ATTENTION(X, X, X)[0],
    "attention without weights": lambda: ATTENTION(X, X, X, need_weights=False)[0],
    "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=0.4),
    "DropPath": lambda: DropPath(0.5)(X),
    "StochasticDepth": lambda: StochasticDepth(0.5, "row")(X),
    "a layer's first weights": lambda: nn.Linear(4, 4).weight,
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(5, 5)),
    "orthogonal_": lambda: nn.init.orthogonal_(torch.empty(5, 5)),
    "LSTM": lambda: nn.LSTM(16, 8, 2, dropout=0.5, batch_first=True)(X)[0],
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_it_gives_what_the_seed_gives_and_leaves_torchs_own_numbers_alone(draw):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = [draw() for _ in range(3)]
    before, seeded = torch.get_rng_state(), SeededRandomMode(7)
    drawn = []
    for _ in range(3):
        with seeded:
            drawn.append(draw())
        torch.manual_seed(len(drawn))
    torch.set_rng_state(before)
    with seeded:
        draw()
    assert all(map(torch.equal, drawn, expected))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_somebody_passes_is_still_the_one_that_is_drawn_from():
    def draw():
        generator = torch.Generator().manual_seed(3)
        return torch.rand(4, generator=generator), torch.poisson(torch.ones(4), generator)

    expected = draw()
    with SeededRandomMode(7):
        assert all(map(torch.equal, draw(), expected))


def test_another_thread_draws_from_torchs_own_numbers_meanwhile():
    torch.manual_seed(5)
    expected, drawn = torch.rand(3), []
    torch.manual_seed(5)
    with SeededRandomMode(7):
        other = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
        other.start()
        other.join()
    assert torch.equal(drawn[0], expected)


def test_what_is_computed_once_more_on_the_way_back_drops_the_same():
    x = torch.ones(1000, requires_grad=True)
    with SeededRandomMode(1):
        y = checkpoint(nn.Dropout(0.5), x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(y != 0, x.grad != 0)


def test_numbers_that_nobody_sees_are_not_drawn():
    with SeededRandomMode(0), torch.device("meta"):
        assert nn.Linear(4, 4).weight.is_meta


# Several trainings at once


def curve(model, images, plan):
    """The losses of each epoch, to the last bit, and the weights in the end."""
    told = events(Epoch, headswap.train(model, images, plan))
    return [(epoch.training_loss, epoch.validation_loss) for epoch in told], model.state_dict()


def dropping(images):
    """A head with dropout, whose batches are mixed."""
    model = small_model(images.classes, head="mlp", backbone=NARROW, hidden_dims=(16,))
    return model, Plan((Phase(6, 0, 1e-2),), views=2, mixup=0.4, seed=3)


def thawing(images):
    """Stages that learn, some of whose paths are dropped; and a head of attention with dropout."""
    torch.manual_seed(0)
    network = timm.create_model("test_convnext2", drop_path_rate=0.5)
    assert any(isinstance(module, DropPath) for module in network.modules())
    model = headswap.adapt(network, images.classes, head="attention", dim=16, dropout=0.3)
    return model, Plan((Phase(2, 0, 1e-2), Phase(2, 3, 1e-2, 1e-2)), views=2, seed=4)


def taught(make, images):
    model, plan = make(images)
    return curve(model, images, plan)


@contextlib.contextmanager
def everybody_else(count):
    """So many threads that adapt networks, look at previews, seed and draw for as long as the block runs."""
    over, problems = threading.Event(), []

    def bustle(number):
        try:
            while not over.wait(0.02):
                torch.manual_seed(number)
                if number % 2:
                    build_meta_network(ModelChoice("resnet18", "mlp"), 3)
                else:
                    headswap.adapt(NARROW, 3, "bottleneck", pretrained=False)
                torch.rand(number)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=bustle, args=(number,)) for number in range(1, count + 1)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert problems == []


@pytest.mark.parametrize("others", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_two_trainings_beside_others_who_adapt_have_the_curves_of_each_alone(tmp_path, others):
    images = load_shapes(tmp_path / "shapes")
    alone = [taught(make, images) for make in (dropping, thawing)]
    models = [make(images) for make in (dropping, thawing)]
    together = [None, None]

    def learn(place):
        model, plan = models[place]
        together[place] = curve(model, images, plan)

    with everybody_else(others):
        threads = [threading.Thread(target=learn, args=(place,)) for place in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for (losses, weights), (same, theirs) in zip(alone, together, strict=True):
        assert losses and losses == same
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights.items())


@pytest.mark.parametrize(("head", "options"), [("linear", {}), ("linear", {"dropout": 0.5}), ("mlp", {})])
def test_a_small_head_is_watched_only_while_it_draws_and_learns_the_same(tmp_path, head, options, monkeypatch):
    images = load_shapes(tmp_path / "shapes")
    entered, enter = [], SeededRandomMode.__enter__
    monkeypatch.setattr(SeededRandomMode, "__enter__", lambda self: (entered.append(self), enter(self))[1])

    def watched_curve():
        entered.clear()
        return curve(small_model(images.classes, head, **options), images, HEAD_ONLY)[0]

    sparing, few = watched_curve(), len(entered)
    monkeypatch.setattr(loop, "is_built_in_head", lambda head: False)
    assert watched_curve() == sparing
    assert (few < len(entered)) == (head == "linear" and not options)
