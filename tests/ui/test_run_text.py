"""What is said of a training while it runs and when it is over."""

from dataclasses import replace

import pytest
from telling import FINISHED, HEAD, THAW, epoch
from visiting import text_of

from headswap.evaluation.significance import UnfreezingComparison
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import ClassificationMetrics, LearningRate, PhaseBegins, Reference, Step
from headswap.training.plan import Phase
from headswap.ui.sessions.run import Fetching, Run
from headswap.ui.views.run_text import render_run_status

SOLVED = Reference(ClassificationMetrics(0.9, "accuracy", 54, 60, 0.3), 0.1)


def text(run):
    return text_of(render_run_status(run))


def test_at_the_start_the_network_is_built_and_perhaps_downloaded():
    assert "Building the network" in text(Run())
    assert "Downloading the weights: 12 MB of 47 MB" in text(Run(download=Fetching(12_000_000, 47_000_000)))


@pytest.mark.parametrize(
    ("place", "words"), [(1, "It is the next, and begins"), (2, "One waits before"), (4, "Three wait before it, and")]
)
def test_whoever_waits_for_a_place_reads_how_many_are_before(place, words):
    told = text(Run(queue_position=place))
    assert "this machine lets eight trainings learn at once" in told
    assert words in told


def test_the_frozen_pass_says_how_far_it_is_and_how_long_it_takes():
    words = text(Run("running", frozen_pass=FrozenPass(120, 300, 2.0)))
    assert "through the frozen stages" in words
    assert "120 of 300" in words
    assert "3 s left" in words


def test_the_head_phase_says_that_the_backbone_stands_still():
    run = Run("running", frozen_pass=FrozenPass(300, 300, 5.0), phases=(HEAD,), epochs=(), step=Step(1, 1, 8, 1.1))
    words = text(run)
    assert "The head learns" in words
    assert "all 3.4 million weights of the backbone stand still" in words
    assert "Epoch 1 of 36" in words
    assert "Epoch 3 of 36" in text(run.with_event(epoch(1)).with_event(epoch(2)).with_event(epoch(3)))


def test_the_unfrozen_phase_says_how_many_stages_learn_and_how_fast():
    epochs = tuple(epoch(number) for number in range(1, 21))
    run = Run(
        "running", frozen_pass=FrozenPass(300, 300, 5.0), phases=(HEAD, THAW), epochs=epochs, step=Step(21, 1, 8, 0.4)
    )
    words = text(run)
    assert "The last three stages learn too, at a tenth of the head's rate" in words
    assert "2.2 million of 3.4 million weights stand still" in words
    assert "Epoch 21 of 36" in words
    assert "Epoch 21 of 36" in text(run.with_event(epoch(21)))


def test_the_time_left_is_what_the_last_event_says_of_the_whole_run():
    run = Run("running", frozen_pass=FrozenPass(300, 300, 5.0), phases=(replace(HEAD, left=41.0),))
    assert "Epoch 1 of 36, 41 s left" in text(run)
    run = run.with_event(epoch(1, seconds=9.0, left=33.0))
    assert "Epoch 1 of 36, 33 s left" in text(run)
    run = run.with_event(replace(THAW, first_epoch=2, left=25.0))
    assert "Epoch 2 of 36, 25 s left" in text(run)
    assert "Epoch 2 of 36, 200 s left" not in text(run.with_event(epoch(2, left=200.0)))
    assert "Epoch 2 of 36, 3 min left" in text(run.with_event(epoch(2, left=200.0)))


def test_images_that_are_read_for_a_later_phase_are_told_as_such():
    run = Run("running", frozen_pass=FrozenPass(3, 12, 1.0), phases=(HEAD,), epochs=(epoch(20),))
    assert "3 of 12 views, 3 s left" in text(run)


def rates(*values):
    return tuple(LearningRate(str(i), value) for i, value in enumerate(values))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (rates(1e-4, 1e-4, 1e-3), "too, at a tenth of the head's rate;"),
        (rates(3e-5, 1e-4, 1e-3), "too, at a tenth to 1/33 of the head's rate;"),
        (rates(1e-3, 1e-3), "too, at the head's rate;"),
        (rates(5e-4, 1e-3), "too, at half of the head's rate;"),
        (rates(2e-3, 1e-3), "too, at the head's rate;"),
        ((), "too;"),
    ],
)
def test_the_rates_are_those_that_the_phase_says(told, words):
    begins = replace(THAW, phase=Phase(16, 3, 7.0, 7.0), rates=told)
    assert words in text(Run("running", phases=(begins,)))


@pytest.mark.parametrize(
    ("learning", "words"),
    [(1, "The last stage learns too"), (2, "The last two stages learn too"), (None, "All stages learn too")],
)
def test_one_stage_and_all_of_them_have_their_own_words(learning, words):
    begins = PhaseBegins(1, 1, Phase(4, learning, 1e-3, 1e-4), 1, 4, ("a",), 10, 20, 30)
    assert words in text(Run("running", phases=(begins,), step=Step(1, 1, 1, 0.5)))


def test_a_finished_training_says_what_was_kept_with_its_interval():
    words = text(FINISHED)
    assert words.startswith("Kept the weights of epoch 31: 57 of 60 validation images right, 95 %")
    assert "between 86 % and 98 %" in words
    assert "These images chose the epoch, so the figure flatters." in words


def kept(**more):
    """What a finished training says that it kept."""
    return text(replace(FINISHED, kept=replace(FINISHED.kept, **more)))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("between", "Kept the weights half-way between the frozen network's and those of epoch 31: 57 of 60"),
        ("last", "Kept the weights of the last epoch, 31: 57 of 60"),
    ],
)
def test_what_was_not_chosen_by_these_images_does_not_flatter(what, words):
    told = kept(checkpoint=what, selected_on_validation=False, weight_interpolation=0.5)
    assert told.startswith(words)
    assert "flatters" not in told


def test_a_finished_training_says_whether_unfreezing_was_worth_it():
    verdict = UnfreezingComparison(60, 55, 57, better=3, worse=1, p=0.6, interval=(-0.03, 0.1), seconds=12.0)
    assert kept(verdict=verdict).endswith(verdict.sentence)


def test_a_head_solved_at_once_is_told_only_where_it_is_ahead():
    ahead, behind = (ClassificationMetrics(right / 60, "accuracy", right, 60, 0.3) for right in (58, 57))
    assert kept(reference=ahead).endswith(
        "solved at once is ahead, and a press keeps it: 58 of 60 validation images right, 97 % (between 89 % and 99 %)."
    )
    assert "solved at once" not in kept(reference=behind)


def test_what_went_wrong_is_said_first_and_as_text():
    assert kept(problem="In epoch 32 the loss was <b>no number</b>.").startswith(
        "In epoch 32 the loss was <b>no number</b>. Kept the weights of epoch 31"
    )


def test_after_a_refit_the_figures_are_said_to_be_the_honest_run_s():
    told = kept(refitted=True, reference=ClassificationMetrics(1.0, "accuracy", 60, 60, 0.1))
    assert told.startswith("Learned again from all images")
    assert "The figures are of the run before: 57 of 60 validation images right, 95 % (between 86 % and 98 %)." in told
    assert "solved at once" not in told and "flatters" in told


def test_a_stopped_training_says_what_was_kept():
    words = text(Run("stopped", phases=(HEAD,), epochs=(epoch(1, correct=30), epoch(2, correct=57))))
    assert words.startswith("Stopped. Kept the weights of epoch 2: 57 of 60")


def test_a_training_that_took_too_long_says_so_and_what_was_kept(monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_MINUTES", "3")
    run = Run("stopped", timed_out=True, phases=(HEAD,), epochs=(epoch(1),))
    assert text(run).startswith("Stopped after 3 minutes, the most here. Kept the weights of epoch 1")
    assert text(Run("stopped", timed_out=True)).startswith(
        "Stopped after 3 minutes, the most here, before the first epoch"
    )


@pytest.mark.parametrize(
    "run",
    [
        Run("stopped"),
        Run("stopped", frozen_pass=FrozenPass(4, 8, 0.1)),
        Run("stopped", frozen_pass=FrozenPass(8, 8, 0.1), phases=(HEAD,), epochs=(), step=Step(1, 1, 8, 1.1)),
    ],
)
def test_a_training_stopped_before_its_first_epoch_learned_nothing(run):
    assert "nothing was learned" in text(run)
    assert "Kept" not in text(run)


def test_a_failed_training_shows_its_problem_as_an_error():
    html = render_run_status(Run("failed", problem="The weights <vgg16> & all could not be downloaded."))
    assert "The weights <vgg16> & all could not be downloaded." in text_of(html)
    assert "<vgg16>" not in html
    assert "hs-wrong" in html


@pytest.mark.parametrize(
    "run", [Run(), Run("running", frozen_pass=FrozenPass(1, 2, 0.1)), FINISHED, Run("failed", problem="No.")]
)
def test_the_sentence_is_spoken_politely(run):
    assert 'aria-live="polite"' in render_run_status(run)
