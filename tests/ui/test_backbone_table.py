"""The comparison of all backbones: what it says of each, and how the times on this machine come into it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from visiting import text_of

from headswap.data.dataset import LabelledImages
from headswap.networks.catalogue import DEFAULT_BACKBONE, backbones, find_backbone
from headswap.ui.panels import backbone_table
from headswap.ui.panels.backbone_table import COLUMN_WIDTHS, FEATURED_BACKBONES
from headswap.ui.sessions import chosen_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """Nothing was measured before; what is measured takes a hundredth of its million weights in seconds."""
    paces = {}
    monkeypatch.setattr(chosen_network, "_seconds_per_image", paces)
    monkeypatch.setattr(chosen_network, "_time_network", lambda name: find_backbone(name).million_weights / 100)
    return paces


def told(shown):
    table = {row[0]: dict(zip(COLUMN_WIDTHS, row, strict=True)) for row in shown.table}
    words = "" if shown.status is None else text_of(shown.status)
    return SimpleNamespace(
        table=table, words=words, measure=shown.measure_button.interactive, stop=shown.stop_button.interactive
    )


def test_each_backbone_says_what_is_known_before_it_is_built(visitor):
    shown = told(backbone_table.refresh(visitor))
    assert list(shown.table) == [row.name for row in backbones()]
    lite, giant = shown.table[DEFAULT_BACKBONE], shown.table["vit_h_14"]
    assert (lite["features"], lite["pixels"], lite["weights"], lite["licence"]) == (1280, 224, "here", "Apache-2.0")
    assert giant["licence"] == "not commercial, CC-BY-NC-4.0"
    assert {row["seconds"] for row in shown.table.values()} == {None}
    assert (shown.measure, shown.stop) == (True, False)


def test_a_time_is_for_the_visitors_images(visitor, measured):
    measured[DEFAULT_BACKBONE] = 0.5
    learned, checked = map(len, visitor.images.split())
    shown = told(backbone_table.refresh(visitor))
    assert shown.table[DEFAULT_BACKBONE]["seconds"] == round((4 * learned + checked) * 0.5)
    assert f"to read your {len(visitor.images)} images once on this machine, at most. Measured for 1 of" in shown.words


def test_without_images_nothing_is_measured_and_it_says_why():
    for shown in ([backbone_table.refresh(Session())], list(backbone_table.measure_backbones(Session(), Scheduler()))):
        assert [told(each).words for each in shown] == [backbone_table.NO_IMAGES_MESSAGE]
        assert not told(shown[0]).measure


def test_what_is_offered_and_what_is_here_is_measured_first_each_in_a_turn(visitor, measured):
    inside = []

    class Counted(Scheduler):
        def compute_slot(self):
            inside.append(len(measured))
            return super().compute_slot()

    steps = [told(shown) for shown in backbone_table.measure_backbones(visitor, Counted())]
    names = list(measured)
    assert names[: len(FEATURED_BACKBONES)] == sorted(
        FEATURED_BACKBONES, key=lambda name: (find_backbone(name).needs_download, find_backbone(name).million_weights)
    )
    assert inside == list(range(len(names)))
    assert len(steps) == len(names) + 1
    assert [sum(row["seconds"] is not None for row in step.table.values()) for step in steps] == [*inside, len(names)]
    assert all(step.stop and not step.measure for step in steps[:-1])
    assert steps[0].words == f"Measuring {names[0]}, 1 of {len(names)}."
    assert (steps[-1].stop, steps[-1].measure) == (False, True)


def test_the_largest_wait_until_they_are_chosen(visitor, measured):
    *_, last = backbone_table.measure_backbones(visitor, Scheduler())
    left_out = {row.name for row in backbones()} - set(measured)
    assert left_out == {
        row.name for row in backbones() if row.million_weights > backbone_table.MAX_MEASURED_MILLION_WEIGHTS
    }
    assert f"The {len(left_out)} largest ones are measured only once chosen." in told(last).words


def test_what_the_page_may_not_download_is_not_measured(visitor, measured, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "10")
    list(backbone_table.measure_backbones(visitor, Scheduler()))
    assert measured and all(
        not find_backbone(name).needs_download or find_backbone(name).megabytes <= 10 for name in measured
    )


def test_measuring_can_be_stopped_and_goes_on_where_it_was(visitor, measured):
    steps = backbone_table.measure_backbones(visitor, Scheduler())
    next(steps), next(steps)
    assert told(backbone_table.refresh(visitor)).stop
    backbone_table.stop_measuring(visitor)
    (last,) = steps
    assert len(measured) == 1
    assert (told(last).measure, told(last).stop) == (True, False)
    again = backbone_table.measure_backbones(visitor, Scheduler())
    assert f"1 of {len(backbones()) - 4 - 1}." in told(next(again)).words
    again.close()
    assert not visitor.is_measuring_speed


def test_a_second_press_only_looks_on(visitor, measured):
    first = backbone_table.measure_backbones(visitor, Scheduler())
    next(first)
    (shown,) = backbone_table.measure_backbones(visitor, Scheduler())
    assert shown.status is None and told(shown).stop
    assert not measured


def test_what_was_chosen_beyond_the_catalogue_is_compared_as_well(visitor):
    visitor.choice = replace(visitor.choice, backbone="timm/test_resnet")
    shown = told(backbone_table.refresh(visitor))
    assert next(iter(shown.table)) == "timm/test_resnet"
    assert shown.table["timm/test_resnet"]["% on ImageNet"] is None


def test_a_bound_needs_images_that_can_be_split(visitor, measured):
    measured[DEFAULT_BACKBONE] = 0.5
    visitor.images = visitor.images.without(range(len(visitor.images) - 1))
    assert isinstance(visitor.images, LabelledImages)
    assert told(backbone_table.refresh(visitor)).table[DEFAULT_BACKBONE]["seconds"] is None


@pytest.mark.parametrize("backbone", ["timm/test_resnet", "regnet_y_400mf"])
def test_a_network_is_timed_once_and_without_its_weights(backbone, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(chosen_network, "_seconds_per_image", {})
    monkeypatch.setattr(torch, "load", lambda *a, **b: pytest.fail("Weights were read for the time that they take."))
    assert chosen_network.get_measured_seconds(backbone) is None
    assert (
        0
        < chosen_network.measure_seconds_per_image(backbone)
        == chosen_network.measure_seconds_per_image(backbone)
        == chosen_network.get_measured_seconds(backbone)
    )
