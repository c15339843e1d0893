"""What the train step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import gc
import threading
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch
from drawings import copied, moved, small_model
from telling import HEAD, KEPT, STORY, THAW, epoch
from visiting import Reader, choose, is_error, text_of

from headswap.common.errors import InputError
from headswap.data.loading import load_images
from headswap.evaluation.metrics import Predictions
from headswap.features.frozen_pass import FrozenPass
from headswap.training.api import refit, train
from headswap.training.events import ClassificationMetrics, Epoch, Kept, Reference, Step
from headswap.training.plan import Phase, Plan
from headswap.training.race import Lap, RankedHead, Won
from headswap.ui.panels import epoch_slider, run_view
from headswap.ui.panels.browser_events import StageClick
from headswap.ui.panels.run_view import RunUpdate
from headswap.ui.sessions import next_training
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ModelChoice, TrainedModel
from headswap.ui.steps import model as model_step
from headswap.ui.steps import test
from headswap.ui.steps import train as train_step
from headswap.ui.steps.train import TrainUpdate
from headswap.ui.views.run_charts import render_run_charts
from headswap.ui.views.run_text import render_run_status

SOLVED = Reference(ClassificationMetrics(0.9, "accuracy", 54, 60, 0.3), 0.1)


def usable(controls):
    """Train, Stop and Go on."""
    return [button.interactive for button in (controls.train_button, controls.stop_button, controls.next_button)]


def offered(controls):
    """What else can be pressed, below the sentence."""
    buttons = controls.result_buttons
    shown = {
        "frozen": buttons.keep_frozen,
        "reference": buttons.keep_reference,
        "own": buttons.keep_trained,
        "again": buttons.refit,
    }
    return [name for name, button in shown.items() if button.visible]


def sliders(update):
    """The plan that is shown: epochs of the head, stages, and their epochs."""
    form = update.plan_form
    return [form.head_epochs, form.unfrozen_stages, form.unfrozen_epochs]


def drawn(update):
    """The strip, the sentence and the charts; None for what stays as it is."""
    update = update or RunUpdate()
    return update.stage_strip, update.status, update.charts


def watching(visitor):
    return map(drawn, run_view.watch_training(visitor))


def render(visitor):
    return drawn(run_view.draw_training(visitor.job, visitor.trained_in_current_job))


def press(visitor, number):
    """Presses the block from which so many stages learn; the strip, the sentence and the slider."""
    update = train_step.click_stage(visitor, StageClick(number))
    slider = update.plan_form and update.plan_form.unfrozen_stages
    return *drawn(update.run_view)[:2], slider


def look(visitor, number):
    """Looks at an epoch again; the strip, the charts and what is told."""
    update = train_step.show_epoch(visitor, number)
    drawing, _, charts = drawn(update.run_view)
    return drawing, charts, update.epoch_panel.epoch_summary


# Before


def test_without_images_the_train_step_says_what_is_missing():
    visitor = Session()
    update = train_step.refresh(visitor)
    drawing, words, charts = drawn(update.run_view)
    assert "Choose images in the first step" in text_of(words)
    assert 'class="hs-strip"' in drawing
    assert charts == render_run_charts(Run())
    assert update.plan_form is None
    assert usable(update) == [False, False, False]
    assert offered(update) == []


def test_starting_without_images_is_an_error_and_starts_nothing():
    visitor = Session()
    controls = train_step.start_training(visitor, Scheduler(), 1, 0, 1)
    problem = controls.problem
    assert is_error(problem)
    assert "no images yet" in text_of(problem)
    assert visitor.job is None
    assert usable(controls) == [False, False, False]


def test_with_images_the_train_step_suggests_a_plan(visitor):
    controls = train_step.refresh(visitor)
    drawing, words, _ = drawn(controls.run_view)
    head_epochs, stages, stage_epochs = sliders(controls)
    assert 'class="hs-strip"' in drawing
    assert "Press Train" in text_of(words)
    assert "as few as 4 images" in text_of(words)
    assert min(head_epochs.value, stages.value, stage_epochs.value) >= 1
    assert stages.maximum == 9
    assert usable(controls) == [True, False, False]


def test_the_plan_reaches_no_further_than_the_chosen_network(visitor):
    choose(visitor, backbone="resnet18")
    stages = sliders(train_step.refresh(visitor))[1]
    assert stages.value <= stages.maximum == 5


def test_more_stages_than_the_network_has_are_refused_where_they_were_asked_for(visitor):
    choose(visitor, backbone="resnet18")
    controls = train_step.start_training(visitor, Scheduler(), 1, 9, 1)
    problem = controls.problem
    assert is_error(problem)
    assert "5 stages" in text_of(problem)
    assert visitor.job is None
    assert usable(controls) == [True, False, False]


def test_stopping_nothing_does_nothing():
    train_step.stop_training(Session())


def test_without_a_training_watching_leaves_everything_as_it_stands(visitor):
    # An event that tells nothing at all empties its outputs.
    assert list(watching(visitor)) == [(None, None, None)]


def test_a_plan_that_unfreezes_nothing_can_still_be_told_to(visitor, network, monkeypatch):
    alone = Plan((Phase(9, 0, 1e-3),), views=3, advice="Only the head.")
    monkeypatch.setattr(Plan, "suggest", lambda images, model: alone)
    update = train_step.refresh(visitor)
    words = update.run_view.status
    head_epochs, stages, stage_epochs = sliders(update)
    assert "the head learns. Only the head." in text_of(words)
    assert (head_epochs.value, stages.value) == (9, 0) and stage_epochs.value >= 1
    monkeypatch.setattr(next_training, "build_seeded_network", lambda *given: network)
    monkeypatch.setattr(next_training, "train", lambda *given, **more: iter(()))
    train_step.start_training(visitor, Scheduler(), 4, 2, 3)
    plan = visitor.job.training_setup.plan
    assert [(phase.epochs, phase.learning_stages) for phase in plan.phases] == [(4, 0), (3, 2)]
    assert plan.phases[1].backbone_lr > 0 and replace(plan, phases=alone.phases) == alone
    visitor.job.join(30)


@pytest.mark.parametrize(
    ("asked", "phases"), [((5, 2, 7), [(5, 0), (7, 2)]), ((5, 0, 7), [(5, 0)])], ids=["with stages", "head alone"]
)
def test_the_plan_is_what_was_asked_for(visitor, network, monkeypatch, asked, phases):
    plans = []

    def train(model, images, plan, precomputed):
        plans.append((model, images, [(phase.epochs, phase.learning_stages) for phase in plan.phases]))
        yield from STORY

    monkeypatch.setattr(next_training, "build_seeded_network", lambda *given: network)
    monkeypatch.setattr(next_training, "train", train)
    assert train_step.start_training(visitor, Scheduler(), *asked).problem == ""
    visitor.job.join(30)
    assert plans == [(network, visitor.images, phases)]


def test_pressing_a_block_moves_the_slider_the_boundary_and_the_words(visitor):
    drawing, words, stages = press(visitor, 4)
    assert "Stages stem to 4 stand still; 5 to last and the head learn." in drawing
    assert "then the last four stages learn too" in text_of(words)
    assert (stages.value, stages.maximum) == (4, 9)
    drawing, words, stages = press(visitor, 0)
    assert "only the head learns" in drawing
    assert "Press Train: the head learns." in text_of(words)
    assert stages.value == 0
    assert train_step.refresh(visitor).run_view.stage_strip == drawing
    assert sliders(train_step.refresh(visitor))[1].value == 0


def test_the_slider_moves_the_boundary_as_a_press_does(visitor):
    assert (
        drawn(train_step.set_unfrozen_stages(visitor, 4).run_view)[:2] == press(Session(images=visitor.images), 4)[:2]
    )
    assert train_step.set_unfrozen_stages(visitor, None) == TrainUpdate()
    assert visitor.num_unfrozen_stages == 4


def test_without_images_a_press_is_drawn_and_nothing_else_said():
    drawing, words, stages = press(Session(), 1)
    assert "last and the head learn" in drawing and words is None and stages.value == 1


# Watching


@pytest.fixture
def watched(visitor, network):
    """Gives the visitor a job that tells these events, waits for its end and gives all that is drawn."""

    def watch(*events, error=None):
        def tell(model):
            yield from events
            if error:
                raise error

        visitor.job = Job(lambda progress: network, tell, Scheduler())
        return list(watching(visitor))

    return watch


def test_watching_ends_with_everything_drawn_and_takes_over_what_was_learned(visitor, watched):
    *_, (drawing, words, charts) = watched(*STORY)
    assert charts == render_run_charts(visitor.job.run)
    assert "Kept the weights of epoch 2" in text_of(words)
    assert "learn" in drawing
    assert visitor.trained_model == TrainedModel(visitor.job.model, visitor.job.run)
    assert usable(train_step.refresh_controls(visitor)) == [True, False, True]


def test_watching_again_after_the_end_draws_the_end_again(visitor, watched):
    *_, last = watched(*STORY)
    visitor.trained_model = None
    ((drawing, words, charts),) = watching(visitor)
    assert (words, charts) == last[1:]
    assert 'class="hs-strip"' in drawing
    assert visitor.trained_model is not None


def test_a_training_that_learned_nothing_leaves_the_former_model(visitor, watched):
    watched(*STORY)
    former = visitor.trained_model
    *_, (_, words, _) = watched(FrozenPass(4, 8, 0.5))
    assert "nothing was learned" in text_of(words)
    *_, (_, words, _) = watched(FrozenPass(4, 8, 0.5), error=InputError("The disk is full; make room."))
    assert text_of(words) == "The disk is full; make room."
    assert visitor.trained_model is former
    assert usable(train_step.refresh_controls(visitor)) == [True, False, True]


def test_a_training_that_fails_after_an_epoch_keeps_what_was_there_before_as_it_says(visitor, watched, caplog):
    watched(*STORY)
    former = visitor.trained_model
    *_, (_, words, _) = watched(FrozenPass(8, 8, 0.5), HEAD, epoch(1), error=RuntimeError("out of paper"))
    assert "What was there before is kept" in text_of(words)
    assert visitor.trained_model is former


def test_a_visitor_who_was_let_go_meanwhile_keeps_no_model(visitor, network, until):
    gate = threading.Event()

    def tell(model):
        yield from STORY[:-1]
        gate.wait(30)

    visitor.job = job = Job(lambda progress: network, tell, Scheduler())
    watched = watching(visitor)
    next(watched)
    until(lambda: len(job.run.epochs) == 2)
    visitor.release()
    gate.set()
    *_, (_, words, _) = watched
    assert "Kept the weights of epoch 2" in text_of(words)
    assert visitor == Session()


def test_the_strip_is_drawn_anew_when_a_phase_begins(visitor, network):
    gates = [threading.Event() for _ in range(2)]

    def tell(model):
        yield FrozenPass(8, 8, 0.5)
        yield HEAD
        gates[0].wait(30)
        yield THAW
        gates[1].wait(30)
        yield epoch(1)
        yield KEPT

    visitor.job = Job(lambda progress: network, tell, Scheduler())
    strips = []
    for drawing, _, _ in watching(visitor):
        if drawing not in (None, *strips):
            strips.append(drawing)
        run = visitor.job.run
        for gate in gates[: len(run.phases)]:
            gate.set()
    assert "Stages stem to last stand still; only the head learns." in text_of(" ".join(Reader(strips[-3]).attributes))
    assert "6, 7, last and the head learn." in " ".join(Reader(strips[-2]).attributes)
    assert strips[-2].replace(' disabled=""', "") == strips[-1]  # once it is over, blocks can be pressed again


def test_a_sentence_is_spoken_at_most_once_a_second(visitor, network, monkeypatch):
    monkeypatch.setattr(run_view, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(run_view, "CHART_INTERVAL", 0.001)
    turn = threading.Event()

    def tell(model):
        for event in (FrozenPass(8, 8, 0.5), HEAD, *(epoch(number) for number in range(1, 8)), KEPT):
            turn.wait(30)
            turn.clear()
            yield event

    visitor.job = Job(lambda progress: network, tell, Scheduler())
    words = []
    for _, sentence, _ in watching(visitor):
        words.append(sentence)
        turn.set()
    assert len(words) > 4
    assert None not in (words[0], words[-1])
    assert all(sentence is None for sentence in words[1:-1])


def test_while_a_training_runs_only_stop_can_be_pressed_and_its_drawings_stay(visitor, network):
    gate = threading.Event()

    def tell(model):
        yield FrozenPass(1, 2, 0.1)
        gate.wait(30)

    visitor.job = job = Job(lambda progress: network, tell, Scheduler())
    try:
        assert usable(train_step.refresh_controls(visitor)) == [False, True, False]
        prepared = train_step.refresh(visitor)
        assert prepared.run_view is None and sliders(prepared) == [None] * 3
        assert usable(prepared) == [False, True, False]
        assert offered(prepared) == []
        assert train_step.start_training(visitor, Scheduler(), 1, 1, 1).problem is None
        assert visitor.job is job
        assert press(visitor, 4) == (None,) * 3
        assert model_step.click_stage(visitor, StageClick(4)).count("disabled") == 10
        assert visitor.num_unfrozen_stages is None
        train_step.stop_training(visitor)
    finally:
        gate.set()
    job.join(30)
    assert job.run.state == "stopped"


# The bundled network, for real


def test_a_real_training_goes_through_both_phases_to_a_model(trained):
    controls = trained.started
    assert controls.problem == ""
    assert usable(controls) == [False, True, False]
    run = trained.visitor.job.run
    assert run.state == "finished"
    assert [begins.phase.learning_stages for begins in run.phases] == [0, 1]
    assert [each.number for each in run.epochs] == [1, 2, 3, 4]
    assert run.frozen_pass.done == run.frozen_pass.total
    assert trained.visitor.trained_model == TrainedModel(trained.visitor.job.model, run)
    assert len({row.charts for row in trained.rows}) >= 2
    assert text_of(trained.rows[-1].status).startswith("Kept ")
    assert run.reference is not None
    assert offered(train_step.refresh_controls(trained.visitor))[-1] == "again"


# What can be done with what was learned


@pytest.fixture
def learned(loaded_fruits):
    """Somebody whose small network has learned in both phases, and whose head solved at once is ahead."""
    plan = Plan((Phase(2, 0, 1e-3), Phase(1, 2, 1e-3, 1e-3)), views=1, checkpoint="last")

    def tell(model):
        for event in train(model, loaded_fruits, plan):
            if isinstance(event, Kept):
                ahead = replace(
                    event.candidates["reference"],
                    validation_metrics=ClassificationMetrics(2 / 3, "accuracy", 2, 3, 0.4),
                )
                event = replace(event, correct=0, score=0.0, candidates={**event.candidates, "reference": ahead})
            yield event

    visitor = Session(images=loaded_fruits)
    visitor.job = Job(
        lambda progress: small_model(loaded_fruits.classes), tell, Scheduler(), TrainingSetup(loaded_fruits, plan)
    )
    *_, visitor.last = watching(visitor)
    assert visitor.job.run.state == "finished", visitor.job.run.problem
    return visitor


def test_when_a_training_is_over_what_can_be_kept_instead_is_offered(learned):
    assert offered(train_step.refresh_controls(learned)) == ["frozen", "reference", "again"]
    assert offered(train_step.refresh(learned)) == ["frozen", "reference", "again"]


def test_a_page_that_is_loaded_again_shows_the_plan_that_was_followed(learned):
    assert [slider.value for slider in sliders(train_step.refresh(learned))] == [2, 2, 1]
    press(learned, 1)
    assert sliders(train_step.refresh(learned))[1].value == 1
    learned.num_unfrozen_stages = None
    train_step.start_refit(learned, Scheduler())
    learned.job.join(60)
    assert [slider.value for slider in sliders(train_step.refresh(learned))] == [2, 2, 1]


def test_a_head_solved_at_once_that_is_not_ahead_is_not_offered(learned):
    run = replace(learned.job.run, kept=replace(learned.job.run.kept, correct=3))
    learned.job.run, learned.trained_model = run, TrainedModel(learned.job.model, run)
    assert offered(train_step.refresh_controls(learned)) == ["frozen", "again"]


def test_where_nothing_was_unfrozen_there_is_no_frozen_network_to_keep_instead(learned):
    run = replace(learned.job.run, kept=replace(learned.job.run.kept, checkpoint="best", epoch=1))
    learned.job.run, learned.trained_model = run, TrainedModel(learned.job.model, run)
    assert offered(train_step.refresh_controls(learned)) == ["reference", "again"]
    own = train_step.restore_candidate(learned, "reference").result_buttons.keep_trained
    assert own.value == "Keep the trained head after all"


@pytest.mark.parametrize(
    ("name", "words", "others"),
    [
        ("frozen", "The frozen network is kept: ", ["reference", "own"]),
        ("reference", "The head solved at once is kept: ", ["frozen", "own"]),
    ],
)
def test_another_network_is_kept_at_once_and_the_way_back_leads_to_the_last_bit(learned, name, words, others):
    model, run = learned.trained_model.model, learned.trained_model.run
    before, offer, first = copied(model), run.kept.candidates[name], render(learned)

    controls = train_step.restore_candidate(learned, name)
    drawing, sentence, charts = drawn(controls.run_view)
    figures = offer.validation_metrics
    assert text_of(sentence).startswith(f"{words}{figures.correct} of {figures.total} validation images right")
    assert "only the head learns" in " ".join(Reader(drawing).attributes)
    assert f">{type(offer.head).__name__.lower()}<" in drawing
    assert charts.count('class="hs-kept"') == (2 if name == "frozen" else 0)
    assert offered(controls) == others
    assert copied(learned.trained_model.model.head).keys() == copied(offer.head).keys()
    assert not moved(copied(offer.head), learned.trained_model.model.head)
    assert all(torch.equal(model.state_dict()[key], kept) for key, kept in offer.weights.items())

    shown = test.refresh(learned)
    drawing, words = shown.stage_strip, shown.status
    assert "only the head learns" in " ".join(Reader(drawing).attributes)
    assert f"named {figures.correct} of {figures.total} validation images" in text_of(words)

    assert drawn(train_step.restore_candidate(learned, "own").run_view) == first
    assert not moved(before, model)
    assert offered(train_step.refresh_controls(learned)) == ["frozen", "reference", "again"]


def test_from_one_to_the_other_the_way_back_leads_to_what_was_learned(learned):
    before = copied(learned.trained_model.model)
    for name in ("frozen", "reference", "frozen", "own"):
        train_step.restore_candidate(learned, name)
    assert not moved(before, learned.trained_model.model)


def test_what_is_not_offered_cannot_be_kept(learned):
    before, was = copied(learned.trained_model.model), learned.trained_model
    for name in ("own", "start", "nothing"):
        train_step.restore_candidate(learned, name)
    assert learned.trained_model is was and not moved(before, was.model)
    train_step.restore_candidate(learned, "frozen")
    was = learned.trained_model
    train_step.restore_candidate(learned, "frozen")
    assert learned.trained_model is was
    assert drawn(train_step.restore_candidate(Session(), "frozen").run_view) == (None,) * 3


def test_whoever_comes_back_finds_what_was_kept_instead(learned):
    drawings = drawn(train_step.restore_candidate(learned, "frozen").run_view)
    assert list(watching(learned)) == [drawings]
    assert drawn(train_step.refresh(learned).run_view) == drawings
    assert learned.trained_model.active_candidate == "frozen"


def test_nothing_is_offered_that_belongs_to_other_images_or_another_network(learned):
    learned.set_choice(ModelChoice("resnet18", "linear"))
    assert offered(train_step.refresh_controls(learned)) == []
    assert drawn(train_step.restore_candidate(learned, "frozen").run_view) == (None,) * 3
    assert train_step.start_refit(learned, Scheduler()).problem == "" and learned.job is None


def finish(visitor):
    *_, last = watching(visitor)
    return last


def test_learning_again_ends_with_another_model_that_saw_all_images(learned, loaded_fruits):
    former, job = learned.trained_model, learned.job
    controls = train_step.start_refit(learned, Scheduler())
    problem = controls.problem
    assert problem == ""
    assert usable(controls) == [False, True, True] and offered(controls) == []
    assert controls.stop_button.value == "Stop and keep what was there before"
    drawing, sentence, charts = finish(learned)
    run = learned.job.run
    assert run.state == "finished", run.problem
    assert run.frozen_pass.total == len(loaded_fruits) and run.reference is None
    assert [e.number for e in run.epochs] == [1, 2, 3] and run.best_epoch is None
    assert "Learned again from all images" in text_of(sentence)
    assert charts.count("<polyline") == 2 and "hs-kept" not in charts
    assert "learn" in drawing
    assert learned.trained_model.run is run and learned.trained_model.model is not former.model
    assert learned.trained_model.trained_stages == former.trained_stages
    controls = train_step.refresh_controls(learned)
    assert usable(controls) == [True, False, True] and offered(controls) == []
    assert controls.stop_button.value == "Stop and keep the best"
    assert "before it learned again from all images, it named 0 of 3" in text_of(test.refresh(learned).status)
    assert learned.job.previous_job is None and learned.job.training_setup is None and job.training_setup is not None


def test_learning_again_goes_to_the_end_of_an_impatient_plan_and_keeps_the_thresholds(tagged):
    plan = Plan((Phase(4, 0, 1e-3),), views=1, patience=1)
    visitor = Session(images=tagged)
    visitor.job = Job(
        lambda progress: small_model(tagged.classes, multi_label=True),
        lambda model: train(model, tagged, plan),
        Scheduler(),
        TrainingSetup(tagged, plan),
    )
    finish(visitor)
    thresholds = visitor.trained_model.model.thresholds.clone()
    assert not torch.equal(thresholds, torch.full_like(thresholds, 0.5))
    train_step.start_refit(visitor, Scheduler())
    _, sentence, _ = finish(visitor)
    assert len(visitor.job.run.epochs) == 4
    assert torch.allclose(visitor.trained_model.model.thresholds, thresholds)
    assert "The figures are of the run before: mean average precision" in text_of(sentence)


def test_learning_again_that_is_stopped_leaves_what_was_there(learned, monkeypatch):
    former, drawings, before = (
        learned.trained_model,
        render(learned),
        copied(learned.trained_model.model),
    )
    gate = threading.Event()

    def slow(*given):
        for event in refit(*given):
            yield event
            if isinstance(event, Epoch):
                gate.wait(30)

    monkeypatch.setattr(next_training, "refit", slow)
    train_step.start_refit(learned, Scheduler())
    watched = watching(learned)
    while not learned.job.run.epochs:
        next(watched)
    assert "From all images now. The head learns" in text_of(render(learned)[1])
    train_step.stop_training(learned)
    gate.set()
    *_, (drawing, sentence, charts) = watched
    assert text_of(sentence) == "Stopped. What had been learned before is kept."
    assert (drawing, charts) == drawings[::2]
    assert learned.trained_model is former and not moved(before, former.model)
    assert render(learned) == drawings
    assert offered(train_step.refresh_controls(learned)) == ["frozen", "reference", "again"]


def test_learning_again_that_fails_says_why_and_leaves_what_was_there(learned, monkeypatch):
    former, drawings = learned.trained_model, render(learned)

    def failing(*given):
        yield FrozenPass(1, 2, 0.1)
        raise InputError("The loss was no number.")

    monkeypatch.setattr(next_training, "refit", failing)
    train_step.start_refit(learned, Scheduler())
    drawing, sentence, charts = finish(learned)
    assert text_of(sentence) == "The loss was no number." and "hs-wrong" in sentence
    assert (drawing, charts) == drawings[::2]
    assert learned.trained_model is former
    assert offered(train_step.refresh_controls(learned)) == ["frozen", "reference", "again"]


@pytest.mark.parametrize("change", ["instead", "stopped", "images"])
def test_learning_again_is_offered_only_where_it_can_be_done(learned, change):
    if change == "instead":
        train_step.restore_candidate(learned, "frozen")
    elif change == "stopped":
        run = replace(learned.job.run, state="stopped", kept=None)
        learned.job.run, learned.trained_model = run, TrainedModel(learned.job.model, run)
    else:
        learned.job.release_images()
    assert "again" not in offered(train_step.refresh_controls(learned))
    job = learned.job
    train_step.start_refit(learned, Scheduler())
    assert learned.job is job


def test_images_are_let_go_with_their_visitor_although_they_could_have_been_learned_again(fruits, temporary):
    visitor = Session(images=load_images(fruits))
    plan = Plan((Phase(1, 0, 1e-3),), views=1)
    model = small_model(visitor.classes)

    def begin(images):
        visitor.job = Job(
            lambda p: model, lambda model: train(model, images, plan), Scheduler(), TrainingSetup(images, plan)
        )

    begin(visitor.images)
    finish(visitor)
    train_step.start_refit(visitor, Scheduler())
    finish(visitor)
    assert visitor.job.run.kept.refitted
    job = visitor.job
    job.join(30)
    visitor.release()
    gc.collect()
    assert list(temporary.iterdir()) == []


# Played again


def test_a_press_on_the_strip_after_a_training_says_what_the_next_one_does_beside_what_came_of_this_one(learned):
    result = text_of(render(learned)[1])
    _, words, _ = press(learned, 1)
    assert text_of(words).startswith(result)
    assert "Press Train: the head learns first, then the last stage learns too." in text_of(words)


def test_an_epoch_can_be_looked_at_again_once_the_training_is_over(learned):
    update = epoch_slider.refresh(learned)
    room, slider, words = update.container, update.epoch_slider, update.epoch_summary
    assert room.visible and (slider.value, slider.maximum, words) == (3, 3, "")
    drawing, charts, told = look(learned, 2)
    assert "only the head learns" in drawing and "learn" in look(learned, 3)[0]
    assert charts.count('class="hs-look"') == 2 and "Looked at: epoch 2." in charts
    epoch = learned.job.run.epochs[1]
    assert f"After epoch 2: {epoch.correct} of 3 validation images right" in text_of(told)
    table = ElementTree.fromstring(told[told.index("<table") : told.index("</table>") + 8])
    assert not table.findall(".//button")  # no images are shown for them
    counts = [[int("".join(cell.itertext())) for cell in row.findall("td")] for row in table.find("tbody")]
    assert counts == epoch.predictions.confusion_matrix().tolist()
    assert render(learned)[2].count("hs-look") == 0


def test_nothing_can_be_looked_at_while_a_training_runs_or_where_there_is_none(learned, monkeypatch):
    assert look(learned, 99) == (None, None, "")
    learned.job.join(60)  # or its thread, at its very end, would say that this run was stopped
    learned.job.run = replace(learned.job.run, state="running")
    assert look(learned, 2) == (None, None, "")
    assert not epoch_slider.refresh(learned).container.visible
    assert look(Session(), 1) == (None, None, "")


def test_of_several_labels_each_says_what_was_missed():
    called, shown = torch.tensor([[1, 0], [0, 1], [0, 1]]).bool(), torch.tensor([[1, 0], [1, 0], [0, 1]]).bool()
    each = epoch(4, metric="mean average precision", predictions=Predictions(called, shown, 2))
    told = text_of(epoch_slider.render_epoch(each, ["<b>red", "dark"]))
    assert "mean average precision 0.95" in told and "1 image: <b>red, missed" in told
    assert "1 image: dark, called wrongly" in told and "dark, missed" not in told


def test_of_many_classes_only_the_confusions_are_told():
    names = [f"class {i}" for i in range(30)]
    shown = torch.arange(30)
    called = shown.clone()
    called[3] = 5
    told = text_of(epoch_slider.render_epoch(epoch(1, predictions=Predictions(called, shown, 30)), names))
    assert told.endswith("1 image: class 3, answered class 5")


# A race of heads

LAPS = tuple(
    Lap(head, event)
    for head, right in (("linear", 40), ("mlp", 50))
    for event in (HEAD, epoch(1, correct=right - 9), Step(2, 1, 4, 0.3), epoch(2, correct=right))
)
PLACES = (RankedHead("mlp", 900, LAPS[-1].event), RankedHead("linear", 30, LAPS[3].event))


def raced(*events):
    run = Run("running", frozen_pass=FrozenPass(8, 8, 0.5))
    for event in events:
        run = run.with_event(event)
    return run


def test_a_race_has_a_curve_for_each_head_and_says_who_leads():
    run = raced(*LAPS)
    html = render_run_charts(run)
    assert run.is_racing and html.count("<polyline") == 4
    assert html.count('<polyline class="hs-validation"') == 2  # the one that leads
    assert "MLP 83 % after epoch 2 of 20, linear 67 %" in " ".join(Reader(html).attributes)
    assert "Two heads learn side by side" in text_of(render_run_status(run))
    assert "Epoch 2 of 20; MLP leads with 50 of 60 validation images right" in text_of(render_run_status(run))
    assert "leads" not in text_of(render_run_status(raced(LAPS[0])))


def test_when_a_race_is_won_the_winner_s_run_goes_on(network):
    run = raced(*LAPS, Won(PLACES, network))
    assert not run.is_racing and [each.correct for each in run.epochs] == [41, 50]
    told = text_of(render_run_status(run))
    assert told.startswith("Of 60 validation images right: MLP 50 and linear 40. MLP goes on. The head learns;")
    ended = render_run_status(replace(run.with_event(KEPT), state="finished"))
    assert "These images chose the head, so the figure flatters a little. Kept the weights of epoch 2" in ended


@pytest.fixture
def racing(loaded_fruits, monkeypatch):
    """Somebody who races heads on a small network, after so many epochs of the head."""
    monkeypatch.setattr(next_training, "build_seeded_network", lambda *given: small_model(loaded_fruits.classes))
    visitor = Session(images=loaded_fruits)

    def begin(epochs):
        controls = train_step.start_race(visitor, Scheduler(), epochs, 1, 1)
        problem = controls.problem
        assert problem == "" and usable(controls) == [False, True, False] and not controls.race_button.interactive
        return visitor

    return begin


def test_a_race_ends_with_the_winner_s_model_and_a_row_for_each_head(racing):
    visitor = racing(2)
    drawing, sentence, _ = finish(visitor)
    run = visitor.job.run
    assert run.state == "finished", run.problem
    assert set(run.heads) == set(next_training.DEFAULT_RACE_HEADS)
    winner = run.won.head
    assert type(visitor.trained_model.model.head).__name__.lower() == winner and f">{winner}<" in drawing
    assert "goes on." in text_of(sentence) and "validation images right" in text_of(sentence)
    assert sorted(ran.head for ran in visitor.run_summaries) == sorted(next_training.DEFAULT_RACE_HEADS)
    assert visitor.run_summaries[-1].head == winner and visitor.trained_model.run_number == len(visitor.run_summaries)
    assert all("in a race" in ran.schedule_text for ran in visitor.run_summaries)
    assert offered(train_step.refresh_controls(visitor))[-1] == "again"
    assert {lap.model for lap in run.laps} == {None}


def test_a_race_that_is_stopped_keeps_the_head_that_leads(racing, until):
    visitor = racing(500)
    job = visitor.job
    until(lambda: len(job.run.for_head("mlp").epochs) >= 2 or job.run.has_ended)
    train_step.stop_training(visitor)
    _, sentence, _ = finish(visitor)
    run = job.run
    assert run.state == "stopped" and run.won is None, run.problem
    assert type(visitor.trained_model.model.head).__name__.lower() == run.leading_head
    assert f"led the race. Stopped. Kept the weights of epoch {run.best_epoch.number}" in text_of(sentence)
    assert visitor.trained_model.run_number == len(visitor.run_summaries) == 4


def test_a_race_needs_images_and_stages_that_are_there(visitor):
    assert is_error(train_step.start_race(Session(), Scheduler(), 1, 0, 1).problem)
    assert "9 stages" in text_of(train_step.start_race(visitor, Scheduler(), 1, 12, 1).problem)
    assert visitor.job is None


def test_a_head_that_cannot_have_several_labels_does_not_race(tagged, monkeypatch):
    asked = []
    monkeypatch.setattr(
        next_training, "build_seeded_network", lambda *given: small_model(tagged.classes, multi_label=True)
    )
    monkeypatch.setattr(
        next_training, "race", lambda images, carrier, heads, plan, **given: asked.append(heads) or iter_of_none()
    )
    visitor = Session(images=tagged)
    train_step.start_race(visitor, Scheduler(), 1, 0, 1)
    visitor.job.join(30)
    assert list(asked[0]) == ["linear", "bottleneck", "mlp"]


def iter_of_none():
    yield from ()
