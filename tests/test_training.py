"""A training tells what happens in order, moves what it says and nothing else, and keeps the best that there was."""

import copy
import dataclasses
import gc

import pytest
import torch
from drawings import copied, draw_folder, load_shapes, moved, shape, small_model
from torch import nn

import headswap
from headswap import InputError, Phase, Plan
from headswap.heads import HEADS
from headswap.metrics import wilson
from headswap.training import Epoch, FrozenPass, Kept, PhaseBegins, Step

HEAD_ONLY = Plan((Phase(3, 0, 1e-2),), views=2)
THAWED = Plan((Phase(3, 2, 1e-2, 1e-3),), views=2)
TWO = Plan((Phase(3, 0, 1e-2), Phase(3, 1, 1e-3, 1e-4)), views=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=10)


@pytest.fixture
def model(images):
    return small_model(images.classes)


def events(kind, told):
    return [event for event in told if isinstance(event, kind)]


def until(kind, told, times=1):
    """Listen until this kind of event was told so many times; returns the last."""
    for event in told:
        if isinstance(event, kind):
            times -= 1
            if not times:
                return event
    raise AssertionError(f"No more {kind.__name__}.")


@torch.no_grad()
def ruin(head):
    """Let a linear head say the opposite of what it has learned."""
    head.linear.weight.mul_(-50)
    head.linear.bias.mul_(-50)


def rightly_named(model, checked):
    wanted = model.preprocess
    answers = model.probabilities(checked.pixels(i, wanted.resize, wanted.interpolation) for i in range(len(checked)))
    return sum(a == b for a, b in zip(answers.argmax(1).tolist(), checked.labels, strict=True))


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


def test_other_validation_classes_are_refused_at_once(model, images, tmp_path):
    others = load_shapes(tmp_path / "two", names=("bars", "dots"))
    with pytest.raises(InputError, match="show bars, dots, but"):
        headswap.train(model, images, HEAD_ONLY, others)


def test_the_order_of_the_classes_matters(images):
    with pytest.raises(InputError, match="classes=images"):
        headswap.train(small_model(images.classes[::-1]), images, HEAD_ONLY)


def test_more_stages_than_there_are_are_refused_at_once(model, images):
    with pytest.raises(ValueError, match="5 stages, so 6 of them cannot learn"):
        headswap.train(model, images, Plan((Phase(1, 0, 1e-3), Phase(1, 6, 1e-3))))


def test_a_class_of_one_image_is_refused_at_once(tmp_path):
    folder = draw_folder(tmp_path / "shapes", each=3)
    (folder / "stars").mkdir()
    shape("bars", 7).save(folder / "stars" / "only.png")
    images = headswap.load_images(folder)
    with pytest.raises(InputError, match="'stars' has one image"):
        headswap.train(small_model(images.classes), images, HEAD_ONLY)


@pytest.mark.parametrize("validation", [0.0, 1.0, 7])
def test_a_share_that_is_none_is_refused_at_once(model, images, validation):
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        headswap.train(model, images, dataclasses.replace(HEAD_ONLY, validation=validation))


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


# What is told


def test_events_come_in_order(model, images):
    told = list(headswap.train(model, images, TWO))
    steps = events(Step, told)[0].steps
    names = [type(event).__name__ for event in told]
    epoch = ["Step"] * steps + ["Epoch"]
    phase = ["PhaseBegins"] + 3 * epoch
    assert names[0] == "FrozenPass"
    assert names[names.index("PhaseBegins") :] == 2 * phase + ["Kept"]
    assert "FrozenPass" not in names[names.index("PhaseBegins") :]


def test_epochs_and_steps_are_counted_over_the_whole_run(model, images):
    told = list(headswap.train(model, images, TWO))
    assert [event.number for event in events(Epoch, told)] == [1, 2, 3, 4, 5, 6]
    counted = [(event.epoch, event.step) for event in events(Step, told)]
    assert counted == [(epoch, step) for epoch in range(1, 7) for step in (1, 2)]
    assert {event.steps for event in events(Step, told)} == {2}  # 24 images in batches of 16


def test_a_phase_says_what_it_is(model, images):
    first, second = events(PhaseBegins, headswap.train(model, images, TWO))
    assert (first.number, second.number, first.phases, first.epochs) == (1, 2, 2, 6)
    assert (first.phase, second.phase) == TWO.phases
    assert (first.first_epoch, second.first_epoch) == (1, 4)
    assert (first.learning_stages, second.learning_stages) == ((), ("conv5",))
    weights = {name: sum(p.numel() for p in stage.parameters()) for name, stage in model.stages.named_children()}
    head = sum(p.numel() for p in model.head.parameters())
    assert first.learning_weights == head and second.learning_weights == head + weights["conv5"]
    assert first.still_weights == sum(weights.values())
    assert second.still_weights == first.still_weights - weights["conv5"]
    assert first.kept_bytes == 2 * 1024 * 4 and second.kept_bytes == 2 * 192 * 4


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
        assert epoch.of == len(checked)
        assert epoch.right == rightly_named(model, checked)
        assert epoch.validation_loss > 0 and epoch.training_loss > 0


def test_the_loss_of_an_epoch_is_that_of_its_images(model, images):
    told = list(headswap.train(model, images, HEAD_ONLY))
    first = [event.loss for event in events(Step, told) if event.epoch == 1]
    assert events(Epoch, told)[0].training_loss == pytest.approx((16 * first[0] + 8 * first[1]) / 24)


def test_an_epoch_is_marked_best_where_more_is_right_or_as_much_with_a_lower_loss(model, images):
    plan = Plan((Phase(4, 0, 1e-2), Phase(3, 0, 0.3)), views=2)  # ends with a rate that is far too high
    highest = (-1, 0.0)
    marks = []
    for event in events(Epoch, headswap.train(model, images, plan)):
        now = (event.right, -event.validation_loss)
        assert event.best == (now > highest)
        highest = max(highest, now)
        marks.append(event.best)
    assert marks[0] and not all(marks)


@pytest.mark.parametrize("head", HEADS)
def test_shapes_are_learned_by_every_head(images, head):
    model = small_model(images.classes, head=head, backbone="efficientnet_lite0", side=64, pretrained=True)
    kept = headswap.fit(model, images, Plan((Phase(15, 0, 1e-2),), views=2))
    assert kept.right == kept.of == 6
    assert rightly_named(model, images) >= 28


def test_fit_returns_what_was_kept(model, images):
    kept = headswap.fit(model, images, HEAD_ONLY)
    assert isinstance(kept, Kept)
    assert 1 <= kept.epoch <= 3 and kept.of == 6
    assert kept.interval == wilson(kept.right, kept.of)


def test_without_a_plan_the_suggested_one_is_followed(model, images):
    told = headswap.train(model, images)
    first = until(PhaseBegins, told)
    told.close()
    assert first.phase == Plan.suggest(images, model).phases[0] and first.phases == 2


@pytest.mark.parametrize("epochs", range(1, 9))
def test_a_phase_may_have_any_number_of_epochs_and_the_images_fit_into_one_batch(tmp_path, epochs):
    few = load_shapes(tmp_path / "shapes", each=3)
    kept = headswap.fit(small_model(few.classes), few, Plan((Phase(epochs, 0, 1e-3),), views=1))
    assert 1 <= kept.epoch <= epochs


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


def test_a_step_learns_from_its_own_batch_alone(model, images):
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
        other.head.register_forward_hook(lambda _, __, logits: answers.append(logits.detach()))
        plan = Plan((Phase(1, 0, 1e-3),), label_smoothing=smoothing)
        return until(Step, headswap.train(other, images, plan)).loss, answers[0]

    (plain, logits), (smoothed, same) = first_step(0.0), first_step(0.3)
    assert torch.equal(logits, same)
    assert smoothed == pytest.approx(0.7 * plain - 0.3 * logits.log_softmax(1).mean().item(), rel=1e-5)


# What moves


def test_a_frozen_phase_leaves_every_number_of_the_backbone_as_it_was(images):
    model = small_model(images.classes, head="bottleneck").train()
    before = copied(model)
    headswap.fit(model, images, HEAD_ONLY)
    assert moved(before, model) == {name for name in before if name.startswith("head.")}


def test_only_the_last_stages_move_in_an_unfrozen_phase(model, images):
    before = copied(model)
    headswap.fit(model, images, THAWED)
    parameters = {name for name, _ in model.named_parameters()}
    expected = {name for name in parameters if name.startswith(("stages.stage4.", "stages.conv5.", "head."))}
    assert moved(before, model) == expected


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


def test_stages_move_more_slowly_than_the_head(model, images):
    head, stage = model.head.linear.weight.clone(), model.stages.conv5[0][0].weight.clone()
    headswap.fit(model, images, Plan((Phase(1, 1, 1e-2, 1e-5),), views=1))
    assert (model.head.linear.weight - head).abs().max() > 100 * (model.stages.conv5[0][0].weight - stage).abs().max()


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


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_the_seed_fixes_every_figure(images, seed, same):
    def figures(seed):
        model = small_model(images.classes, head="bottleneck", seed=5)
        told = headswap.train(model, images, dataclasses.replace(TWO, seed=seed))
        return [dataclasses.replace(event, seconds=0) for event in events(Epoch, told)]

    assert (figures(0) == figures(seed)) == same


def test_the_seed_orders_the_images_even_where_there_is_nothing_else_to_draw(images):
    def losses(seed):
        plan = Plan((Phase(1, 0, 1e-3),), views=1, seed=seed)
        return [
            event.loss for event in events(Step, headswap.train(small_model(images.classes), learned, plan, checked))
        ]

    learned, checked = images.split()
    assert losses(0) == losses(0) != losses(1)


# What is kept


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
    _, checked = images.split(plan.validation, plan.seed)
    assert rightly_named(model, checked) == kept.right
    assert kept.of == len(checked)


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
    assert kept.epoch <= 4 and kept.right == max(epoch.right for epoch in figures)
    assert moved(before, model) == {"head.linear.weight", "head.linear.bias"}


def test_a_loss_that_is_no_number_is_never_the_best(model, images):
    told = headswap.train(model, images, Plan((Phase(1, 0, 1e-3), Phase(3, 0, 1e-9)), views=1))
    until(Epoch, told)
    until(PhaseBegins, told)
    with torch.no_grad():
        model.head.linear.weight.fill_(torch.nan)
    epochs = [event for event in told if isinstance(event, Epoch)]
    assert not any(event.best for event in epochs)
    assert model.head.linear.weight.isfinite().all()


@pytest.mark.parametrize("after", [FrozenPass, PhaseBegins, Step, Epoch, Kept])
def test_a_closed_training_leaves_a_frozen_model_that_predicts(model, images, after):
    told = headswap.train(model, images, THAWED)
    until(after, told)
    told.close()
    assert model.boundary == len(model.sequence) and model.learning_stages == ()
    assert not any(m.training for m in model.modules())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "head.linear.weight",
        "head.linear.bias",
    }
    assert sum(share for _, share in model.predict(shape("dots"))) == pytest.approx(1)


def test_closing_midway_restores_the_best_weights(model, images):
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
    told = headswap.train(model, images, THAWED)
    until(Step, told)
    del told
    gc.collect()
    assert model.learning_stages == () and not model.training


def test_an_error_midway_leaves_the_best_weights_as_well(model, images):
    told = headswap.train(model, images, THAWED)
    until(Epoch, told)
    best = copied(model)
    until(Step, told)
    with pytest.raises(KeyboardInterrupt):
        told.throw(KeyboardInterrupt)
    assert moved(best, model) == set() and model.learning_stages == ()


def test_a_second_training_goes_on_where_the_first_one_ended(model, images):
    first = headswap.fit(model, images, HEAD_ONLY)
    after_first = copied(model)
    told = headswap.train(model, images, dataclasses.replace(HEAD_ONLY, phases=(Phase(1, 0, 1e-9),)))
    second = until(Epoch, told)
    told.close()
    assert second.right == first.right
    assert max((after_first[name] - t).abs().max() for name, t in model.state_dict().items() if "head" in name) < 1e-5


def test_a_copy_can_be_trained_while_the_original_stays(model, images):
    before = copied(model)
    other = copy.deepcopy(model)
    headswap.fit(other, images, THAWED)
    assert moved(before, model) == set() and moved(before, other) != set()


def test_a_head_of_somebodys_own_keeps_its_batch_norm_as_well(images):
    def with_norm(features, classes):
        return nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, classes))

    model = small_model(images.classes, head=with_norm)
    plan = Plan((Phase(3, 0, 1e-2), Phase(3, 0, 1e-9)), views=2)
    told = headswap.train(model, images, plan)
    for event in told:
        if isinstance(event, Epoch) and event.best:
            best = copied(model)
        if isinstance(event, PhaseBegins) and event.number == 2:
            with torch.no_grad():
                model.head[1].weight.mul_(-50)
    assert moved(best, model) == set()


# Heads that are solved


def test_a_solved_head_needs_one_epoch_and_no_steps(images):
    model = small_model(images.classes, head="lda")
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
    assert wilson(right, of) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


def test_more_images_say_more():
    widths = [high - low for low, high in (wilson(9 * n, 10 * n) for n in (1, 4, 16, 64))]
    assert widths == sorted(widths, reverse=True)
    assert wilson(9, 10, 0.5)[0] > wilson(9, 10)[0]
