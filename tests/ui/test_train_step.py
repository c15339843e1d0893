"""What the train step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import gc
import threading
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import gradio as gr
import pytest
import torch
from drawings import copied, moved, small_model
from telling import HEAD, KEPT, STORY, THAW, epoch
from visiting import Reader, choose, is_error, text_of

from headswap.common.errors import InputError
from headswap.data.loading import load_images
from headswap.evaluation.metrics import Predictions
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import ClassificationMetrics, Epoch, Kept, Reference, Step
from headswap.training.plan import Phase, Plan
from headswap.training.race import Lap, RankedHead, Won
from headswap.training.api import refit, train
from headswap.ui.panels import epoch_slider
from headswap.ui.sessions import next_training
from headswap.ui.sessions.job import Job, Run, Scheduler, TrainingSetup
from headswap.ui.sessions.session import ModelChoice, Session, TrainedModel
from headswap.ui.steps import model as model_step
from headswap.ui.steps import test
from headswap.ui.steps import train as train_step
from headswap.ui.views.run_charts import render_run_charts
from headswap.ui.views.run_text import render_run_status

SOLVED = Reference(ClassificationMetrics(0.9, "accuracy", 54, 60, 0.3), 0.1)


def usable(buttons):
    """Train, Stop and Go on."""
    return [button.interactive for button in buttons[:3]]


def offered(buttons):
    """What else can be pressed, below the sentence."""
    names = ("frozen", "reference", "own", "again")
    return [name for name, button in zip(names, buttons[3:7], strict=True) if button.visible]


# Before


def test_without_images_the_train_step_says_what_is_missing():
    visitor = Session()
    drawing, words, charts, *others = train_step.refresh(visitor)
    sliders, buttons = others[:3], others[3:]
    assert "Choose images in the first step" in text_of(words)
    assert 'class="hs-strip"' in drawing
    assert charts == render_run_charts(Run())
    assert sliders == [gr.skip()] * 3
    assert usable(buttons) == [False, False, False]
    assert offered(buttons) == []


def test_starting_without_images_is_an_error_and_starts_nothing():
    visitor = Session()
    problem, *buttons = train_step.start_training(visitor, Scheduler(), 1, 0, 1)
    assert is_error(problem)
    assert "no images yet" in text_of(problem)
    assert visitor.job is None
    assert usable(buttons) == [False, False, False]


def test_with_images_the_train_step_suggests_a_plan(visitor):
    drawing, words, _, head_epochs, stages, stage_epochs, *buttons = train_step.refresh(visitor)
    assert 'class="hs-strip"' in drawing
    assert "Press Train" in text_of(words)
    assert "as few as 4 images" in text_of(words)
    assert min(head_epochs.value, stages.value, stage_epochs.value) >= 1
    assert stages.maximum == 9
    assert usable(buttons) == [True, False, False]


def test_the_plan_reaches_no_further_than_the_chosen_network(visitor):
    choose(visitor, backbone="resnet18")
    stages = train_step.refresh(visitor)[4]
    assert stages.value <= stages.maximum == 5


def test_more_stages_than_the_network_has_are_refused_where_they_were_asked_for(visitor):
    choose(visitor, backbone="resnet18")
    problem, *buttons = train_step.start_training(visitor, Scheduler(), 1, 9, 1)
    assert is_error(problem)
    assert "5 stages" in text_of(problem)
    assert visitor.job is None
    assert usable(buttons) == [True, False, False]


def test_stopping_nothing_does_nothing():
    train_step.stop_training(Session())


def test_without_a_training_watching_leaves_everything_as_it_stands(visitor):
    # An event that tells nothing at all empties its outputs.
    assert list(train_step.watch_training(visitor)) == [(gr.skip(), gr.skip(), gr.skip())]


def test_a_plan_that_unfreezes_nothing_can_still_be_told_to(visitor, network, monkeypatch):
    alone = Plan((Phase(9, 0, 1e-3),), views=3, advice="Only the head.")
    monkeypatch.setattr(Plan, "suggest", lambda images, model: alone)
    _, words, _, head_epochs, stages, stage_epochs, *_ = train_step.refresh(visitor)
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

    def train(model, images, plan, beforehand):
        plans.append((model, images, [(phase.epochs, phase.learning_stages) for phase in plan.phases]))
        yield from STORY

    monkeypatch.setattr(next_training, "build_seeded_network", lambda *given: network)
    monkeypatch.setattr(next_training, "train", train)
    assert train_step.start_training(visitor, Scheduler(), *asked)[0] == ""
    visitor.job.join(30)
    assert plans == [(network, visitor.images, phases)]


def test_pressing_a_block_moves_the_slider_the_boundary_and_the_words(visitor):
    drawing, words, stages = train_step.click_stage(visitor, SimpleNamespace(learning=4))
    assert "Stages stem to 4 stand still; 5 to last and the head learn." in drawing
    assert "then the last four stages learn too" in text_of(words)
    assert (stages.value, stages.maximum) == (4, 9)
    drawing, words, stages = train_step.click_stage(visitor, SimpleNamespace(learning=0))
    assert "only the head learns" in drawing
    assert "Press Train: the head learns." in text_of(words)
    assert stages.value == 0
    assert train_step.refresh(visitor)[0] == drawing
    assert train_step.refresh(visitor)[4].value == 0


def test_the_slider_moves_the_boundary_as_a_press_does(visitor):
    assert (
        train_step.set_unfrozen_stages(visitor, 4)
        == train_step.click_stage(Session(images=visitor.images), SimpleNamespace(learning=4))[:2]
    )
    assert train_step.set_unfrozen_stages(visitor, None) == (gr.skip(),) * 2
    assert visitor.num_unfrozen_stages == 4


def test_without_images_a_press_is_drawn_and_nothing_else_said():
    drawing, words, stages = train_step.click_stage(Session(), SimpleNamespace(learning=1))
    assert "last and the head learn" in drawing and words == gr.skip() and stages.value == 1


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
        return list(train_step.watch_training(visitor))

    return watch


def test_watching_ends_with_everything_drawn_and_takes_over_what_was_learned(visitor, watched):
    *_, (drawing, words, charts) = watched(*STORY)
    assert charts == render_run_charts(visitor.job.run)
    assert "Kept the weights of epoch 2" in text_of(words)
    assert "learn" in drawing
    assert visitor.trained_model == TrainedModel(visitor.job.model, visitor.job.run)
    assert usable(train_step.refresh_buttons(visitor)) == [True, False, True]


def test_watching_again_after_the_end_draws_the_end_again(visitor, watched):
    *_, last = watched(*STORY)
    visitor.trained_model = None
    ((drawing, words, charts),) = train_step.watch_training(visitor)
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
    assert usable(train_step.refresh_buttons(visitor)) == [True, False, True]


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
    watched = train_step.watch_training(visitor)
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
    for drawing, _, _ in train_step.watch_training(visitor):
        if drawing not in (gr.skip(), *strips):
            strips.append(drawing)
        run = visitor.job.run
        for gate in gates[: len(run.phases)]:
            gate.set()
    assert "Stages stem to last stand still; only the head learns." in text_of(" ".join(Reader(strips[-3]).attributes))
    assert "6, 7, last and the head learn." in " ".join(Reader(strips[-2]).attributes)
    assert strips[-2].replace(' disabled=""', "") == strips[-1]  # once it is over, blocks can be pressed again


def test_a_sentence_is_spoken_at_most_once_a_second(visitor, network, monkeypatch):
    monkeypatch.setattr(train_step, "time", SimpleNamespace(monotonic=lambda: 100.0))
    monkeypatch.setattr(train_step, "CHART_INTERVAL", 0.001)
    turn = threading.Event()

    def tell(model):
        for event in (FrozenPass(8, 8, 0.5), HEAD, *(epoch(number) for number in range(1, 8)), KEPT):
            turn.wait(30)
            turn.clear()
            yield event

    visitor.job = Job(lambda progress: network, tell, Scheduler())
    words = []
    for _, sentence, _ in train_step.watch_training(visitor):
        words.append(sentence)
        turn.set()
    assert len(words) > 4
    assert gr.skip() not in (words[0], words[-1])
    assert all(sentence == gr.skip() for sentence in words[1:-1])


def test_while_a_training_runs_only_stop_can_be_pressed_and_its_drawings_stay(visitor, network):
    gate = threading.Event()

    def tell(model):
        yield FrozenPass(1, 2, 0.1)
        gate.wait(30)

    visitor.job = job = Job(lambda progress: network, tell, Scheduler())
    try:
        assert usable(train_step.refresh_buttons(visitor)) == [False, True, False]
        prepared = train_step.refresh(visitor)
        assert list(prepared[:6]) == [gr.skip()] * 6
        assert usable(prepared[6:]) == [False, True, False]
        assert offered(prepared[6:]) == []
        assert train_step.start_training(visitor, Scheduler(), 1, 1, 1)[0] == gr.skip()
        assert visitor.job is job
        assert train_step.click_stage(visitor, SimpleNamespace(learning=4)) == (gr.skip(),) * 3
        assert model_step.click_stage(visitor, SimpleNamespace(learning=4)).count("disabled") == 10
        assert visitor.num_unfrozen_stages is None
        train_step.stop_training(visitor)
    finally:
        gate.set()
    job.join(30)
    assert job.run.state == "stopped"


# The bundled network, for real


def test_a_real_training_goes_through_both_phases_to_a_model(trained):
    problem, *buttons = trained.started
    assert problem == ""
    assert usable(buttons) == [False, True, False]
    run = trained.visitor.job.run
    assert run.state == "finished"
    assert [begins.phase.learning_stages for begins in run.phases] == [0, 1]
    assert [each.number for each in run.epochs] == [1, 2, 3, 4]
    assert run.frozen_pass.done == run.frozen_pass.total
    assert trained.visitor.trained_model == TrainedModel(trained.visitor.job.model, run)
    assert len({charts for _, _, charts in trained.rows}) >= 2
    assert text_of(trained.rows[-1][1]).startswith("Kept ")
    assert run.reference is not None
    assert offered(train_step.refresh_buttons(trained.visitor))[-1] == "again"


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
    *_, visitor.last = train_step.watch_training(visitor)
    assert visitor.job.run.state == "finished", visitor.job.run.problem
    return visitor


def test_when_a_training_is_over_what_can_be_kept_instead_is_offered(learned):
    assert offered(train_step.refresh_buttons(learned)) == ["frozen", "reference", "again"]
    assert offered(train_step.refresh(learned)[6:]) == ["frozen", "reference", "again"]


def test_a_page_that_is_loaded_again_shows_the_plan_that_was_followed(learned):
    assert [slider.value for slider in train_step.refresh(learned)[3:6]] == [2, 2, 1]
    train_step.click_stage(learned, SimpleNamespace(learning=1))
    assert train_step.refresh(learned)[4].value == 1
    learned.num_unfrozen_stages = None
    train_step.start_refit(learned, Scheduler())
    learned.job.join(60)
    assert [slider.value for slider in train_step.refresh(learned)[3:6]] == [2, 2, 1]


def test_a_head_solved_at_once_that_is_not_ahead_is_not_offered(learned):
    run = replace(learned.job.run, kept=replace(learned.job.run.kept, correct=3))
    learned.job.run, learned.trained_model = run, TrainedModel(learned.job.model, run)
    assert offered(train_step.refresh_buttons(learned)) == ["frozen", "again"]


def test_where_nothing_was_unfrozen_there_is_no_frozen_network_to_keep_instead(learned):
    run = replace(learned.job.run, kept=replace(learned.job.run.kept, checkpoint="best", epoch=1))
    learned.job.run, learned.trained_model = run, TrainedModel(learned.job.model, run)
    assert offered(train_step.refresh_buttons(learned)) == ["reference", "again"]
    own = train_step.restore_candidate(learned, "reference")[8]
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
    before, offer, first = copied(model), run.kept.candidates[name], train_step.render_training(learned)

    drawing, sentence, charts, *buttons = train_step.restore_candidate(learned, name)
    figures = offer.validation_metrics
    assert text_of(sentence).startswith(f"{words}{figures.correct} of {figures.total} validation images right")
    assert "only the head learns" in " ".join(Reader(drawing).attributes)
    assert f">{type(offer.head).__name__.lower()}<" in drawing
    assert charts.count('class="hs-kept"') == (2 if name == "frozen" else 0)
    assert offered(buttons) == others
    assert copied(learned.trained_model.model.head).keys() == copied(offer.head).keys()
    assert not moved(copied(offer.head), learned.trained_model.model.head)
    assert all(torch.equal(model.state_dict()[key], kept) for key, kept in offer.weights.items())

    drawing, words, *_ = test.refresh(learned)
    assert "only the head learns" in " ".join(Reader(drawing).attributes)
    assert f"named {figures.correct} of {figures.total} validation images" in text_of(words)

    assert train_step.restore_candidate(learned, "own")[:3] == first
    assert not moved(before, model)
    assert offered(train_step.refresh_buttons(learned)) == ["frozen", "reference", "again"]


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
    assert train_step.restore_candidate(Session(), "frozen")[:3] == (gr.skip(),) * 3


def test_whoever_comes_back_finds_what_was_kept_instead(learned):
    drawings = train_step.restore_candidate(learned, "frozen")[:3]
    assert list(train_step.watch_training(learned)) == [drawings]
    assert train_step.refresh(learned)[:3] == drawings
    assert learned.trained_model.active_candidate == "frozen"


def test_nothing_is_offered_that_belongs_to_other_images_or_another_network(learned):
    learned.set_choice(ModelChoice("resnet18", "linear"))
    assert offered(train_step.refresh_buttons(learned)) == []
    assert train_step.restore_candidate(learned, "frozen")[:3] == (gr.skip(),) * 3
    assert train_step.start_refit(learned, Scheduler())[0] == "" and learned.job is None


def finish(visitor):
    *_, last = train_step.watch_training(visitor)
    return last


def test_learning_again_ends_with_another_model_that_saw_all_images(learned, loaded_fruits):
    former, job = learned.trained_model, learned.job
    problem, *buttons = train_step.start_refit(learned, Scheduler())
    assert problem == ""
    assert usable(buttons) == [False, True, True] and offered(buttons) == []
    assert buttons[1].value == "Stop and keep what was there before"
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
    buttons = train_step.refresh_buttons(learned)
    assert usable(buttons) == [True, False, True] and offered(buttons) == []
    assert buttons[1].value == "Stop and keep the best"
    assert "before it learned again from all images, it named 0 of 3" in text_of(test.refresh(learned)[1])
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
        train_step.render_training(learned),
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
    watched = train_step.watch_training(learned)
    while not learned.job.run.epochs:
        next(watched)
    assert "From all images now. The head learns" in text_of(train_step.render_training(learned)[1])
    train_step.stop_training(learned)
    gate.set()
    *_, (drawing, sentence, charts) = watched
    assert text_of(sentence) == "Stopped. What had been learned before is kept."
    assert (drawing, charts) == drawings[::2]
    assert learned.trained_model is former and not moved(before, former.model)
    assert train_step.render_training(learned) == drawings
    assert offered(train_step.refresh_buttons(learned)) == ["frozen", "reference", "again"]


def test_learning_again_that_fails_says_why_and_leaves_what_was_there(learned, monkeypatch):
    former, drawings = learned.trained_model, train_step.render_training(learned)

    def failing(*given):
        yield FrozenPass(1, 2, 0.1)
        raise InputError("The loss was no number.")

    monkeypatch.setattr(next_training, "refit", failing)
    train_step.start_refit(learned, Scheduler())
    drawing, sentence, charts = finish(learned)
    assert text_of(sentence) == "The loss was no number." and "hs-wrong" in sentence
    assert (drawing, charts) == drawings[::2]
    assert learned.trained_model is former
    assert offered(train_step.refresh_buttons(learned)) == ["frozen", "reference", "again"]


@pytest.mark.parametrize("change", ["instead", "stopped", "images"])
def test_learning_again_is_offered_only_where_it_can_be_done(learned, change):
    if change == "instead":
        train_step.restore_candidate(learned, "frozen")
    elif change == "stopped":
        run = replace(learned.job.run, state="stopped", kept=None)
        learned.job.run, learned.trained_model = run, TrainedModel(learned.job.model, run)
    else:
        learned.job.release_images()
    assert "again" not in offered(train_step.refresh_buttons(learned))
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
    result = text_of(train_step.render_training(learned)[1])
    _, words, _ = train_step.click_stage(learned, SimpleNamespace(learning=1))
    assert text_of(words).startswith(result)
    assert "Press Train: the head learns first, then the last stage learns too." in text_of(words)


def test_an_epoch_can_be_looked_at_again_once_the_training_is_over(learned):
    room, slider, words = epoch_slider.refresh(learned)
    assert room.visible and (slider.value, slider.maximum, words) == (3, 3, "")
    drawing, charts, told = train_step.show_epoch(learned, 2)
    assert "only the head learns" in drawing and "learn" in train_step.show_epoch(learned, 3)[0]
    assert charts.count('class="hs-look"') == 2 and "Looked at: epoch 2." in charts
    epoch = learned.job.run.epochs[1]
    assert f"After epoch 2: {epoch.correct} of 3 validation images right" in text_of(told)
    table = ElementTree.fromstring(told[told.index("<table") : told.index("</table>") + 8])
    assert not table.findall(".//button")  # no images are shown for them
    counts = [[int("".join(cell.itertext())) for cell in row.findall("td")] for row in table.find("tbody")]
    assert counts == epoch.predictions.confusion_matrix().tolist()
    assert train_step.render_training(learned)[2].count("hs-look") == 0


def test_nothing_can_be_looked_at_while_a_training_runs_or_where_there_is_none(learned, monkeypatch):
    assert train_step.show_epoch(learned, 99) == (gr.skip(), gr.skip(), "")
    learned.job.join(60)  # or its thread, at its very end, would say that this run was stopped
    learned.job.run = replace(learned.job.run, state="running")
    assert train_step.show_epoch(learned, 2) == (gr.skip(), gr.skip(), "")
    assert not epoch_slider.refresh(learned)[0].visible
    assert train_step.show_epoch(Session(), 1) == (gr.skip(), gr.skip(), "")


def test_of_several_labels_each_says_what_was_missed():
    called, shown = torch.tensor([[1, 0], [0, 1], [0, 1]]).bool(), torch.tensor([[1, 0], [1, 0], [0, 1]]).bool()
    each = epoch(4, metric="mean average precision", answers=Predictions(called, shown, 2))
    told = text_of(epoch_slider.render_epoch(each, ["<b>red", "dark"]))
    assert "mean average precision 0.95" in told and "1 image: <b>red, missed" in told
    assert "1 image: dark, called wrongly" in told and "dark, missed" not in told


def test_of_many_classes_only_the_confusions_are_told():
    names = [f"class {i}" for i in range(30)]
    shown = torch.arange(30)
    called = shown.clone()
    called[3] = 5
    told = text_of(epoch_slider.render_epoch(epoch(1, answers=Predictions(called, shown, 30)), names))
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
        problem, *buttons = train_step.start_race(visitor, Scheduler(), epochs, 1, 1)
        assert problem == "" and usable(buttons) == [False, True, False] and not buttons[7].interactive
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
    assert offered(train_step.refresh_buttons(visitor))[-1] == "again"
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
    assert is_error(train_step.start_race(Session(), Scheduler(), 1, 0, 1)[0])
    assert "9 stages" in text_of(train_step.start_race(visitor, Scheduler(), 1, 12, 1)[0])
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
