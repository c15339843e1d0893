"""Trainings run in threads of their own, are only watched, can be stopped, and take turns."""

import logging
import threading
import weakref
from collections import OrderedDict
from dataclasses import fields
from itertools import pairwise
from types import SimpleNamespace
from typing import get_args

import pytest

from headswap.common import system_memory
from headswap.common.errors import InputError
from headswap.features import inference
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import ClassificationMetrics, Epoch, Event, Kept, PhaseBegins, Reference, Step
from headswap.training.plan import Phase
from headswap.ui.sessions import job as jobs
from headswap.ui.sessions.job import Job, TrainingSetup
from headswap.ui.sessions.run import Fetching, Run
from headswap.ui.sessions.scheduler import Scheduler

PASS = FrozenPass(4, 8, 0.5)
SOLVED = Reference(ClassificationMetrics(score=0.83, metric="accuracy", correct=5, total=6, loss=0.4), seconds=0.1)
HEAD = PhaseBegins(1, 2, Phase(2, 0, 1e-3), 1, 3, (), 30, 70, 5120)
THAW = PhaseBegins(2, 2, Phase(1, 1, 1e-3, 1e-4), 3, 3, ("last",), 60, 40, 9000)
STEP = Step(1, 1, 3, 0.7)
KEPT = Kept(
    2, "best", score=0.83, metric="accuracy", correct=5, total=6, labels=(), seconds=1.5, selected_on_validation=True
)


def epoch(number, best=True):
    return Epoch(
        number,
        training_loss=0.5,
        training_score=0.8,
        validation_loss=0.6,
        validation_score=0.67,
        correct=4,
        total=6,
        metric="accuracy",
        seconds=0.1,
        best=best,
    )


STORY = (PASS, SOLVED, HEAD, STEP, epoch(1), STEP, epoch(2, best=False), THAW, STEP, epoch(3), KEPT)


class Network:
    """All that a job asks of a model."""

    def outline(self):
        return ("a stage",)


@pytest.fixture
def begin():
    """Starts jobs and stops them in the end."""
    jobs = []

    def start(train, turns=None, make_model=lambda progress: Network()):
        jobs.append(Job(make_model, train, turns or Scheduler()))
        return jobs[-1]

    yield start
    for job in jobs:
        job.stop()
        job.join(30)
        assert job.run.has_ended


def telling(*events):
    def train(model):
        yield from events

    return train


class Endless:
    """A training that goes on until it is closed."""

    def __init__(self):
        self.running, self.closed = threading.Event(), threading.Event()

    def __call__(self, model):
        self.events = self.tell()  # held here, so that nothing but closing it ends it
        return self.events

    def tell(self):
        try:
            yield PASS
            yield HEAD
            yield epoch(1)
            while True:
                yield STEP
                self.running.set()
        finally:
            self.closed.set()


# What a run knows


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (Fetching(3, 9), {"fetched": Fetching(3, 9)}),
        (PASS, {"state": "running", "read": PASS}),
        (SOLVED, {"reference": SOLVED}),
        (HEAD, {"phases": (HEAD,)}),
        (STEP, {"step": STEP}),
        (epoch(1), {"epochs": (epoch(1),)}),
        (KEPT, {"state": "finished", "kept": KEPT}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_event_changes_what_it_tells_of_and_nothing_else(event, changed):
    before = Run()
    after = before.with_event(event)
    differing = {
        f.name: getattr(after, f.name) for f in fields(Run) if getattr(after, f.name) != getattr(Run(), f.name)
    }
    assert differing == changed
    assert before == Run()


def test_no_kind_of_event_is_forgotten():
    assert {type(event) for event in STORY} == set(get_args(Event))
    assert all(isinstance(Run().with_event(event), Run) for event in STORY)


def test_a_run_grows_by_what_it_is_told():
    run = Run()
    for event in STORY:
        assert not run.has_ended
        run = run.with_event(event)
    assert run == Run(
        state="finished",
        frozen_pass=PASS,
        reference=SOLVED,
        phases=(HEAD, THAW),
        epochs=(epoch(1), epoch(2, best=False), epoch(3)),
        step=STEP,
        kept=KEPT,
    )
    assert run.has_ended


def test_the_best_epoch_is_the_last_one_that_was_best():
    assert Run().best_epoch is None
    run = Run(epochs=(epoch(1), epoch(2), epoch(3, best=False)))
    assert run.best_epoch == epoch(2)


@pytest.mark.parametrize(
    ("state", "ended"),
    [("starting", False), ("running", False), ("finished", True), ("stopped", True), ("failed", True)],
)
def test_a_run_has_ended_when_nothing_more_will_be_told(state, ended):
    assert Run(state).has_ended is ended


# A job


def test_a_job_runs_to_its_end_and_keeps_the_events_in_order(begin):
    epochs = [epoch(number) for number in range(1, 51)]
    job = begin(telling(PASS, HEAD, *epochs, THAW, KEPT))
    job.join(30)
    assert job.run.state == "finished"
    assert job.run.epochs == tuple(epochs)
    assert job.run.phases == (HEAD, THAW)
    assert job.run.kept == KEPT


def test_a_job_outlines_the_network_before_it_trains(begin):
    seen = []

    def train(model):
        seen.append((job.model is model, job.outline))
        yield PASS

    gate = threading.Event()

    def make_model(progress):
        gate.wait(30)
        return Network()

    job = begin(train, make_model=make_model)
    assert job.model is None
    gate.set()
    job.join(30)
    assert seen == [(True, ("a stage",))]


def test_stopping_closes_the_training_and_is_told(begin):
    endless = Endless()
    job = begin(endless)
    assert endless.running.wait(30)
    assert not job.run.ended
    job.stop()
    job.join(30)
    assert endless.closed.is_set()
    assert job.run.state == "stopped"
    assert job.run.best == epoch(1)
    assert job.run.kept is None


def test_a_job_that_is_stopped_while_its_network_is_fetched_never_trains(begin):
    trained, gate = [], threading.Event()

    def make_model(progress):
        gate.wait(30)
        return Network()

    def train(model):
        trained.append(model)
        yield PASS

    job = begin(train, make_model=make_model)
    job.stop()
    gate.set()
    job.join(30)
    assert trained == []
    assert job.run == Run("stopped")


def test_a_download_is_told_while_it_goes_on(begin, until):
    told, gate = threading.Event(), threading.Event()

    def make_model(progress):
        progress(3, 9)
        told.set()
        gate.wait(30)
        return Network()

    job = begin(telling(*STORY), make_model=make_model)
    assert told.wait(30)
    assert (job.run.state, job.run.download) == ("starting", Fetching(3, 9))
    gate.set()
    job.join(30)
    assert job.run.state == "finished"


def test_a_download_that_is_stopped_ends_at_its_next_word(begin):
    trained, gate = [], threading.Event()

    def make_model(progress):
        gate.wait(30)
        progress(3, 9)
        pytest.fail("The download went on.")

    job = begin(trained.append, make_model=make_model)
    job.stop()
    gate.set()
    job.join(30)
    assert job.run.has_ended
    assert job.run.epochs == ()
    assert trained == []


def test_a_download_holds_nobody_up(begin):
    turns, gate, begun = Scheduler(), threading.Event(), threading.Event()

    def make_model(progress):
        begun.set()
        gate.wait(30)
        return Network()

    slow = begin(telling(*STORY), turns, make_model=make_model)
    assert begun.wait(30)
    quick = begin(telling(*STORY), turns)
    quick.join(30)
    assert quick.run.state == "finished"
    assert not slow.run.ended
    gate.set()


def test_stopping_what_is_finished_changes_nothing(begin):
    job = begin(telling(*STORY))
    job.join(30)
    before = job.run
    job.stop()
    assert job.run is before
    assert before.state == "finished"


def test_a_training_that_ends_without_a_word_counts_as_stopped(begin):
    job = begin(telling(PASS))
    job.join(30)
    assert job.run.state == "stopped"


def refuse(sentence):
    raise InputError(sentence)


@pytest.mark.parametrize("where", ["make_model", "train", "first event"])
def test_an_error_for_a_person_becomes_the_problem_and_no_traceback(begin, caplog, where):
    sentence = "The weights of vgg16 could not be downloaded. Connect to the internet."

    def refusing(model):
        yield PASS
        refuse(sentence)

    make_model = (lambda progress: refuse(sentence)) if where == "make_model" else lambda progress: Network()
    train = {"make_model": telling(PASS), "train": lambda model: refuse(sentence), "first event": refusing}[where]
    job = begin(train, make_model=make_model)
    job.join(30)
    assert (job.run.state, job.run.problem) == ("failed", sentence)
    assert caplog.records == []


def test_any_other_error_becomes_a_problem_too_and_is_logged_with_its_traceback(begin, caplog):
    closed = []

    def failing(model):
        try:
            yield PASS
            raise RuntimeError("out of paper")
        finally:
            closed.append(model)

    job = begin(failing)
    job.join(30)
    assert job.run.state == "failed"
    assert "RuntimeError: out of paper" in job.run.problem
    assert "Traceback" not in job.run.problem
    assert job.run.read == PASS
    assert len(closed) == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is RuntimeError


def test_a_failed_job_gives_its_turn_back(begin):
    turns = Scheduler()
    begin(lambda model: refuse("No."), turns).join(30)
    begin(telling(PASS), turns, make_model=lambda progress: refuse("No.")).join(30)
    after = begin(telling(*STORY), turns)
    after.join(30)
    assert after.run.state == "finished"


def test_a_job_holds_its_lesson_until_it_is_told_to_forget_as_does_the_one_that_it_repeats(begin):
    first, second = begin(telling(*STORY)), begin(telling(*STORY))
    first.training_setup, second.training_setup, second.previous_job = (
        TrainingSetup("images", "plan"),
        TrainingSetup("images", "plan"),
        first,
    )
    second.join(30)
    assert second.training_setup == TrainingSetup("images", "plan")
    second.release_images()
    assert (first.training_setup, second.training_setup) == (None, None)


# Watching


def test_watching_ends_with_the_run_that_has_ended(begin):
    job = begin(telling(*STORY))
    seen = list(job.watch(0.001))
    assert seen[-1] is job.run
    assert [run.has_ended for run in seen] == [False] * (len(seen) - 1) + [True]


def test_watching_tells_only_news(begin, until):
    gate, seen, looked = threading.Event(), [], []

    def slow(model):
        yield from (PASS, HEAD, epoch(1))
        gate.wait(30)
        yield from (epoch(2), KEPT)

    job = begin(slow)
    until(lambda: job.run.best_epoch)
    wait_for = job._news.wait_for
    job._news.wait_for = lambda *given, **more: looked.append(1) or wait_for(*given, **more)
    watcher = threading.Thread(target=lambda: seen.extend(job.watch(0.001)))
    watcher.start()
    until(lambda: len(looked) > 20)
    gate.set()
    watcher.join(30)
    assert 2 <= len(seen) <= 3
    assert all(a is not b for a, b in pairwise(seen))
    assert seen[-1] is job.run


def test_watching_what_has_ended_gives_its_last_run_once(begin):
    job = begin(telling(*STORY))
    job.join(30)
    assert list(job.watch(60)) == [job.run]
    assert list(job.watch(60)) == [job.run]


def test_watching_hears_of_the_end_at_once_however_seldom_it_looks(begin):
    endless = Endless()
    job = begin(endless)
    assert endless.running.wait(30)
    watched = job.watch(3600)
    next(watched)
    job.stop()
    assert next(watched).state == "stopped"


def test_two_who_watch_see_the_same_end(begin):
    endless = Endless()
    job = begin(endless)
    ends = []
    watchers = [threading.Thread(target=lambda: ends.append(list(job.watch(0.01))[-1])) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    assert endless.running.wait(30)
    job.stop()
    for watcher in watchers:
        watcher.join(30)
    assert ends == [job.run, job.run]


def test_whoever_stops_watching_stops_nothing(begin):
    endless = Endless()
    job = begin(endless)
    watched = job.watch(0.001)
    next(watched)
    watched.close()
    assert endless.running.wait(30)
    assert not job.run.ended


# Turns


class Room:
    """Counts who is inside at once."""

    def __init__(self):
        self.inside, self.most, self.visits = 0, 0, []
        self._lock, self._pause = threading.Lock(), threading.Event()

    def visit(self, name):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.visits.append(name)
        self._pause.wait(0.001)  # so that another one could come in, were it not for turns
        with self._lock:
            self.inside -= 1


def test_no_two_ever_have_the_turn_at_once():
    turns, room = Scheduler(), Room()

    def work(name):
        for _ in range(25):
            with turns.compute_slot():
                room.visit(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert room.most == 1
    assert sorted(room.visits) == sorted(list(range(8)) * 25)


def test_turns_go_to_who_came_first(until):
    turns, served = Scheduler(), []

    def work(name):
        with turns.compute_slot():
            served.append(name)

    threads = []
    with turns.compute_slot():
        for name in range(6):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            until(lambda: len(turns._compute_waiters) == len(threads) + 1)
        assert served == []
    for thread in threads:
        thread.join(30)
    assert served == list(range(6))


def test_a_turn_ends_with_an_error_as_well():
    turns = Scheduler()
    with pytest.raises(RuntimeError), turns.compute_slot():
        raise RuntimeError
    with turns.compute_slot():
        pass


def steps_until(go_on):
    """A training that goes on, turn after turn, until it may end."""
    yield PASS
    while not go_on.wait(0.01):
        yield STEP
    yield KEPT


def test_as_many_learn_at_once_as_are_allowed_and_the_rest_queue_in_their_order(begin, until, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_TRAININGS", "2")
    turns, go_on, learned = Scheduler(), threading.Event(), []

    def training(name):
        def train(model):
            learned.append(name)
            yield from steps_until(go_on)

        return train

    begun = []
    for name in "abcd":
        begun.append(begin(training(name), turns))
        until(lambda: name in learned or begun[-1].run.queue_position)  # noqa: B023, asked at once
    assert [job.run.place for job in begun] == [0, 0, 1, 2]
    go_on.set()
    for job in begun:
        job.join(30)
    assert learned[:2] == ["a", "b"] and set(learned) == set("abcd")
    assert [(job.run.state, job.run.place) for job in begun] == [("finished", 0)] * 4


def test_whoever_waits_for_a_place_can_stop_and_the_next_moves_up(begin, until, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_TRAININGS", "1")
    turns, go_on = Scheduler(), threading.Event()

    def train(model):
        yield from steps_until(go_on)

    learning = begin(train, turns)
    until(lambda: learning.run.frozen_pass)
    waiting = [begin(train, turns)]
    until(lambda: waiting[0].run.place == 1)
    waiting.append(begin(train, turns))
    until(lambda: waiting[1].run.place == 2)
    waiting[0].stop()
    until(lambda: waiting[1].run.place == 1)
    assert waiting[0].run.state == "stopped"
    go_on.set()
    waiting[1].join(30)
    assert waiting[1].run.state == "finished"


def test_an_answer_never_waits_for_a_training():
    turns, answered = Scheduler(), threading.Event()

    def answer():
        with turns.inference_slot():
            answered.set()

    with turns.compute_slot():
        threading.Thread(target=answer, daemon=True).start()
        assert answered.wait(30)


def test_a_training_that_takes_too_long_is_stopped_and_says_so(begin, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_MINUTES", "1")
    now = [0.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    closed = []

    def train(model):
        try:
            for number in range(1, 100):
                now[0] += 20
                yield epoch(number)
        finally:
            closed.append(True)

    job = begin(train)
    job.join(30)
    assert (job.run.state, job.run.timed_out, len(job.run.epochs), closed) == ("stopped", True, 4, [True])


def test_two_jobs_take_turns(begin, until):
    turns, room, jobs = Scheduler(), Room(), []

    def training(name):
        def train(model):
            for number in range(1, 21):
                until(lambda: len(turns._compute_waiters) == 2 or any(job.run.ended for job in jobs))
                room.visit(name)
                yield epoch(number)
            yield KEPT

        return train

    with turns.compute_slot():
        jobs += [begin(training(name), turns) for name in "ab"]
    for job in jobs:
        job.join(30)
    assert [job.run.state for job in jobs] == ["finished", "finished"]
    assert [len(job.run.epochs) for job in jobs] == [20, 20]
    assert room.most == 1
    first, second = room.visits[:2]
    assert room.visits == [first, second] * 20


# Memory


class Held:
    """Stands for images, and for what is kept of them."""


@pytest.mark.parametrize("fails", [False, True])
def test_at_its_end_a_training_gives_back_its_memory_once_nothing_of_it_is_held(monkeypatch, fails):
    held, seen, gate = Held(), [], threading.Event()
    gone = weakref.ref(held)

    def train(model, held):
        gate.wait(30)
        yield PASS
        if fails:
            raise InputError("no such class")

    monkeypatch.setattr(system_memory, "release_freed_memory", lambda: seen.append(gone()))
    job = Job(lambda progress: Network(), lambda model, held=held: train(model, held), Scheduler())
    del held
    gate.set()
    job.join(30)
    assert seen == [None]


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_training_that_ends_after_it_was_forgotten_leaves_no_copy_of_its_network(monkeypatch, forgotten):
    ready, gate = OrderedDict(key=lambda x: [x]), threading.Event()
    monkeypatch.setattr(inference, "_engine_cache", ready)

    def train(model):
        gate.wait(30)
        yield PASS

    job = Job(lambda progress: Network(), train, Scheduler())
    if forgotten:
        job.release_images()
    gate.set()
    job.join(30)
    assert bool(ready) is not forgotten
