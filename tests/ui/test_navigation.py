"""The way through the page: a step is open when it can be used, and one sentence says what comes next."""

from types import SimpleNamespace

import gradio as gr
import pytest
from visiting import text_of

from headswap.ui.app import navigation
from headswap.ui.sessions.session import Session


def stands(**has):
    """What is said, and whether Train and Test are open, for a visitor who has all this."""
    told, train, test = navigation.update_step_tabs(
        SimpleNamespace(**{"images": None, "job": None, "trained": None} | has)
    )
    return text_of(told), train.interactive, test.interactive


@pytest.mark.parametrize(
    ("has", "says", "train", "test"),
    [
        ({"training": False, "wanting": "no images"}, "First add images of two kinds", False, False),
        (
            {"training": False, "wanting": "one class", "images": "some"},
            "the first step says what is missing",
            False,
            False,
        ),
        ({"training": False, "wanting": "", "images": "good"}, "Next train it", True, False),
        ({"training": True, "wanting": "", "images": "good", "job": "runs"}, "It is learning. Test opens", True, False),
        (
            {"training": True, "wanting": "", "images": "good", "job": "runs", "trained": "earlier"},
            "The model from before answers under Test meanwhile",
            True,
            True,
        ),
        (
            {"training": False, "wanting": "", "images": "good", "job": "over", "trained": "it"},
            "show it new images",
            True,
            True,
        ),
        (
            {"training": False, "wanting": "", "images": "others", "trained": "it"},
            "Next train it on these images. Until then the model from before answers",
            True,
            True,
        ),
        (
            {"training": False, "wanting": "one class", "images": "few", "trained": "it"},
            "see in the first step",
            False,
            True,
        ),
        ({"training": False, "wanting": "no images", "trained": "opened"}, "To teach it more, add images", False, True),
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
    told, train, test = navigation.update_step_tabs(Session())
    assert told == row.next_step.value
    assert [train.interactive, test.interactive] == [row.train.interactive, row.test.interactive] == [False, False]


def test_a_training_that_is_over_can_be_looked_at_though_its_images_are_gone():
    _, train, _ = stands(training=False, wanting="no images", job="over", trained="it")
    assert train
