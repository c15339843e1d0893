"""While nobody trains, the frozen pass begins quietly; a training takes it over, and nothing of it is left behind."""

import gc
from types import SimpleNamespace
from weakref import ref

import pytest
from drawings import small_model

from headswap.common.errors import InputError
from headswap.data.loading import load_images
from headswap.ui.sessions import background, next_training
from headswap.ui.sessions.background import BackgroundPrecompute
from headswap.ui.sessions.next_training import TrainingRequest
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.state import ModelChoice

ASKED = TrainingRequest(head_epochs=1, num_stages=3, stage_epochs=1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A network that is quick to build and to run, whatever was chosen."""
    for room in (background, next_training):
        monkeypatch.setattr(
            room, "build_seeded_network", lambda choice, images, *rest: small_model(images.classes, choice.head)
        )
    monkeypatch.setattr("headswap.features.frozen_pass.EVENT_INTERVAL_SECONDS", 0)  # each batch is a moment


@pytest.fixture
def room(fruits):
    """A registry with a visitor whose images are there, and the warming of it."""
    visitors, turns = SessionRegistry(), Scheduler()
    visitor = visitors.get_session(visitors.open_tab(None, "a tab"))
    visitor.set_images(load_images(fruits))
    return SimpleNamespace(
        visitors=visitors, turns=turns, visitor=visitor, warming=BackgroundPrecompute(visitors, turns), fruits=fruits
    )


def until_nothing_is_left(warming):
    steps = 0
    while warming.run_once():
        steps += 1
        assert steps < 500
    return steps


def test_the_pass_is_done_a_batch_at_a_time_and_then_it_rests(room):
    assert until_nothing_is_left(room.warming) > 3
    assert room.visitor.precomputed_features.is_done
    assert not room.warming.run_once()


def test_a_training_takes_it_over_and_reads_no_image_again(room):
    until_nothing_is_left(room.warming)
    job = next_training.start_training_job(room.visitor, room.turns, ASKED)
    job.join(60)
    assert job.run.state == "finished"
    assert job.run.frozen_pass.done == job.run.frozen_pass.total
    assert room.visitor.precomputed_features.is_done


def test_nothing_begins_while_anybody_trains_or_waits(room):
    with room.turns.compute_slot():
        assert not room.warming.run_once()
    with room.turns.training_slot(lambda place: None):
        assert not room.warming.run_once()
    assert room.visitor.precomputed_features is None
    assert room.warming.run_once()


def test_another_head_keeps_it_and_another_backbone_begins_anew(room):
    until_nothing_is_left(room.warming)
    before = room.visitor.precomputed_features
    room.visitor.set_choice(ModelChoice(room.visitor.choice.backbone, "mlp", {}))
    assert not room.warming.run_once() and room.visitor.precomputed_features is before
    room.visitor.set_choice(ModelChoice(room.visitor.choice.backbone, "mlp", {}, crop="fit"))
    assert room.visitor.precomputed_features is None
    until_nothing_is_left(room.warming)
    assert room.visitor.precomputed_features.is_done and room.visitor.precomputed_features is not before


def test_other_images_begin_anew_and_no_images_leave_nothing(room):
    until_nothing_is_left(room.warming)
    room.visitor.set_images(load_images(room.fruits))
    assert room.visitor.precomputed_features is None
    until_nothing_is_left(room.warming)
    assert room.visitor.precomputed_features.is_done
    room.visitor.clear_images()
    assert room.visitor.precomputed_features is None and not room.warming.run_once()


def test_nothing_is_downloaded_for_it(room, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    room.visitor.set_choice(ModelChoice("resnet18", "linear", {}))
    assert not room.warming.run_once()


def test_somebody_who_is_away_waits_and_somebody_who_is_let_go_of_leaves_nothing(room):
    until_nothing_is_left(room.warming)
    kept = ref(room.visitor.precomputed_features)
    room.visitors.close_tab("a tab")
    room.visitor.set_images(load_images(room.fruits))
    assert not room.warming.run_once()
    room.visitor.release()
    gc.collect()
    assert kept() is None


def test_images_that_cannot_be_learned_from_are_looked_at_once(room, fruits):
    room.visitor.set_images(load_images(fruits).without_class("red").without_class("blue"))
    assert room.warming.run_once()
    assert not room.warming.run_once() and room.visitor.precomputed_features is None


def test_only_a_few_are_kept_and_the_oldest_does_not_begin_again(room, monkeypatch):
    monkeypatch.setattr(background, "MAX_PRECOMPUTED_SESSIONS", 1)
    until_nothing_is_left(room.warming)
    other = room.visitors.get_session(room.visitors.open_tab(None, "another tab"))
    other.set_images(load_images(room.fruits))
    until_nothing_is_left(room.warming)
    assert other.precomputed_features.is_done and room.visitor.precomputed_features is None
    assert not room.warming.run_once()


def test_images_that_are_lost_meanwhile_end_it_without_a_word(room, monkeypatch, caplog):
    def lost(*given):
        raise InputError("The image is gone.")

    monkeypatch.setattr(background, "start_frozen_pass", lost)
    assert room.warming.run_once()
    assert not room.warming.run_once() and room.visitor.precomputed_features is None
    assert not caplog.records
