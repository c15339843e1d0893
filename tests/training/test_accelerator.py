"""Where there is an accelerator, a model learns on it and comes back to where it was; elsewhere these are skipped."""

import pytest
import torch
from drawings import THAWED, load_shapes, small_model

import headswap
from headswap.common import devices
from headswap.networks.head_registry import HEADS
from headswap.training.race import Won

pytestmark = [
    pytest.mark.accelerator,
    pytest.mark.skipif(devices.select_device().type == "cpu", reason="there is no accelerator"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("drawn") / "shapes")


def places(model):
    return {tensor.device.type for tensor in model.state_dict().values()}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("plan", [headswap.Plan.from_name("freeze then unfreeze"), THAWED], ids=["both", "thawed"])
def test_every_head_learns_there_and_comes_back(images, head, plan):
    model = small_model(images.classes, head)
    kept = headswap.fit(model, images, plan)
    assert places(model) == {"cpu"}
    assert kept.correct == headswap.evaluate(model, images.split(plan.validation, plan.seed)[1]).correct


def test_heads_race_there(images):
    events = list(headswap.race(images, small_model(images.classes), ["linear", "lda"]))
    [won] = [event for event in events if isinstance(event, Won)]
    assert places(won.model) == {"cpu"}


def test_a_model_that_lives_there_learns_answers_and_is_saved_there(images, tmp_path):
    model = small_model(images.classes).to(devices.select_device())
    headswap.fit(model, images, THAWED)
    assert places(model) == {devices.select_device().type}
    assert headswap.save(model, tmp_path / "shapes.headswap").max_difference < 1e-4
    assert headswap.export_onnx(model, tmp_path / "shapes.onnx").max_difference < 1e-4
    loaded = headswap.load(tmp_path / "shapes.headswap")
    mine, theirs = (m.predict_proba(iter(pixels for pixels, _ in images)) for m in (model, loaded))
    assert torch.allclose(mine, theirs, atol=0.02)  # it rounds to ten bits where it multiplies
