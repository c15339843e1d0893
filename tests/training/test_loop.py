"""An epoch learns from every image once; every option of a plan does what it says, and the seed fixes the rest."""

import copy
import dataclasses
import math

import pytest
import torch
from drawings import HEAD_ONLY, NARROW, TWO, load_shapes, small_model
from listening import events, until
from torch.nn import functional as F

import headswap
from headswap import Phase, Plan
from headswap.training import loop
from headswap.training.events import Epoch, Step
from headswap.training.optimizer import PhaseOptimizer, assign_learning_rates, build_lr_scheduler

# Batches


def features_learned_from(images, plan):
    """The different features that the head has been shown in training mode."""
    shown = set()

    def listen(head, given):
        if head.training:
            shown.update(map(tuple, given[0].tolist()))

    model = small_model(images.classes)
    model.head.register_forward_pre_hook(listen)
    learned, checked = images.split()
    headswap.fit(model, learned, plan, checked)
    return shown


def test_every_view_is_learned_from_and_the_seed_draws_the_crops(images):
    plan = Plan((Phase(9, 0, 1e-3),), views=3)
    first, other = (features_learned_from(images, dataclasses.replace(plan, seed=seed)) for seed in (0, 1))
    assert 2 * 24 < len(first) <= 3 * 24
    assert len(first | other) > 3 * 24


def test_a_step_learns_from_its_own_batch_alone(model, images, every_step):
    gradients = []

    def listen(_, __, logits):
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradients.append(gradient.sum(0)))

    model.head.register_forward_hook(listen)
    assert len(events(Step, headswap.train(model, images, HEAD_ONLY))) == len(gradients) == 6
    assert torch.allclose(model.head.linear.bias.grad, gradients[-1])


def test_labels_are_smoothed_as_the_plan_says(model, images):
    def first_step(smoothing):
        other, answers = copy.deepcopy(model), []
        other.head.register_forward_hook(lambda head, _, logits: head.training and answers.append(logits.detach()))
        plan = Plan((Phase(1, 0, 1e-3),), label_smoothing=smoothing)
        return until(Step, headswap.train(other, images, plan)).loss, answers[0]

    (plain, logits), (smoothed, same) = first_step(0.0), first_step(0.3)
    assert torch.equal(logits, same)
    assert smoothed == pytest.approx(0.7 * plain - 0.3 * logits.log_softmax(1).mean().item(), rel=1e-5)


# Rates


def test_stages_move_more_slowly_than_the_head(normed, images):
    head, stage = normed.head.linear.weight.clone(), normed.stages.conv5[0][0].weight.clone()
    headswap.fit(normed, images, Plan((Phase(1, 1, 1e-2, 1e-5),), views=1))
    assert (normed.head.linear.weight - head).abs().max() > 100 * (normed.stages.conv5[0][0].weight - stage).abs().max()


@pytest.mark.parametrize("stages", [0, 2])
def test_weight_decay_spares_norms_and_biases(images, monkeypatch, stages):
    groups = recorded(monkeypatch)
    model = small_model(images.classes, head="bottleneck").unfreeze(stages)
    headswap.fit(model, images, Plan((Phase(1, stages, 1e-2, 1e-4),), views=1, weight_decay=0.03))
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in groups:
        for p in group["params"]:
            assert names[id(p)] not in found
            found[names[id(p)]] = (group["weight_decay"], group["max_lr"])
    for name, p in model.named_parameters():
        learns = name.startswith("head.") or (stages and name.startswith(("stages.stage4.", "stages.conv5.")))
        assert (name in found) == bool(learns)
        if learns:
            assert found[name] == (0.03 if p.ndim > 1 else 0.0, 1e-2 if name.startswith("head.") else 1e-4)


def test_weights_learn_without_any_weight_decay(images, monkeypatch):
    groups = recorded(monkeypatch)
    model = small_model(images.classes)
    headswap.fit(model, images, Plan((Phase(1, 1, 1e-2, 1e-4),), views=1, weight_decay=0.0))
    assert sum(len(group["params"]) for group in groups) == 2 + len(list(model.stages.conv5.parameters()))
    assert {group["weight_decay"] for group in groups} == {0.0}


def recorded(monkeypatch):
    """The groups of every optimizer from now on."""
    groups = []

    class Recording(torch.optim.AdamW):
        def __init__(self, *args, **how):
            super().__init__(*args, **how)
            groups.extend(self.param_groups)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    return groups


@pytest.fixture
def rates_learned_at(monkeypatch):
    """The rate of each group at each step from now on."""
    told = []

    class Recording(torch.optim.AdamW):
        def step(self, *args, **how):
            told.append([group["lr"] for group in self.param_groups])
            return super().step(*args, **how)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    return told


def test_deeper_stages_learn_more_slowly_than_those_above(images, rates_learned_at):
    model = small_model(images.classes, backbone=NARROW)
    plan = Plan((Phase(2, 3, 1e-2, 1e-3, layer_decay=0.1, schedule="cosine", warmup_ratio=0.0),), views=1)
    headswap.fit(model, images, plan)
    highest = sorted(map(max, zip(*rates_learned_at, strict=True)))
    # Weights and biases of three stages and of the head.
    assert highest == pytest.approx([1e-5] * 2 + [1e-4] * 2 + [1e-3] * 2 + [1e-2] * 2)


def test_a_cosine_rises_in_a_line_and_falls_along_a_cosine(images, rates_learned_at):
    plan = Plan((Phase(5, 0, 1e-2, schedule="cosine", warmup_ratio=0.4),), views=1)
    headswap.fit(small_model(images.classes, backbone=NARROW), images, plan)
    rates = [rate for rate, *_ in rates_learned_at]  # 24 images in batches of 16: 10 steps
    falling = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert rates == pytest.approx([1e-2 * share for share in (0.25, 0.5, 0.75, 1.0, *falling)])


@pytest.mark.parametrize(("warm_up", "peak"), [(0.0, 0), (0.1, 1), (0.3, 2), (0.5, 4), (0.9, 8), (1.0, 8)])
def test_one_cycle_rises_for_so_long_and_then_falls(images, rates_learned_at, warm_up, peak):
    plan = Plan((Phase(5, 0, 1e-2, warmup_ratio=warm_up),), views=1)
    headswap.fit(small_model(images.classes, backbone=NARROW), images, plan)
    rates = [rate for rate, *_ in rates_learned_at]
    assert len(rates) == 10 and rates.index(max(rates)) == peak
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
@pytest.mark.parametrize("warm_up", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_schedule_may_have_any_length(schedule, warm_up, steps):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([weight], lr=1e-2)
    phase = Phase(1, 0, 1e-2, schedule=schedule, warmup_ratio=warm_up)
    rates = build_lr_scheduler(optimizer, phase, steps)
    for _ in range(steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 1e-2 * 1.0001
        weight.sum().backward()
        optimizer.step()
        rates.step()


@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 37, 1000])
def test_a_cosine_schedule_is_the_formula_at_every_step(steps, warm_up):
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    highest = (1e-2, 3e-4)
    optimizer = torch.optim.AdamW([{"params": [p], "lr": lr} for p, lr in zip(weights, highest, strict=True)])
    rates = build_lr_scheduler(optimizer, Phase(1, 0, 1e-2, schedule="cosine", warmup_ratio=warm_up), steps)
    warm = max(1, round(warm_up * steps))
    for step in range(steps + 1):
        rising, falling = (step + 1) / warm, (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
        share = rising if step < warm else falling
        for group, lr in zip(optimizer.param_groups, highest, strict=True):
            assert group["lr"] == pytest.approx(share * lr, rel=0, abs=1e-12)
        if step < steps:
            optimizer.step()
            rates.step()


@pytest.mark.parametrize("head", ["linear", "bottleneck", "mlp", "attention"])
def test_weights_come_before_norms_and_biases_each_in_their_order(head):
    model = small_model(3, head).unfreeze(2)
    optimizer = PhaseOptimizer(model, Phase(1, 2, 1e-2, 1e-4), 0.03, 5).optimizer
    wanted = []
    for _, part, lr in assign_learning_rates(model, Phase(1, 2, 1e-2, 1e-4)):
        learning = [p for p in part.parameters() if p.requires_grad]
        weights, others = [p for p in learning if p.ndim > 1], [p for p in learning if p.ndim <= 1]
        wanted += [(group, lr, decay) for group, decay in ((weights, 0.03), (others, 0.0)) if group]
    found = [(group["params"], group["max_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert [(list(map(id, group)), lr, decay) for group, lr, decay in found] == [
        (list(map(id, group)), lr, decay) for group, lr, decay in wanted
    ]


def test_an_unknown_schedule_offers_the_nearest():
    with pytest.raises(ValueError, match=r"no schedule 'cosinus'\. Did you mean cosine"):
        Phase(1, 0, 1e-2, schedule="cosinus")


# The loss


def first_loss(images, **options):
    """Of a head that has not learned anything but has opinions, with the answers it was computed from."""
    model, answers = small_model(images.classes, head=torch.nn.Linear), []
    model.head.register_forward_hook(lambda head, _, logits: head.training and answers.append(logits.detach()))
    plan = Plan((Phase(1, 0, 1e-3),), views=1, batch_size=len(images), label_smoothing=0.0)
    told = headswap.train(model, images, dataclasses.replace(plan, **options), images)
    step = until(Step, told)
    told.close()
    return step.loss, answers[0]


def test_mixup_shows_mixtures_and_asks_for_the_same_mixture_of_answers(images):
    plain, pure = first_loss(images)
    mixed, blended = first_loss(images, mixup=0.4)
    assert mixed != pytest.approx(plain, rel=1e-4)
    # A linear head answers a mixture with the mixture of its answers: one share for all, and another image for each.
    share, other = mixture(pure, blended)
    assert torch.allclose(share * pure + (1 - share) * pure[other], blended, atol=1e-5)
    assert sorted(other.tolist()) == list(range(len(images)))
    labels = torch.tensor(images.labels)[order_of(images)]
    expected = share * F.cross_entropy(blended, labels) + (1 - share) * F.cross_entropy(blended, labels[other])
    assert mixed == pytest.approx(expected.item(), rel=1e-4)


def order_of(images):
    """In which the first epoch shows them."""
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(0))


def mixture(pure, blended):
    """The share and the partners, found by trying every share."""
    tried = []
    for share in torch.linspace(0.001, 0.999, 999):
        wanted = (blended - share * pure) / (1 - share)
        distance, other = torch.cdist(wanted, pure).min(1)
        tried.append(((distance * (1 - share)).max().item(), share.item(), other))
    _, share, other = min(tried, key=lambda attempt: attempt[0])
    rest = (pure - pure[other]).square().sum()
    return ((blended - pure[other]) * (pure - pure[other])).sum() / rest, other


def test_classes_count_alike_where_the_plan_says_so(tmp_path):
    lopsided = load_shapes(tmp_path / "shapes", each=4)
    few = lopsided.subset([i for i, label in enumerate(lopsided.labels) if label or i < 2])
    assert list(few.counts.values()) == [2, 4, 4]
    plain, logits = first_loss(few)
    balanced, same = first_loss(few, balance_classes=True)
    labels = torch.tensor(few.labels)[order_of(few)]
    of_each = [F.cross_entropy(logits[labels == c], labels[labels == c]) for c in range(3)]
    assert torch.equal(logits, same)
    assert balanced == pytest.approx(torch.stack(of_each).mean().item(), rel=1e-4)
    assert plain == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4) != balanced


def test_labels_count_alike_among_several_where_the_plan_says_so(images):
    several = images.as_multi_label()

    def first(class_weights):
        model = small_model(images.classes, backbone=NARROW, multi_label=True)
        plan = Plan((Phase(1, 0, 1e-3),), views=1, batch_size=30, balance_classes=class_weights)
        return until(Step, headswap.train(model, several, plan, several)).loss

    assert first(True) > first(False)  # of three labels each image carries one, which counts double


# The seed


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_the_seed_fixes_every_figure(images, seed, same):
    def figures(seed):
        model = small_model(images.classes, backbone=NARROW, head="bottleneck", seed=5)
        told = headswap.train(model, images, dataclasses.replace(TWO, seed=seed))
        return [dataclasses.replace(event, seconds=0, left=0) for event in events(Epoch, told)]

    assert (figures(0) == figures(seed)) == same


def test_the_curve_is_the_same_whoever_else_draws_random_numbers(images, every_step):
    """The head has dropout, the batches are mixed, and stages learn."""

    def curve(disturbing):
        model = small_model(images.classes, head="mlp", backbone=NARROW, hidden_dims=(16,))
        told = []
        for event in headswap.train(model, images, dataclasses.replace(TWO, mixup=0.4)):
            if disturbing:
                torch.manual_seed(len(told))
                torch.rand(7)
            if isinstance(event, Epoch | Step):
                told.append(dataclasses.replace(event, seconds=0, left=0) if isinstance(event, Epoch) else event)
        return told, model.state_dict()

    (quiet, weights), (disturbed, same) = curve(False), curve(True)
    assert quiet == disturbed
    assert all(torch.equal(t, same[name]) for name, t in weights.items())


def test_a_step_gives_back_the_random_numbers_of_others(images, every_step):
    model = small_model(images.classes, head="bottleneck", backbone=NARROW)
    told = headswap.train(model, images, HEAD_ONLY)
    until(Step, told)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    until(Step, told, times=2)
    assert torch.equal(torch.rand(4), expected)


def test_dropout_is_drawn_anew_for_every_step():
    chance, drawn = loop.TrainingRandomness(0), []
    for _ in range(2):
        with chance.seeded_mode:
            drawn.append(torch.rand(4))
    assert not torch.equal(*drawn)


def test_the_seed_orders_the_images_even_where_there_is_nothing_else_to_draw(images, every_step):
    def losses(seed):
        plan = Plan((Phase(1, 0, 1e-3),), views=1, seed=seed)
        told = headswap.train(small_model(images.classes, backbone=NARROW), learned, plan, checked)
        return [event.loss for event in events(Step, told)]

    learned, checked = images.split()
    assert losses(0) == losses(0) != losses(1)
