"""Each visitor has things of their own, finds them after a reload, and loses them when away for too long."""

import gc
import threading
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pictures import FLOWERS, folder

from headswap.common import system_memory
from headswap.data.loading import load_images
from headswap.features import inference
from headswap.features.frozen_pass import FrozenPass
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.training.events import Candidate, ClassificationMetrics, Epoch, Kept, PhaseBegins
from headswap.training.plan import Phase
from headswap.ui.sessions import registry
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import ModelChoice, TrainedModel

PATIENCE = 600.0


class Clock:
    """A clock that stands still until it is told otherwise."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visitors(clock):
    return SessionRegistry(PATIENCE, clock)


@pytest.fixture
def images(tmp_path, temporary):
    flowers = folder(tmp_path / "flowers", *FLOWERS)
    return lambda: load_images(flowers)


class Endless:
    """A job that trains until it is stopped."""

    def __init__(self, images=None):
        self.closed = threading.Event()
        self.job = Job(lambda progress: SimpleNamespace(outline=tuple), lambda model: self._train(images), Scheduler())

    def _train(self, images):
        try:
            while True:
                yield FrozenPass(1, 2, 0.1)
        finally:
            self.closed.set()


@pytest.fixture
def endless():
    made = []

    def make(images=None):
        made.append(Endless(images))
        return made[-1]

    yield make
    for each in made:
        each.job.stop()
        each.job.join(30)


# Arriving


def test_whoever_brings_no_ticket_gets_one(visitors):
    ticket = visitors.open_tab(None, "tab")
    assert isinstance(visitors.get_session(ticket), Session)
    assert len(visitors) == 1


def test_a_known_ticket_is_kept(visitors):
    ticket = visitors.open_tab(None, "tab")
    visitor = visitors.get_session(ticket)
    assert visitors.open_tab(ticket, "another tab") == ticket
    assert visitors.get_session(ticket) is visitor
    assert len(visitors) == 1


def test_a_ticket_that_is_not_known_is_replaced(visitors):
    ticket = visitors.open_tab("made up", "tab")
    assert ticket != "made up"
    assert visitors.get_session("made up") is None
    assert visitors.get_session(ticket) is not None


def test_tickets_cannot_be_guessed(visitors):
    tickets = {visitors.open_tab(None, f"tab {i}") for i in range(50)}
    assert len(tickets) == 50
    assert min(map(len, tickets)) >= 20


def test_nobody_has_no_ticket(visitors):
    visitors.open_tab(None, "tab")
    assert visitors.get_session(None) is None
    assert visitors.get_session("") is None


def test_a_new_visitor_has_nothing_but_the_default_choice(visitors):
    visitor = visitors.get_session(visitors.open_tab(None, "tab"))
    assert (visitor.images, visitor.job, visitor.trained_model) == (None, None, None)
    assert visitor.choice == ModelChoice(DEFAULT_BACKBONE, "linear", {"dropout": 0.0})
    assert not visitor.is_training
    assert visitor.classes == 3


def test_two_visitors_never_see_each_others_things(visitors, images, endless):
    one, other = (visitors.get_session(visitors.open_tab(None, tab)) for tab in ("one's", "other's"))
    one.set_images(images())
    one.choice = ModelChoice("resnet18", "mlp", {"dropout": 0.5})
    one.job = endless().job
    one.trained_model = TrainedModel(None, Run())
    assert one.classes == ("roses", "tulips")
    assert one.is_training
    assert other == Session(tabs={"other's"})
    one.choice.head_options["dropout"] = 0.9
    assert Session().choice.head_options == {"dropout": 0.0}


def test_arriving_from_many_threads_loses_nobody(visitors):
    tickets = []

    def arrive(number):
        for i in range(50):
            tickets.append(visitors.open_tab(None, f"{number} {i}"))

    threads = [threading.Thread(target=arrive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(tickets)) == len(visitors) == 400


# Leaving and coming back


def test_a_reload_keeps_everything(visitors, clock, images, endless):
    ticket = visitors.open_tab(None, "before")
    visitor = visitors.get_session(ticket)
    visitor.set_images(mine := images())
    visitor.job = job = endless().job
    visitors.close_tab("before")
    assert visitor.away_since == clock.now
    clock.now += PATIENCE
    assert visitors.open_tab(ticket, "after") == ticket
    clock.now += 10 * PATIENCE
    assert visitors.expire_idle() == 0
    assert visitors.get_session(ticket) is visitor
    assert (visitor.images, visitor.job) == (mine, job)
    assert visitor.is_training
    assert visitor.away_since is None


def test_a_reload_whose_new_page_arrives_before_the_old_one_leaves_is_none_the_worse(visitors, clock):
    ticket = visitors.open_tab(None, "before")
    visitors.open_tab(ticket, "after")
    visitors.close_tab("before")
    clock.now += 10 * PATIENCE
    assert visitors.expire_idle() == 0
    assert visitors.get_session(ticket) is not None


def test_a_visitor_with_two_tabs_is_away_when_both_are_closed(visitors, clock):
    ticket = visitors.open_tab(None, "one")
    visitors.open_tab(ticket, "two")
    visitors.close_tab("one")
    assert visitors.get_session(ticket).away_since is None
    visitors.close_tab("two")
    assert visitors.get_session(ticket).away_since == clock.now


def test_leaving_twice_does_not_lengthen_the_patience(visitors, clock):
    ticket = visitors.open_tab(None, "tab")
    visitors.close_tab("tab")
    left = clock.now
    clock.now += 5
    visitors.close_tab("tab")
    visitors.close_tab("somebody else's")
    assert visitors.get_session(ticket).away_since == left


# The sweeper


def test_only_those_away_for_longer_than_patience_are_let_go(visitors, clock):
    tickets = {who: visitors.open_tab(None, who) for who in ("early", "late", "here")}
    visitors.close_tab("early")
    clock.now += 1
    visitors.close_tab("late")
    clock.now += PATIENCE - 1
    assert visitors.expire_idle() == 0
    clock.now += 1
    assert visitors.expire_idle() == 1
    assert visitors.get_session(tickets["early"]) is None
    assert visitors.get_session(tickets["late"]) is not None
    clock.now += 1
    assert visitors.expire_idle() == 1
    assert {who for who, ticket in tickets.items() if visitors.get_session(ticket)} == {"here"}
    assert len(visitors) == 1


def test_a_ticket_that_was_swept_is_not_known_any_more(visitors, clock):
    ticket = visitors.open_tab(None, "tab")
    visitors.close_tab("tab")
    clock.now += PATIENCE + 1
    visitors.expire_idle()
    assert visitors.get_session(ticket) is None
    assert visitors.open_tab(ticket, "tab") != ticket


def test_letting_go_stops_what_trains(visitors, clock, endless):
    ticket = visitors.open_tab(None, "tab")
    running = endless()
    visitors.get_session(ticket).job = running.job
    visitors.close_tab("tab")
    assert visitors.expire_idle() == 0
    assert not running.job._stop_requested.is_set()
    clock.now += PATIENCE + 1
    visitors.expire_idle()
    running.job.join(30)
    assert running.closed.is_set()
    assert running.job.run.state == "stopped"


def test_the_files_of_images_go_when_their_visitor_is_let_go(visitors, clock, images, temporary):
    ticket = visitors.open_tab(None, "tab")
    visitors.get_session(ticket).set_images(images())
    assert len(list(temporary.iterdir())) == 1
    visitors.close_tab("tab")
    clock.now += PATIENCE + 1
    visitors.expire_idle()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_training_that_is_let_go_gives_its_images_back_when_it_ends(visitors, clock, images, endless, temporary):
    ticket = visitors.open_tab(None, "tab")
    mine = images()
    visitors.get_session(ticket).set_images(mine)
    running = Endless(mine)
    visitors.get_session(ticket).job, closed = running.job, running.closed
    del mine, running
    visitors.close_tab("tab")
    clock.now += PATIENCE + 1
    job = visitors.get_session(ticket).job
    visitors.expire_idle()
    job.join(30)
    del job
    assert closed.is_set()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_images_that_others_replaced_come_back_by_undo_and_go_with_the_next_change(images, temporary):
    visitor = Session()
    visitor.set_images(first := images())
    visitor.set_images(second := images())
    visitor.undo_image_change()
    assert visitor.images is first
    del first
    visitor.set_images(second)
    visitor.set_images(third := images())
    gc.collect()
    assert set(temporary.iterdir()) == {second.paths[0].parent, third.paths[0].parent}


def test_a_training_that_has_ended_holds_no_images(images, endless, temporary):
    visitor = Session()
    visitor.set_images(images())
    visitor.job = endless(visitor.images).job
    visitor.job.stop()
    visitor.job.join(30)
    visitor.clear_images()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_the_sweeper_goes_on_by_itself(visitors, clock, monkeypatch, until):
    ticket = visitors.open_tab(None, "tab")
    visitors.close_tab("tab")
    clock.now += PATIENCE + 1
    slept, once, never = [], threading.Event(), threading.Event()

    def sleep(seconds):
        slept.append(seconds)
        (once if len(slept) == 1 else never).wait()

    monkeypatch.setattr(registry, "time", SimpleNamespace(sleep=sleep))
    visitors.start_expiry_thread(interval=7)
    assert visitors.get_session(ticket) is not None
    once.set()
    until(lambda: len(slept) == 2)
    assert visitors.get_session(ticket) is None
    assert slept == [7, 7]


# What was trained


PHASES = (
    PhaseBegins(1, 2, Phase(2, 0, 1e-3), 1, 4, (), 30, 70, 5120),
    PhaseBegins(2, 2, Phase(2, 2, 1e-3, 1e-4), 3, 4, ("7", "last"), 60, 40, 9000),
)
FROZEN = Candidate(ClassificationMetrics(0.5, "accuracy", 3, 6, 0.7), None, {})
KEPT = Kept(4, "last", 0.75, "accuracy", 5, 6, (), 1.0, selected_on_validation=False, candidates={"frozen": FROZEN})


def run(best=2, kept=None):
    epochs = tuple(Epoch(n, 0.5, 0.8, 0.6, 0.7, 4, 6, "accuracy", 0.1, best=n == best) for n in (1, 2, 3, 4))
    return Run("finished" if kept else "stopped", phases=PHASES, epochs=epochs, kept=kept)


@pytest.mark.parametrize(("best", "learned"), [(1, ()), (2, ()), (3, ("7", "last"))])
def test_what_had_learned_is_that_of_the_kept_epoch(best, learned):
    assert TrainedModel(None, run(best)).trained_stages == learned
    assert TrainedModel(None, run(best, replace(KEPT, checkpoint="best", epoch=best))).trained_stages == learned


def test_what_had_learned_is_what_is_kept_and_not_what_was_best():
    assert TrainedModel(None, run(best=1, kept=KEPT)).trained_stages == ("7", "last")
    assert TrainedModel(None, run(best=1, kept=replace(KEPT, epoch=1, refitted=True))).trained_stages == ("7", "last")
    assert TrainedModel(None, run(best=1, kept=KEPT), "frozen").trained_stages == ()


def test_the_figures_are_those_of_what_answers():
    told = [TrainedModel(None, run()), TrainedModel(None, run(kept=KEPT)), TrainedModel(None, run(kept=KEPT), "frozen")]
    assert [(trained.validation_metrics.correct, trained.validation_metrics.score) for trained in told] == [
        (4, 0.7),
        (5, 0.75),
        (3, 0.5),
    ]


def test_new_images_leave_nothing_to_learn_again_even_while_a_training_runs(images, endless):
    visitor = Session()
    visitor.set_images(images())
    visitor.job = running = endless().job
    running.training_setup = TrainingSetup(visitor.images, "plan")
    visitor.set_images(images())
    assert visitor.job is running and running.lesson is None


def test_letting_go_leaves_no_images_in_a_job_that_somebody_still_watches(images, endless, temporary):
    visitor = Session()
    visitor.set_images(images())
    visitor.job = watched = endless().job
    watched.previous_job = endless().job
    watched.training_setup = watched.previous_job.training_setup = TrainingSetup(visitor.images, "plan")
    visitor.release()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_job_that_is_not_the_visitor_s_any_more_is_not_taken_over(endless):
    visitor = Session()
    visitor.adopt_trained_model(endless().job)
    assert visitor == Session()


# Forgetting


def test_whoever_wants_to_be_forgotten_is_at_once(visitors, images, temporary, endless, tmp_path):
    ticket = visitors.open_tab(None, "tab")
    visitor, training = visitors.get_session(ticket), endless()
    visitor.set_images(images())
    visitor.job = training.job
    (upload := tmp_path / "new.jpg").write_bytes(b"picture")
    visitor.uploads.add(upload)
    room = visitor.ensure_export_dir()
    assert visitors.remove_session(ticket) is True
    assert visitors.get_session(ticket) is None and not upload.exists() and not room.exists()
    assert training.closed.wait(30)
    gc.collect()
    assert list(temporary.iterdir()) == []
    assert visitors.forget(ticket) is False
    visitors.leave("tab")


def test_whoever_has_no_tab_is_there_while_they_ask_and_away_afterwards(visitors, clock):
    with visitors.hold_session(None) as ticket:
        visitor = visitors.get_session(ticket)
        clock.now += 2 * PATIENCE
        assert visitors.expire_idle() == 0
    assert not visitor.tabs
    with visitors.hold_session(ticket) as again:
        assert again == ticket
    clock.now += PATIENCE + 1
    assert visitors.expire_idle() == 1


# Memory


@pytest.mark.parametrize("leaving", ["forget", "sweep"])
def test_whoever_is_let_go_of_leaves_no_copy_of_a_network_and_no_memory_behind(visitors, clock, monkeypatch, leaving):
    """What is ready to run frozen stages holds their weights, which may be those that somebody has taught."""
    trimmed, ready = [], OrderedDict(key=lambda x: [x])
    monkeypatch.setattr(inference, "_engine_cache", ready)
    monkeypatch.setattr(system_memory, "release_freed_memory", lambda: trimmed.append(len(ready)))
    ticket = visitors.open_tab(None, "tab")
    assert visitors.expire_idle() == 0 and ready and not trimmed
    if leaving == "forget":
        visitors.remove_session(ticket)
    else:
        visitors.close_tab("tab")
        clock.now += PATIENCE + 1
        visitors.expire_idle()
    assert trimmed == [0]


# At the same moment


def test_two_tabs_that_watch_one_training_note_it_down_once(monkeypatch, network):
    visitor, together = Session(), threading.Barrier(4)
    epoch = Epoch(1, 0.5, 0.8, 0.6, 0.67, 4, 6, "accuracy", 0.1, best=True)
    story = (PhaseBegins(1, 1, Phase(1, 0, 1e-3), 1, 1, (), 30, 70, 10, ()), epoch, replace(KEPT, epoch=1))
    visitor.job = job = Job(lambda progress: network, lambda model: (event for event in story), Scheduler())
    job.join(30)

    def take_over():
        together.wait(30)
        visitor.adopt_trained_model(job)

    threads = [threading.Thread(target=take_over) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(visitor.run_summaries) == 1 and visitor.trained_model.run_number == 1


def test_measuring_begins_once():
    visitor = Session()
    assert [visitor.try_start_measuring(), visitor.try_start_measuring()] == [True, False]
