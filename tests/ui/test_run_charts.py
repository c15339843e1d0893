"""Both charts of a training: bands, curves, and where what is kept lies."""

from dataclasses import replace
from math import nan
from xml.etree import ElementTree

import pytest
from telling import FINISHED, HEAD, THAW, epoch
from visiting import text_of

from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import ClassificationMetrics, Reference
from headswap.ui.sessions.run import Run
from headswap.ui.views.run_charts import render_run_charts

SOLVED = Reference(ClassificationMetrics(0.9, "accuracy", 54, 60, 0.3), 0.1)


def bands(html):
    return [rect.get("class") for rect in ElementTree.fromstring(html).iter("rect")]


def test_there_are_always_two_charts():
    for run in (Run(), Run("running", frozen_pass=FrozenPass(1, 2, 0.1)), Run("running", phases=(HEAD,)), FINISHED):
        figures = list(ElementTree.fromstring(render_run_charts(run)).iter("figure"))
        titles = ["".join(figure.find("figcaption").itertext()) for figure in figures]
        assert len(titles) == 2
        assert titles[0] == "Loss"
        assert titles[1].startswith("Accuracy")


def test_the_charts_have_bands_only_once_phases_began():
    run = Run("running", frozen_pass=FrozenPass(8, 8, 0.5))
    assert bands(render_run_charts(Run())) == bands(render_run_charts(run)) == []
    run = run.with_event(HEAD)
    assert bands(render_run_charts(run)) == ["hs-still"] * 2
    for number in range(1, 21):
        run = run.with_event(epoch(number))
    run = run.with_event(THAW)
    assert bands(render_run_charts(run)) == ["hs-still", "hs-learning"] * 2


def test_the_charts_grow_with_the_epochs():
    run, drawn = Run("running", phases=(HEAD,)), set()
    assert "polyline" not in render_run_charts(run)
    for number in range(1, 6):
        run = run.with_event(epoch(number))
        html = render_run_charts(run)
        drawn.add(html)
        lines = list(ElementTree.fromstring(html).iter("polyline"))
        assert [len(line.get("points").split()) for line in lines] == [number] * 4
    assert len(drawn) == 5


def test_the_kept_epoch_is_marked_only_when_the_training_has_ended():
    running = Run("running", phases=(HEAD,), epochs=(epoch(1), epoch(2, best=False)))
    assert "hs-kept" not in render_run_charts(running)
    for state in ("finished", "stopped"):
        ended = Run(state, phases=(HEAD,), epochs=running.epochs)
        assert render_run_charts(ended).count('class="hs-kept"') == 2
        assert "Kept: epoch 1" in render_run_charts(ended)


@pytest.mark.parametrize(
    ("what", "number", "loss", "score"),
    [("best", 31, "0.019", "95 %"), ("last", 32, "0.019", "93 %"), ("between", 32, None, "97 %")],
)
def test_what_is_kept_is_ringed_where_it_lies(what, number, loss, score):
    right = {"best": 57, "last": 56, "between": 58}[what]
    run = replace(FINISHED, kept=replace(FINISHED.kept, checkpoint=what, epoch=number, correct=right, score=right / 60))
    ringed = [f"Kept: epoch {number}, {figure}." in render_run_charts(run) for figure in filter(None, (loss, score))]
    assert all(ringed)
    assert render_run_charts(run).count('class="hs-kept"') == len(ringed)


def test_nothing_of_a_refit_is_ringed():
    lone = [
        replace(e, validation_loss=nan, validation_score=nan, correct=0, total=0, best=False) for e in FINISHED.epochs
    ]
    run = replace(FINISHED, epochs=tuple(lone), kept=replace(FINISHED.kept, refitted=True))
    html = render_run_charts(run)
    assert "hs-kept" not in html
    assert html.count("<polyline") == 2
    assert "nan" not in html.lower()


def test_the_head_solved_at_once_is_a_line_in_the_accuracy_and_not_in_the_loss():
    run = Run("running", frozen_pass=FrozenPass(8, 8, 0.5), reference=SOLVED)
    for drawn in (run, run.with_event(HEAD), replace(FINISHED, reference=SOLVED)):
        loss, accuracy = ElementTree.fromstring(render_run_charts(drawn)).iter("figure")
        assert [len(figure.findall(".//path[@class='hs-level']")) for figure in (loss, accuracy)] == [0, 1]
        assert "Solved at once: 90 %." in accuracy.find("*[@role='img']").get("aria-label")
    assert "hs-level" not in render_run_charts(FINISHED)


def test_a_phase_s_band_ends_where_the_next_begins_even_if_it_ended_early():
    early = replace(THAW, first_epoch=3)
    run = Run("running", phases=(HEAD, early), epochs=tuple(epoch(number) for number in range(1, 6)))
    first, second, *_ = ElementTree.fromstring(render_run_charts(run)).iter("rect")
    assert float(first.get("width")) == float(second.get("x")) > 0


def test_empty_charts_say_when_the_curve_begins():
    assert "when you press Train" in text_of(render_run_charts(Run()))
    assert "when the images have been read" in text_of(
        render_run_charts(Run("running", frozen_pass=FrozenPass(1, 2, 0.1)))
    )
    assert "No epoch was over" in text_of(render_run_charts(Run("stopped", frozen_pass=FrozenPass(1, 2, 0.1))))
