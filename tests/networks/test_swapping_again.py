"""A network that has a new head can get another one, a class more, or several labels an image."""

import pytest
import torch
import torchvision
from drawings import copied, draw_folder, moved, small_model

import headswap
from headswap import InputError, Plan

PLAN = Plan((headswap.Phase(25, 0, 1e-2),), views=2)


def test_a_trained_backbone_is_kept_and_the_old_model_stays_as_it_was():
    old = small_model(3)
    with torch.no_grad():
        next(old.stages.parameters()).add_(1)
    before = copied(old)
    new = headswap.adapt(old, ["a", "b"], head="bottleneck", bottleneck_dim=8)
    assert new.backbone == old.backbone and new.classes == ("a", "b") and not moved(copied(old.stages), new.stages)
    with torch.no_grad():
        next(new.stages.parameters()).add_(1)
    assert not moved(before, old)


@pytest.mark.parametrize("network", [torchvision.models.resnet18, torchvision.models.squeezenet1_0])
def test_a_network_that_somebody_built_gets_a_new_head(network):
    theirs = network().eval()
    model = headswap.adapt(theirs, 4).eval()
    images = torch.rand(2, 3, 64, 64)
    assert model(images).shape == (2, 4)
    assert torch.allclose(
        model.staged_network.stages(images), model.forward_stages(images, 0, len(model.stages)), atol=1e-5
    )


def test_a_module_that_is_no_known_network_is_refused_with_its_name():
    with pytest.raises(InputError, match="Bilinear cannot be taken apart"):
        headswap.adapt(torch.nn.Bilinear(2, 2, 2), 3)


@pytest.mark.parametrize("head", ["linear", "bottleneck", "mlp", "attention", "lda", torch.nn.Linear])
def test_a_class_more_leaves_the_old_ones_their_answers(head):
    model = small_model(["rose", "tulip"], head).eval()
    images = torch.rand(2, 3, 32, 32)
    before = model(images)
    assert model.add_class("daisy") is model
    assert model.classes == ("rose", "tulip", "daisy")
    assert torch.allclose(model(images)[:, :2], before, atol=1e-6)
    assert all(p.requires_grad for p in model.head.parameters())


def test_a_class_that_is_there_already_is_refused():
    with pytest.raises(ValueError, match="a name of its own"):
        small_model(["rose", "tulip"]).add_class("rose")


def test_a_head_that_ends_otherwise_cannot_get_a_class_more():
    model = small_model(
        2, lambda width, classes: torch.nn.Sequential(torch.nn.Linear(width, classes), torch.nn.PReLU())
    )
    assert model.add_class("third").classes[-1] == "third"
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        small_model(2, lambda width, classes: torch.nn.AdaptiveAvgPool1d(classes)).add_class("third")


def test_the_whole_picture_can_be_squeezed_into_the_square():
    wide = torch.zeros(3, 40, 120, dtype=torch.uint8)
    wide[:, :, -30:] = 255
    centre, whole = (
        headswap.adapt("resnet18", 2, pretrained=False, crop=crop).preprocess for crop in ("centre", "fit")
    )
    assert centre.crop_to_square(wide[:, :, :]).shape == whole.crop_to_square(wide).shape == (3, 224, 224)
    assert whole.crop_to_square(wide)[:, :, -40:].min() == 255
    with pytest.raises(ValueError, match="Did you mean centre"):
        headswap.adapt("resnet18", 2, pretrained=False, crop="center")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """Shapes with two labels each, their form and whether their number is odd; the bars carry no form."""
    folder = draw_folder(tmp_path_factory.mktemp("tagged"), each=10)
    rows = [
        f"{name}/{n}.png," + ";".join([name] * (name != "bars") + ["odd"] * (n % 2))
        for name in ("dots", "boxes", "bars")
        for n in range(10)
    ]
    (folder / "labels.csv").write_text("\n".join(["file,labels", *rows]))
    return headswap.load_images(folder)


def test_several_labels_an_image_are_learned_and_answered_one_by_one(tagged):
    model = small_model(tagged.classes, multi_label=True, seed=1)
    *_, last_epoch, kept = headswap.train(model, tagged, PLAN)
    assert kept.metric == last_epoch.metric == "mean average precision" and 0 < kept.score <= 1
    assert [figures.name for figures in kept.labels] == list(tagged.classes)
    assert torch.allclose(model.thresholds, torch.tensor([figures.threshold for figures in kept.labels]))
    answers = dict(model.predict(tagged.paths[0]))
    shown = [name for name, limit in zip(model.classes, model.thresholds, strict=True) if answers[name] > limit]
    assert model.predict_labels(tagged.paths[0]) == shown
    assert sum(answers.values()) != pytest.approx(1)


def test_several_labels_want_a_model_that_knows_it(tagged):
    with pytest.raises(InputError, match="multi_label=True"):
        headswap.train(small_model(tagged.classes), tagged)
    with pytest.raises(ValueError, match="tells one class from the others"):
        small_model(3, "lda", multi_label=True)


def test_a_model_of_many_labels_learns_from_images_with_one(tmp_path):
    images = headswap.load_images(draw_folder(tmp_path / "shapes", each=6))
    model = small_model(images.classes, multi_label=True)
    assert headswap.fit(model, images, PLAN).metric == "mean average precision"


def test_a_solved_head_tells_one_epoch_while_frozen_and_is_trained_on_when_stages_thaw(tmp_path):
    images = headswap.load_images(draw_folder(tmp_path / "shapes", each=8))
    model = small_model(images.classes, "lda")
    plan = Plan.suggest(images, model)
    epochs = [event for event in headswap.train(model, images, plan) if isinstance(event, headswap.Epoch)]
    frozen, thawed = plan.phases
    assert frozen.epochs == 1 and len(epochs) == 1 + thawed.epochs
    assert epochs[0].training_score == 1.0
    # Softened to 0.6 ln 3 on its training images, before the first step.
    assert epochs[1].training_loss > epochs[0].training_loss


def test_another_head_keeps_the_crop_unless_another_is_asked_for():
    fitted = small_model(3, crop="fit")
    assert headswap.adapt(fitted, 2).preprocess.crop == "fit"
    assert headswap.adapt(fitted, 2, crop="centre").preprocess.crop == "centre"


def test_no_pictures_have_no_probabilities():
    assert small_model(3).predict_proba([]).shape == (0, 3)
