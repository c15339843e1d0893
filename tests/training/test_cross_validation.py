"""In cross-validation every image is judged by a head that has not seen it, and nothing else is touched."""

import dataclasses

import pytest
import torch
from drawings import HEAD_ONLY, NARROW, copied, draw_folder, load_shapes, moved, shape, small_model
from listening import events
from torch import nn

import headswap
from headswap import InputError, Phase, Plan
from headswap.evaluation.metrics import wilson_interval
from headswap.features import frozen_pass
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass
from headswap.training.cross_validation import CrossValidated, Fold
from headswap.training.events import Step


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=6)


@pytest.fixture(scope="module")
def model(images):
    return small_model(images.classes, backbone=NARROW)


class Witness:
    """Makes heads that name an image by the nearest one they have seen, and says who saw and who judged what."""

    def __init__(self, model, images):
        kept = FeatureCache(model, images)
        list(kept.compute([model.boundary]))
        self.known = kept.get_features(model.boundary)[:, 0]
        self.told = []  # what a head saw, and what it judged

    def places(self, features):
        distance, place = torch.cdist(features, self.known, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        assert distance.max() < 1e-3
        return place.tolist()

    def __call__(self, width, classes):
        witness = self

        class Nearest(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(1))

            def solve(self, features, labels):
                self.seen, self.labels = features[:, 0], labels
                witness.told.append((witness.places(self.seen), []))

            def forward(self, features):
                witness.told[-1][1].extend(witness.places(features))
                nearest = torch.cdist(features, self.seen).argmin(1)
                return nn.functional.one_hot(self.labels[nearest], classes).float()

        return Nearest()


# Who judges whom


@pytest.mark.parametrize("folds", [2, 3, 6])
def test_every_image_is_judged_once_by_a_head_that_has_not_seen_it(model, images, folds):
    witness = Witness(model, images)
    list(headswap.cross_validate(images, model, witness, folds=folds, seeds=(0, 1), plan=HEAD_ONLY))
    assert len(witness.told) == 2 * folds
    for seed in (0, 1):
        heads = witness.told[seed * folds : (seed + 1) * folds]
        assert sorted(place for _, judged in heads for place in judged) == list(range(18))
        for seen, judged in heads:
            assert sorted(seen + judged) == list(range(18))
            assert {images.labels[place] for place in seen} == {0, 1, 2}


def test_seeds_divide_the_images_anew(model, images):
    witness = Witness(model, images)
    list(headswap.cross_validate(images, model, witness, folds=3, seeds=(0, 1, 0), plan=HEAD_ONLY))
    judged = [[tuple(judged) for _, judged in witness.told[start : start + 3]] for start in (0, 3, 6)]
    assert judged[0] == judged[2] != judged[1]


def test_groups_stay_whole(model, images):
    together = dataclasses.replace(images, groups=tuple(place // 2 for place in range(18)))
    witness = Witness(model, images)
    list(headswap.cross_validate(together, model, witness, folds=3, seeds=range(3), plan=HEAD_ONLY))
    for seen, judged in witness.told:
        assert {place // 2 for place in seen}.isdisjoint(place // 2 for place in judged)


def test_every_class_is_spread_over_all_folds(model, images):
    witness = Witness(model, images)
    list(headswap.cross_validate(images, model, witness, folds=3, plan=HEAD_ONLY))
    for _, judged in witness.told:
        assert sorted(images.labels[place] for place in judged) == [0, 0, 1, 1, 2, 2]


def test_an_image_in_the_wrong_folder_is_named_wrongly_and_all_others_rightly(tmp_path):
    """A head that had seen it would know better."""
    folder = draw_folder(tmp_path / "shapes", each=5)
    shape("dots", 9).save(folder / "bars" / "9.png")
    images = headswap.load_images(folder)
    model = small_model(images.classes, backbone="efficientnet_lite0", side=64, pretrained=True)
    told = list(headswap.cross_validate(images, model, "lda", folds=5, plan=HEAD_ONLY))
    assert (told[-1].correct, told[-1].total) == (15, 16)


# What is told


def test_folds_add_up_to_the_whole(model, images):
    told = list(headswap.cross_validate(images, model, folds=3, seeds=(4, 5), plan=HEAD_ONLY))
    folds, last = events(Fold, told), told[-1]
    assert [(fold.seed, fold.number, fold.folds) for fold in folds] == [(s, n, 3) for s in (4, 5) for n in (1, 2, 3)]
    assert isinstance(last, CrossValidated) and last.metric == "accuracy" and last.total == 18
    by_seed = tuple(sum(fold.correct for fold in folds if fold.seed == seed) / 18 for seed in (4, 5))
    assert last.by_seed == pytest.approx(by_seed)
    assert last.score == pytest.approx(sum(by_seed) / 2) and last.correct == pytest.approx(18 * last.score)
    assert last.interval == wilson_interval(round(last.correct), 18)


def test_the_images_pass_the_network_once(model, images):
    told = list(headswap.cross_validate(images, model, folds=3, seeds=(0, 1), plan=HEAD_ONLY))
    passes = events(FrozenPass, told)
    assert [event.done for event in passes][-1] == passes[0].total == 2 * 18
    assert told.index(passes[-1]) < told.index(events(Fold, told)[0])


def test_whoever_listens_hears_each_step(model, images, monkeypatch):
    monkeypatch.setattr(frozen_pass, "EVENT_INTERVAL_SECONDS", 0)
    told = headswap.cross_validate(images, model, folds=3, plan=HEAD_ONLY)
    steps = events(Step, told)
    assert [(event.epoch, event.step) for event in steps] == [(n, 1) for n in (1, 2, 3)] * 3  # twelve images a batch


def test_the_same_seed_gives_the_same_figures_whoever_else_draws_random_numbers(model, images):
    def last(seed):
        torch.manual_seed(seed)
        told = headswap.cross_validate(images, model, "mlp", folds=3, plan=HEAD_ONLY, hidden_dims=(8,), engine="eager")
        folds = []
        for event in told:
            torch.rand(3)
            if isinstance(event, Fold):
                folds.append(event.correct)
        return folds, event.score

    assert last(1) == last(2)


def test_a_head_for_maps_can_be_judged_as_well(model, images):
    told = list(headswap.cross_validate(images, model, "attention", folds=2, plan=HEAD_ONLY, dim=16))
    assert told[-1].total == 18 and 0 <= told[-1].score <= 1


def test_several_labels_an_image_are_judged_by_average_precision(model, images):
    told = list(headswap.cross_validate(images.as_multi_label(), model, folds=3, plan=HEAD_ONLY))
    assert told[-1].metric == "mean average precision"
    assert told[-1].correct == sum(fold.correct for fold in events(Fold, told))


def test_without_a_plan_the_suggested_one_is_followed(model, images, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", staticmethod(lambda images, model: dataclasses.replace(HEAD_ONLY, views=3)))
    told = headswap.cross_validate(images, model, folds=3)
    assert events(FrozenPass, told)[-1].total == 3 * 18


@pytest.mark.parametrize(
    ("by_seed", "sentence"),
    [
        ((0.9,), "Judged by heads that had not seen them, 18 of 20 images are named rightly (70% to 97%)."),
        (
            (0.85, 0.95),
            "Judged by heads that had not seen them, 18 of 20 images are named rightly (70% to 97%; between 85% and "
            "95% by seed).",
        ),
    ],
)
def test_the_outcome_in_words(by_seed, sentence):
    assert CrossValidated(0.9, "accuracy", by_seed, 18.0, 20, 1.0).sentence == sentence


# What is left alone


@pytest.mark.parametrize("head", ["linear", "lda"])
def test_the_model_is_as_it_was(images, head):
    model = small_model(images.classes, backbone=NARROW).unfreeze(2)
    before, whole = copied(model), repr(model)
    list(headswap.cross_validate(images, model, head, folds=2, plan=HEAD_ONLY))
    assert moved(before, model) == set() and repr(model) == whole
    assert model.learning_stages == ("fire8", "fire9")


def test_nothing_happens_before_the_first_event_is_asked_for(model, images):
    before = torch.get_rng_state()
    headswap.cross_validate(images, model, "lda", folds=2, plan=HEAD_ONLY).close()
    told = headswap.cross_validate(images, model, "lda", folds=2, plan=HEAD_ONLY)
    assert isinstance(next(told), FrozenPass)
    told.close()
    assert before.numel() == torch.get_rng_state().numel()


# Refused at once


@pytest.mark.parametrize("how", [{"folds": 1}, {"folds": 0}, {"seeds": ()}])
def test_fewer_than_two_folds_or_no_seed_are_refused(model, images, how):
    with pytest.raises(ValueError, match=r"needs two folds and one seed at least\."):
        headswap.cross_validate(images, model, **how)


def test_a_class_with_fewer_images_than_folds_is_refused(model, images):
    with pytest.raises(InputError, match=r"The class 'bars' has 6 images, too few for 7 folds\. Add some, or choose"):
        headswap.cross_validate(images, model, folds=7)
    fewer = images.subset([*range(12), 12])
    with pytest.raises(InputError, match=r"The class 'dots' has 1 image, too few for 2 folds\."):
        headswap.cross_validate(fewer, model, folds=2)


def test_a_class_with_fewer_groups_than_folds_is_refused(model, images):
    """Some head would have to name a class that it has never seen."""
    together = dataclasses.replace(images, groups=tuple(place if place < 12 else 12 for place in range(18)))
    with pytest.raises(InputError, match=r"'dots' has 6 images in 1 that stay together, too few for 2 folds\."):
        headswap.cross_validate(together, model, "lda", folds=2)


def test_an_unknown_head_is_refused(model, images):
    with pytest.raises(ValueError, match=r"no head 'liner'\. Did you mean linear"):
        headswap.cross_validate(images, model, "liner")


def test_an_unknown_option_of_a_head_is_refused(model, images):
    with pytest.raises(ValueError, match="takes dropout, not 'dim'"):
        headswap.cross_validate(images, model, "linear", dim=3)


def test_an_unknown_engine_is_refused(model, images):
    with pytest.raises(ValueError, match="no engine 'onyx'"):
        headswap.cross_validate(images, model, engine="onyx", plan=HEAD_ONLY)


def test_a_loss_that_is_no_number_says_what_to_change(model, images):
    plan = Plan((Phase(3, 0, 1e38),), views=1, batch_size=4)
    with pytest.raises(InputError, match=r"1e\+38 for head; choose a tenth"):
        list(headswap.cross_validate(images, model, folds=2, plan=plan))
