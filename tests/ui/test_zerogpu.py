"""On ZeroGPU only a pure function is lent a GPU, in another process: here a stub that pickles whatever crosses."""

import pickle
import sys

import pytest
import torch
from drawings import copied, moved, small_model
from visiting import text_of

from headswap.common import devices
from headswap.data.loading import load_images
from headswap.ui.app import page, zerogpu
from headswap.ui.sessions import next_training
from headswap.ui.sessions.next_training import TrainingRequest
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.steps import train

ASKED = TrainingRequest(head_epochs=2, num_stages=3, stage_epochs=1)


class Spaces:
    """Lends a "GPU": arguments and results cross as bytes, as they do between processes."""

    def __init__(self):
        self.calls, self.over = [], False

    def GPU(self, duration):  # noqa: N802, its real name
        assert 0 < duration <= 120

        def decorate(function):
            def lent(*given):
                if self.over:
                    raise RuntimeError("You have exceeded your GPU quota")
                crossed = pickle.loads(pickle.dumps(given))
                self.calls.append(len(crossed[-1]))
                return pickle.loads(pickle.dumps(function(*crossed)))

            return lent

        return decorate


@pytest.fixture
def spaces():
    return Spaces()


@pytest.fixture
def visitor(fruits, monkeypatch):
    monkeypatch.setattr(
        next_training, "build_seeded_network", lambda choice, images, *rest: small_model(images.classes, choice.head)
    )
    visitor = Session()
    visitor.set_images(load_images(fruits))
    return visitor


def learned(visitor):
    job = next_training.start_training_job(visitor, Scheduler(), ASKED)
    job.join(60)
    assert job.run.state == "finished"
    return job.model


def test_the_lent_function_changes_nothing_and_gives_what_the_stages_give(spaces):
    model = small_model(3)
    before, x = copied(model), torch.randn(5, 3, 32, 32)
    told = zerogpu.ZeroGpuEngine(spaces)(model.feature_stages[:3], [1, 3])(x)
    with torch.no_grad():
        expected = [
            model.feature_stages[0](x),
            model.feature_stages[2](model.feature_stages[1](model.feature_stages[0](x))),
        ]
    for mine, theirs in zip(told, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    assert moved(before, model) == set() and spaces.calls == [5]


def test_the_event_reads_by_the_gpu_and_the_job_learns_from_what_it_kept(spaces, visitor, monkeypatch):
    monkeypatch.setattr("headswap.features.frozen_pass.EVENT_INTERVAL_SECONDS", 0)
    said = list(train.precompute_on_gpu(visitor, Scheduler(), zerogpu.ZeroGpuEngine(spaces)))
    assert "Reading the images through the frozen stages" in text_of(said[0].status)
    assert visitor.precomputed_features.is_done and sum(spaces.calls) == visitor.precomputed_features.progress.total
    calls = len(spaces.calls)
    warm = learned(visitor)
    assert len(spaces.calls) == calls  # learning itself asks for no GPU
    visitor.precomputed_features = None
    cold = learned(visitor)
    picture = visitor.images.paths[0]
    for (name, mine), (as_named, theirs) in zip(warm.predict(picture), cold.predict(picture), strict=True):
        assert name == as_named and abs(mine - theirs) < 1e-3


def test_what_is_read_already_asks_for_no_gpu(spaces, visitor):
    list(train.precompute_on_gpu(visitor, Scheduler(), zerogpu.ZeroGpuEngine(spaces)))
    calls = len(spaces.calls)
    assert len(list(train.precompute_on_gpu(visitor, Scheduler(), zerogpu.ZeroGpuEngine(spaces)))) == 1
    assert len(spaces.calls) == calls


def test_where_no_gpu_is_lent_it_is_said_and_the_processor_reads(spaces, visitor):
    spaces.over = True
    *_, said = train.precompute_on_gpu(visitor, Scheduler(), zerogpu.ZeroGpuEngine(spaces))
    assert "No GPU could be borrowed just now" in text_of(said.status)
    assert visitor.precomputed_features is None
    learned(visitor)


def test_without_images_nothing_is_asked_for(spaces):
    assert len(list(train.precompute_on_gpu(Session(), Scheduler(), zerogpu.ZeroGpuEngine(spaces)))) == 1
    assert not spaces.calls


def test_elsewhere_there_is_no_such_engine_and_there_the_module_is_asked(spaces, monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zerogpu.create_zerogpu_engine() is None
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert isinstance(zerogpu.create_zerogpu_engine(), zerogpu.ZeroGpuEngine)


def test_what_torch_claims_of_a_lent_gpu_is_not_believed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert devices.select_device().type == "cpu"


def test_there_every_training_from_new_asks_for_the_gpu_first(spaces, monkeypatch, built):
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    blocks = built(lambda: page.build_page(SessionRegistry()))
    by_id = {getattr(block, "elem_id", None): block for block in blocks.blocks.values()}
    sentence = by_id["train-sentence"]
    for button in ("train", "race"):
        (first,) = (event for event in blocks.fns.values() if (by_id[button]._id, "click") in event.targets)
        assert [each._id for each in first.outputs] == [sentence._id]
        (then,) = (event for event in blocks.fns.values() if event.trigger_after == first._id)
        assert by_id["stop"] in then.outputs
