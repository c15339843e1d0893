"""Images that were held back from learning are tried by a press, and the answer stands beside what they show."""

from types import SimpleNamespace

import gradio as gr
import pytest
from drawings import small_model
from visiting import text_of

from headswap.training.plan import Plan
from headswap.training.trainer import train
from headswap.ui.panels import held_out_samples
from headswap.ui.sessions.job import Job, Lesson, Turns
from headswap.ui.sessions.session import Visitor
from headswap.ui.steps import test


@pytest.fixture
def learned(loaded_fruits):
    """A visitor whose network has learned from three classes of fruits."""
    visitor, plan = Visitor(images=loaded_fruits), Plan.named("head only")
    model = small_model(loaded_fruits.classes)
    visitor.job = Job(
        lambda progress: model, lambda model: train(model, loaded_fruits, plan), Turns(), Lesson(loaded_fruits, plan)
    )
    visitor.job.join(120)
    visitor.take_over(visitor.job)
    return visitor


def press(visitor, key):
    return test.try_one(visitor, Turns(), SimpleNamespace(do="try", key=key))


def test_only_what_was_held_back_is_offered_some_of_each_class_first(learned):
    _, held_back = learned.job.lesson.images.split(learned.job.lesson.plan.validation, learned.job.lesson.plan.seed)
    row = held_out_samples.offered(learned)
    places = [int(part.split('"')[0]) for part in row.split('data-key="')[1:]]
    assert 0 < len(places) == len(set(places)) <= held_out_samples.OFFERED
    classes = [held_back.shown[place][0] for place in places]
    assert set(classes[: len(held_back.classes)]) == set(range(len(held_back.classes)))


def test_a_press_gives_the_answer_and_what_the_image_is_known_to_show(learned):
    held_back = learned.held_back
    for place, path in enumerate(held_back.paths):
        answer = press(learned, str(place))
        assert f"Its label says {held_back.named[place][0]}" in text_of(answer)
        assert learned.answers.each[0].ranked == tuple(learned.trained.model.predict(path))


@pytest.mark.parametrize("key", ["../secret", "", None, "-1", "99", 0])
def test_what_no_press_sends_changes_nothing(learned, key):
    assert press(learned, key) == gr.skip()
    assert learned.answers is None


def test_nothing_is_offered_where_nothing_was_held_back(learned):
    assert held_out_samples.offered(Visitor()) == ""
    learned.job.forget()
    assert held_out_samples.offered(learned) == ""
    assert press(learned, "0") == gr.skip()
