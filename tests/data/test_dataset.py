"""Labelled images share their files and pixels, and are split fairly."""

import copy
import dataclasses
import gc
import multiprocessing
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import NARROW, small_model
from pictures import folder
from torch.utils.data import DataLoader, Subset, random_split

from headswap.common import system_memory
from headswap.common.errors import InputError
from headswap.data import decoding, store
from headswap.data.loading import load_images, load_images_with_progress

pytestmark = pytest.mark.usefixtures("private_folders")


# What is kept


def test_the_files_go_with_the_last_that_shares_them(flowers):
    images = load_images(flowers)
    training, validation = images.split()
    place = images.paths[0].parent
    del images, training
    gc.collect()
    assert validation.pixels(0, side=20).shape == (3, 20, 24)
    del validation
    gc.collect()
    assert not place.exists()
    assert (flowers / "roses/a.png").exists()


def test_closing_removes_the_files_for_everyone(flowers):
    images = load_images(flowers)
    training, _ = images.split()
    images.close()
    images.close()
    assert not images.paths[0].exists()
    with pytest.raises(ValueError, match="closed"):
        training.pixels(0)


def test_a_forked_child_takes_nothing_away(flowers):
    images = load_images(flowers)
    store._remove_folder(images.paths[0].parent, os.getpid() + 1)
    assert images.paths[0].exists()


def test_a_file_lost_since_is_named_as_its_owner_knows_it(flowers):
    images = load_images(flowers)
    images.paths[0].unlink()
    with pytest.raises(InputError, match=r"roses/a\.png: does not exist"):
        images.pixels(0, side=20)


# The store


@pytest.fixture
def read(monkeypatch):
    """The files that have been decoded, in order."""
    decoded = []

    def reading(path, side, interpolation):
        decoded.append((Path(path).name, side, interpolation))
        return decoding.read_pixels(path, side, interpolation)

    monkeypatch.setattr(store, "read_pixels", reading)
    return decoded


def test_an_image_is_decoded_once(flowers, read):
    images = load_images(flowers)
    assert len(read) == 4
    for part in (images, *images.split()):
        list(part)
    assert len(read) == 4


def test_another_size_replaces_the_store(flowers, read):
    images = load_images(flowers)
    for side in (32, 32, 256):
        for i in range(4):
            assert min(images.pixels(i, side).shape[1:]) == side
    assert [side for _, side, _ in read] == [256] * 4 + [32] * 4 + [256] * 4
    images.pixels(0, 256, "bilinear")
    assert read[-1] == ("00000.png", 256, "bilinear")


def test_the_store_keeps_no_more_than_it_may(flowers, read):
    one = 3 * 256 * 307
    images = load_images(flowers, store_bytes=2 * one)
    for _ in range(3):
        list(images)
    assert len(read) == 4 + 3 * 2
    assert images._store._decoded_bytes == 2 * one
    assert len(load_images(flowers, store_bytes=0)) == 4


def test_the_store_keeps_less_where_little_memory_is_free(flowers, read, monkeypatch):
    one = 3 * 256 * 307
    monkeypatch.setattr(system_memory, "get_available_memory", lambda: 8 * one)
    images = load_images(flowers)
    list(images)
    assert images._store._decoded_bytes == one


def test_threads_may_read_at_once(flowers):
    images = load_images(flowers)
    wrong = []

    def look(side):
        for _ in range(30):
            for i in range(len(images)):
                if min(images.pixels(i, side).shape[1:]) != side:
                    wrong.append((i, side))

    threads = [threading.Thread(target=look, args=(side,)) for side in (16, 24, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    kept = images._store._decoded.values()
    assert images._store._decoded_bytes == sum(image.nbytes for image in kept)


# Subsets and splits


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    names = [f"{name}/{i}.png" for name, n in {"a": 20, "b": 7, "c": 2}.items() for i in range(n)]
    images = load_images(folder(tmp_path_factory.mktemp("many"), *names))
    yield images
    images.close()


def test_a_subset_keeps_the_order_asked_for_and_all_classes(many):
    part = many.subset(torch.tensor([21, 3]))
    assert part.names == ("b/1.png", "a/3.png")
    assert part.labels == (1, 0)
    assert part.groups == (21, 3)
    assert part.classes == many.classes
    assert part.counts == {"a": 1, "b": 1, "c": 0}
    assert torch.equal(part.pixels(1), many.pixels(3))


@pytest.mark.parametrize("validation", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_a_split_is_stratified_and_leaves_each_class_on_both_sides(many, validation, seed):
    training, held_out = many.split(validation, seed)
    assert sorted(training.names + held_out.names) == sorted(many.names)
    for name, n in many.counts.items():
        assert held_out.counts[name] == min(max(round(validation * n), 1), n - 1)
        assert training.counts[name] == n - held_out.counts[name]


def test_the_same_seed_gives_the_same_split_and_another_another(many):
    halves = [many.split(seed=seed)[1].names for seed in (0, 0, 1)]
    assert halves[0] == halves[1] != halves[2]


@pytest.mark.parametrize("validation", [0, 1, -0.1, 20, float("nan")])
def test_a_share_outside_0_to_1_is_a_mistake(many, validation):
    with pytest.raises(ValueError, match="between 0 and 1"):
        many.split(validation)


def test_a_class_of_one_image_loads_but_is_not_split(flowers):
    images = load_images(folder(flowers, "rust/a.png"))
    assert images.counts["rust"] == 1
    with pytest.raises(InputError, match=r"'rust' has one image; a class needs at least two.* Add one or remove"):
        images.split()


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_group_never_sits_on_both_sides(many, size, seed):
    groups = tuple(i if i >= 27 else i // size for i in range(len(many)))
    training, validation = dataclasses.replace(many, groups=groups).split(seed=seed)
    assert not set(training.groups) & set(validation.groups)
    assert min(*training.counts.values(), *validation.counts.values()) >= 1


@pytest.mark.parametrize("seed", range(20))
def test_groups_across_classes_are_drawn_again_until_each_class_has_both_sides(many, seed):
    chained = many.subset([0, 1, 20, 21, 27, 28])  # two of a, of b and of c
    chained = dataclasses.replace(chained, groups=(0, 1, 1, 2, 2, 3))
    training, validation = chained.split(0.5, seed)
    assert {frozenset(training.groups), frozenset(validation.groups)} == {frozenset({0, 2}), frozenset({1, 3})}


def test_groups_that_leave_a_class_one_sided_are_refused(many):
    images = dataclasses.replace(many, groups=tuple(i if i < 20 else 99 for i in range(len(many))))
    with pytest.raises(InputError, match="images of 'b' look too much alike"):
        images.split()


# Putting right


def test_an_image_gets_another_class_and_stands_among_its_fellows(many):
    moved = many.relabel(many.names.index("c/1.png"), "b")
    assert moved.counts == {"a": 20, "b": 8, "c": 1}
    assert moved.names[27] == "c/1.png" and moved.names[28] == "c/0.png"
    assert many.relabel(0, "new").classes == ("a", "b", "c", "new")


def test_a_class_goes_with_its_images_but_a_label_alone(many):
    assert many.without_class("b").counts == {"a": 20, "c": 2}
    labelled = many.as_multi_label().without_class("b")
    assert len(labelled) == len(many) and labelled.counts == {"a": 20, "c": 2}


# A dataset like any other


def test_each_image_is_had_by_its_place_with_its_label(many):
    assert len(many) == 29
    pixels, label = many[0]
    assert torch.equal(pixels, many.pixels(0)) and label == 0
    assert [many[place][1] for place in (-1, -29, 20)] == [2, 0, 1]
    for place in (np.int64(27), torch.tensor(27)):
        assert many[place][1] == 2
    assert [label for _, label in many] == list(many.labels)


@pytest.mark.parametrize("place", [29, -30, 10**30])
def test_there_is_nothing_beyond_the_last(many, place):
    with pytest.raises(IndexError, match=f"no image {place} among 29"):
        many[place]


@pytest.mark.parametrize("place", [[0, 1], "0", 1.0, None, (0, 1), np.array([True] * 29)])
def test_what_is_no_place_says_how_several_are_had(many, place):
    with pytest.raises(TypeError, match=r"images\.subset"):
        many[place]


@pytest.mark.parametrize("places", [slice(2, 5), slice(None, None, -1), slice(-2, None), slice(40, 50)])
def test_a_slice_is_a_subset(many, places):
    some = many[places]
    assert some.names == many.names[places] and some.classes == many.classes and some.shares_files_with(many)


def test_several_labels_come_as_they_are(many):
    assert many.as_multi_label()[0][1] == (0,)


def test_torch_takes_them_for_a_dataset(many):
    some = Subset(many, [28, 0])
    assert [label for _, label in some] == [2, 0]
    parts = random_split(many, [0.5, 0.5], torch.Generator().manual_seed(0))
    assert sorted(label for part in parts for _, label in part) == sorted(many.labels)


def test_a_transform_is_seen_by_whoever_asks_for_an_image_and_by_nobody_else(many):
    halved = many.with_transform(lambda pixels: pixels[:, ::2])
    assert halved[0][0].shape[1] == many[0][0].shape[1] // 2 and next(iter(halved))[0].shape == halved[0][0].shape
    assert torch.equal(halved.pixels(0), many.pixels(0)) and halved[:2][0][0].shape == halved[0][0].shape
    assert halved.with_transform(None)[0][0].shape == many[0][0].shape


@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="only Windows cannot fork")
def test_workers_load_them_in_batches_and_take_nothing_away(many):
    ready = many.with_transform(small_model(3, backbone=NARROW).preprocess)
    seen = []
    for pictures, labels in DataLoader(ready, batch_size=8, num_workers=2, multiprocessing_context="fork"):
        assert pictures.shape[1:] == (3, 32, 32) and pictures.is_floating_point()
        seen += labels.tolist()
    assert seen == list(many.labels)
    assert all(path.exists() for path in many.paths)


@pytest.mark.slow
def test_workers_that_begin_anew_load_them_as_well(flowers):
    images = load_images(flowers)
    ready = images.with_transform(small_model(2, backbone=NARROW).preprocess)
    loader = DataLoader(ready, batch_size=4, num_workers=1, multiprocessing_context="spawn")
    [(pictures, labels)] = loader
    assert torch.equal(pictures[0], ready[0][0]) and labels.tolist() == list(images.labels)
    assert all(path.exists() for path in images.paths)


def test_a_copy_keeps_the_files_as_long_as_the_original_would(flowers):
    for copied in (copy.deepcopy, copy.copy, lambda images: pickle.loads(pickle.dumps(images))):
        images = load_images(flowers)
        other, place = copied(images), images.paths[0].parent
        assert other.shares_files_with(images) and other.names == images.names
        del images
        gc.collect()
        assert other.pixels(0, side=20).shape == (3, 20, 24)
        del other
        gc.collect()
        assert not place.exists()


@pytest.fixture
def elsewhere(monkeypatch):
    """Unpickles as another process does, which knows none of the stores of this one."""

    def unpickled(content):
        with monkeypatch.context() as patch:
            patch.setattr(store, "_open_stores", {})
            return pickle.loads(content)

    return unpickled


def test_a_copy_in_another_process_reads_the_same_files_and_removes_none(flowers, elsewhere):
    images = load_images(flowers)
    other = elsewhere(pickle.dumps(images))
    assert not other.shares_files_with(images)
    assert torch.equal(other.pixels(3), images.pixels(3))
    other.close()
    with pytest.raises(ValueError, match="closed"):
        other.pixels(3)
    del other
    gc.collect()
    assert torch.equal(images.pixels(0, side=20), load_images(flowers).pixels(0, side=20))


def test_a_copy_whose_original_was_let_go_of_says_so(flowers, elsewhere):
    images = load_images(flowers)
    other = elsewhere(pickle.dumps(images))
    images.close()
    with pytest.raises(ValueError, match="These images have been closed; load them again"):
        other[0]


def test_nothing_can_be_added_to_a_copy_in_another_process(flowers, elsewhere):
    images = load_images(flowers)
    other = elsewhere(pickle.dumps(images))
    with pytest.raises(ValueError, match="came from another process"):
        list(load_images_with_progress(flowers, existing=other))


@pytest.mark.parametrize("name", ["", "  ", 3, None, b"rust"])
def test_a_class_is_renamed_to_a_name_or_not_at_all(many, name):
    with pytest.raises(ValueError, match="The name of a class is a text"):
        many.rename_class("a", name)
    with pytest.raises(ValueError, match="The name of a class is a text"):
        many.relabel(0, name)
