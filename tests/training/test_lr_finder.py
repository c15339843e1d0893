"""A range test raises the rate by one factor, hears the loss, proposes a rate, and leaves the model as it was."""

import math
from itertools import pairwise

import pytest
import torch
from drawings import NARROW, copied, load_shapes, moved, small_model
from listening import events, until

import headswap
from headswap import InputError, Phase, Plan
from headswap.features import frozen_pass
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Epoch, Step
from headswap.training.lr_finder import DIVERGENCE_FACTOR, RateTest

PLAN = Plan((Phase(1, 0, 1e-3),), views=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=6)


def range_of(model, images, *how, **options):
    *_, last = headswap.lr_find(model, images, *how, plan=PLAN, **options)
    assert isinstance(last, RateTest)
    return last


# The curve


def test_rates_rise_by_one_factor_from_the_lowest_to_the_highest(model, images):
    told = range_of(model, images, steps=21)
    assert told.rates[0] == pytest.approx(1e-5)
    assert len(told.rates) == len(told.losses) <= 21
    factors = [after / before for before, after in pairwise(told.rates)]
    assert factors == pytest.approx([1e5 ** (1 / 20)] * len(factors))


def test_every_step_is_learned_at_its_rate(model, images, monkeypatch):
    told = []

    class Recording(torch.optim.AdamW):
        def step(self, *args, **how):
            told.append({group["lr"] for group in self.param_groups})
            return super().step(*args, **how)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    rates = range_of(model, images, 2, steps=12).rates
    assert [{rate} for rate in rates] == told[: len(rates)]


def test_losses_are_smoothed_without_leaning_to_nothing(model, images, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 0)
    *told, last = headswap.lr_find(model, images, steps=15, plan=PLAN)
    heard = [event.loss for event in events(Step, told)]
    for n, smoothed in enumerate(last.losses, 1):
        shares = [0.9 ** (n - i) for i in range(1, n + 1)]
        assert smoothed == pytest.approx(math.fsum(s * x for s, x in zip(shares, heard, strict=False)) / sum(shares))


def test_the_suggestion_lies_where_the_loss_falls_fastest_and_can_be_learned_at(images):
    model = small_model(images.classes, backbone="efficientnet_lite0", side=64, pretrained=True)
    told = range_of(model, images, steps=60)
    lowest, at = told.losses.index(min(told.losses)), told.rates.index(told.suggestion)
    falls = {i: told.losses[i - 1] - told.losses[i + 1] for i in range(1, lowest)}
    assert falls[at] == max(falls.values()) > 0
    assert 1e-4 < told.suggestion < 0.3
    first, *_, last = events(Epoch, headswap.train(model, images, Plan((Phase(8, 0, told.suggestion),), views=2)))
    assert last.training_loss < 0.8 * first.training_loss


def test_a_hopeless_loss_ends_the_test_early(images):
    told = range_of(small_model(images.classes, head="mlp", hidden_dims=(64, 64)), images, steps=100)
    assert len(told.rates) < 100
    assert told.losses[-1] > DIVERGENCE_FACTOR * min(told.losses)
    assert all(loss <= DIVERGENCE_FACTOR * min(told.losses[: n + 1]) for n, loss in enumerate(told.losses[:-1]))


def test_a_loss_that_is_no_number_ends_the_test_early_and_is_not_told(model, images):
    hook = model.head.register_forward_hook(broken_after(7))
    told = range_of(model, images, steps=30)
    hook.remove()
    assert len(told.rates) == 7 and all(map(math.isfinite, told.losses))
    assert told.suggestion in told.rates


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_loss_that_never_was_a_number_is_an_error(model, images, steps):
    before = copied(model)
    hook = model.head.register_forward_hook(broken_after(steps))
    with pytest.raises(InputError, match="the loss was no number any more"):
        range_of(model, images)
    hook.remove()
    assert moved(before, model) == set()


def broken_after(steps):
    """A hook after which the answers are no numbers once so many batches were learned from."""
    passed = []

    def listen(head, _, logits):
        if head.training:
            passed.append(1)
        return logits * torch.nan if len(passed) > steps else logits

    return listen


@pytest.mark.parametrize("steps", [10, 11])
def test_few_steps_are_enough(model, images, steps):
    told = range_of(model, images, steps=steps)
    assert told.suggestion in told.rates and told.seconds > 0


def test_mixtures_do_not_blur_the_test(model, images):
    plain = headswap.lr_find(model, images, steps=10, plan=PLAN)
    mixed = headswap.lr_find(model, images, steps=10, plan=Plan(PLAN.phases, views=2, mixup=0.4))
    *_, plain = plain
    *_, mixed = mixed
    assert plain.losses == mixed.losses


def test_the_same_seed_gives_the_same_curve(images):
    def curve():
        told = range_of(small_model(images.classes, head="bottleneck", backbone=NARROW), images, steps=10)
        return told.losses, told.suggestion

    assert curve() == curve()


def test_the_images_pass_the_network_once(model, images, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 0)
    told = list(headswap.lr_find(model, images, steps=10, plan=PLAN))
    assert events(FrozenPass, told)[-1].done == events(FrozenPass, told)[0].total == 36
    assert {event.steps for event in events(Step, told)} == {10}


# The model


@pytest.mark.parametrize("stages", [0, 2, None])
@pytest.mark.parametrize("unfrozen", [0, 1])
def test_the_model_stays_as_it_was_to_the_last_bit(images, stages, unfrozen):
    model = small_model(images.classes).unfreeze(unfrozen)
    before, learning = copied(model), [p.requires_grad for p in model.parameters()]
    range_of(model, images, stages, steps=10)
    assert moved(before, model) == set()
    assert [p.requires_grad for p in model.parameters()] == learning and len(model.learning_stages) == unfrozen


def test_a_head_of_somebodys_own_gets_its_batch_norm_back(images):
    def with_norm(features, classes):
        return torch.nn.Sequential(torch.nn.BatchNorm1d(features), torch.nn.Linear(features, classes))

    model = small_model(images.classes, head=with_norm, backbone=NARROW)
    before = copied(model)
    range_of(model, images, steps=10)
    assert moved(before, model) == set()


@pytest.mark.parametrize("after", [FrozenPass, Step, RateTest])
def test_closing_midway_leaves_the_model_as_it_was(model, images, after, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 0)
    before = copied(model)
    told = headswap.lr_find(model, images, 2, plan=PLAN, steps=20)
    until(after, told)
    told.close()
    assert moved(before, model) == set()
    assert model.learning_stages == () and not any(m.training for m in model.modules())


def test_nothing_happens_before_the_first_event_is_asked_for(images):
    model = small_model(images.classes, backbone=NARROW).unfreeze(1).train()
    headswap.lr_find(model, images, plan=PLAN).close()
    assert model.training and model.learning_stages == ("fire9",)


# Refused at once


def test_too_few_steps_are_refused(model, images):
    with pytest.raises(ValueError, match=r"A curve needs ten steps at least, not 9\."):
        headswap.lr_find(model, images, steps=9)


def test_more_stages_than_there_are_are_refused(model, images):
    with pytest.raises(ValueError, match="9 stages, so 10 of them cannot learn"):
        headswap.lr_find(model, images, 10)


def test_other_classes_are_refused(images):
    with pytest.raises(InputError, match="show bars, boxes, dots, but"):
        headswap.lr_find(small_model(["ant", "bee", "cat"], backbone=NARROW), images)


def test_an_unknown_engine_is_refused(model, images):
    with pytest.raises(ValueError, match="no engine 'onyx'"):
        headswap.lr_find(model, images, engine="onyx")
