"""Images that were held back from learning are tried by a press, and the answer stands beside what they show."""

from types import SimpleNamespace

import gradio as gr
import pytest
from drawings import small_model
from visiting import text_of

from headswap.training.api import train
from headswap.training.plan import Plan
from headswap.ui.panels import held_out_samples
from headswap.ui.panels.browser_events import parse_sample_click
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.steps import test


@pytest.fixture
def learned(loaded_fruits):
    """A visitor whose network has learned from three classes of fruits."""
    visitor, plan = Session(images=loaded_fruits), Plan.from_name("head only")
    model = small_model(loaded_fruits.classes)
    visitor.job = Job(
        lambda progress: model,
        lambda model: train(model, loaded_fruits, plan),
        Scheduler(),
        TrainingSetup(loaded_fruits, plan),
    )
    visitor.job.join(120)
    visitor.adopt_trained_model(visitor.job)
    return visitor


def press(visitor, key):
    return test.predict_sample(visitor, Scheduler(), parse_sample_click(SimpleNamespace(do="try", key=key)))


def test_only_what_was_held_back_is_offered_some_of_each_class_first(learned):
    _, held_back = learned.job.training_setup.images.split(
        learned.job.training_setup.plan.validation_fraction, learned.job.training_setup.plan.seed
    )
    row = held_out_samples.render_samples(learned)
    places = [int(part.split('"')[0]) for part in row.split('data-key="')[1:]]
    assert 0 < len(places) == len(set(places)) <= held_out_samples.MAX_SAMPLES
    classes = [held_back.label_sets[place][0] for place in places]
    assert set(classes[: len(held_back.classes)]) == set(range(len(held_back.classes)))


def test_a_press_gives_the_answer_and_what_the_image_is_known_to_show(learned):
    held_back = learned.held_out_images
    for place, path in enumerate(held_back.paths):
        answer = press(learned, str(place))
        assert f"Its label says {held_back.label_names[place][0]}" in text_of(answer)
        assert learned.predictions.predictions[0].ranked_probabilities == tuple(
            learned.trained_model.model.predict(path)
        )


@pytest.mark.parametrize("key", ["../secret", "", None, "-1", "99", 0])
def test_what_no_press_sends_changes_nothing(learned, key):
    assert press(learned, key) == gr.skip()
    assert learned.predictions is None


def test_nothing_is_offered_where_nothing_was_held_back(learned):
    assert held_out_samples.render_samples(Session()) == ""
    learned.job.release_images()
    assert held_out_samples.render_samples(learned) == ""
    assert press(learned, "0") == gr.skip()
