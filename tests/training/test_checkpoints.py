"""The model holds what the plan wanted kept, however the training ended, and other networks can be had."""

import copy
import dataclasses
import gc

import pytest
import torch
from drawings import HEAD_ONLY, NARROW, THAWED, TWO, copied, load_shapes, moved, shape, small_model
from listening import events, rightly_named, until
from torch import nn

import headswap
from headswap import InputError, Phase, Plan
from headswap.features.frozen_pass import FrozenPass
from headswap.training import trainer
from headswap.training.events import Epoch, Kept, PhaseBegins, Reference, Step


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("few") / "shapes", each=5)


# The best


def listened(model, told):
    """Each event with the weights as they stood then."""
    return [(event, copied(model)) for event in told]


def same(one, other):
    """Whether these weights are those, to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(t, other[name]) for name, t in one.items())


@torch.no_grad()
def turn(head):
    """Let a linear head say of each class what it has learned of the next one."""
    head.linear.weight.copy_(head.linear.weight.roll(1, 0))
    head.linear.bias.copy_(head.linear.bias.roll(1, 0))


@torch.no_grad()
def ruin(head):
    """Let a linear head say the opposite of what it has learned."""
    head.linear.weight.mul_(-50)
    head.linear.bias.mul_(-50)


def test_the_best_weights_are_kept(model, images):
    plan = Plan((Phase(4, 1, 1e-2, 1e-4), Phase(3, 1, 1e-9, 1e-9)), views=2)
    best, number, last = None, 0, 0
    told = headswap.train(model, images, plan)
    for event in told:
        if isinstance(event, PhaseBegins) and event.number == 2:
            ruin(model.head)
        if isinstance(event, Epoch):
            last = event.number
            if event.best:
                best, number = copied(model), event.number
        if isinstance(event, Kept):
            kept = event
    assert kept.epoch == number < last
    assert moved(best, model) == set()


def test_what_was_kept_names_as_many_images_rightly_as_it_says(model, images):
    plan = Plan((Phase(4, 0, 1e-2), Phase(3, 1, 0.3, 0.1)), views=2, seed=3)
    kept = headswap.fit(model, images, plan)
    _, checked = images.split(plan.validation_fraction, plan.seed)
    assert rightly_named(model, checked) == kept.correct
    assert kept.total == len(checked)


def test_a_later_worse_phase_does_not_cost_the_best_of_an_earlier_one(model, images):
    before = copied(model)
    plan = Plan((Phase(4, 0, 1e-2), Phase(3, 2, 1e-9, 1e-2)), views=2)
    told = headswap.train(model, images, plan)
    first = until(PhaseBegins, told)
    figures = [until(Epoch, told) for _ in range(4)]
    until(PhaseBegins, told)
    ruin(model.head)
    kept = until(Kept, told)
    told.close()
    assert first.learning_stages == ()
    assert kept.epoch <= 4 and kept.correct == max(epoch.correct for epoch in figures)
    assert moved(before, model) == {"head.linear.weight", "head.linear.bias"}


def test_a_head_of_somebodys_own_keeps_its_batch_norm_as_well(images):
    def with_norm(features, classes):
        return nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, classes))

    model = small_model(images.classes, backbone=NARROW, head=with_norm)
    plan = Plan((Phase(3, 0, 1e-2), Phase(3, 0, 1e-9)), views=2)
    told = headswap.train(model, images, plan)
    for event in told:
        if isinstance(event, Epoch) and event.best:
            best = copied(model)
        if isinstance(event, PhaseBegins) and event.number == 2:
            with torch.no_grad():
                model.head[1].weight.mul_(-50)
    assert moved(best, model) == set()


# What the plan wants kept


def test_the_last_weights_are_kept_where_nothing_is_to_be_chosen(model, few):
    plan = Plan((Phase(3, 0, 1e-2), Phase(2, 1, 1e-2, 1e-3)), views=1, checkpoint="last")
    *told, kept = listened(model, headswap.train(model, few, plan))
    [*_, (epoch, last)] = [pair for pair in told if isinstance(pair[0], Epoch)]
    event, after = kept
    assert (event.checkpoint, event.epoch, event.selected_on_validation) == ("last", 5, False)
    assert (event.correct, event.score) == (epoch.correct, epoch.validation_score)
    assert same(last, after)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_what_lies_between_is_exactly_so_far_from_the_frozen_network(model, few, share):
    plan = Plan((Phase(2, 0, 1e-2), Phase(2, 1, 1e-2, 1e-3)), views=1, checkpoint="between", weight_interpolation=share)
    *told, (kept, after) = listened(model, headswap.train(model, few, plan))
    begin = next(weights for event, weights in told if isinstance(event, PhaseBegins) and event.number == 2)
    _, end = told[-1]
    assert (kept.checkpoint, kept.epoch, kept.selected_on_validation) == ("between", 4, False)
    assert not same(begin, end)
    expected = {name: torch.lerp(t, end[name], share) if t.is_floating_point() else t for name, t in begin.items()}
    assert same(expected, after)
    _, checked = few.split(plan.validation_fraction, plan.seed)
    assert rightly_named(model, checked) == kept.correct


def test_the_best_is_what_the_validation_images_chose_and_the_figure_says_so(model, few):
    kept = headswap.fit(model, few, TWO)
    assert kept.checkpoint == "best" and kept.selected_on_validation
    assert "which these images chose" in kept.sentence


def test_where_nothing_thaws_nothing_lies_between(model, few):
    kept = headswap.fit(model, few, dataclasses.replace(HEAD_ONLY, checkpoint="between"))
    assert (kept.checkpoint, kept.epoch, kept.selected_on_validation) == ("last", 3, False)
    assert kept.verdict is None
    assert kept.sentence.startswith("Kept the weights of the last epoch, 3: ")


@pytest.mark.parametrize("keep", ["best", "last", "between"])
def test_whoever_thaws_is_told_whether_it_was_worth_it(model, few, keep):
    told = list(headswap.train(model, few, dataclasses.replace(TWO, checkpoint=keep)))
    kept, epochs = told[-1], events(Epoch, told)
    verdict = kept.verdict
    assert verdict.total == kept.total == epochs[0].total
    assert verdict.unfrozen - verdict.frozen == verdict.better - verdict.worse
    assert verdict.seconds > 0 and verdict.sentence in kept.sentence
    if keep != "best":
        assert (verdict.frozen, verdict.unfrozen) == (epochs[2].correct, kept.correct)


def test_a_head_that_goes_on_after_the_stages_counts_as_unfrozen(model, images):
    """What is compared is the network before anything thawed with the one afterwards."""
    plan = Plan((Phase(2, 0, 1e-2), Phase(1, 1, 1e-2, 1e-3), Phase(2, 0, 1e-9)), views=1, checkpoint="last")
    epochs = []
    for event in headswap.train(model, images, plan):
        if isinstance(event, Epoch):
            epochs.append(event)
        if isinstance(event, PhaseBegins) and event.number == 3:
            turn(model.head)
    assert (event.verdict.frozen, event.verdict.unfrozen) == (epochs[1].correct, epochs[-1].correct)
    assert len({epochs[place].correct for place in (1, 2, 4)}) > 1


# A loss that is no number


def test_a_loss_that_is_no_number_ends_the_training_with_the_best_that_there_was(model, few):
    plan = Plan((Phase(3, 0, 1e-2), Phase(3, 1, 1e30, 1e29)), views=1, batch_size=4, checkpoint="last")
    best = None
    for event in headswap.train(model, few, plan):
        if isinstance(event, Epoch) and event.best:
            best, number = copied(model), event.number
    assert (event.epoch, event.checkpoint, event.selected_on_validation) == (number, "best", True)
    assert moved(best, model) == set()
    assert event.problem in event.sentence
    assert event.problem == (
        "In epoch 4 the loss was no number any more, so the training ended there. Its learning rates were 1e+29 for "
        "fire9 and 1e+30 for head; choose a tenth of that."
    )


def test_a_loss_that_is_no_number_from_the_first_is_an_error_and_the_weights_stay(model, few):
    before = copied(model)
    with pytest.raises(InputError, match=r"In epoch 1 the loss .* rates were 1e\+38 for head; choose a tenth"):
        headswap.fit(model, few, Plan((Phase(3, 0, 1e38),), views=1, batch_size=4))
    assert moved(before, model) == set()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_last_step_that_ruins_the_network_is_heard_of_as_well(model, few, keep):
    """No step follows it, and so no other loss would tell."""
    told = headswap.train(model, few, Plan((Phase(1, 0, 1e-3), Phase(1, 0, 1e-9)), views=1, checkpoint=keep))
    until(Epoch, told)
    best = copied(model)
    until(PhaseBegins, told)
    hook = model.head.register_forward_hook(lambda head, _, logits: logits if head.training else logits * torch.nan)
    kept = until(Kept, told)
    hook.remove()
    assert kept.epoch == 1 and "In epoch 2 the loss was no number" in kept.problem
    assert moved(best, model) == set()


def test_a_problem_in_one_phase_ends_those_that_follow_too(model, few):
    plan = Plan((Phase(2, 0, 1e-2), Phase(2, 1, 1e30, 1e29), Phase(2, 0, 1e-2)), views=1, batch_size=4)
    told = list(headswap.train(model, few, plan))
    assert [event.number for event in events(PhaseBegins, told)] == [1, 2]
    assert told[-1].problem


# What can be had instead


def test_the_frozen_network_can_be_had_as_it_was(model, few):
    plan = Plan((Phase(3, 0, 1e-2), Phase(2, 2, 1e-2, 1e-2)), views=1, head_loss_ratio=0.9)
    told = headswap.train(model, few, plan)
    for event in told:
        if isinstance(event, Epoch) and event.number == 3:
            before, frozen = copied(model), event
    kept = event
    assert set(kept.candidates) == {"start", "frozen", "reference"}
    assert headswap.restore(model, kept.candidates["frozen"]) is model
    assert moved(before, model) == set()
    figures = kept.candidates["frozen"].validation_metrics
    assert (figures.correct, figures.total, figures.loss) == (frozen.correct, frozen.total, frozen.validation_loss)
    assert rightly_named(model, few.split(plan.validation_fraction, plan.seed)[1]) == figures.correct
    assert model.learning_stages == () and not any(m.training for m in model.modules())


def test_the_reference_can_be_had_on_the_stages_as_they_were(model, few):
    before = copied(model.stages)
    kept = headswap.fit(model, few, dataclasses.replace(THAWED, phases=(Phase(2, 2, 1e-2, 1e-2),)))
    assert moved(before, model.stages) != set()
    headswap.restore(model, kept.candidates["reference"])
    assert moved(before, model.stages) == set()
    assert type(model.head).__name__ == "LDA"
    _, checked = few.split(THAWED.validation_fraction, THAWED.seed)
    assert (
        rightly_named(model, checked)
        == kept.reference.correct
        == kept.candidates["reference"].validation_metrics.correct
    )
    assert headswap.fit(model, few, HEAD_ONLY).correct == kept.reference.correct  # it can be solved again at once


def test_the_reference_can_be_had_instead_of_a_head_that_takes_maps(few):
    model = small_model(few.classes, backbone=NARROW, head="attention", dim=16)
    kept = headswap.fit(model, few, dataclasses.replace(HEAD_ONLY, phases=(Phase(1, 0, 1e-3),)))
    headswap.restore(model, kept.candidates["reference"])
    assert rightly_named(model, few.split(0.2, 0)[1]) == kept.reference.correct
    assert model.boundary == len(model.feature_stages) == len(model.stages) + 1


def test_the_start_can_be_had_again(model, few):
    before = copied(model)
    kept = headswap.fit(model, few, TWO)
    headswap.restore(model, kept.candidates["start"])
    assert moved(before, model) == set()
    assert kept.candidates["start"].validation_metrics is None


def test_keeping_one_offer_leaves_the_others_as_they_were(model, few):
    kept = headswap.fit(model, few, dataclasses.replace(TWO, checkpoint="last"))
    after = copied(model)
    headswap.restore(model, kept.candidates["frozen"])
    frozen = copied(model)
    headswap.fit(model, few, TWO)
    headswap.restore(model, kept.candidates["frozen"])
    assert moved(frozen, model) == set() and moved(after, model) != set()


def test_thresholds_come_back_with_what_they_belong_to(few):
    model = small_model(few.classes, backbone=NARROW, multi_label=True)
    kept = headswap.fit(model, few, TWO)
    assert [label.threshold for label in kept.labels] == model.thresholds.tolist()
    headswap.restore(model, kept.candidates["start"])
    assert model.thresholds.tolist() == [0.5] * 3


# All images, once more


def test_learning_again_uses_all_images_and_repeats_the_honest_figures(model, few):
    learned, checked = few.split()
    before = copied(model)
    honest = headswap.fit(model, learned, TWO, checked)
    told = headswap.refit(model, few, TWO, honest)
    assert until(FrozenPass, told).total == len(few) * TWO.views
    begins = until(PhaseBegins, told)
    assert moved(before, model) == set()
    *rest, kept = told
    assert begins.learning_stages == () and [event.number for event in events(Epoch, rest)] == list(range(1, 7))
    assert all(event.total == 0 and not event.best for event in events(Epoch, rest))
    assert kept.refitted and (kept.correct, kept.total, kept.score) == (honest.correct, honest.total, honest.score)
    assert kept.sentence.startswith("Learned again from all images, validation images included. The figure is the hon")
    assert f"{honest.correct} of {honest.total} validation images right" in kept.sentence
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize("head", ["linear", "lda"])
@pytest.mark.parametrize("keep", ["last", "between"])
def test_learning_again_from_the_same_images_gives_the_same_network(few, keep, head):
    """Nothing but the images is different: rates, order, softening and what is kept are the honest run's."""
    model = small_model(few.classes, head, backbone=NARROW)
    phases = (Phase(2, 0, 1e-2), Phase(2, 1, 1e-2, 1e-2), Phase(2, 2, 1e-2, 1e-3))
    plan = Plan(phases, views=1, checkpoint=keep, head_loss_ratio=1.0)
    learned, checked = few.split()
    honest = headswap.fit(model, learned, plan, checked)
    after = copied(model)
    *_, kept = headswap.refit(model, learned, plan, honest)
    assert kept.checkpoint == keep and moved(after, model) == set()


def test_a_head_is_softened_once_and_so_it_is_when_it_learns_again(model, few, monkeypatch):
    softened = []
    monkeypatch.setattr(
        trainer, "raise_temperature", lambda head, features, targets, share: softened.append(share) or 1.0
    )
    plan = Plan((Phase(1, 0, 1e-2), Phase(1, 1, 1e-2, 1e-2), Phase(1, 2, 1e-2, 1e-3)), views=1, head_loss_ratio=0.7)
    honest = headswap.fit(model, few, plan)
    assert softened == [0.7]
    list(headswap.refit(model, few, plan, honest))
    assert softened == [0.7, 0.7]


def test_learning_again_is_patient_to_the_end(model, few):
    """Without validation images nothing says what is better."""
    plan = Plan((Phase(5, 0, 1e-30),), views=1, patience=1, weight_decay=0.0)
    told = list(headswap.train(model, few, plan))
    assert len(events(Epoch, told)) == 2
    assert len(events(Epoch, headswap.refit(model, few, plan, told[-1]))) == 5


@pytest.mark.parametrize("after", [FrozenPass, PhaseBegins, Step, Epoch])
def test_learning_again_that_is_stopped_leaves_the_honest_network(model, few, after):
    honest = headswap.fit(model, few, TWO)
    before = copied(model)
    told = headswap.refit(model, few, TWO, honest)
    until(after, told)
    told.close()
    assert moved(before, model) == set() and not any(m.training for m in model.modules())


def test_learning_again_does_not_begin_before_it_is_asked_to(model, few):
    honest = headswap.fit(model, few, TWO)
    before = copied(model)
    headswap.refit(model, few, TWO, honest).close()
    assert moved(before, model) == set()


def test_learning_again_begins_with_the_head_of_the_honest_run_whatever_was_kept_of_it(model, few):
    honest = headswap.fit(model, few, TWO)
    headswap.restore(model, honest.candidates["reference"])
    *_, kept = headswap.refit(model, few, TWO, honest)
    assert type(model.head).__name__ == "Linear"
    assert kept.candidates == {} and "can be kept instead" not in kept.sentence


def test_other_classes_cannot_be_learned_again(model, few, tmp_path):
    honest = headswap.fit(model, few, HEAD_ONLY)
    with pytest.raises(InputError, match="No image shows 'boxes', which the model would forget"):
        headswap.refit(model, load_shapes(tmp_path / "two", names=("bars", "dots")), HEAD_ONLY, honest)


# Closing


@pytest.mark.parametrize("after", [FrozenPass, Reference, PhaseBegins, Step, Epoch, Kept])
def test_a_closed_training_leaves_a_model_that_predicts_and_can_go_on(model, few, after):
    told = headswap.train(model, few, THAWED)
    until(after, told)
    told.close()
    begun = after not in (FrozenPass, Reference)
    assert model.learning_stages == (("fire8", "fire9") if begun else ())
    assert not any(m.training for m in model.modules())
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in learning if name.startswith("stages.")} == set(model.learning_stages)
    assert {name for name in learning if name.startswith("head.")} == {"head.linear.weight", "head.linear.bias"}
    assert all(p.isfinite().all() for p in model.parameters())
    assert sum(share for _, share in model.predict(shape("dots"))) == pytest.approx(1)
    again = headswap.fit(model, few, HEAD_ONLY)
    assert again.epoch >= 1 and model.learning_stages == ()


def test_closing_before_the_first_phase_leaves_frozen_what_was_frozen_and_thawed_what_was_thawed(model, few):
    model.unfreeze(1)
    told = headswap.train(model, few, THAWED)
    until(FrozenPass, told)
    told.close()
    assert model.learning_stages == ("fire9",)


def test_closing_midway_restores_the_best_weights(model, images, every_step):
    told = headswap.train(model, images, dataclasses.replace(THAWED, phases=(Phase(9, 2, 1e-2, 1e-3),)))
    while not until(Epoch, told).best:
        pass
    best = copied(model)
    until(Step, told, times=2)
    ruin(model.head)
    assert moved(best, model) != set()
    told.close()
    assert moved(best, model) == set()


def test_closing_before_the_first_epoch_leaves_the_weights_as_they_were(model, images):
    before = copied(model)
    told = headswap.train(model, images, THAWED)
    until(Step, told)
    assert moved(before, model) != set()
    told.close()
    assert moved(before, model) == set()


def test_a_training_that_nobody_listens_to_any_more_closes_itself(model, images):
    before = copied(model)
    told = headswap.train(model, images, THAWED)
    until(Step, told)
    del told
    gc.collect()
    assert not any(m.training for m in model.modules())
    assert moved(before, model) == set()


def test_an_error_midway_leaves_the_best_weights_as_well(model, images, every_step):
    told = headswap.train(model, images, THAWED)
    until(Epoch, told)
    best = copied(model)
    until(Step, told)
    with pytest.raises(KeyboardInterrupt):
        told.throw(KeyboardInterrupt)
    assert moved(best, model) == set() and not any(m.training for m in model.modules())


# Again


def test_a_second_training_goes_on_where_the_first_one_ended(model, images):
    first = headswap.fit(model, images, HEAD_ONLY)
    after_first = copied(model)
    told = headswap.train(model, images, dataclasses.replace(HEAD_ONLY, phases=(Phase(1, 0, 1e-9),)))
    second = until(Epoch, told)
    told.close()
    assert second.correct == first.correct
    assert max((after_first[name] - t).abs().max() for name, t in model.state_dict().items() if "head" in name) < 1e-5


def test_a_copy_can_be_trained_while_the_original_stays(model, images):
    before = copied(model)
    other = copy.deepcopy(model)
    headswap.fit(other, images, THAWED)
    assert moved(before, model) == set() and moved(before, other) != set()
