"""A training tells what happens in order, moves what it says and nothing else."""

import dataclasses

import pytest
from drawings import HEAD_ONLY, NARROW, THAWED, TWO, copied, draw_folder, load_shapes, moved, shape, small_model
from listening import events, rightly_named, until

import headswap
from headswap import InputError, Phase, Plan
from headswap.evaluation.metrics import wilson_interval
from headswap.features import frozen_pass
from headswap.features.frozen_pass import FrozenPass
from headswap.networks.head_registry import HEADS
from headswap.training.events import Epoch, Kept, PhaseBegins, Reference, Step

# Arguments


def test_nothing_happens_before_the_first_event_is_asked_for(model, images):
    model.unfreeze(2).train()
    before, modes = copied(model), [m.training for m in model.modules()]
    told = headswap.train(model, images, THAWED)
    told.close()
    assert moved(before, model) == set()
    assert [m.training for m in model.modules()] == modes and len(model.learning_stages) == 2


def test_other_classes_are_refused_at_once(images):
    with pytest.raises(
        InputError, match=r"show bars, boxes, dots, but .* are ant, bee, cat\. .*classes=images\.classes"
    ):
        headswap.train(small_model(["ant", "bee", "cat"]), images, HEAD_ONLY)


def test_what_are_no_loaded_images_is_said_at_once(model):
    with pytest.raises(InputError, match=r"The images are those of headswap\.load_images\(folder\), not list"):
        headswap.train(model, [1, 2], HEAD_ONLY)


def test_other_validation_classes_are_refused_at_once(images, tmp_path):
    two = load_shapes(tmp_path / "two", names=("bars", "dots"))
    with pytest.raises(InputError, match="show bars, boxes, dots, but"):
        headswap.train(small_model(two.classes, backbone=NARROW), two, HEAD_ONLY, images)


def test_the_order_of_the_classes_is_the_models(images):
    model = small_model(images.classes[::-1], "lda")
    headswap.fit(model, images, HEAD_ONLY)
    assert headswap.evaluate(model, images).accuracy > 0.6


def test_more_stages_than_there_are_are_refused_at_once(normed, images):
    with pytest.raises(ValueError, match="5 stages, so 6 of them cannot learn"):
        headswap.train(normed, images, Plan((Phase(1, 0, 1e-3), Phase(1, 6, 1e-3, 1e-4))))


def test_a_class_of_one_image_is_refused_at_once(tmp_path):
    folder = draw_folder(tmp_path / "shapes", each=3)
    (folder / "stars").mkdir()
    shape("bars", 7).save(folder / "stars" / "only.png")
    images = headswap.load_images(folder)
    with pytest.raises(InputError, match="'stars' has one image"):
        headswap.train(small_model(images.classes, backbone=NARROW), images, HEAD_ONLY)


@pytest.mark.parametrize("validation", [0.0, 1.0, 7])
def test_a_share_that_is_none_is_refused_at_once(model, images, validation):
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        headswap.train(model, images, dataclasses.replace(HEAD_ONLY, validation_fraction=validation))


@pytest.mark.parametrize(
    ("phases", "options"),
    [
        ((), {}),
        ((Phase(0, 0, 1e-3),), {}),
        ((Phase(1, 0, 1e-3),), {"views": 0}),
        ((Phase(1, 0, 1e-3),), {"batch_size": 0}),
    ],
    ids=["no phases", "no epochs", "no views", "no batches"],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_when_it_is_made(phases, options):
    with pytest.raises(ValueError, match="A plan needs"):
        Plan(phases, **options)


def test_an_unknown_engine_is_refused_at_once(model, images):
    with pytest.raises(ValueError, match=r"no engine 'foldet'\. Did you mean folded"):
        headswap.train(model, images, HEAD_ONLY, engine="foldet")


# What is told


def test_events_come_in_order(model, images, every_step):
    told = list(headswap.train(model, images, TWO))
    steps = events(Step, told)[0].steps
    names = [type(event).__name__ for event in told]
    epoch = ["Step"] * steps + ["Epoch"]
    phase = ["PhaseBegins"] + 3 * epoch
    assert set(names[: names.index("Reference")]) == {"FrozenPass"}
    assert names[names.index("Reference") + 1 :] == 2 * phase + ["Kept"]


def test_steps_are_told_no_more_often_than_anyone_can_see(model, images, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 3600)
    told = list(headswap.train(model, images, TWO))
    assert [(event.epoch, event.step) for event in events(Step, told)] == [(1, 1)]
    assert len(events(Epoch, told)) == 6 and len(events(PhaseBegins, told)) == 2
    assert [event.done for event in events(FrozenPass, told)][-1] == events(FrozenPass, told)[0].total


def test_epochs_and_steps_are_counted_over_the_whole_run(model, images, every_step):
    told = list(headswap.train(model, images, TWO))
    assert [event.number for event in events(Epoch, told)] == [1, 2, 3, 4, 5, 6]
    counted = [(event.epoch, event.step) for event in events(Step, told)]
    assert counted == [(epoch, step) for epoch in range(1, 7) for step in (1, 2)]
    assert {event.steps for event in events(Step, told)} == {2}  # 24 images in batches of 16


def test_a_phase_says_what_it_is(normed, images):
    first, second = events(PhaseBegins, headswap.train(normed, images, TWO))
    assert (first.number, second.number, first.phases, first.epochs) == (1, 2, 2, 6)
    assert (first.phase, second.phase) == TWO.phases
    assert (first.first_epoch, second.first_epoch) == (1, 4)
    assert (first.learning_stages, second.learning_stages) == ((), ("conv5",))
    weights = {name: sum(p.numel() for p in stage.parameters()) for name, stage in normed.stages.named_children()}
    head = sum(p.numel() for p in normed.head.parameters())
    assert first.learning_weights == head and second.learning_weights == head + weights["conv5"]
    assert first.frozen_weights == sum(weights.values())
    assert second.frozen_weights == first.frozen_weights - weights["conv5"]
    assert first.kept_bytes == 2 * 1024 * 4 and second.kept_bytes == 2 * 192 * 4


def test_a_phase_says_at_which_rates_its_parts_learn(normed, images):
    plan = Plan((Phase(1, 0, 1e-2), Phase(1, 3, 1e-3, 1e-4, layer_decay=0.5)), views=1)
    first, second = events(PhaseBegins, headswap.train(normed, images, plan))
    assert [(rate.name, rate.rate) for rate in first.rates] == [("head", 1e-2)]
    told = [(rate.name, pytest.approx(rate.rate)) for rate in second.rates]
    assert told == [("stage3", 0.25e-4), ("stage4", 0.5e-4), ("conv5", 1e-4), ("head", 1e-3)]
    assert second.learning_stages == ("stage3", "stage4", "conv5")


def test_what_is_left_runs_out_with_the_last_epoch(model, images):
    told = [event for event in headswap.train(model, images, TWO) if isinstance(event, PhaseBegins | Epoch)]
    assert all(event.left > 0 for event in told[:-1])
    assert told[-1].left == 0


def test_what_is_left_after_a_head_was_solved_is_what_follows(images):
    model = small_model(images.classes, backbone=NARROW, head="lda")
    solved, *_, last = events(Epoch, headswap.train(model, images, TWO))
    assert solved.left > 0 and last.left == 0


def test_the_reference_is_the_head_that_is_solved_at_once(model, images):
    told = list(headswap.train(model, images, HEAD_ONLY))
    [reference] = events(Reference, told)
    other = small_model(images.classes, backbone=NARROW, head="lda")
    solved = until(Epoch, headswap.train(other, images, HEAD_ONLY))
    assert (reference.validation_metrics.correct, reference.validation_metrics.total) == (solved.correct, solved.total)
    assert reference.validation_metrics.loss == pytest.approx(solved.validation_loss, rel=1e-5)
    assert told[-1].reference == reference.validation_metrics
    assert reference.validation_metrics.interval == wilson_interval(solved.correct, solved.total)


def test_the_reference_of_a_head_that_takes_maps_is_the_same(images):
    told = [
        until(
            Reference, headswap.train(small_model(images.classes, head, backbone=NARROW), images, HEAD_ONLY)
        ).validation_metrics
        for head in ("linear", "attention")
    ]
    assert told[0].correct == told[1].correct and told[0].loss == pytest.approx(told[1].loss, rel=1e-4)


def test_with_several_labels_an_image_there_is_no_reference(images):
    model = small_model(images.classes, backbone=NARROW, multi_label=True)
    *told, kept = headswap.train(model, images, HEAD_ONLY)
    assert events(Reference, told) == [] and kept.reference is None and "reference" not in kept.candidates
    assert kept.metric == "mean average precision" and len(kept.labels) == 3


def test_the_frozen_pass_comes_to_its_end(model, images):
    told = events(FrozenPass, headswap.train(model, images, HEAD_ONLY))
    assert {event.total for event in told} == {2 * 24 + 6}
    done = [event.done for event in told]
    assert done == sorted(set(done)) and done[-1] == 54
    seconds = [event.seconds for event in told]
    assert seconds == sorted(seconds)


def test_an_epoch_counts_the_validation_images_that_are_right(model, images):
    learned, checked = images.split()
    told = headswap.train(model, learned, HEAD_ONLY, checked)
    for _ in range(3):
        epoch = until(Epoch, told)
        assert epoch.total == len(checked)
        assert epoch.correct == rightly_named(model, checked)
        assert epoch.validation_loss > 0 and epoch.training_loss > 0


def test_the_loss_of_an_epoch_is_that_of_its_images(model, images, every_step):
    told = list(headswap.train(model, images, HEAD_ONLY))
    first = [event.loss for event in events(Step, told) if event.epoch == 1]
    assert events(Epoch, told)[0].training_loss == pytest.approx((16 * first[0] + 8 * first[1]) / 24)


def test_an_epoch_is_marked_best_where_more_is_right_or_as_much_with_a_lower_loss(model, images):
    plan = Plan((Phase(4, 0, 1e-2), Phase(3, 0, 0.3)), views=2)  # ends with a rate that is far too high
    highest = (-1, 0.0)
    marks = []
    for event in events(Epoch, headswap.train(model, images, plan)):
        now = (event.correct, -event.validation_loss)
        assert event.best == (now > highest)
        highest = max(highest, now)
        marks.append(event.best)
    assert marks[0] and not all(marks)


@pytest.mark.parametrize("head", HEADS)
def test_shapes_are_learned_by_every_head(images, head):
    model = small_model(images.classes, head=head, backbone="efficientnet_lite0", side=64, pretrained=True)
    kept = headswap.fit(model, images, Plan((Phase(15, 0, 1e-2),), views=2))
    assert kept.correct == kept.total == 6
    assert rightly_named(model, images) >= 28


def test_a_phase_ends_once_nothing_gets_better_for_as_long_as_the_plan_is_patient(model, images):
    plan = Plan((Phase(9, 0, 1e-30), Phase(9, 0, 1e-30)), views=1, weight_decay=0.0, patience=2)
    told = [event for event in headswap.train(model, images, plan) if isinstance(event, PhaseBegins | Epoch)]
    assert [type(event) for event in told] == [PhaseBegins, Epoch, Epoch, Epoch, PhaseBegins, Epoch, Epoch]
    assert [event.number for event in events(Epoch, told)] == [1, 2, 3, 4, 5]
    assert [event.best for event in events(Epoch, told)] == [True, False, False, False, False]


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_only_ends_a_phase_and_changes_nothing_before(images, patience):
    def epochs(patience):
        plan = Plan((Phase(9, 0, 3e-2),), views=1, patience=patience)
        return events(Epoch, headswap.train(small_model(images.classes, backbone=NARROW), images, plan))

    whole, ended = epochs(None), epochs(patience)
    marks = [epoch.best for epoch in whole]
    end = next((n for n in range(patience, 9) if not any(marks[n - patience + 1 : n + 1])), 8)
    assert [epoch.validation_loss for epoch in ended] == [epoch.validation_loss for epoch in whole[: end + 1]]


def test_fit_returns_what_was_kept(model, images):
    kept = headswap.fit(model, images, HEAD_ONLY)
    assert isinstance(kept, Kept)
    assert 1 <= kept.epoch <= 3 and kept.total == 6
    assert kept.interval == wilson_interval(kept.correct, kept.total)


def test_without_a_plan_the_suggested_one_is_followed(model, images):
    told = headswap.train(model, images)
    first = until(PhaseBegins, told)
    told.close()
    assert first.phase == Plan.suggest(images, model).phases[0] and first.phases == 2


@pytest.mark.parametrize("epochs", range(1, 9))
def test_a_phase_may_have_any_number_of_epochs_and_the_images_fit_into_one_batch(tmp_path, epochs):
    few = load_shapes(tmp_path / "shapes", each=3)
    kept = headswap.fit(small_model(few.classes, backbone=NARROW), few, Plan((Phase(epochs, 0, 1e-3),), views=1))
    assert 1 <= kept.epoch <= epochs


# What moves


def test_a_frozen_phase_leaves_every_number_of_the_backbone_as_it_was(images):
    model = small_model(images.classes, backbone=NARROW, head="bottleneck").train()
    before = copied(model)
    headswap.fit(model, images, HEAD_ONLY)
    assert moved(before, model) == {name for name in before if name.startswith("head.")}


def test_only_the_last_stages_move_in_an_unfrozen_phase(normed, images):
    before = copied(normed)
    headswap.fit(normed, images, THAWED)
    parameters = {name for name, _ in normed.named_parameters()}
    expected = {name for name in parameters if name.startswith(("stages.stage4.", "stages.conv5.", "head."))}
    assert moved(before, normed) == expected


def test_statistics_of_batch_norms_never_move(images):
    model = small_model(images.classes, backbone="resnet18").train()
    before = copied(model)
    kept = headswap.fit(model, images, Plan((Phase(1, None, 1e-3, 1e-3),), views=1))
    statistics = {name for name in before if "running_" in name or name.endswith("num_batches_tracked")}
    assert kept.epoch and len(statistics) == 60
    assert moved(before, model) == before.keys() - statistics


def test_everything_moves_where_everything_thaws(model, images):
    before = copied(model)
    headswap.fit(model, images, Plan((Phase(3, None, 1e-2, 1e-3),), views=1))
    assert moved(before, model) == {name for name, _ in model.named_parameters()}


def test_what_was_unfrozen_stays_unfrozen_in_evaluation_mode(normed, images):
    headswap.fit(normed, images, THAWED)
    assert normed.learning_stages == ("stage4", "conv5")
    assert not any(m.training for m in normed.modules())
    headswap.fit(normed, images, HEAD_ONLY)
    assert normed.learning_stages == ()


# Heads that are solved


def test_a_solved_head_needs_one_epoch_and_no_steps(images):
    model = small_model(images.classes, backbone=NARROW, head="lda")
    told = list(headswap.train(model, images, HEAD_ONLY))
    assert events(Step, told) == [] and len(events(Epoch, told)) == 1
    assert told[-1].epoch == 1


def test_a_solved_head_is_softened_before_stages_learn_beneath_it(images):
    model = small_model(images.classes, head="lda", backbone="efficientnet_lite0", side=64, pretrained=True)
    told = headswap.train(model, images, Plan((Phase(1, 0, 1e-3), Phase(3, 1, 1e-9, 1e-9)), views=2, label_smoothing=0))
    solved = until(Epoch, told)
    first = until(Step, told)
    told.close()
    assert first.loss > solved.training_loss + 0.2


# The interval


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (57, 60, 0.863, 0.983),
        (0, 10, 0.0, 0.278),
        (10, 10, 0.722, 1.0),
        (5, 10, 0.237, 0.763),
        (810, 1000, 0.784, 0.833),
    ],
)
def test_the_interval_is_wilsons(right, of, low, high):
    assert wilson_interval(right, of) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


def test_more_images_say_more():
    widths = [high - low for low, high in (wilson_interval(9 * n, 10 * n) for n in (1, 4, 16, 64))]
    assert widths == sorted(widths, reverse=True)
    assert wilson_interval(9, 10, 0.5)[0] > wilson_interval(9, 10)[0]


def test_a_classic_plan_can_be_given_by_its_name(model, images):
    told = headswap.train(model, images, "head only")
    assert until(PhaseBegins, told).phase == Plan.from_name("head only").phases[0]
    told.close()
    with pytest.raises(ValueError, match="no plan 'slow'"):
        headswap.train(model, images, "slow")
