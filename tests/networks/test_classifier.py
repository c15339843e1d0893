"""A classifier lets learn what it says, counts its stages as it says and answers the same to every kind of picture."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from drawings import copied, moved, shape, small_model
from PIL import Image
from torchvision import models as tv

from headswap import InputError, adapt
from headswap.data.decoding import read_pixels
from headswap.networks.head_registry import HEADS
from headswap.networks.prediction import PREDICT_BATCH_SIZE

CLASSES = ("dots", "boxes", "bars")


def on_paper(backbone, **options):
    """A model without numbers, for what only has to be counted."""
    with torch.device("meta"):
        return adapt(backbone, 10, pretrained=False, **options)


@pytest.fixture
def model():
    return small_model(CLASSES)


@pytest.fixture
def picture(tmp_path):
    shape("dots").save(tmp_path / "dots.png")
    return tmp_path / "dots.png"


def learning(model):
    """The top names of what has gradients."""
    return {".".join(name.split(".")[:2]) for name, p in model.named_parameters() if p.requires_grad}


# What learns


@pytest.mark.parametrize("head", HEADS)
def test_only_the_head_of_a_new_model_learns(head):
    model = on_paper("vgg11", head=head)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {f"head.{name}" for name, _ in model.head.named_parameters()}
    assert not any(m.training for part in model.feature_stages for m in part.modules())


def test_the_last_stages_are_unfrozen_by_their_number():
    model = on_paper("resnet18").unfreeze(3)
    assert learning(model) == {"stages.layer2", "stages.layer3", "stages.layer4", "head.linear"}
    assert model.learning_stages == ("layer2", "layer3", "layer4")


def test_everything_is_unfrozen_without_a_number():
    model = on_paper("resnet18").unfreeze()
    assert all(p.requires_grad for p in model.parameters())
    assert model.learning_stages == ("stem", "layer1", "layer2", "layer3", "layer4")


def test_freezing_takes_unfreezing_back():
    model = on_paper("resnet18").unfreeze().freeze()
    assert learning(model) == {"head.linear"}
    assert model.learning_stages == ()


def test_unfreezing_fewer_stages_freezes_the_others_again():
    model = on_paper("resnet18").unfreeze(4).unfreeze(1)
    assert model.learning_stages == ("layer4",)


@pytest.mark.parametrize("stages", [6, 100, -1])
def test_a_number_of_stages_that_there_are_not_is_refused(stages):
    model = on_paper("resnet18").unfreeze(2)
    with pytest.raises(ValueError, match=f"resnet18 has 5 stages, so {stages} of them cannot learn"):
        model.unfreeze(stages)
    with pytest.raises(ValueError, match="5 stages"):
        model.get_boundary(stages)
    assert model.learning_stages == ("layer3", "layer4")


def test_unfrozen_stages_enter_training_mode_and_frozen_ones_do_not(model):
    model.unfreeze(2).train()
    assert [stage.training for stage in model.stages] == [False, False, False, True, True]
    assert model.pool.training and model.head.training
    model.freeze()
    assert not any(part.training for part in model.feature_stages) and model.head.training


def test_unfreezing_leaves_a_model_that_predicts_in_evaluation_mode(model):
    model.eval().unfreeze()
    assert not any(m.training for m in model.modules())


# The boundary


@pytest.mark.parametrize("backbone", ["resnet18", "vgg11", "efficientnet_lite0", "vit_b_32"])
def test_the_boundary_lies_where_it_was_said_to_lie(backbone):
    model = on_paper(backbone)
    for stages in [*range(len(model.freezable_stages) + 1), None]:
        expected = model.get_boundary(stages)
        model.unfreeze(stages)
        assert model.boundary == expected
        still, learns = model.feature_stages[:expected], model.feature_stages[expected:]
        assert all(part.frozen for part in still) and not any(part.frozen for part in learns)
        assert len(model.learning_stages) == (len(model.freezable_stages) if stages is None else stages)


def test_a_pool_with_weights_counts_as_a_stage():
    model = on_paper("vgg11")
    assert len(model.freezable_stages) == 6 and model.freezable_stages[-1] is model.pool
    assert model.unfreeze(1).learning_stages == ("pool",)
    assert learning(model) == {"pool.2", "pool.5", "head.linear"}
    assert model.boundary == 5


def test_a_pool_without_weights_moves_with_the_last_stage():
    model = on_paper("resnet18")
    assert len(model.freezable_stages) == 5 and model.pool not in model.freezable_stages
    assert model.boundary == len(model.feature_stages) == 6
    assert model.unfreeze(1).boundary == 4
    assert not model.pool.frozen
    assert model.freeze().pool.frozen


def test_two_runs_that_meet_at_a_boundary_are_one(model):
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        whole = model.forward_stages(images)
        for boundary in range(len(model.feature_stages) + 1):
            passed = model.forward_stages(images, 0, boundary)
            assert torch.allclose(model.forward_stages(passed, boundary), whole, atol=1e-3)
            assert torch.allclose(model.forward_logits(passed, boundary), model(images), atol=1e-3)
        assert torch.equal(model(images), model.head(whole))


def test_a_model_gives_what_its_backbone_and_head_give():
    model = small_model(CLASSES, backbone="resnet18").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        x = images
        for part in (*model.stages, model.pool, model.head):
            x = part(x)
        assert torch.allclose(model(images), x, atol=1e-4)


# The drawing


def test_the_outline_tells_names_shapes_and_weights():
    outline = on_paper("resnet18").unfreeze(2).summarize_stages()
    assert [(row.name, row.shape, row.frozen) for row in outline] == [
        ("stem", (64, 56, 56), True),
        ("layer1", (64, 56, 56), True),
        ("layer2", (128, 28, 28), True),
        ("layer3", (256, 14, 14), False),
        ("layer4", (512, 7, 7), False),
    ]
    assert [row.num_parameters for row in outline] == [9_536, 147_968, 525_568, 2_099_712, 8_393_728]


def test_the_outline_shows_a_pool_that_has_weights():
    last = on_paper("vgg11").summarize_stages()[-1]
    assert (last.name, last.shape, last.num_parameters, last.frozen) == ("pool", (4096,), 119_545_856, True)


@pytest.mark.parametrize("training", [True, False])
def test_drawing_the_outline_changes_nothing(training):
    model = small_model(CLASSES).unfreeze().train(training)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    model.summarize_stages()
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


# Predicting


def test_path_image_and_pixels_get_the_same_answer(model, picture):
    wanted = model.preprocess
    with Image.open(picture) as image:
        from_image = model.predict(image)
    from_path = model.predict(picture)
    assert model.predict(str(picture)) == from_path == from_image
    assert model.predict(read_pixels(picture, wanted.resize, wanted.interpolation)) == from_path


def test_the_answer_is_every_class_with_its_probability_and_the_most_likely_first(model, picture):
    with torch.no_grad():
        model.head.linear.bias.copy_(torch.tensor([0.0, 8.0, 4.0]))
    answer = model.predict(picture)
    assert [name for name, _ in answer] == ["boxes", "bars", "dots"]
    assert sum(share for _, share in answer) == pytest.approx(1)
    assert all(a > b > 0 for (_, a), (_, b) in pairwise(answer))


def test_many_pictures_get_the_answers_that_they_get_one_by_one(model):
    pictures = [shape(name, i) for name in CLASSES for i in range(2)]
    together = model.predict_proba(pictures)
    assert together.shape == (6, 3)
    assert torch.allclose(together.sum(1), torch.ones(6))
    for picture, row in zip(pictures, together, strict=True):
        one_by_one = dict(model.predict(picture))
        assert [one_by_one[name] for name in CLASSES] == pytest.approx(row.tolist(), abs=1e-6)


@pytest.mark.parametrize("crop", ["centre", "fit"])
def test_whatever_the_size_a_tensor_or_an_array_gets_the_answer_of_its_file(tmp_path, crop):
    model = small_model(CLASSES, crop=crop)
    for size in ((32, 32), (36, 36), (120, 90), (300, 40), (20, 30)):
        path = tmp_path / f"{size[0]}.png"
        shape("dots", size=size).save(path)
        array = np.array(Image.open(path))
        tensor = torch.from_numpy(array).movedim(-1, 0)
        by_file = model.predict(path)
        for given in (array, array / 255, tensor, tensor / 255, path.read_bytes(), Image.open(path)):
            assert model.predict(given) == by_file, size


def test_pixels_that_were_read_stay_as_they_are_to_the_last_bit(model, picture):
    wanted = model.preprocess
    pixels = read_pixels(picture, wanted.resize, wanted.interpolation)
    assert torch.equal(wanted(pixels), wanted(picture))
    assert torch.equal(wanted(pixels), wanted.normalize(wanted.crop_to_square(pixels)))


def test_a_list_is_answered_with_a_list_and_a_single_one_with_its_answer(model, picture):
    one = model.predict(picture)
    for several in ([picture, picture], (str(picture), picture.read_bytes()), np.stack([np.array(shape("dots"))] * 2)):
        answers = model.predict(several)
        assert len(answers) == 2
        for answer in answers:
            assert dict(answer) == pytest.approx(dict(one), abs=1e-6)
        assert model.predict_labels(several) == [model.predict_labels(picture)] * 2
    assert model.predict([]) == []


def test_many_are_answered_in_batches_and_never_lie_in_memory_as_a_whole(model):
    asked, sizes = [], []
    model.head.register_forward_pre_hook(lambda _, given: sizes.append((len(given[0]), len(asked))))

    def pictures():
        for number in range(2 * PREDICT_BATCH_SIZE + 3):
            asked.append(number)
            yield shape("dots", number)

    assert model.predict_proba(pictures()).shape == (2 * PREDICT_BATCH_SIZE + 3, 3)
    assert sizes == [
        (PREDICT_BATCH_SIZE, PREDICT_BATCH_SIZE),
        (PREDICT_BATCH_SIZE, 2 * PREDICT_BATCH_SIZE),
        (3, 2 * PREDICT_BATCH_SIZE + 3),
    ]


def test_squares_are_answered_as_they_are_whoever_is_beside_them(model):
    wanted = model.preprocess
    pixels = [read_pixels(shape(name), wanted.resize, wanted.interpolation) for name in CLASSES]
    squares = torch.stack([wanted.crop_to_square(read) for read in pixels])
    together = model.predict_proba_cropped(squares)
    assert torch.equal(together, torch.cat([model.predict_proba_cropped(one[None]) for one in squares]))
    assert torch.allclose(together, model.predict_proba([shape(name) for name in CLASSES]), atol=1e-6)


def test_the_one_of_many_that_cannot_be_read_is_named(model, picture, tmp_path):
    for wrong, words in (
        (tmp_path / "missing.png", r"^missing\.png: does not exist"),
        (b"roses", r"^pictures\[2\]: is not a JPEG"),
        (np.full((9, 9, 3), np.nan), r"^pictures\[2\]: holds values that are no numbers"),
        ("https://example.org/cat.jpg", "download the picture"),
    ):
        with pytest.raises(InputError, match=words):
            model.predict_proba([picture, picture, wrong])
    for wrong in (None, [picture], (picture, 1)):
        with pytest.raises(TypeError, match=r"^pictures\[1\]: A picture is a path"):
            model.predict([picture, wrong])
    with pytest.raises(TypeError, match=r"^A picture is a path"):
        model.predict(None)


def test_a_single_picture_where_several_are_wanted_is_refused(model, picture):
    for one in (picture, str(picture), picture.read_bytes(), io.BytesIO(), shape("dots"), torch.zeros(3, 9, 9), None):
        with pytest.raises(TypeError, match="Several pictures are wanted here"):
            model.predict_proba(one)


@pytest.mark.parametrize("precision", ["half", "bfloat16", "double"])
def test_a_model_of_any_precision_answers_in_single_precision(model, picture, precision):
    known = model.predict_proba([picture])
    told = getattr(model, precision)().predict_proba([picture])
    assert told.dtype == torch.float32
    assert torch.allclose(told, known, atol=0.05)
    assert model.predict(picture) and model.predict_labels(picture)


@pytest.mark.parametrize("training", [True, False])
def test_predicting_leaves_the_mode_and_every_number_as_they_were(picture, training):
    model = small_model(CLASSES, head="bottleneck").unfreeze(2).train(training)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    assert model.predict(picture) == model.predict(picture)  # dropout is off
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_a_picture_that_cannot_be_read_leaves_the_mode_as_it_was(model, tmp_path):
    model.train()
    with pytest.raises(ValueError, match=r"missing\.png"):
        model.predict(tmp_path / "missing.png")
    assert model.training


def test_pixels_are_prepared_as_the_backbone_wants_them(model, picture):
    black = replace(model.preprocess, mean=(9.0, 9.0, 9.0))
    as_wanted = model.predict(picture)
    model.preprocess = black
    assert model.predict(picture) != as_wanted


# Adapting


def test_the_names_of_the_classes_keep_their_order():
    assert on_paper("squeezenet1_1").classes == tuple(f"class {i}" for i in range(1, 11))
    assert small_model(["tulip", "rose", "ant"]).classes == ("tulip", "rose", "ant")


def test_a_model_knows_what_it_was_made_from():
    model = small_model(2, backbone="squeezenet1_1")
    assert (model.backbone, model.pretrained) == ("squeezenet1_1", False)
    assert adapt("efficientnet_lite0", 2).pretrained


@pytest.mark.parametrize("classes", [["rose", "tulip", "rose"], ["rose"], [], 1, 0])
def test_classes_without_names_of_their_own_are_refused(classes):
    with pytest.raises(ValueError, match="at least two classes, each with a name of its own"):
        adapt("squeezenet1_1", classes, pretrained=False)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"Did you mean .*resnet18"):
        adapt("resnet-18", 2)
    with pytest.raises(ValueError, match="Did you mean linear"):
        adapt("squeezenet1_1", 2, "linera", pretrained=False)
    with pytest.raises(ValueError, match="not 'hidden'"):
        adapt("squeezenet1_1", 2, pretrained=False, hidden=3)


@pytest.mark.parametrize(
    ("backbone", "width"),
    [("resnet18", 512), ("vgg11", 4096), ("squeezenet1_1", 512), ("vit_b_32", 768), ("efficientnet_lite0", 1280)],
)
def test_the_head_is_as_wide_as_the_pooled_features(backbone, width):
    model = on_paper(backbone)
    assert model.head.linear.in_features == width
    size = model.preprocess.size
    assert model.forward_stages(torch.empty(1, 3, size, size, device="meta")).shape == (1, width)


def test_the_crop_is_the_centre_or_the_whole_picture(picture):
    with Image.open(picture) as image:
        wide = Image.new("RGB", (120, 40), "black")
        wide.paste(image.resize((40, 40)), (0, 0))
    whole, centre = (small_model(CLASSES, crop=crop).preprocess for crop in ("fit", "centre"))
    assert whole(wide).shape == centre(wide).shape == (3, 32, 32)
    assert centre(wide).std() < 0.5 < whole(wide).std()  # the centre is black nearly everywhere


def test_an_unknown_crop_offers_the_nearest():
    with pytest.raises(ValueError, match=r"no crop 'center'\. Did you mean centre"):
        small_model(CLASSES, crop="center")


# From what has learned already


def test_a_classifier_gets_a_new_head_and_keeps_what_its_stages_have_learned(model):
    with torch.no_grad():
        for p in model.unfreeze().stages.parameters():
            p.add_(0.5)
    before = copied(model)
    other = adapt(model, ["ant", "bee"], "bottleneck")
    assert other.classes == ("ant", "bee") and other.backbone == model.backbone
    assert moved(copied(model.stages), other.stages) == set()
    assert other.learning_stages == () and learning(other) == {"head.bottleneck", "head.linear"}
    with torch.no_grad():
        other.stages[0][0][0].weight.zero_()
    assert moved(before, model) == set() and model.learning_stages != ()


@pytest.mark.parametrize("build", [tv.squeezenet1_1, lambda: timm.create_model("tf_efficientnet_lite0")])
def test_a_module_is_copied_and_stays_as_it_was(build):
    network = build().train()
    before = copied(network)
    model = adapt(network, CLASSES)
    assert all(p.requires_grad for p in network.parameters()) and network.training
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert moved(before, network) == set()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_a_module_that_cannot_be_taken_apart_is_refused():
    with pytest.raises(InputError, match="cannot be taken apart"):
        adapt(torch.nn.Linear(3, 3), CLASSES)


# Attention, which takes the map


@pytest.mark.parametrize(
    "backbone",
    [
        *("resnet18", "vgg11", "vit_b_32", "swin_t", "efficientnet_lite0"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("swin_v2_t", "maxvit_t", "googlenet")),
    ],
)
def test_attention_takes_the_map_of_every_kind_of_backbone(backbone):
    model = on_paper(backbone, head="attention")
    size = model.preprocess.size
    assert model(torch.empty(2, 3, size, size, device="meta")).shape == (2, 10)
    assert model.freezable_stages == model.feature_stages == tuple(model.stages)


def test_the_pool_that_attention_skips_never_learns():
    for stages in (0, 2, None):
        model = on_paper("vgg11", head="attention").unfreeze(stages)
        assert not any(p.requires_grad for p in model.pool.parameters())


def test_places_keep_their_channels_together():
    model = small_model(CLASSES, backbone="resnet18", head="attention", side=64).eval()
    given = []
    model.head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model(images)
        last_map = model.forward_stages(images)
    assert given[0].shape == (1, 4, 512)
    assert torch.equal(given[0][0, 1], last_map[0, :, 0, 1])


# One class more


@pytest.mark.parametrize("head", HEADS)
def test_the_old_classes_keep_their_rows_when_one_is_added(head):
    model = small_model(CLASSES, head=head).eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        assert model.add_class("stars") is model
        after = model(images)
    assert model.classes == (*CLASSES, "stars")
    assert after.shape == (4, 4)
    assert torch.allclose(after[:, :3], before, atol=1e-6)
    assert after[:, 3].std() > 0
    assert all(p.requires_grad for p in model.head.parameters())


def test_a_class_can_be_added_to_a_plain_layer():
    model = small_model(CLASSES, head=lambda features, classes: torch.nn.Linear(features, classes, bias=False))
    old = model.head.weight.clone()
    model.add_class("stars")
    assert model.head.weight.shape[0] == 4 and model.head.bias is None
    assert torch.equal(model.head.weight[:3], old)


def test_a_class_that_is_there_already_is_not_added(model):
    with pytest.raises(ValueError, match="a name of its own"):
        model.add_class("boxes")
    assert model.classes == CLASSES and model.head.linear.out_features == 3


class Prototypes(torch.nn.Module):
    """The nearness to one point for each class."""

    def __init__(self, features, classes):
        super().__init__()
        self.points = torch.nn.Parameter(torch.zeros(classes, features))

    def forward(self, x):
        return -torch.cdist(x, self.points)


def test_a_head_that_does_not_end_in_a_row_for_each_class_gets_none_more():
    model = small_model(CLASSES, head=Prototypes)
    with pytest.raises(ValueError, match="adapt the model anew"):
        model.add_class("stars")
