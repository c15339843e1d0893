"""In a race heads learn side by side as each would alone, for one frozen pass; the best of them goes on."""

import copy
import dataclasses
import importlib

import pytest
import torch
from drawings import HEAD_ONLY, copied, load_shapes, moved, small_model
from listening import events, rightly_named, until

import headswap
from headswap import InputError, Phase, Plan
from headswap.features import frozen_pass
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Epoch, Kept, PhaseBegins, Reference, Step
from headswap.training.race import Lap, Won

HEADS = {"linear": {}, "mlp": {"hidden_dims": (16,)}, "attention": {"dim": 16}, "lda": {}}
THAWED = Plan((Phase(2, 0, 1e-2), Phase(2, 1, 1e-2, 1e-2)), views=2, checkpoint="last")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=5)


@pytest.fixture
def runners(monkeypatch):
    """The models of a race by their heads, and copies of them as they were at the start."""
    module, found, began = importlib.import_module("headswap.training.race"), {}, {}
    attach_head = module.attach_head

    def recorded(carrier, head, **options):
        found[head] = attach_head(carrier, head, **options)
        began[head] = copy.deepcopy(found[head])
        return found[head]

    monkeypatch.setattr(module, "attach_head", recorded)
    return found, began


def laps(head, told):
    return [event.event for event in told if isinstance(event, Lap) and event.head == head]


def curve(told):
    return [dataclasses.replace(epoch, seconds=0, left=0) for epoch in events(Epoch, told)]


# The frozen phase


def test_each_head_learns_what_it_would_have_learned_alone(model, images, runners):
    told = list(headswap.race(images, model, HEADS, HEAD_ONLY, engine="eager"))
    for head, alone in runners[1].items():
        assert curve(laps(head, told)) == curve(headswap.train(alone, images, HEAD_ONLY, engine="eager")), head


@pytest.mark.parametrize("heads", [["linear", "lda"], HEADS], ids=["vectors", "vectors and maps"])
def test_all_heads_together_cost_one_frozen_pass(model, images, heads):
    passed = []

    def listen(_, given, __):
        if not given[0].is_meta:  # which a head for maps asks for shapes
            passed.append(len(given[0]))

    model.stages[0].register_forward_hook(listen)
    told = list(headswap.race(images, model, heads, HEAD_ONLY, engine="eager"))
    assert sum(passed) == 2 * 12 + 3
    assert {event.total for event in events(FrozenPass, told)} == {27}
    passed.clear()
    headswap.fit(model, images, HEAD_ONLY, engine="eager")
    assert sum(passed) == 27


def test_laps_are_told_in_turn(model, images, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 0)
    told = list(headswap.race(images, model, ["linear", "bottleneck"], HEAD_ONLY))
    heard = events(Lap, told)
    epochs = [(lap.head, lap.event.number) for lap in heard if isinstance(lap.event, Epoch)]
    assert epochs == [(head, number) for number in (1, 2, 3) for head in ("linear", "bottleneck")]
    assert {type(lap.event) for lap in heard} == {PhaseBegins, Step, Epoch}
    names = [type(event).__name__ for event in told]
    assert names.count("Reference") == 1
    assert names.index("Reference") < names.index("Lap") < names.index("Won") == len(names) - 2


def test_a_head_that_is_solved_is_through_after_one_lap(model, images):
    told = list(headswap.race(images, model, ["lda", "linear"], HEAD_ONLY))
    assert [len(events(Epoch, laps(head, told))) for head in ("lda", "linear")] == [1, 3]


def test_the_winner_has_the_highest_score_and_of_equals_the_fewest_weights(model, images):
    told = list(headswap.race(images, model, HEADS, HEAD_ONLY))
    [won] = events(Won, told)
    last = {head: events(Epoch, laps(head, told))[-1] for head in HEADS}
    assert {place.head: place.epoch for place in won.places} == last
    order = [(-place.epoch.validation_score, place.weights) for place in won.places]
    assert order == sorted(order)
    assert won.places[0].weights == sum(p.numel() for p in won.model.head.parameters())
    assert won.head == won.places[0].head
    assert f"{won.head} {last[won.head].correct}, " in won.sentence and won.sentence.startswith(
        "Of 3 validation images"
    )


def test_the_model_that_is_given_is_not_touched(model, images):
    before = copied(model)
    list(headswap.race(images, model, ["linear", "mlp"], THAWED))
    assert moved(before, model) == set() and model.learning_stages == ()


# The winner goes on


def test_what_follows_are_the_events_of_the_winners_training_alone(model, images, runners):
    told = list(headswap.race(images, model, ["linear", "lda"], THAWED, engine="eager"))
    won = next(place for place, event in enumerate(told) if isinstance(event, Won))
    after = told[won + 1 :]
    assert isinstance(after[-1], Kept) and not events(Lap, after)
    alone = list(headswap.train(runners[1][told[won].head], images, THAWED, engine="eager"))
    assert curve(after) == curve(alone)[-2:]
    assert (after[-1].epoch, after[-1].correct) == (alone[-1].epoch, alone[-1].correct)
    assert after[-1].candidates.keys() == {"start", "frozen", "reference"}


@pytest.mark.parametrize("heads", [["linear", "lda"], ["attention", "linear"]], ids=" and ".join)
def test_the_winner_keeps_what_its_stages_learned(model, images, heads):
    """The others stand on the very same stages."""
    told = headswap.race(images, model, heads, THAWED)
    won = until(Won, told)
    before = copied(won.model.stages)
    kept = until(Kept, told)
    after = copied(won.model)
    assert list(told) == []
    assert moved(after, won.model) == set() and moved(before, won.model.stages) != set()
    assert rightly_named(won.model, images.split(THAWED.validation_fraction, THAWED.seed)[1]) == kept.correct
    assert not any(m.training for m in won.model.modules())


def test_the_reference_can_be_had_of_whichever_head_won(model, images):
    told = headswap.race(images, model, ["linear", "mlp", "lda"], THAWED)
    won = until(Won, told)
    before = copied(won.model.stages)
    *_, kept = told
    headswap.restore(won.model, kept.candidates["reference"])
    assert moved(before, won.model.stages) == set()
    assert rightly_named(won.model, images.split(0.2, 0)[1]) == kept.reference.correct


def test_each_head_has_the_plan_that_is_suggested_for_it(images, monkeypatch):
    """The first one, of whom the reference is, may thaw fewer stages than the winner."""
    of = {"Linear": 1, "LDA": 3}

    def suggested(_, model):
        count = of[type(model.head).__name__]
        return Plan((Phase(1, 0, 1e-9), Phase(1, count, 1e-2, 1e-2)), views=count, checkpoint="last")

    monkeypatch.setattr(Plan, "suggest", staticmethod(suggested))
    model = small_model(images.classes, backbone="efficientnet_lite0", side=64, pretrained=True)
    told = headswap.race(images, model, ["linear", "lda"])
    assert until(FrozenPass, told).total == 3 * 12 + 3  # the most that any of them wants
    won = until(Won, told)
    assert won.head == "lda"
    before = copied(won.model.stages)
    begins = until(PhaseBegins, told)
    *_, kept = told
    assert len(begins.learning_stages) == 3 and moved(before, won.model.stages) != set()
    headswap.restore(won.model, kept.candidates["reference"])
    assert moved(before, won.model.stages) == set()


def test_validation_images_of_somebodys_own_judge(model, images):
    learned, checked = images.split(0.4, 3)
    told = list(headswap.race(learned, model, ["linear", "lda"], HEAD_ONLY, checked))
    assert told[-1].total == len(checked)
    assert events(FrozenPass, told)[-1].total == 2 * len(learned) + len(checked)


def test_images_with_several_labels_can_be_raced_for(model, images):
    told = list(headswap.race(images.as_multi_label(), model, ["linear", "bottleneck"], HEAD_ONLY))
    assert told[-1].metric == "mean average precision" and not events(Reference, told)


# Ends


@pytest.mark.parametrize("after", [FrozenPass, Reference, Lap, Won])
def test_closing_midway_leaves_nothing_unfrozen(model, images, runners, after):
    told = headswap.race(images, model, ["linear", "mlp", "attention"], THAWED)
    until(after, told)
    told.close()
    for head, runner in runners[0].items():
        assert runner.learning_stages == () and not any(m.training for m in runner.modules())
        assert moved(copied(runners[1][head].stages), runner.stages) == set()
        assert runner.head.training is False


def test_closing_in_a_lap_leaves_every_head_at_its_best(model, images, runners):
    told = headswap.race(images, model, ["linear", "mlp"], HEAD_ONLY)
    best = {}
    for event in told:
        if isinstance(event, Lap) and isinstance(event.event, Epoch):
            if event.event.best:
                best[event.head] = copied(runners[0][event.head])
            if event.event.number == 2 and event.head == "mlp":
                break
    told.close()
    assert all(moved(best[head], runners[0][head]) == set() for head in ("linear", "mlp"))


def test_closing_while_the_winner_goes_on_leaves_its_best(model, images, runners, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 0)
    told = headswap.race(images, model, ["linear", "mlp"], dataclasses.replace(THAWED, checkpoint="best"))
    best, winner = {}, None
    for event in told:
        if isinstance(event, Won):
            winner = event.head
        name, heard = (event.head, event.event) if isinstance(event, Lap) else (winner, event)
        if isinstance(heard, Epoch) and heard.best:
            best[name] = copied(runners[0][name])
        if isinstance(event, Step) and event.epoch == 4:
            break
    model = runners[0][winner]
    assert moved(best[winner], model) != set()
    told.close()
    assert moved(best[winner], model) == set() and not any(m.training for m in model.modules())


def test_a_winner_whose_loss_is_no_number_ends_with_its_best(model, images, runners):
    told = headswap.race(images, model, ["linear", "bottleneck"], THAWED)
    ended = set()
    for event in told:
        if isinstance(event, Lap) and isinstance(event.event, Epoch) and event.event.number == 1:
            ended.add(event.head)
            with torch.no_grad():
                next(runners[0][event.head].head.parameters()).fill_(torch.nan)
        if isinstance(event, Won):
            model = event.model
    assert ended == {"linear", "bottleneck"}
    assert isinstance(event, Kept) and event.epoch == 1 and "In epoch 2 the loss was no number" in event.problem
    assert all(p.isfinite().all() for p in model.parameters())


# Refused at once


@pytest.mark.parametrize("heads", [["linear"], {}, ["mlp", "mlp"]], ids=["one", "none", "the same twice"])
def test_a_race_of_fewer_than_two_heads_is_refused(model, images, heads):
    with pytest.raises(ValueError, match=r"needs two heads at least, such as linear and bottleneck\."):
        headswap.race(images, model, heads)


def test_an_unknown_head_is_refused(model, images):
    with pytest.raises(ValueError, match=r"no head 'liner'\. Did you mean linear"):
        headswap.race(images, model, ["liner", "mlp"])


def test_an_unknown_option_is_refused(model, images):
    with pytest.raises(ValueError, match=r"The head 'linear' takes dropout, not 'dim'"):
        headswap.race(images, model, {"linear": {"dim": 8}, "mlp": {}})


@pytest.mark.parametrize("stages", [1, None])
def test_a_plan_that_does_not_begin_with_the_head_is_refused(model, images, stages):
    with pytest.raises(ValueError, match=r"only heads learn in the first phase; give it learning_stages=0\."):
        headswap.race(images, model, ["linear", "mlp"], Plan((Phase(1, stages, 1e-3, 1e-4),)))


def test_more_stages_than_there_are_are_refused(model, images):
    with pytest.raises(ValueError, match="9 stages, so 10 of them cannot learn"):
        headswap.race(images, model, ["linear", "mlp"], Plan((Phase(1, 0, 1e-3), Phase(1, 10, 1e-3, 1e-4))))


def test_an_unknown_engine_is_refused(model, images):
    with pytest.raises(ValueError, match="no engine 'onyx'"):
        headswap.race(images, model, ["linear", "mlp"], HEAD_ONLY, engine="onyx")


def test_other_validation_classes_are_refused(model, images, tmp_path):
    two = load_shapes(tmp_path / "two", names=("bars", "dots"))
    with pytest.raises(InputError, match="show bars, boxes, dots, but"):
        headswap.race(two, model, ["linear", "mlp"], HEAD_ONLY, images)


def test_a_head_that_cannot_have_several_labels_is_refused(model, images):
    with pytest.raises(ValueError, match="cannot have several labels"):
        headswap.race(images.as_multi_label(), model, ["linear", "lda"])
