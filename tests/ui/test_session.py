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
from headswap.networks.catalogue import DEFAULT
from headswap.training.events import Epoch, Figures, Kept, Offer, PhaseBegins
from headswap.training.plan import Phase
from headswap.ui.sessions import session as room
from headswap.ui.sessions.job import Job, Lesson, Run, Turns
from headswap.ui.sessions.session import Choice, Trained, Visitor, Visitors

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
    return Visitors(PATIENCE, clock)


@pytest.fixture
def images(tmp_path, temporary):
    flowers = folder(tmp_path / "flowers", *FLOWERS)
    return lambda: load_images(flowers)


class Endless:
    """A job that trains until it is stopped."""

    def __init__(self, images=None):
        self.closed = threading.Event()
        self.job = Job(lambda progress: SimpleNamespace(outline=tuple), lambda model: self._train(images), Turns())

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
    ticket = visitors.arrive(None, "tab")
    assert isinstance(visitors.find(ticket), Visitor)
    assert len(visitors) == 1


def test_a_known_ticket_is_kept(visitors):
    ticket = visitors.arrive(None, "tab")
    visitor = visitors.find(ticket)
    assert visitors.arrive(ticket, "another tab") == ticket
    assert visitors.find(ticket) is visitor
    assert len(visitors) == 1


def test_a_ticket_that_is_not_known_is_replaced(visitors):
    ticket = visitors.arrive("made up", "tab")
    assert ticket != "made up"
    assert visitors.find("made up") is None
    assert visitors.find(ticket) is not None


def test_tickets_cannot_be_guessed(visitors):
    tickets = {visitors.arrive(None, f"tab {i}") for i in range(50)}
    assert len(tickets) == 50
    assert min(map(len, tickets)) >= 20


def test_nobody_has_no_ticket(visitors):
    visitors.arrive(None, "tab")
    assert visitors.find(None) is None
    assert visitors.find("") is None


def test_a_new_visitor_has_nothing_but_the_default_choice(visitors):
    visitor = visitors.find(visitors.arrive(None, "tab"))
    assert (visitor.images, visitor.job, visitor.trained) == (None, None, None)
    assert visitor.choice == Choice(DEFAULT, "linear", {"dropout": 0.0})
    assert not visitor.training
    assert visitor.classes == 3


def test_two_visitors_never_see_each_others_things(visitors, images, endless):
    one, other = (visitors.find(visitors.arrive(None, tab)) for tab in ("one's", "other's"))
    one.take(images())
    one.choice = Choice("resnet18", "mlp", {"dropout": 0.5})
    one.job = endless().job
    one.trained = Trained(None, Run())
    assert one.classes == ("roses", "tulips")
    assert one.training
    assert other == Visitor(tabs={"other's"})
    one.choice.options["dropout"] = 0.9
    assert Visitor().choice.options == {"dropout": 0.0}


def test_arriving_from_many_threads_loses_nobody(visitors):
    tickets = []

    def arrive(number):
        for i in range(50):
            tickets.append(visitors.arrive(None, f"{number} {i}"))

    threads = [threading.Thread(target=arrive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(tickets)) == len(visitors) == 400


# Leaving and coming back


def test_a_reload_keeps_everything(visitors, clock, images, endless):
    ticket = visitors.arrive(None, "before")
    visitor = visitors.find(ticket)
    visitor.take(mine := images())
    visitor.job = job = endless().job
    visitors.leave("before")
    assert visitor.away_since == clock.now
    clock.now += PATIENCE
    assert visitors.arrive(ticket, "after") == ticket
    clock.now += 10 * PATIENCE
    assert visitors.sweep() == 0
    assert visitors.find(ticket) is visitor
    assert (visitor.images, visitor.job) == (mine, job)
    assert visitor.training
    assert visitor.away_since is None


def test_a_reload_whose_new_page_arrives_before_the_old_one_leaves_is_none_the_worse(visitors, clock):
    ticket = visitors.arrive(None, "before")
    visitors.arrive(ticket, "after")
    visitors.leave("before")
    clock.now += 10 * PATIENCE
    assert visitors.sweep() == 0
    assert visitors.find(ticket) is not None


def test_a_visitor_with_two_tabs_is_away_when_both_are_closed(visitors, clock):
    ticket = visitors.arrive(None, "one")
    visitors.arrive(ticket, "two")
    visitors.leave("one")
    assert visitors.find(ticket).away_since is None
    visitors.leave("two")
    assert visitors.find(ticket).away_since == clock.now


def test_leaving_twice_does_not_lengthen_the_patience(visitors, clock):
    ticket = visitors.arrive(None, "tab")
    visitors.leave("tab")
    left = clock.now
    clock.now += 5
    visitors.leave("tab")
    visitors.leave("somebody else's")
    assert visitors.find(ticket).away_since == left


# The sweeper


def test_only_those_away_for_longer_than_patience_are_let_go(visitors, clock):
    tickets = {who: visitors.arrive(None, who) for who in ("early", "late", "here")}
    visitors.leave("early")
    clock.now += 1
    visitors.leave("late")
    clock.now += PATIENCE - 1
    assert visitors.sweep() == 0
    clock.now += 1
    assert visitors.sweep() == 1
    assert visitors.find(tickets["early"]) is None
    assert visitors.find(tickets["late"]) is not None
    clock.now += 1
    assert visitors.sweep() == 1
    assert {who for who, ticket in tickets.items() if visitors.find(ticket)} == {"here"}
    assert len(visitors) == 1


def test_a_ticket_that_was_swept_is_not_known_any_more(visitors, clock):
    ticket = visitors.arrive(None, "tab")
    visitors.leave("tab")
    clock.now += PATIENCE + 1
    visitors.sweep()
    assert visitors.find(ticket) is None
    assert visitors.arrive(ticket, "tab") != ticket


def test_letting_go_stops_what_trains(visitors, clock, endless):
    ticket = visitors.arrive(None, "tab")
    running = endless()
    visitors.find(ticket).job = running.job
    visitors.leave("tab")
    assert visitors.sweep() == 0
    assert not running.job._stopping.is_set()
    clock.now += PATIENCE + 1
    visitors.sweep()
    running.job.join(30)
    assert running.closed.is_set()
    assert running.job.run.state == "stopped"


def test_the_files_of_images_go_when_their_visitor_is_let_go(visitors, clock, images, temporary):
    ticket = visitors.arrive(None, "tab")
    visitors.find(ticket).take(images())
    assert len(list(temporary.iterdir())) == 1
    visitors.leave("tab")
    clock.now += PATIENCE + 1
    visitors.sweep()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_training_that_is_let_go_gives_its_images_back_when_it_ends(visitors, clock, images, endless, temporary):
    ticket = visitors.arrive(None, "tab")
    mine = images()
    visitors.find(ticket).take(mine)
    running = Endless(mine)
    visitors.find(ticket).job, closed = running.job, running.closed
    del mine, running
    visitors.leave("tab")
    clock.now += PATIENCE + 1
    job = visitors.find(ticket).job
    visitors.sweep()
    job.join(30)
    del job
    assert closed.is_set()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_images_that_others_replaced_come_back_by_undo_and_go_with_the_next_change(images, temporary):
    visitor = Visitor()
    visitor.take(first := images())
    visitor.take(second := images())
    visitor.undo()
    assert visitor.images is first
    del first
    visitor.take(second)
    visitor.take(third := images())
    gc.collect()
    assert set(temporary.iterdir()) == {second.paths[0].parent, third.paths[0].parent}


def test_a_training_that_has_ended_holds_no_images(images, endless, temporary):
    visitor = Visitor()
    visitor.take(images())
    visitor.job = endless(visitor.images).job
    visitor.job.stop()
    visitor.job.join(30)
    visitor.forget_images()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_the_sweeper_goes_on_by_itself(visitors, clock, monkeypatch, until):
    ticket = visitors.arrive(None, "tab")
    visitors.leave("tab")
    clock.now += PATIENCE + 1
    slept, once, never = [], threading.Event(), threading.Event()

    def sleep(seconds):
        slept.append(seconds)
        (once if len(slept) == 1 else never).wait()

    monkeypatch.setattr(room, "time", SimpleNamespace(sleep=sleep))
    visitors.sweep_in_background(every=7)
    assert visitors.find(ticket) is not None
    once.set()
    until(lambda: len(slept) == 2)
    assert visitors.find(ticket) is None
    assert slept == [7, 7]


# What was trained


PHASES = (
    PhaseBegins(1, 2, Phase(2, 0, 1e-3), 1, 4, (), 30, 70, 5120),
    PhaseBegins(2, 2, Phase(2, 2, 1e-3, 1e-4), 3, 4, ("7", "last"), 60, 40, 9000),
)
FROZEN = Offer(Figures(0.5, "accuracy", 3, 6, 0.7), None, {})
KEPT = Kept(4, "last", 0.75, "accuracy", 5, 6, (), 1.0, chosen=False, offers={"frozen": FROZEN})


def run(best=2, kept=None):
    epochs = tuple(Epoch(n, 0.5, 0.8, 0.6, 0.7, 4, 6, "accuracy", 0.1, best=n == best) for n in (1, 2, 3, 4))
    return Run("finished" if kept else "stopped", phases=PHASES, epochs=epochs, kept=kept)


@pytest.mark.parametrize(("best", "learned"), [(1, ()), (2, ()), (3, ("7", "last"))])
def test_what_had_learned_is_that_of_the_kept_epoch(best, learned):
    assert Trained(None, run(best)).learned == learned
    assert Trained(None, run(best, replace(KEPT, what="best", epoch=best))).learned == learned


def test_what_had_learned_is_what_is_kept_and_not_what_was_best():
    assert Trained(None, run(best=1, kept=KEPT)).learned == ("7", "last")
    assert Trained(None, run(best=1, kept=replace(KEPT, epoch=1, refitted=True))).learned == ("7", "last")
    assert Trained(None, run(best=1, kept=KEPT), "frozen").learned == ()


def test_the_figures_are_those_of_what_answers():
    told = [Trained(None, run()), Trained(None, run(kept=KEPT)), Trained(None, run(kept=KEPT), "frozen")]
    assert [(trained.figures.right, trained.figures.score) for trained in told] == [(4, 0.7), (5, 0.75), (3, 0.5)]


def test_new_images_leave_nothing_to_learn_again_even_while_a_training_runs(images, endless):
    visitor = Visitor()
    visitor.take(images())
    visitor.job = running = endless().job
    running.lesson = Lesson(visitor.images, "plan")
    visitor.take(images())
    assert visitor.job is running and running.lesson is None


def test_letting_go_leaves_no_images_in_a_job_that_somebody_still_watches(images, endless, temporary):
    visitor = Visitor()
    visitor.take(images())
    visitor.job = watched = endless().job
    watched.former = endless().job
    watched.lesson = watched.former.lesson = Lesson(visitor.images, "plan")
    visitor.let_go()
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_job_that_is_not_the_visitor_s_any_more_is_not_taken_over(endless):
    visitor = Visitor()
    visitor.take_over(endless().job)
    assert visitor == Visitor()


# Forgetting


def test_whoever_wants_to_be_forgotten_is_at_once(visitors, images, temporary, endless, tmp_path):
    ticket = visitors.arrive(None, "tab")
    visitor, training = visitors.find(ticket), endless()
    visitor.take(images())
    visitor.job = training.job
    (upload := tmp_path / "new.jpg").write_bytes(b"picture")
    visitor.uploads.add(upload)
    room = visitor.room()
    assert visitors.forget(ticket) is True
    assert visitors.find(ticket) is None and not upload.exists() and not room.exists()
    assert training.closed.wait(30)
    gc.collect()
    assert list(temporary.iterdir()) == []
    assert visitors.forget(ticket) is False
    visitors.leave("tab")


def test_whoever_has_no_tab_is_there_while_they_ask_and_away_afterwards(visitors, clock):
    with visitors.present(None) as ticket:
        visitor = visitors.find(ticket)
        clock.now += 2 * PATIENCE
        assert visitors.sweep() == 0
    assert not visitor.tabs
    with visitors.present(ticket) as again:
        assert again == ticket
    clock.now += PATIENCE + 1
    assert visitors.sweep() == 1


# Memory


@pytest.mark.parametrize("leaving", ["forget", "sweep"])
def test_whoever_is_let_go_of_leaves_no_copy_of_a_network_and_no_memory_behind(visitors, clock, monkeypatch, leaving):
    """What is ready to run frozen stages holds their weights, which may be those that somebody has taught."""
    trimmed, ready = [], OrderedDict(key=lambda x: [x])
    monkeypatch.setattr(inference, "_ready", ready)
    monkeypatch.setattr(system_memory, "trim", lambda: trimmed.append(len(ready)))
    ticket = visitors.arrive(None, "tab")
    assert visitors.sweep() == 0 and ready and not trimmed
    if leaving == "forget":
        visitors.forget(ticket)
    else:
        visitors.leave("tab")
        clock.now += PATIENCE + 1
        visitors.sweep()
    assert trimmed == [0]


# At the same moment


def test_two_tabs_that_watch_one_training_note_it_down_once(monkeypatch, network):
    visitor, together = Visitor(), threading.Barrier(4)
    epoch = Epoch(1, 0.5, 0.8, 0.6, 0.67, 4, 6, "accuracy", 0.1, best=True)
    story = (PhaseBegins(1, 1, Phase(1, 0, 1e-3), 1, 1, (), 30, 70, 10, ()), epoch, replace(KEPT, epoch=1))
    visitor.job = job = Job(lambda progress: network, lambda model: (event for event in story), Turns())
    job.join(30)

    def take_over():
        together.wait(30)
        visitor.take_over(job)

    threads = [threading.Thread(target=take_over) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(visitor.runs) == 1 and visitor.trained.number == 1


def test_measuring_begins_once():
    visitor = Visitor()
    assert [visitor.measure(), visitor.measure()] == [True, False]
