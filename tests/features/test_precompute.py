"""A frozen pass that began beforehand spares a training the work and changes nothing else."""

from dataclasses import replace

import pytest
from drawings import THAWED, TWO, copied, load_shapes, moved, small_model

import headswap
from headswap import InputError
from headswap.features.frozen_pass import FrozenPass
from headswap.training.api import start_frozen_pass


@pytest.fixture
def passing(monkeypatch):
    """How many pictures have gone through a stage, from the image on."""
    counted = []
    real = headswap.features.cache.build_stage_runner

    def counting(stages, boundaries, engine=None, num_images=0):
        run = real(stages, boundaries, engine, num_images)

        def counted_run(x):
            counted.append(len(x))
            return run(x)

        return counted_run

    monkeypatch.setattr("headswap.features.cache.build_stage_runner", counting)
    return counted


def to_the_end(beforehand):
    while beforehand.compute_next():
        pass
    return beforehand


def taught(images, plan=THAWED, head="linear", **given):
    """A new model after a training, its last event, and what was told of the pass."""
    model = small_model(images.classes, head)
    told = list(headswap.train(model, images, plan, **given))
    return model, told[-1], [event for event in told if isinstance(event, FrozenPass)]


@pytest.mark.parametrize("begun", [0, 1, 99], ids=["not begun", "half done", "over"])
def test_the_model_is_the_same_to_the_bit_and_no_picture_is_read_twice(images, passing, begun, monkeypatch):
    monkeypatch.setattr("headswap.features.frozen_pass.EVENT_INTERVAL_SECONDS", 0)  # each batch is told
    cold, kept, _ = taught(images)
    read = sum(passing)
    passing.clear()
    beforehand = start_frozen_pass(small_model(images.classes), images, THAWED)
    for _ in range(begun):
        beforehand.compute_next()
    warm, as_well, told = taught(images, precomputed=beforehand)
    assert sum(passing) == read
    assert told[-1].done == told[-1].total
    assert moved(copied(cold), warm) == set()
    assert (kept.score, kept.epoch) == (as_well.score, as_well.epoch)


def test_one_pass_serves_one_head_after_another(images, passing):
    beforehand = to_the_end(start_frozen_pass(small_model(images.classes), images, TWO))
    passing.clear()
    for head in ("linear", "mlp"):
        cold, _, _ = taught(images, TWO, head)
        read = sum(passing)
        passing.clear()
        warm, _, _ = taught(images, TWO, head, precomputed=beforehand)
        assert sum(passing) < read
        assert moved(copied(cold), warm) == set(), head
        passing.clear()


def test_more_stages_than_were_read_for_are_read_from_where_it_is_known(images):
    beforehand = to_the_end(
        start_frozen_pass(small_model(images.classes), images, replace(THAWED, phases=THAWED.phases[:1]))
    )
    cold, _, _ = taught(images)
    warm, _, _ = taught(images, precomputed=beforehand)
    assert moved(copied(cold), warm) == set()


def test_a_pass_goes_on_from_a_former_one_of_the_same_images(images, passing):
    model = small_model(images.classes)
    former = to_the_end(start_frozen_pass(model, images, THAWED))
    passing.clear()
    again = start_frozen_pass(model, images, THAWED, former)
    assert again.is_done and again.progress.seconds == former.progress.seconds
    assert to_the_end(again).boundaries == former.boundaries and not passing


@pytest.mark.parametrize("other", ["images", "order", "views", "seed", "engine", "pixels", "weights"])
def test_what_does_not_suit_is_not_used(images, tmp_path, other):
    first, plan, read = small_model(images.classes), THAWED, images
    engine = "eager" if other == "engine" else None
    if other == "images":
        read = load_shapes(tmp_path / "others")
    elif other == "order":
        read = images.subset(list(range(len(images)))[::-1])
    elif other == "views":
        plan = replace(plan, views=plan.views + 1)
    elif other == "seed":
        plan = replace(plan, seed=plan.seed + 1)
    elif other == "pixels":
        first.preprocess = replace(first.preprocess, crop="fit")
    elif other == "weights":
        first = small_model(images.classes, seed=1)
    beforehand = to_the_end(start_frozen_pass(first, read, plan, engine=engine))
    cold, _, _ = taught(images)
    warm, _, as_told = taught(images, precomputed=beforehand)
    assert moved(copied(cold), warm) == set()
    assert as_told[0].done < as_told[0].total


def test_a_race_takes_it_as_well(images, passing):
    heads = ["linear", "mlp"]
    model = small_model(images.classes)
    first = TWO.phases[0]
    plan = replace(TWO, phases=(first,))
    beforehand = to_the_end(start_frozen_pass(model, images, plan))
    passing.clear()
    *_, kept = headswap.race(images, model, heads, plan, precomputed=beforehand)
    warm = sum(passing)
    passing.clear()
    *_, as_well = headswap.race(images, model, heads, plan)
    assert warm < sum(passing) and kept.score == as_well.score


def test_images_that_cannot_be_learned_from_are_refused_at_once(images, tmp_path):
    others = load_shapes(tmp_path / "two", names=("bars", "dots"))
    with pytest.raises(InputError, match="No image shows"):
        start_frozen_pass(small_model(images.classes), others, THAWED)
