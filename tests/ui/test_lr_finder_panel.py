"""The learning-rate range test on the page: progress first, then the curve with its suggestion."""

import re

import pytest
from drawings import load_shapes, small_model

from headswap.training.lr_finder import RateTest
from headswap.ui.panels import lr_finder
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session

FALLING = RateTest(rates=(1e-5, 1e-3, 1e-2, 1e-1), losses=(1.1, 1.0, 0.5, 2.0), suggestion=1e-3, seconds=1.0)


@pytest.fixture
def visitor(tmp_path, monkeypatch):
    """Somebody with drawn images, whose network is a small one."""
    images = load_shapes(tmp_path / "shapes")
    monkeypatch.setattr(lr_finder, "build_seeded_network", lambda *given: small_model(images.classes))
    return Session(images=images)


def test_the_images_are_read_and_then_the_curve_is_drawn(visitor):
    first, *told = lr_finder.find_learning_rate(visitor, Scheduler())
    assert "Building the network" in first
    assert any("views" in words for words in told)
    assert "<polyline" in told[-1] and "learn at about that" in told[-1]
    assert all("<polyline" not in words for words in told[:-1])


def test_the_curve_says_the_rate_at_which_the_loss_falls_most_steeply():
    drawing = lr_finder.render_lr_curve(FALLING)
    assert "most steeply at a rate of 0.001" in drawing
    assert "steepest" in drawing and "kept" not in re.sub(r"<[^>]*>", "", drawing)


def test_the_decades_stand_beneath_the_curve():
    words = re.findall(r'class="hs-x"[^>]*>([^<]*)<', lr_finder.render_lr_curve(FALLING))
    assert words == ["1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]


def test_without_images_it_is_said_where_to_find_some():
    [told] = lr_finder.find_learning_rate(Session(), Scheduler())
    assert "no images yet" in told


def test_a_closed_tab_ends_the_test_and_gives_the_turn_back(visitor):
    turns = Scheduler()
    told = lr_finder.find_learning_rate(visitor, turns)
    next(told), next(told)
    told.close()
    with turns.compute_slot():  # would wait for ever
        pass
