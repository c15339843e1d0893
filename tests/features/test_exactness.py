"""Learning from what is kept is learning from pixels: a training without any cache ends with the same weights.

The loop here is written down anew, as a plain one in PyTorch that runs the whole network in every step; of the library
it has the network, the views of a picture and the order of random numbers.
"""

import copy

import pytest
import torch
from drawings import SHAPES, copied, load_shapes, moved, small_model
from torch import nn
from torch.nn import functional as F

import headswap
from headswap import Phase, Plan
from headswap.features.augment import make_views
from headswap.features.cache import FeatureCache
from headswap.training.loop import TrainingRandomness

SEED = 5
HEAD, LAST_TWO, LAST = Phase(3, 0, 1e-2), Phase(2, 2, 3e-3, 1e-3, layer_decay=0.5), Phase(2, 1, 3e-3, 1e-3)
THAWING = (HEAD, LAST_TWO)
DOWN_AND_UP = (HEAD, LAST_TWO, LAST, HEAD, LAST_TWO)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=4)


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    """Some accelerators have no double precision."""
    monkeypatch.setattr(headswap.common.devices, "select_device", lambda: torch.device("cpu"))


def planned(phases, **how):
    return Plan(
        phases, **{"views": 3, "batch_size": 5, "head_loss_ratio": 0.0, "checkpoint": "last", "seed": SEED} | how
    )


def double(backbone="shufflenet_v2_x0_5", **head):
    return small_model(sorted(SHAPES), backbone=backbone, **head).double()


def pixels_of(images, model, plan):
    """Every view of every image as the network sees it, ``[N, views, 3, size, size]``."""
    wanted = model.preprocess
    drawn = [
        make_views(
            images.pixels(i, wanted.resize, wanted.interpolation),
            wanted,
            plan.views,
            torch.Generator().manual_seed(plan.seed * 1_000_003 + i),
        )
        for i in range(len(images))
    ]
    return wanted.normalize(torch.stack(drawn)).double()


def plainly_trained(model, images, plan):
    """Train the whole network on pixels."""
    pixels, labels = pixels_of(images, model, plan), torch.tensor(images.labels)
    stages = list(model.stages)
    order = torch.Generator().manual_seed(plan.seed)
    dropout = torch.Generator().manual_seed(plan.seed).get_state()
    steps = -(-len(images) // plan.batch_size)
    for phase in plan.phases:
        model.requires_grad_(False)
        groups, rate = [], phase.backbone_lr
        for stage in stages[: -1 - phase.learning_stages : -1]:
            groups.append((stage, rate))
            rate *= phase.layer_decay
        groups.append((model.head, phase.head_lr))
        chosen = []
        for module, rate in groups:
            module.requires_grad_(True)
            for p in module.parameters():
                chosen.append({"params": [p], "lr": rate, "weight_decay": plan.weight_decay if p.ndim > 1 else 0.0})
        adamw = torch.optim.AdamW(chosen, foreach=False)
        rates = [group["lr"] for group in chosen]
        total = steps * phase.epochs
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(adamw, rates, total_steps=total, pct_start=phase.warmup_ratio)
        for _ in range(phase.epochs):
            for batch in torch.randperm(len(images), generator=order).split(plan.batch_size):
                view = torch.randint(plan.views, batch.shape, generator=order)
                model.eval()
                model.head.train()
                others = torch.get_rng_state()
                torch.set_rng_state(dropout)
                logits = model(pixels[batch, view])
                dropout = torch.get_rng_state()
                torch.set_rng_state(others)
                adamw.zero_grad()
                F.cross_entropy(logits, labels[batch], label_smoothing=plan.label_smoothing).backward()
                adamw.step()
                one_cycle.step()


def farthest(some, other):
    """The largest difference between two networks, and where."""
    one, two = some.state_dict(), other.state_dict()
    assert one.keys() == two.keys()
    return max(((one[name] - two[name]).abs().max().item(), name) for name in one)


def both(model, images, plan):
    """The network as the library trains it, and as the plain loop does."""
    plain = copy.deepcopy(model)
    headswap.fit(model, images, plan, validation=images, engine="eager")
    plainly_trained(plain, images, plan)
    return model, plain


def assert_exact(model, images, plan):
    before = copied(model)
    ours, plain = both(model, images, plan)
    assert len(moved(before, ours)) > 2, "nothing was learned"
    difference, where = farthest(ours, plain)
    assert difference < 1e-9, where


@pytest.mark.parametrize("backbone", ["shufflenet_v2_x0_5", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_a_head_and_then_two_stages_learn_exactly_as_without_a_cache(images, backbone):
    assert_exact(double(backbone), images, planned(THAWING))


def test_a_boundary_that_goes_down_and_up_again_learns_from_nothing_stale(images):
    assert_exact(double(), images, planned(DOWN_AND_UP))


def test_stages_that_learn_from_the_start_learn_exactly_as_without_a_cache(images):
    assert_exact(double(), images, planned((LAST_TWO, HEAD)))


@pytest.mark.slow
def test_everything_may_learn(images):
    assert_exact(double(), images, planned((Phase(2, 5, 1e-3, 1e-4),)))


@pytest.mark.parametrize(
    "head",
    [
        {"head": "bottleneck", "dropout": 0.4},
        pytest.param({"head": "mlp", "hidden_dims": (32, 16)}, marks=pytest.mark.slow),
    ],
)
def test_dropout_drops_the_same(images, head):
    assert_exact(double(**head), images, planned(THAWING))


def test_what_is_kept_in_files_is_exact_too(images, monkeypatch):
    monkeypatch.setattr(headswap.features.memory, "MEMORY_BUDGET", headswap.features.memory.MemoryBudget(0))
    assert_exact(double(), images, planned(DOWN_AND_UP))


# The comparison would notice


def learned_wrongly(images, phases=DOWN_AND_UP):
    return farthest(*both(double(), images, planned(phases)))[0]


@pytest.mark.slow
def test_stale_activations_would_be_noticed(images, monkeypatch):
    monkeypatch.setattr(FeatureCache, "drop_after", lambda *_: None)
    assert learned_wrongly(images) > 1e-6


@pytest.mark.slow
def test_norms_that_take_new_statistics_would_be_noticed(images, monkeypatch):
    monkeypatch.setattr(headswap.training.loop, "set_train_mode", nn.Module.train)
    assert learned_wrongly(images, THAWING) > 1e-6


@pytest.mark.slow
def test_another_order_would_be_noticed(images, monkeypatch):
    class Another(TrainingRandomness):
        def __init__(self, seed):
            super().__init__(seed + 1)

    monkeypatch.setattr(headswap.training.loop, "TrainingRandomness", Another)
    assert learned_wrongly(images, (HEAD,)) > 1e-6


@pytest.mark.slow
def test_single_precision_would_be_noticed(images, monkeypatch):
    kept = FeatureCache.get_batch
    monkeypatch.setattr(FeatureCache, "get_batch", lambda *how: kept(*how).float().double())
    assert learned_wrongly(images, (HEAD,)) > 1e-9
