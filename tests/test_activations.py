"""What is kept at a boundary is what the stages give, computed once for each image and view."""

from collections import Counter

import pytest
import torch
from drawings import copied, load_shapes, moved, small_model
from torchvision.transforms.v2.functional import to_pil_image

import headswap
from headswap import Phase, Plan, activations
from headswap.activations import Activations

EVERY = range(7)  # the boundaries of the small model: pixels, five stages, pool


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=3)


@pytest.fixture
def model(images):
    return small_model(images.classes)


def filled(model, images, boundaries, **how):
    kept = Activations(model, images, boundaries, **how)
    for _ in kept.fill():
        pass
    return kept


def passes(model):
    """How many squares each part has been given, counted from now on."""
    counted = Counter()
    for name, part in [*model.stages.named_children(), ("pool", model.pool)]:
        part.register_forward_hook(lambda _, __, y, name=name: counted.update({name: len(y)}))
    return counted


def test_what_is_kept_is_what_a_direct_pass_gives_at_every_boundary(model, images):
    kept = filled(model, images, EVERY)
    wanted = model.preprocess
    squares = torch.stack([wanted(images.pixels(i, wanted.resize, wanted.interpolation)) for i in range(len(images))])
    assert kept.outputs.keys() == set(EVERY)
    with torch.no_grad():
        for boundary, outputs in kept.outputs.items():
            assert outputs.shape[:2] == (9, 1)
            assert torch.allclose(outputs[:, 0], model.eval().run(squares, 0, boundary), atol=1e-3)


def test_boundary_0_keeps_what_the_network_gets_to_see(model, images):
    wanted = model.preprocess
    outputs = filled(model, images, [0], views=5).outputs[0]
    assert outputs.shape == (9, 5, 3, 32, 32)
    assert torch.equal(outputs[4, 0], wanted(images.pixels(4, wanted.resize, wanted.interpolation)))


def test_the_first_view_is_plain_the_second_its_mirror_image_and_the_others_are_crops(model, images):
    outputs = filled(model, images, [0], views=5).outputs[0]
    plain = filled(model, images, [0]).outputs[0]
    assert torch.equal(outputs[:, :1], plain)
    assert torch.equal(outputs[:, 1], plain[:, 0].flip(-1))
    assert not any(torch.equal(outputs[:, a], outputs[:, b]) for a in range(5) for b in range(a))


def test_a_crop_shows_the_picture_and_nothing_else(model, images):
    outputs = filled(model, images, [0], views=6).outputs[0]
    lowest, highest = outputs[:, 0].amin((-1, -2)) - 0.7, outputs[:, 0].amax((-1, -2)) + 0.7
    for view in range(2, 6):
        crop = outputs[:, view].mean((-1, -2))
        assert (crop > lowest).all() and (crop < highest).all()
        assert (outputs[:, view].std((-1, -2)) > 0).all()


def test_the_seed_fixes_the_crops_and_nothing_but_the_crops(model, images):
    first, again, other = (filled(model, images, [0], views=4, seed=seed).outputs[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first[:, :2], other[:, :2])
    assert not any(torch.equal(first[i, view], other[i, view]) for i in range(9) for view in (2, 3))


def test_the_crops_do_not_depend_on_who_drew_random_numbers_before(model, images):
    torch.manual_seed(1)
    first = filled(model, images, [0], views=3).outputs[0]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(filled(model, images, [0], views=3).outputs[0], first)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_images_get_crops_of_their_own(tmp_path, model):
    folder = tmp_path / "twins"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        stripes = torch.arange(60).expand(3, 60, 60).mul(4).to(torch.uint8)
        to_pil_image(stripes).save(folder / name / f"{name}.png")
    crops = filled(model, headswap.load_images(folder), [0], views=3).outputs[0][:, 2]
    assert not torch.equal(crops[0], crops[1])


def test_a_cache_in_a_file_is_the_cache_in_memory(model, images, monkeypatch, tmp_path):
    in_memory = filled(model, images, EVERY, views=3)
    made = []
    from_file = torch.from_file
    monkeypatch.setattr(torch, "from_file", lambda *args, **how: made.append(args[0]) or from_file(*args, **how))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(activations, "MEMORY", 1000)
    in_files = filled(model, images, EVERY, views=3)
    assert len(made) == len(EVERY)
    for boundary in EVERY:
        assert torch.equal(in_files.outputs[boundary], in_memory.outputs[boundary])
    assert list(tmp_path.iterdir()) == []


def test_boundaries_share_the_memory_that_there_is(model, images, monkeypatch):
    pixels, stem = 9 * 4 * 3 * 32 * 32, 9 * 4 * 24 * 8 * 8  # bytes
    made = []
    monkeypatch.setattr(
        torch, "from_file", lambda *args, size, dtype, **how: made.append(4 * size) or torch.empty(size)
    )
    monkeypatch.setattr(activations, "MEMORY", pixels)
    filled(model, images, [0])
    assert made == []
    filled(model, images, [0, 1])
    assert made == [pixels]
    monkeypatch.setattr(activations, "MEMORY", stem)
    filled(model, images, [0, 1])
    assert made == [pixels, pixels, stem]


def test_progress_is_told_after_each_small_batch(model, images):
    kept = Activations(model, images, [5], views=3)
    told = list(kept.fill())
    assert told == sorted(set(told)) and told[-1] == kept.total == 27
    assert all(b - a <= activations.BATCH for a, b in zip([0, *told], told, strict=False))


def test_nothing_is_computed_before_it_is_asked_for(model, images):
    counted = passes(model)
    kept = Activations(model, images, EVERY)
    steps = kept.fill()
    assert not counted
    next(steps)
    assert set(counted.values()) == {activations.BATCH}
    steps.close()


def test_how_much_is_kept_of_an_image(model, images):
    kept = filled(model, images, [0, 6], views=2)
    assert kept.bytes_per_image(0) == 2 * 3 * 32 * 32 * 4
    assert kept.bytes_per_image(6) == 2 * 1024 * 4


@pytest.mark.parametrize("training", [True, False])
def test_filling_leaves_the_model_as_it_was(images, training):
    model = small_model(images.classes, head="bottleneck").unfreeze(2).train(training)
    before, modes = copied(model), [m.training for m in model.modules()]
    filled(model, images, EVERY)
    assert moved(before, model) == set()
    assert [m.training for m in model.modules()] == modes
    assert not any(p.grad is not None for p in model.parameters())


def test_what_is_kept_needs_no_gradients(model, images):
    assert not any(outputs.requires_grad for outputs in filled(model.unfreeze(), images, EVERY).outputs.values())


# A whole training


def test_frozen_stages_run_once_for_each_view_of_each_image(model, images):
    counted = passes(model)
    kept = headswap.fit(model, images, Plan((Phase(5, 0, 1e-3),), views=3))
    learned = len(images) - kept.of
    assert counted == dict.fromkeys(("stem", "stage2", "stage3", "stage4", "conv5", "pool"), 3 * learned + kept.of)


def test_stages_below_every_boundary_run_once_whatever_thaws_later(model, images):
    counted = passes(model)
    plan = Plan((Phase(2, 0, 1e-3), Phase(2, 1, 1e-3, 1e-4), Phase(3, 2, 1e-3, 1e-4)), views=2)
    kept = headswap.fit(model, images, plan)
    once = 2 * (len(images) - kept.of) + kept.of
    an_epoch = len(images)  # each training image in one of its views, each validation image in the plain one
    assert [counted[name] for name in ("stem", "stage2", "stage3")] == [once] * 3
    assert counted["stage4"] == once + 3 * an_epoch
    assert counted["conv5"] == counted["pool"] == once + 5 * an_epoch


def test_validation_images_are_only_ever_seen_in_the_plain_view(model, images):
    learned, checked = images.split()
    total = next(e for e in headswap.train(model, learned, Plan((Phase(1, 0, 1e-3),), views=4), checked)).total
    assert total == 4 * len(learned) + len(checked)
