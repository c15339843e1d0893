"""The classic plans have their names, and the suggested one suits the number of images and the network."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from headswap import Phase, Plan, adapt
from headswap.training.advice import MAX_UNFROZEN_WEIGHTS, describe_dataset_fit
from headswap.training.plan import HEAD_PHASE, NAMED_PLANS


def on_paper(backbone, head="linear"):
    with torch.device("meta"):
        return adapt(backbone, 3, head, pretrained=False)


class Counted(SimpleNamespace):
    """So many images of each class, and nothing else."""

    def __len__(self):
        return sum(self.counts.values())


def images(*each):
    return Counted(counts={f"class {i}": n for i, n in enumerate(each)}, multi_label=False)


def weights_that_learn(model, plan):
    return sum(p.numel() for p in model.unfreeze(plan.phases[-1].learning_stages).parameters() if p.requires_grad)


def test_what_cannot_be_a_phase_or_a_plan_is_said():
    with pytest.raises(ValueError, match="Stages that learn need a learning rate, backbone_lr"):
        Phase(1, 2, 1e-3)
    with pytest.raises(ValueError, match=r"a tuple, of a single phase as well: Plan\(\(Phase"):
        Plan(Phase(1, 0, 1e-3))


# The classic ones


def test_the_classic_plans_have_their_names():
    assert list(NAMED_PLANS) == ["head only", "freeze then unfreeze", "gradual", "from the start"]
    assert all(Plan.from_name(name) is NAMED_PLANS[name] for name in NAMED_PLANS)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("head only", [0]),
        ("freeze then unfreeze", [0, None]),
        ("gradual", [0, 1, 2, 3]),
        ("from the start", [None]),
    ],
)
def test_a_classic_plan_thaws_what_its_name_says(name, stages):
    assert [phase.learning_stages for phase in Plan.from_name(name).phases] == stages


@pytest.mark.parametrize("name", NAMED_PLANS)
def test_stages_that_learn_learn_more_slowly_than_the_head(name):
    for phase in Plan.from_name(name).phases:
        assert phase.epochs > 0 and phase.head_lr > 0
        if phase.learning_stages != 0:
            assert 0 < phase.backbone_lr < phase.head_lr


@pytest.mark.parametrize("name", NAMED_PLANS)
@pytest.mark.parametrize("backbone", ["alexnet", "resnet18", "vgg11", "efficientnet_lite0"])
def test_a_classic_plan_fits_every_backbone(name, backbone):
    model = on_paper(backbone)
    boundaries = [model.get_boundary(phase.learning_stages) for phase in Plan.from_name(name).phases]
    assert boundaries == sorted(boundaries, reverse=True)


def test_an_unknown_plan_offers_the_nearest():
    with pytest.raises(ValueError, match=r"no plan 'head-only'\. Did you mean head only"):
        Plan.from_name("head-only")


def test_a_plan_cannot_be_changed_behind_anybodys_back():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Plan.from_name("head only").phases = ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        HEAD_PHASE.epochs = 1
    with pytest.raises(TypeError):
        NAMED_PLANS["mine"] = Plan((HEAD_PHASE,))


# The suggested one


@pytest.fixture(scope="module")
def resnet():
    return on_paper("resnet18")


def test_the_head_learns_alone_before_any_stage_does(resnet):
    for each in (2, 9, 10, 500):
        first, second = Plan.suggest(images(each, each + 3), resnet).phases
        assert first.learning_stages == 0
        assert second.learning_stages > 0


def test_what_is_kept_lies_half_way_back_and_it_is_said_why(resnet):
    few, many = (Plan.suggest(images(each, each), resnet) for each in (9, 10))
    assert few.checkpoint == many.checkpoint == "between" and few.weight_interpolation == 0.5
    assert "As few as 9" in few.advice.replace("as few as", "As few as")
    assert "10 images or more" in many.advice
    assert "half-way" in few.advice and "half-way" in many.advice


def test_stages_learn_more_briefly_than_the_head_and_from_a_head_that_is_less_sure(resnet):
    plan = Plan.suggest(images(40, 40), resnet)
    head, thawed = plan.phases
    assert thawed.epochs < head.epochs
    assert 0 < plan.head_loss_ratio < 1


def test_a_lopsided_set_counts_every_class_alike_and_says_so(resnet):
    even, lopsided = (Plan.suggest(images(20, each), resnet) for each in (59, 60))
    assert not even.balance_classes and lopsided.balance_classes
    assert "each counts as much as every other" in lopsided.advice
    assert "each counts" not in even.advice


def test_a_head_that_is_large_for_its_images_is_told_of():
    large = Plan.suggest(images(20, 20), on_paper("resnet18", "mlp"))
    assert "1,051,651 weights for 40 images" in large.advice
    assert "weights for" not in Plan.suggest(images(20, 20), on_paper("resnet18")).advice


def test_a_large_network_reads_fewer_views(resnet, monkeypatch):
    views = []
    for flops in (1e9, 3e10, 5e10, 1e13):
        monkeypatch.setattr(type(resnet), "count_flops_per_image", lambda _, flops=flops: flops)
        views.append(Plan.suggest(images(50, 49), resnet).views)
    assert views == [4, 2, 1, 1]


def test_no_plan_asks_how_fast_the_machine_is(resnet, monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: pytest.fail("A plan asked for the time."))
    monkeypatch.setattr("headswap.networks.classifier.perf_counter", lambda: pytest.fail("A plan asked for the time."))
    assert Plan.suggest(images(50, 49), resnet).views == 4


@pytest.mark.parametrize(("backbone", "gflops"), [("resnet18", 3.6), ("efficientnet_lite0", 0.77), ("vit_b_32", 8.7)])
def test_operations_are_those_that_papers_name(backbone, gflops):
    model = on_paper(backbone)
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert model.count_flops_per_image() == pytest.approx(gflops * 1e9, rel=0.05)
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before


def test_stages_that_have_learned_already_go_on_and_nothing_else_begins():
    model = on_paper("resnet18").unfreeze(2)
    [phase] = Plan.suggest(images(40, 40), model).phases
    assert phase.learning_stages == 2


def test_the_smallest_class_decides(resnet):
    assert "as few as 3" in Plan.suggest(images(3, 300, 300), resnet).advice


def test_many_images_need_fewer_views(resnet):
    few, many = (Plan.suggest(images(each, each), resnet) for each in (99, 100))
    assert few.views > many.views >= 2


@pytest.mark.parametrize(
    "backbone", ["efficientnet_lite0", "resnet18", "resnet50", "mobilenet_v3_small", "swin_t", "vit_b_16", "alexnet"]
)
def test_no_more_weights_are_thawed_than_two_cores_can_move(backbone):
    model = on_paper(backbone)
    plan = Plan.suggest(images(40, 40), model)
    stages = plan.phases[-1].learning_stages
    assert 1 <= stages <= max(1, len(model.freezable_stages) // 3)
    head = sum(p.numel() for p in model.head.parameters())
    assert stages == 1 or weights_that_learn(model, plan) - head <= MAX_UNFROZEN_WEIGHTS


def test_where_weights_are_few_a_third_of_the_stages_is_thawed():
    assert Plan.suggest(images(40, 40), on_paper("efficientnet_lite0")).phases[-1].learning_stages == 3
    assert Plan.suggest(images(40, 40), on_paper("mobilenet_v3_small")).phases[-1].learning_stages == 2


def test_where_the_last_stages_are_heavy_fewer_are_thawed():
    model = on_paper("vit_b_16")
    stages = Plan.suggest(images(40, 40), model).phases[-1].learning_stages
    assert model.unfreeze(stages).learning_stages == ("12", "pool")  # a block of seven million, and the norm


def test_a_head_that_is_solved_takes_one_epoch_and_no_smoothing():
    plan = Plan.suggest(images(40, 40), on_paper("resnet18", "lda"))
    assert plan.phases[0].epochs == 1 and plan.phases[0].learning_stages == 0
    assert plan.label_smoothing == 0


def test_a_plan_is_a_few_words():
    plan = Plan((Phase(epochs=5, learning_stages=1, head_lr=1e-3, backbone_lr=1e-4),))
    assert (plan.views, plan.batch_size, plan.validation_fraction, plan.seed) == (4, 16, 0.2, 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Phase(1, 0, 1e-3, schedule="one-cicle"), "no schedule 'one-cicle'"),
        (lambda: Plan((HEAD_PHASE,), checkpoint="all"), "cannot keep 'all'"),
        (lambda: Plan((HEAD_PHASE,), weight_interpolation=0.0), "more than 0 and at most 1"),
    ],
)
def test_what_a_plan_cannot_do_is_said_when_it_is_made(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()


def test_pace_is_measured_and_leaves_the_model_as_it_was():
    model = adapt("resnet18", 3, pretrained=False).train()
    modes = [m.training for m in model.modules()]
    assert 0 < model.measure_seconds_per_image() < 60
    assert [m.training for m in model.modules()] == modes


# What images promise


@pytest.mark.parametrize(
    ("each", "head", "unfreezing"),
    [
        (9, "LDA or a linear head", "more likely to hurt"),
        (10, "LDA or a linear head", "change little"),
        (20, "a bottleneck with a dropout of 0.2", "can pay here"),
        (100, "an MLP with a dropout of 0.3", "can pay here"),
    ],
)
def test_the_smallest_class_says_which_head_suits_and_whether_unfreezing_will_pay(resnet, each, head, unfreezing):
    told = describe_dataset_fit(images(each, each + 500), resnet)
    assert f"With {each} images in the smallest class" in told and head in told and unfreezing in told


def test_a_head_is_measured_against_its_images(resnet):
    assert "There are 20 images for the head's 1,539 weights, 77 for each." in describe_dataset_fit(
        images(10, 10), resnet
    )
    assert "one for each at most" in describe_dataset_fit(images(900, 900), resnet)
    large = describe_dataset_fit(images(20, 20), on_paper("resnet18", "mlp"))
    assert "26,291 for each. That is many" in large and "a dropout of 0.5" in large
    assert "That is many" not in describe_dataset_fit(images(10, 10), resnet)


def test_a_head_that_cannot_have_several_labels_is_not_advised(resnet):
    several = Counted(counts={"a": 5, "b": 5}, multi_label=True)
    assert "class a linear head" in describe_dataset_fit(several, resnet)
