"""What is kept at a boundary is what the stages give, computed once for each image and view."""

import gc
import threading
from collections import Counter

import pytest
import torch
from drawings import copied, draw_folder, load_shapes, moved, small_model
from torchvision.transforms.v2.functional import to_pil_image

import headswap
from headswap import InputError, Phase, Plan
from headswap.features import cache, memory
from headswap.features.cache import FeatureCache

EVERY = range(7)  # the boundaries of the small model: pixels, five stages, pool


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=3)


@pytest.fixture
def model(images):
    return small_model(images.classes)


@pytest.fixture
def budget(monkeypatch):
    """Sets how many bytes there are; by default more than enough."""

    def limited(size):
        monkeypatch.setattr(memory, "MEMORY_BUDGET", memory.MemoryBudget(size))
        return memory.MEMORY_BUDGET

    limited(10**9)
    return limited


def filled(model, images, boundaries, **how):
    kept = FeatureCache(model, images, **how)
    for _ in kept.compute(boundaries):
        pass
    return kept


def all_of(kept):
    return {boundary: kept.get_features(boundary).clone() for boundary in kept.boundaries}


def close(some, others, within=1e-5):
    """As numbers are: the differences are small against the largest of them."""
    return (some - others).abs().max() <= within * others.abs().max()


def passes(model):
    """How many squares each part has been given, counted from now on; what runs on copies is not counted."""
    counted = Counter()
    for name, part in [*model.stages.named_children(), ("pool", model.pool)]:
        part.register_forward_hook(
            lambda module, _, y, name=name, part=part: counted.update({name: len(y)} if module is part else {})
        )
    return counted


def test_what_is_kept_is_what_a_direct_pass_gives_at_every_boundary(model, images):
    kept = filled(model, images, EVERY)
    wanted = model.preprocess
    squares = torch.stack([wanted(images.pixels(i, wanted.resize, wanted.interpolation)) for i in range(len(images))])
    assert kept.boundaries == tuple(EVERY)
    with torch.no_grad():
        for boundary, outputs in all_of(kept).items():
            assert outputs.shape[:2] == (9, 1)
            assert torch.allclose(outputs[:, 0], model.eval().forward_stages(squares, 0, boundary), atol=1e-3)


def test_boundary_0_keeps_what_the_network_gets_to_see(model, images):
    wanted = model.preprocess
    outputs = filled(model, images, [0], num_views=5).get_features(0)
    assert outputs.shape == (9, 5, 3, 32, 32)
    assert torch.equal(outputs[4, 0], wanted(images.pixels(4, wanted.resize, wanted.interpolation)))


def test_the_first_view_is_plain_the_second_its_mirror_image_and_the_others_are_crops(model, images):
    outputs = filled(model, images, [0], num_views=5).get_features(0)
    plain = filled(model, images, [0]).get_features(0)
    assert torch.equal(outputs[:, :1], plain)
    assert torch.equal(outputs[:, 1], plain[:, 0].flip(-1))
    assert not any(torch.equal(outputs[:, a], outputs[:, b]) for a in range(5) for b in range(a))


def test_a_crop_shows_the_picture_and_nothing_else(model, images):
    outputs = filled(model, images, [0], num_views=6).get_features(0)
    lowest, highest = outputs[:, 0].amin((-1, -2)) - 0.7, outputs[:, 0].amax((-1, -2)) + 0.7
    for view in range(2, 6):
        crop = outputs[:, view].mean((-1, -2))
        assert (crop > lowest).all() and (crop < highest).all()
        assert (outputs[:, view].std((-1, -2)) > 0).all()


def test_the_seed_fixes_the_crops_and_nothing_but_the_crops(model, images):
    first, again, other = (filled(model, images, [0], num_views=4, seed=seed).get_features(0) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first[:, :2], other[:, :2])
    assert not any(torch.equal(first[i, view], other[i, view]) for i in range(9) for view in (2, 3))


def test_the_crops_do_not_depend_on_who_drew_random_numbers_before(model, images):
    torch.manual_seed(1)
    first = filled(model, images, [0], num_views=3).get_features(0)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(filled(model, images, [0], num_views=3).get_features(0), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_images_get_crops_of_their_own(tmp_path, model):
    folder = tmp_path / "twins"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        stripes = torch.arange(60).expand(3, 60, 60).mul(4).to(torch.uint8)
        to_pil_image(stripes).save(folder / name / f"{name}.png")
    crops = filled(model, headswap.load_images(folder), [0], num_views=3).get_features(0)[:, 2]
    assert not torch.equal(crops[0], crops[1])


def test_where_memory_is_short_the_same_is_kept_within_half_precision(model, images, budget, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    in_memory = filled(model, images, EVERY, num_views=3)
    budget(700_000)
    mixed = filled(model, images, EVERY, num_views=3)
    budget(1000)
    in_files = filled(model, images, EVERY, num_views=3)
    assert {room.storage for room in mixed._buffers.values()} == {"memory", "half", "file"}
    assert {room.storage for room in in_files._buffers.values()} == {"file"}
    for other in (mixed, in_files):
        for boundary, wanted in all_of(in_memory).items():
            assert close(other.get_features(boundary).float(), wanted, 2e-3), boundary
    assert list(tmp_path.iterdir()) == []


def test_batches_come_in_the_precision_of_the_model_wherever_they_were_kept(model, images, budget):
    budget(1000)
    kept = filled(model, images, [5], num_views=2)
    assert kept.get_features(5).dtype == torch.float16
    assert kept.get_batch(5, torch.tensor([2, 0]), torch.tensor([1, 0])).dtype == torch.float32
    assert {batch.dtype for batch in kept.iterate_plain_view(5, 4)} == {torch.float32}


def test_a_model_in_double_precision_is_kept_in_double_precision(model, images, budget):
    budget(1000)
    kept = filled(model.double(), images, EVERY)
    assert {kept.get_features(boundary).dtype for boundary in EVERY} == {torch.float64}


def test_all_that_is_kept_shares_the_memory_and_gives_it_back(model, images, budget):
    pixels, features = 9 * 3 * 32 * 32 * 4, 9 * 1024 * 4  # bytes
    some = budget(pixels + features)
    first = filled(model, images, [0])
    second = filled(model, images, [6])
    assert some.reserved == pixels + features
    third = filled(model, images, [6])
    assert third._buffers[6].storage == "file"
    first.drop([0])
    assert some.reserved == features
    del second
    gc.collect()
    assert some.reserved == 0


def test_progress_is_told_after_each_small_batch(model, images):
    kept = FeatureCache(model, images, num_views=3)
    told = list(kept.compute([5]))
    assert told == sorted(set(told)) and told[-1] == kept.num_samples == 27
    assert all(b - a <= cache.FROZEN_BATCH_SIZE for a, b in zip([0, *told], told, strict=False))


def test_nothing_is_computed_before_it_is_asked_for(model, images):
    counted = passes(model)
    steps = FeatureCache(model, images, engine="eager").compute(EVERY)
    assert not counted
    next(steps)
    assert set(counted.values()) == {cache.FROZEN_BATCH_SIZE}
    steps.close()


def test_how_much_is_kept_of_an_image(model, images):
    kept = filled(model, images, [0, 6], num_views=2)
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
    assert not any(outputs.requires_grad for outputs in all_of(filled(model.unfreeze(), images, EVERY)).values())


# Choosing from what is kept


def test_a_batch_is_each_image_in_its_view(model, images):
    kept = filled(model, images, [5], num_views=3)
    chosen, views = torch.tensor([7, 0, 7]), torch.tensor([2, 1, 0])
    batch = kept.get_batch(5, chosen, views)
    for row, i, view in zip(batch, chosen, views, strict=True):
        assert torch.equal(row, kept.get_features(5)[i, view])
    assert torch.equal(kept.get_batch(5, chosen), kept.get_features(5)[chosen, 0])


def test_the_plain_views_come_in_order(model, images):
    kept = filled(model, images, [6], num_views=2)
    batches = list(kept.iterate_plain_view(6, 4))
    assert list(map(len, batches)) == [4, 4, 1]
    assert torch.equal(torch.cat(batches), kept.get_features(6)[:, 0])


def test_a_subset_is_these_images_alone_and_computes_nothing(model, images, budget):
    some = budget(10**8)
    kept = filled(model, images, [5], num_views=2)
    counted, taken = passes(model), some.reserved
    part = kept.subset(torch.tensor([8, 1, 4])).subset(torch.tensor([2, 0]))
    places = torch.tensor([4, 8])
    assert torch.equal(part.get_features(5), kept.get_features(5)[places])
    assert torch.equal(part.get_batch(5, torch.tensor([1]), torch.tensor([1])), kept.get_features(5)[[8], 1])
    assert torch.equal(torch.cat(list(part.iterate_plain_view(5, 1))), kept.get_features(5)[places, 0])
    assert torch.equal(part.targets, kept.targets[places])
    assert part.images.names == tuple(images.names[i] for i in places)
    assert not counted and some.reserved == taken


def test_a_subset_refuses_to_compute_what_is_missing(model, images):
    kept = filled(model, images, [5])
    with pytest.raises(ValueError, match="whole"):
        list(kept.subset(torch.tensor([0])).compute([6]))
    assert kept.boundaries == (5,)


def test_nothing_is_kept_where_nobody_asked(model, images):
    with pytest.raises(KeyError):
        filled(model, images, [5]).get_features(6)


def test_an_unknown_engine_is_refused_before_anything_is_computed(model, images):
    with pytest.raises(ValueError, match="Did you mean folded"):
        FeatureCache(model, images, engine="fold")


# Starting from what is kept


def test_what_is_kept_already_is_not_computed_again(model, images):
    kept = filled(model, images, [3, 6], engine="eager")
    counted = passes(model)
    assert list(kept.compute([6, 3])) == []
    assert not counted


def test_only_the_parts_behind_the_nearest_kept_boundary_are_run(model, images):
    kept = filled(model, images, [1, 3], num_views=2, engine="eager")
    counted = passes(model)
    assert list(kept.compute([5, 3]))[-1] == 18
    assert counted == {"stage4": 18, "conv5": 18}
    counted.clear()
    list(kept.compute([2]))  # behind 1 and before 3
    assert counted == {"stage2": 18}
    assert kept.boundaries == (1, 2, 3, 5)


def test_from_a_kept_boundary_comes_what_comes_from_the_pixels(model, images):
    at_once = filled(model, images, EVERY, num_views=3, engine="eager")
    one_by_one = FeatureCache(model, images, num_views=3, engine="eager")
    for boundary in EVERY:
        list(one_by_one.compute([boundary]))
    for boundary, wanted in all_of(at_once).items():
        assert close(one_by_one.get_features(boundary), wanted)


def test_in_front_of_everything_kept_the_images_are_read_again(model, images):
    kept = filled(model, images, [4], engine="eager")
    list(kept.compute([0, 2]))
    assert torch.equal(kept.get_features(0), filled(model, images, [0]).get_features(0))
    assert close(kept.get_features(2), filled(model, images, [2], engine="eager").get_features(2))


def test_thawing_forgets_what_is_true_no_longer_and_nothing_else(model, images):
    kept = filled(model, images, EVERY)
    kept.drop_after(3)
    assert kept.boundaries == (0, 1, 2, 3)
    before = all_of(kept)
    with torch.no_grad():
        for parameter in [*model.stages[3].parameters(), *model.stages[4].parameters()]:
            parameter.mul_(1.5)
    list(kept.compute(EVERY))
    after = all_of(kept)
    assert all(torch.equal(after[boundary], wanted) for boundary, wanted in before.items())
    for boundary, wanted in all_of(filled(model, images, EVERY)).items():
        assert close(after[boundary], wanted, 1e-4)


def test_forgetting_what_is_not_kept_does_no_harm(model, images):
    kept = filled(model, images, [2, 4])
    kept.drop([3, 4, 6])
    assert kept.boundaries == (2,)


# What goes wrong


@pytest.mark.parametrize("batches", [1, 3])
def test_a_fill_closed_early_keeps_nothing_new_and_leaves_the_model_as_it_was(images, budget, batches):
    model = small_model(images.classes, head="bottleneck").unfreeze(2).train()
    some = budget(10**8)
    kept = filled(model, images, [2], num_views=3)
    taken, before, modes = some.reserved, copied(model), [m.training for m in model.modules()]
    steps = kept.compute([4, 6])
    for _ in range(batches):
        next(steps)
    steps.close()
    assert kept.boundaries == (2,)
    assert moved(before, model) == set()
    assert [m.training for m in model.modules()] == modes
    assert some.reserved == taken
    assert list(kept.compute([4, 6]))[-1] == 27


def test_a_fill_closed_early_leaves_no_thread_behind(model, images):
    steps = FeatureCache(model, images, num_views=3).compute([0])
    next(steps)
    steps.close()
    assert not any(thread.name.startswith("decoding") for thread in threading.enumerate())


def test_an_image_that_was_damaged_since_it_was_loaded_is_named(tmp_path, model):
    images = headswap.load_images(draw_folder(tmp_path / "shapes", each=3))
    images.paths[5].write_bytes(images.paths[5].read_bytes()[:40])
    model.train()
    kept = FeatureCache(model, images)
    with pytest.raises(InputError, match=f"(?s){images.names[5]}.*damaged"):
        list(kept.compute([0, 6]))
    assert kept.boundaries == ()
    assert model.training
    assert not any(thread.name.startswith("decoding") for thread in threading.enumerate())


def test_images_that_were_closed_say_so(tmp_path, model):
    images = headswap.load_images(draw_folder(tmp_path / "shapes", each=3))
    steps = FeatureCache(model, images).compute([0])
    images.close()
    with pytest.raises(ValueError, match="closed"):
        list(steps)


# A whole training


def test_frozen_stages_run_once_for_each_view_of_each_image(model, images):
    counted = passes(model)
    kept = headswap.fit(model, images, Plan((Phase(5, 0, 1e-3),), views=3), engine="eager")
    learned = len(images) - kept.total
    assert counted == dict.fromkeys(("stem", "stage2", "stage3", "stage4", "conv5", "pool"), 3 * learned + kept.total)


def test_stages_below_every_boundary_run_once_whatever_thaws_later(model, images):
    counted = passes(model)
    plan = Plan((Phase(2, 0, 1e-3), Phase(2, 1, 1e-3, 1e-4), Phase(3, 2, 1e-3, 1e-4)), views=2)
    kept = headswap.fit(model, images, plan, engine="eager")
    once = 2 * (len(images) - kept.total) + kept.total
    a_guess = min(16, len(images) - kept.total)  # of how long an epoch will take
    an_epoch = len(images)  # each training image in one of its views, each validation image in the plain one
    assert [counted[name] for name in ("stem", "stage2", "stage3")] == [once] * 3
    assert counted["stage4"] == once + a_guess + 3 * an_epoch
    assert counted["conv5"] == counted["pool"] == once + 2 * a_guess + 5 * an_epoch


def test_validation_images_are_only_ever_seen_in_the_plain_view(model, images):
    learned, checked = images.split()
    total = next(e for e in headswap.train(model, learned, Plan((Phase(1, 0, 1e-3),), views=4), checked)).total
    assert total == 4 * len(learned) + len(checked)
