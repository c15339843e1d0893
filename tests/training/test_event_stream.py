"""What is returned to be run says so as long as nobody has run it; every verb takes a plan alike."""

import gc
import warnings
from contextlib import closing

import pytest
from drawings import HEAD_ONLY, NARROW, load_shapes, small_model

import headswap
from headswap import Plan
from headswap.features.frozen_pass import FrozenPass
from headswap.training.cross_validation import CrossValidated
from headswap.training.event_stream import EventStream
from headswap.training.events import Kept
from headswap.training.lr_finder import RateTest


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=4)


@pytest.fixture(scope="module")
def taught(images):
    """A model with the last event of its training."""
    model = small_model(images.classes, backbone=NARROW)
    return model, headswap.fit(model, images, HEAD_ONLY)


@pytest.fixture
def verbs(images, taught):
    """All that is run by going through its events, each as a function of a plan."""
    model, kept = taught
    return {
        "train": lambda plan: headswap.train(model, images, plan=plan),
        "refit": lambda plan: headswap.refit(model, images, plan=plan, kept=kept),
        "race": lambda plan: headswap.race(images, model, ["linear", "lda"], plan=plan),
        "cross_validate": lambda plan: headswap.cross_validate(images, model, folds=2, plan=plan),
        "lr_find": lambda plan: headswap.lr_find(model, images, steps=10, plan=plan),
    }


VERBS = ("train", "refit", "race", "cross_validate", "lr_find")


@pytest.mark.parametrize("verb", VERBS)
def test_what_nobody_has_run_says_so_and_warns_when_it_is_let_go_of(verbs, verb):
    told = verbs[verb](HEAD_ONLY)
    assert repr(told) == f"<headswap.{verb}(...): not run yet; loop over it, or call .run()>"
    with pytest.warns(RuntimeWarning, match=rf"headswap\.{verb}\(\.\.\.\) was never run, so nothing happened: loop"):
        del told
        gc.collect()


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_begun_or_closed_does_not_warn(verbs, verb):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verbs[verb](HEAD_ONLY).close()
        with closing(verbs[verb](HEAD_ONLY)) as told:
            assert isinstance(next(told), FrozenPass)
            assert repr(told) == f"<headswap.{verb}(...): running>"
        assert repr(told) == f"<headswap.{verb}(...): closed>"
        del told
        gc.collect()


@pytest.mark.parametrize("verb", VERBS)
def test_run_gives_the_last_event_however_far_it_was(verbs, verb):
    kind = {"cross_validate": CrossValidated, "lr_find": RateTest}.get(verb, Kept)
    told = verbs[verb](HEAD_ONLY)
    next(told)
    last = told.run()
    assert isinstance(last, kind) and told.run() is last and list(told) == []
    assert repr(told) == f"<headswap.{verb}(...): finished>"


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_is_a_plan_or_a_name_or_the_suggested_one(verbs, verb):
    for plan in (None, "head only", HEAD_ONLY):
        with closing(verbs[verb](plan)) as told:
            assert isinstance(told, EventStream)
    with pytest.raises(ValueError, match=r"There is no plan 'gradully'\. Did you mean gradual\?"):
        verbs[verb]("gradully")
    for plan in (16, ["head only"], HEAD_ONLY.phases[0], {"views": 1}):
        with pytest.raises(ValueError, match=r"plan is a headswap\.Plan, one of the names head only, .* or None for"):
            verbs[verb](plan)


def test_fit_takes_a_plan_in_the_same_way(images, taught):
    with pytest.raises(ValueError, match="There is no plan 'gradully'"):
        headswap.fit(taught[0], images, "gradully")
    with pytest.raises(ValueError, match=r"plan is a headswap\.Plan"):
        headswap.fit(taught[0], images, 16)


def test_without_a_plan_a_refit_follows_that_of_the_honest_run(images):
    model = small_model(images.classes, backbone=NARROW)
    kept = headswap.fit(model, images, HEAD_ONLY)
    headswap.restore(model, kept.candidates["reference"])
    headswap.refit(model, images, kept=kept).run()
    assert model.record.plan == HEAD_ONLY and model.record.refitted


def test_a_refit_of_what_is_no_training_of_this_model_is_refused_at_once(images, taught):
    model, kept = taught
    for wrong in (None, HEAD_ONLY):
        with pytest.raises(ValueError, match="kept is the last event of the training that is to be gone through once"):
            headswap.refit(model, images, HEAD_ONLY, wrong)
    again = headswap.refit(model, images, HEAD_ONLY, kept).run()
    with pytest.raises(ValueError, match="This is the last event of a refit"):
        headswap.refit(model, images, HEAD_ONLY, again)
    other = small_model(images.classes)
    with pytest.raises(ValueError, match="of a training of another model"):
        headswap.refit(model, images, HEAD_ONLY, headswap.fit(other, images, Plan(HEAD_ONLY.phases, views=1)))


def test_what_was_ended_early_has_no_result(images, taught):
    told = headswap.train(taught[0], images, HEAD_ONLY)
    next(told)
    told.close()
    with pytest.raises(RuntimeError, match="was ended before it was through"):
        told.run()


def test_what_failed_has_no_result():
    def failing():
        yield 1
        raise OSError("Full.")

    told = EventStream("it", failing())
    with pytest.raises(OSError, match="Full"):
        told.run()
    assert repr(told) == "<it: closed>"
    with pytest.raises(RuntimeError, match="it was ended before it was through"):
        told.run()
