"""What the model step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from drawings import copied, moved
from torch import nn
from visiting import choose, is_error, text_of

from headswap.common.text import format_duration
from headswap.networks import head_registry
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.networks.head_registry import HEADS, describe_head, get_head_options
from headswap.training.advice import choose_num_unfrozen_stages
from headswap.ui.panels import head_options
from headswap.ui.panels.browser_events import parse_stage_click
from headswap.ui.sessions import chosen_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ModelChoice
from headswap.ui.steps import model as model_step
from headswap.ui.steps import test, train
from headswap.ui.views import network


def refused(answer, *words):
    """The answer is an error, and the drawings stay as they are."""
    for word in words:
        assert word in text_of(answer.problem)
    unchanged = (answer.drawing, answer.sentence, answer.seen, answer.heads) == (None,) * 4
    return is_error(answer.problem) and unchanged


@pytest.fixture
def step(built):
    """The model step's components."""

    def make():
        with gr.Blocks():
            return model_step.build()

    return built(make)


def test_a_network_that_is_too_large_for_the_host_is_refused_and_the_former_choice_stays(visitor, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "40")
    before = visitor.choice
    assert refused(choose(visitor, backbone="resnet18"), "45 MB to download", "40 MB", "need no download")
    assert visitor.choice is before
    assert choose(visitor, backbone="efficientnet_lite2").problem == ""


def test_every_head_has_its_options_on_the_page(step):
    assert set(step.head_options.controls) == {(head, option) for head in HEADS for option in get_head_options(head)}
    assert set(step.option_groups) == set(HEADS)
    assert [value for _, value in step.head.choices] == list(HEADS)
    assert step.choose_inputs[-len(step.head_options.controls) :] == list(step.head_options.controls.values())
    for (head, option), control in step.head_options.controls.items():
        assert step.option_groups[head] in (control.parent, control.parent.parent)
        default = get_head_options(head)[option]
        assert control.value == (", ".join(map(str, default)) if isinstance(default, tuple) else default)
        assert control.label in head_options.OPTION_LABELS.values(), f"{option} needs a label for people"
    for label, name in step.head.choices:
        assert describe_head(name) in label
    assert [name for name, group in step.option_groups.items() if group.visible] == [step.head.value]


def test_the_page_starts_with_what_a_visitor_starts_with(step):
    options = get_head_options(step.head.value)
    assert ModelChoice(step.backbone.value, step.head.value, options, step.crop.value) == Session().choice


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_chosen(visitor, head):
    answer = choose(visitor, head)
    assert answer.problem == ""
    assert visitor.choice == ModelChoice(DEFAULT_BACKBONE, head, dict(get_head_options(head)) | given(head))
    assert [group.visible for group in answer.groups] == [name == head for name in HEADS]
    assert f">{head}<" in answer.drawing
    model = chosen_network.build_meta_network(visitor.choice, 3)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert f"{network.count_head_parameters(model):,} weights for 3 classes" in text_of(answer.sentence)


def given(head):
    return {"hidden_dims": (1024, 512)} if head == "mlp" else {}


@pytest.mark.parametrize(
    ("default", "kind"),
    [
        *((number, gr.Number) for number in (0.25, 16.0, -3, 9_000)),
        (True, gr.Checkbox),
        ("gelu", gr.Dropdown),
        ("cosine", gr.Textbox),
        ((7, 5), gr.Textbox),
    ],
)
def test_an_option_of_any_kind_has_a_control_that_holds_its_default(default, kind):
    control = head_options._build_control("mine", default, "head-mine")
    assert type(control) is kind
    if kind is gr.Number:
        assert control.value == default
        assert (control.minimum or default) <= default <= (control.maximum or default)
    if kind is gr.Dropdown:
        assert control.value in [value for _, value in control.choices]


def test_options_reach_the_head(visitor):
    choose(visitor, "mlp", mlp_hidden_dims="7, 5", mlp_dropout=0.1, linear_dropout=0.7)
    assert visitor.choice.head_options == {"hidden_dims": (7, 5), "dropout": 0.1}
    head = chosen_network.build_meta_network(visitor.choice, 3).head
    assert (head.hidden1.out_features, head.hidden2.out_features) == (7, 5)


def test_the_crop_reaches_the_network(visitor):
    choose(visitor, crop="fit")
    assert chosen_network.build_meta_network(visitor.choice, 3).preprocess.crop == "fit"
    choose(visitor, crop="centre")
    assert chosen_network.build_meta_network(visitor.choice, 3).preprocess.crop == "centre"


def test_another_backbone_than_those_offered_can_be_named(visitor):
    assert choose(visitor, other="mobilenet_v3_small").problem == ""
    assert visitor.choice.backbone == "mobilenet_v3_small"
    assert choose(visitor, backbone=None, other="mobilenet_v3_small").problem == ""
    choose(visitor, backbone="resnet18", other="")
    assert visitor.choice.backbone == "resnet18"


def test_random_weights_are_warned_of(visitor):
    answer = choose(visitor, pretrained=False)
    assert "Random weights" in text_of(answer.sentence)
    assert not visitor.choice.pretrained
    assert not chosen_network.build_chosen_network(visitor.choice, 3).pretrained


def test_some_images_are_shown_as_the_network_sees_them(visitor):
    seen = choose(visitor).seen
    assert seen.count("data:image/jpeg;base64,") == model_step.NUM_PREVIEW_IMAGES
    assert choose(Session()).seen == ""


def weights_of(answer):
    """What the choice of heads says of the weights of each."""
    found = {name: re.search(r", ([\d,]+) weights — ", label) for label, name in answer.heads.choices}
    return {name: int(said[1].replace(",", "")) if said else None for name, said in found.items()}


def test_every_head_says_its_weights_on_this_backbone_with_these_options(visitor):
    said = weights_of(choose(visitor))
    assert list(said) == list(HEADS)
    for head, number in said.items():
        model = chosen_network.build_meta_network(
            ModelChoice(DEFAULT_BACKBONE, head, dict(get_head_options(head))), visitor.classes
        )
        assert network.count_head_parameters(model) == number
    wider = weights_of(choose(visitor, backbone="resnet18", bottleneck_bottleneck_dim=16))
    assert wider["linear"] == 512 * 3 + 3
    assert wider["bottleneck"] == 512 * 16 + 16 + 16 * 3 + 3
    assert weights_of(choose(Session(), backbone="regnet_y_400mf"))["linear"] == 440 * 3 + 3


def test_a_head_with_wrong_options_says_no_weights_while_another_is_chosen(visitor):
    said = weights_of(choose(visitor, "linear", mlp_hidden_dims="many"))
    assert said.pop("mlp") is None and all(said.values())


def test_the_choice_of_heads_keeps_what_is_chosen(visitor):
    assert choose(visitor, "mlp").heads.value is None


@pytest.mark.parametrize(
    ("backbone", "licence"),
    [
        (DEFAULT_BACKBONE, "Its weights come under Apache-2.0."),
        ("resnet18", "Its weights come under BSD-3-Clause. "),
        ("regnet_y_128gf", "Its weights come under CC-BY-NC-4.0, not for commercial use."),
    ],
)
def test_the_licence_is_told_of_what_is_chosen(visitor, backbone, licence):
    choice = ModelChoice(backbone, "linear")
    assert (
        licence
        in text_of(
            model_step.describe_choice(
                chosen_network.build_meta_network(ModelChoice(DEFAULT_BACKBONE, "linear"), 3), choice
            )
        )
        + " "
    )


def test_a_training_that_goes_on_with_a_model_is_told_where_another_could_be_chosen(trained):
    visitor = Session(images=trained.visitor.images, trained_model=trained.visitor.trained_model)
    assert "goes on with" not in choose(visitor).sentence
    visitor.resume_training = True
    told = text_of(choose(visitor).sentence)
    assert "goes on with the model that you have: EfficientNet-Lite0 with the head linear for blue, green and" in told
    assert "goes on with" not in choose(visitor, "bottleneck").sentence


@pytest.mark.parametrize(
    "widths", ["", " , ", "many", "1024; 512", "1.5", "0", "-8", "8193", "64, 0", "1, 2, 3, 4, 5, 6, 7, 8, 9", "<b>&"]
)
def test_wrong_widths_are_said_and_the_former_choice_stays(visitor, widths):
    before = visitor.choice
    answer = choose(visitor, "mlp", mlp_hidden_dims=widths)
    assert refused(answer, f"'{widths}'")
    assert "<b>" not in answer.problem
    assert [group.visible for group in answer.groups] == [name == "mlp" for name in HEADS]
    assert visitor.choice is before


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": "resnet19"},
        {"crop": "left"},
        {"head": "bottleneck", "bottleneck_bottleneck_dim": 0},
        {"head": "bottleneck", "bottleneck_activation": "step"},
        {"head": "attention", "attention_dim": 5},
        {"linear_dropout": 1.0},
    ],
    ids=str,
)
def test_any_other_wrong_choice_is_said_and_the_former_one_stays(visitor, wrong):
    before = visitor.choice
    assert refused(choose(visitor, **wrong))
    assert visitor.choice is before


@pytest.mark.parametrize(
    "emptied",
    [
        {"head": "bottleneck", "bottleneck_bottleneck_dim": None},
        {"head": "attention", "attention_dim": None},
        {"linear_dropout": None},
        {"head": "mlp", "mlp_hidden_dims": None},
    ],
    ids=str,
)
def test_a_field_that_was_emptied_is_said_and_the_former_choice_stays(visitor, emptied):
    before = visitor.choice
    assert refused(choose(visitor, **emptied))
    assert visitor.choice is before


def test_the_strip_answers_to_the_choice_before_there_are_images():
    visitor = Session()
    lite, mlp, vgg = (choose(visitor, **choice).drawing for choice in ({}, {"head": "mlp"}, {"backbone": "vgg16"}))
    assert len({lite, mlp, vgg}) == 3
    assert "3 classes" in text_of(lite)
    assert lite.count("data-stage") != vgg.count("data-stage")


def asks(drawing):
    """How many of the last stages the strip says will learn."""
    return len(re.findall("hs-block hs-learning", drawing))


def pressed(number):
    return SimpleNamespace(learning=number)


def press(visitor, sent):
    return model_step.click_stage(visitor, parse_stage_click(sent))


def test_pressing_a_block_lets_learn_from_there_on_and_is_remembered(visitor):
    usual = asks(choose(visitor).drawing)
    assert usual == choose_num_unfrozen_stages(chosen_network.build_meta_network(visitor.choice, 3)) > 0
    for number in (5, 0, 9):
        drawing = press(visitor, pressed(number))
        assert asks(drawing) == number
        assert f'data-learning="{number}" aria-pressed="true"' in drawing
        assert train.refresh(visitor).plan_form.unfrozen_stages.value == number
    assert asks(choose(visitor, "mlp").drawing) == 9
    assert asks(choose(visitor, "mlp", backbone="resnet18").drawing) < 5  # which has other stages
    assert visitor.num_unfrozen_stages is None


@pytest.mark.parametrize("sent", [None, pressed(None), pressed("3"), pressed(-1), pressed(1.5)], ids=str)
def test_what_no_press_sends_asks_for_nothing(visitor, sent):
    usual = choose(visitor).drawing
    assert press(visitor, sent) == usual


def test_advice_comes_from_the_images_and_from_this_machine(visitor, monkeypatch):
    monkeypatch.setattr(
        model_step, "measure_seconds_per_image", lambda backbone: {DEFAULT_BACKBONE: 0.5, "resnet18": 50.0}[backbone]
    )
    choose(visitor)
    told = text_of(model_step.render_advice(visitor))
    assert (
        "There are 12 images for the head's 3,843 weights, 320 for each." in told
        and "With 4 images in the smallest class" in told
    )
    learned, checked = map(len, visitor.images.split())
    assert told.endswith(f"takes this machine {round((4 * learned + checked) * 0.5)} s at most.")
    choose(visitor, "lda", backbone="resnet18")
    assert text_of(model_step.render_advice(visitor)).endswith(
        f"machine {round((4 * learned + checked) * 50 / 60)} min at most."
    )
    assert model_step.render_advice(Session()) == ""


def test_what_a_training_took_to_read_them_is_told_instead_of_a_bound(trained):
    told = text_of(model_step.render_advice(trained.visitor))
    assert told.endswith(
        f"took this machine {format_duration(trained.visitor.job.run.frozen_pass.seconds)} the last time."
    )


def test_more_stages_than_there_are_means_all_of_them(visitor):
    assert asks(press(visitor, pressed(10**9))) == 9


def test_how_far_the_frozen_features_go_is_told_as_it_was_measured(trained, visitor):
    assert "is not known beforehand" in text_of(model_step.render_advice(visitor))
    measured = trained.visitor.job.run.reference.validation_metrics
    told = text_of(model_step.render_advice(trained.visitor))
    assert f"it named {measured.correct} of {measured.total} validation images rightly" in told
    assert ("nothing left to gain" in told) == (measured.correct == measured.total)
    assert "is not known beforehand" not in told


@pytest.mark.parametrize("backbone", model_step.FEATURED_BACKBONES)
def test_a_preview_builds_no_weights(backbone, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *a, **b: pytest.fail("A preview read weights."))
    model = chosen_network.build_meta_network(ModelChoice(backbone, "linear"), ("a", "b"))
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert torch.empty(1).device.type == "cpu"
    drawing = network.render_network(model, model.summarize_stages(), ())
    assert drawing.count("data-stage") == len(model.freezable_stages)


def test_a_preview_is_as_large_as_the_network_itself(trained):
    real, preview = trained.visitor.trained_model.model, chosen_network.build_meta_network(trained.visitor.choice, 3)
    assert preview.summarize_stages() == tuple(replace(stage, frozen=True) for stage in real.summarize_stages())
    assert network.count_head_parameters(preview) == network.count_head_parameters(real)


def test_every_backbone_that_is_offered_says_its_size_and_whether_it_must_be_fetched(step):
    titles = {name: title for title, name in step.backbone.choices}
    assert list(titles) == list(model_step.FEATURED_BACKBONES)
    for name, title in titles.items():
        assert network.backbone_title(name) in title
        assert "million weights" in title
        assert ("on this machine" in title) != ("MB to download" in title)
    assert "on this machine" in titles[DEFAULT_BACKBONE]


def test_a_new_head_is_found_on_the_page_by_its_table_alone(built, visitor, monkeypatch):
    class Twice(nn.Sequential):
        """Do it twice.

        More of it.
        """

        def __init__(self, features_in, classes, *, dropout=0.25, bottleneck_dim=6):
            super().__init__(nn.Linear(features_in, bottleneck_dim), nn.Linear(bottleneck_dim, classes))

    table = {**HEADS, "twice": Twice}
    monkeypatch.setattr(head_registry, "HEADS", table)
    monkeypatch.setattr(model_step, "HEADS", table)
    monkeypatch.setattr(head_options, "HEADS", table)

    def make():
        with gr.Blocks():
            return model_step.build()

    step = built(make)
    assert step.head_options.controls["twice", "dropout"].value == 0.25
    assert step.head_options.controls["twice", "bottleneck_dim"].value == 6
    held = [component.value for component in step.head_options.controls.values()]
    update = model_step.choose_network(visitor, DEFAULT_BACKBONE, None, "twice", "centre", True, *held)
    assert update.problem == ""
    assert len(update.option_groups) == len(HEADS) + 1
    assert "weights for 3 classes" in text_of(update.choice_text)
    assert ("Twice, 7,707 weights — Do it twice.", "twice") in update.head.choices


def test_the_same_choices_give_the_same_network_whatever_was_drawn_before(loaded_fruits):
    choices = (
        ModelChoice(DEFAULT_BACKBONE, "bottleneck", {"bottleneck_dim": 8}),
        ModelChoice("shufflenet_v2_x0_5", "linear", pretrained=False),
    )
    for choice in choices:
        torch.manual_seed(1)
        one = chosen_network.build_seeded_network(choice, loaded_fruits, Scheduler(), lambda done, total: None)
        torch.manual_seed(2)
        other = chosen_network.build_seeded_network(choice, loaded_fruits, Scheduler(), lambda done, total: None)
        assert not moved(copied(one), other)
        assert type(one.head).__name__.lower() == choice.head and one.classes == loaded_fruits.classes


# Several labels an image


def test_a_head_that_cannot_have_several_labels_says_so_and_breaks_no_step(tagged):
    visitor = Session(images=tagged)
    assert refused(choose(visitor, "lda"), "several labels")
    earlier = Session()
    choose(earlier, "lda")
    earlier.set_images(tagged)
    assert 'class="hs-strip"' in train.refresh(earlier).run_view.stage_strip
    assert "several labels" in text_of(train.start_training(earlier, Scheduler(), 1, 0, 1).problem)
    assert 'class="hs-strip"' in test.refresh(earlier).stage_strip
