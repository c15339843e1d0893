"""Runs stand side by side as a table and as curves; none of them holds a model, and other images end them all."""

from dataclasses import fields, replace
from math import nan
from types import SimpleNamespace

import pytest
from drawings import small_model
from telling import FINISHED, HEAD, KEPT, STORY, THAW, epoch

from headswap.training.events import ClassificationMetrics
from headswap.training.plan import Phase, Plan
from headswap.ui.panels import run_view, runs_table
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.run_summary import RunSummary, describe_schedule
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import TrainedModel

LESSON = TrainingSetup(None, Plan((Phase(1, 0, 1e-3),)))


@pytest.fixture
def ends(visitor, network):
    """Lets a training tell these events to its end."""

    def end(*events):
        visitor.job = Job(lambda progress: network, lambda model: iter_of(events), Scheduler(), LESSON)
        list(run_view.watch_training(visitor))

    def iter_of(events):
        yield from events

    return end


def test_every_run_that_kept_something_becomes_a_row(visitor, ends):
    assert not runs_table.refresh(visitor).container.visible
    ends(*STORY)
    ends(*STORY[:2])  # learned nothing
    ends(*STORY[:-1], replace(KEPT, correct=30, score=0.5, seconds=200))
    now = runs_table.refresh(visitor)
    assert now.container.visible and now.table.value["data"] == [
        ["2, answers now", "EfficientNet-Lite0", "linear", "head 20 epochs", "30 of 60, 50 % (38 % to 62 %)", "3 min"],
        ["1", "EfficientNet-Lite0", "linear", "head 20 epochs", "57 of 60, 95 % (86 % to 98 %)", "2 s"],
    ]


def test_a_run_is_told_in_words():
    assert describe_schedule(FINISHED) == "head 20 epochs, last 3 stages 12"
    assert describe_schedule(Run("stopped", phases=(HEAD,), epochs=(epoch(1),))) == "head 1 epoch, stopped"
    one = replace(THAW, phase=replace(THAW.phase, learning_stages=1))
    assert describe_schedule(replace(FINISHED, phases=(HEAD, one))) == "head 20 epochs, last stage 12"
    everything = replace(THAW, first_epoch=1, phase=replace(THAW.phase, learning_stages=None))
    run = Run("finished", phases=(everything,), epochs=(epoch(1), epoch(2)), kept=replace(KEPT, refitted=True))
    assert describe_schedule(run) == "all stages 2 epochs, from all images"


def test_one_curve_is_no_comparison_and_two_are(visitor, ends):
    ends(*STORY)
    assert runs_table.render_curves(visitor) == ""
    ends(*STORY)
    drawing = runs_table.render_curves(visitor)
    assert drawing.count("<polyline") == 2
    assert "run 2 (linear) 95 %, run 1 (linear) 95 %." in drawing
    assert drawing.count('<polyline class="hs-validation"') == 1


def test_a_run_that_was_stopped_took_its_reading_and_its_epochs(network):
    run = Run("stopped", frozen_pass=STORY[0], phases=(HEAD,), epochs=(epoch(1), epoch(2)))
    assert RunSummary.from_run(1, network, run).seconds == 2.5


def test_a_run_in_which_nothing_was_held_back_has_no_curve(network):
    lone = tuple(replace(each, validation_score=nan) for each in FINISHED.epochs)
    assert RunSummary.from_run(1, network, replace(FINISHED, epochs=lone)).validation_curve == ()


def test_the_row_says_what_is_kept_instead(visitor, ends):
    ends(*STORY)
    figures = ClassificationMetrics(0.9, "accuracy", 54, 60, 0.3)
    run = replace(
        visitor.job.run, kept=replace(KEPT, candidates={"frozen": SimpleNamespace(validation_metrics=figures)})
    )
    visitor.trained_model = TrainedModel(visitor.job.model, run, "frozen", run_number=1)
    assert runs_table.table_rows(visitor)[0][3:5] == [
        "head 20 epochs; the frozen network kept",
        "54 of 60, 90 % (80 % to 95 %)",
    ]


def test_a_model_from_a_file_answers_although_no_run_says_so(visitor, ends):
    ends(*STORY)
    visitor.use_loaded_model(small_model(visitor.classes))
    assert [row[0] for row in runs_table.table_rows(visitor)] == ["1"]


def test_runs_hold_no_model_and_no_answers(visitor, ends):
    ends(*STORY)
    [ran] = visitor.run_summaries
    assert ran.validation_metrics.predictions is None
    assert {type(getattr(ran, each.name)) for each in fields(ran)} == {int, str, float, tuple, ClassificationMetrics}


@pytest.mark.parametrize("change", ["set_images", "clear_images", "release"])
def test_other_images_end_all_comparison(visitor, ends, loaded_fruits, change):
    ends(*STORY)
    getattr(visitor, change)(*([loaded_fruits] if change == "set_images" else []))
    assert visitor.run_summaries == () and not runs_table.refresh(visitor).container.visible


def test_a_training_with_images_that_are_gone_meanwhile_is_no_run(visitor, network, loaded_fruits):
    job = visitor.job = Job(lambda progress: network, lambda model: (event for event in STORY), Scheduler(), LESSON)
    job.join(30)
    job.release_images()
    visitor.adopt_trained_model(job)
    assert visitor.trained_model and visitor.run_summaries == () and runs_table.active_run_number(visitor) == 0


def test_several_labels_are_compared_by_their_precision():
    told = ClassificationMetrics(0.8123, "mean average precision", 30, 60, 0.3)
    assert runs_table.format_metrics(told) == "mean average precision 0.81; 30 of 60, 50 % (38 % to 62 %)"
    assert runs_table.table_rows(Session()) == []
