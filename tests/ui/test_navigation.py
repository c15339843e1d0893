"""The way through the page: a step is open when it can be used, and one sentence says what comes next."""

from types import SimpleNamespace

import gradio as gr
import pytest
from visiting import text_of

from headswap.ui.app import navigation
from headswap.ui.sessions.session import Session


def stands(**has):
    """What is said, and whether Train and Test are open, for a visitor who has all this."""
    update = navigation.update_step_tabs(SimpleNamespace(**{"images": None, "job": None, "trained_model": None} | has))
    return text_of(update.next_step), update.train.interactive, update.test.interactive


@pytest.mark.parametrize(
    ("has", "says", "train", "test"),
    [
        ({"is_training": False, "untrainable_reason": "no images"}, "First add images of two kinds", False, False),
        (
            {"is_training": False, "untrainable_reason": "one class", "images": "some"},
            "the first step says what is missing",
            False,
            False,
        ),
        ({"is_training": False, "untrainable_reason": "", "images": "good"}, "Next train it", True, False),
        (
            {"is_training": True, "untrainable_reason": "", "images": "good", "job": "runs"},
            "It is learning. Test opens",
            True,
            False,
        ),
        (
            {
                "is_training": True,
                "untrainable_reason": "",
                "images": "good",
                "job": "runs",
                "trained_model": "earlier",
            },
            "The model from before answers under Test meanwhile",
            True,
            True,
        ),
        (
            {"is_training": False, "untrainable_reason": "", "images": "good", "job": "over", "trained_model": "it"},
            "show it new images",
            True,
            True,
        ),
        (
            {"is_training": False, "untrainable_reason": "", "images": "others", "trained_model": "it"},
            "Next train it on these images. Until then the model from before answers",
            True,
            True,
        ),
        (
            {"is_training": False, "untrainable_reason": "one class", "images": "few", "trained_model": "it"},
            "see in the first step",
            False,
            True,
        ),
        (
            {"is_training": False, "untrainable_reason": "no images", "trained_model": "opened"},
            "To teach it more, add images",
            False,
            True,
        ),
    ],
)
def test_the_page_says_what_comes_next_and_opens_what_can_be_used(has, says, train, test):
    told, *opened = stands(**has)
    assert says in told
    assert opened == [train, test]


def test_a_visitor_who_has_just_come_reads_what_the_page_was_built_with(built):
    def build():
        with gr.Blocks():
            return navigation.build_step_tabs()

    row = built(build)
    update = navigation.update_step_tabs(Session())
    assert update.next_step == row.next_step.value
    shown, built_with = ([tabs.train.interactive, tabs.test.interactive] for tabs in (update, row))
    assert shown == built_with == [False, False]


def test_a_training_that_is_over_can_be_looked_at_though_its_images_are_gone():
    _, train, _ = stands(is_training=False, untrainable_reason="no images", job="over", trained_model="it")
    assert train
