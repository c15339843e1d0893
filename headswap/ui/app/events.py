"""What happens when: every event of the page, a step after the other, bound to its handler and to whose it is.

A handler is a plain function of a visitor and some values. Builds no component and computes nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from headswap.features.inference import Engine
from headswap.ui.app import navigation
from headswap.ui.app.navigation import Way
from headswap.ui.panels import backbone_table, lr_finder, mistakes
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Visitor, Visitors
from headswap.ui.steps import images as images_step
from headswap.ui.steps import keep as keep_step
from headswap.ui.steps import model as model_step
from headswap.ui.steps import test as test_step
from headswap.ui.steps import train as train_step
from headswap.ui.steps.images import ImagesStep
from headswap.ui.steps.keep import KeepStep
from headswap.ui.steps.model import ModelStep
from headswap.ui.steps.test import TestStep
from headswap.ui.steps.train import TrainStep

REMEMBERED = "() => sessionStorage.getItem('headswap')"
REMEMBER = "(ticket) => { sessionStorage.setItem('headswap', ticket); return ticket; }"
BEGIN_ANEW = "() => { sessionStorage.removeItem('headswap'); location.reload(); }"
QUIET = {"show_progress": "hidden"}  # each step says itself how far it is
LATEST = QUIET | {"trigger_mode": "always_last"}  # what was set while it was heard is not lost
AWAY = {"queue": False, "js": "() => { window.scrollTo(0, 0); return []; }"}  # a step is seen from its top
LOOPBACK = ("127.0.0.1", "::1", "localhost")
EARLY = "The page is not ready yet. Press once more in a moment."
GONE = "You were away for a while, so your images were let go. Reload the page to begin anew."


@dataclass(frozen=True)
class Wiring:
    """What every event needs: whose it is, whose turn it is, and where to go on."""

    page: gr.Blocks
    ticket: gr.State
    memory: gr.Textbox
    visitors: Visitors
    turns: Turns
    alone: bool  # nobody but this very computer can reach the page
    steps: Way
    engine: Engine | None = None  # that belongs to the event which asks for it

    def images(self, images: ImagesStep) -> None:
        """The first step: images come, are put right, and go."""
        understood = images.shown
        reading = [
            images.sample.click(self._bound(images_step.load_sample), self.ticket, understood, **QUIET),
            images.picker.submit(_with_event(self._bound(images_step.read)), self.ticket, understood, **QUIET),
        ]
        images.picker.stop(self._bound(images_step.welcome), self.ticket, understood, cancels=reading, **QUIET)
        edited = images.understood.submit(_with_event(self._bound(images_step.edit)), self.ticket, understood, **QUIET)
        for changed in (*reading, edited):
            self._opens(changed)
        images.onward.click(*self._going("model"), **AWAY)

    def model(self, model: ModelStep) -> None:
        """The second step: a backbone and a head are chosen."""
        chosen = [model.strip, model.sentence, model.problem, model.seen, model.head, *model.groups.values()]

        def in_turn(visitor: Visitor, *values: Any) -> tuple[Any, ...]:
            with visitor.choosing:  # or an older choice, slower to draw, would win over a newer one
                return model_step.choose(visitor, *values)

        choose = self._bound(in_turn), [self.ticket, *model.choices], chosen
        advise = self._bound(model_step.advise), self.ticket, model.advice
        compared = model.comparison
        compare = self._bound(backbone_table.show), self.ticket, compared.shown
        networks = (model.backbone, model.other)
        # One of both names the network, so the other is cleared first.
        for named, cleared in (networks, networks[::-1]):
            named.input(lambda: None, None, cleared, queue=False, trigger_mode="always_last").then(
                *choose, **QUIET
            ).then(*advise, **QUIET).then(*compare, **QUIET)
        compared.table.select(_picked, None, networks, **QUIET).then(*choose, **QUIET).then(*advise, **QUIET).then(
            *compare, **QUIET
        )
        gr.on(
            [control.input for control in model.choices if control not in networks],
            *choose,
            **LATEST,  # one event for all of them, so that no older choice overtakes a newer one
        ).then(*advise, **QUIET)
        self.steps.model.select(*choose, **QUIET).then(*advise, **QUIET).then(*compare, **QUIET)
        model.strip.submit(_with_event(self._bound(model_step.ask)), self.ticket, model.strip, **QUIET)

        def measure(visitor: Visitor) -> Iterator[tuple[object, ...]]:  # no lambda: Gradio streams only generators
            yield from backbone_table.measure(visitor, self.turns)

        compared.opened.expand(*compare, **QUIET)
        compared.measure.click(self._bound(measure), self.ticket, compared.shown, **QUIET)
        compared.stop.click(self._bound(backbone_table.stop), self.ticket, None, **QUIET)
        model.onward.click(*self._going("train"), **AWAY)

    def train(self, training: TrainStep, images: ImagesStep) -> None:
        """The third step: a training begins, is watched and stops."""
        prepare = self._bound(train_step.prepare), self.ticket, training.prepared
        self.steps.train.select(*prepare, **QUIET).then(
            self._bound(train_step.choice), self.ticket, training.going_on, **QUIET
        )
        asked = [*training.plan, training.head_rate]
        at_once = self._borrowed(images.at_once.click(*prepare, **QUIET).then, training)
        for pressed, begin, given in (
            (self._borrowed(training.train.click, training), train_step.start, asked),
            (at_once, train_step.start, asked),
            (self._borrowed(training.race.click, training), train_step.start_race, asked),
            (training.again.click, train_step.again, []),
        ):
            begun = pressed(
                self._bound(lambda visitor, *values, begin=begin: begin(visitor, self.turns, *values)),
                [self.ticket, *given],
                [training.problem, *training.state],
                **QUIET,
            )
            # From the first step the page goes on once the training has begun, so that nothing waits to be pressed.
            shown = begun.then(*self._going("train"), **AWAY) if pressed is at_once else begun
            self._followed(self._opens(shown), training)
        training.stop.click(self._bound(train_step.stop), self.ticket, None, **QUIET)
        training.onward.click(*self._going("test"), **AWAY)
        self._planned(training)
        self._exchanged(training)

    def _planned(self, training: TrainStep) -> None:
        """What the next training begins with, how many stages learn, and how fast."""
        shown = [training.strip, training.sentence]
        training.strip.submit(
            _with_event(self._bound(train_step.press)), self.ticket, [*shown, training.stages], **QUIET
        )
        training.stages.input(self._bound(train_step.ask), [self.ticket, training.stages], shown, **LATEST)
        training.going_on.input(
            self._bound(train_step.go_on),
            [self.ticket, training.going_on],
            [*training.prepared, training.going_on],
            **LATEST,
        )

        def find_rate(visitor: Visitor) -> Iterator[str]:  # no lambda: Gradio streams only what is a generator itself
            yield from lr_finder.find(visitor, self.turns)

        training.rates.find.click(self._bound(find_rate), self.ticket, training.rates.told, **QUIET)

    def _exchanged(self, training: TrainStep) -> None:
        """What a training came to is looked at again, exchanged for another network of it, or read as a script."""
        for button, name in (
            (training.frozen, "frozen"),
            (training.reference, "reference"),
            (training.own, "own"),
        ):
            button.click(
                self._bound(lambda visitor, name=name: train_step.keep(visitor, name)),
                self.ticket,
                [*training.drawings, *training.state],
                **QUIET,
            )
        training.replay.epoch.input(
            self._bound(train_step.look),
            [self.ticket, training.replay.epoch],
            [training.strip, training.charts, training.replay.told],
            **LATEST,
        )
        training.lesson.expand(self._bound(keep_step.script), self.ticket, training.script, **QUIET)

    def test(self, testing: TestStep, images: ImagesStep, training: TrainStep) -> None:
        """The fourth step: new images get their answers, and what the model gets wrong is looked at and mended."""
        parts = testing.judging
        given = [self.ticket, testing.files, testing.unsure]

        def with_turns(handler: Callable[..., Any]) -> Callable[..., Any]:
            return self._bound(lambda visitor, *values: handler(visitor, self.turns, *values))

        def judge(visitor: Visitor) -> Iterator[tuple[Any, ...]]:  # no lambdas: Gradio streams only generators
            yield from mistakes.judge(visitor, self.turns)

        def judge_by(visitor: Visitor, sent: object) -> Iterator[tuple[Any, ...]]:
            yield from mistakes.judge_by(visitor, self.turns, sent)

        def paste(ticket: str | None, unsure: float, sent: gr.EventData) -> str:
            return with_turns(test_step.paste)(ticket, sent, unsure)

        def try_one(ticket: str | None, unsure: float, sent: gr.EventData) -> str:
            return with_turns(test_step.try_one)(ticket, sent, unsure)

        self.steps.test.select(self._bound(test_step.prepare), self.ticket, testing.ready, **QUIET).then(
            self._bound(mistakes.prepare), self.ticket, parts.ready, **QUIET
        ).then(with_turns(test_step.return_to), given, testing.answers, **QUIET)
        testing.files.change(with_turns(test_step.classify), given, testing.answers)
        testing.answers.submit(paste, [self.ticket, testing.unsure], testing.answers)
        testing.tries.submit(try_one, [self.ticket, testing.unsure], testing.answers, **QUIET)
        testing.onward.click(*self._going("keep"), **AWAY)
        tried = training.tries.submit(try_one, [self.ticket, testing.unsure], testing.answers, **QUIET)
        tried.then(*self._going("test"), **AWAY)
        testing.unsure.change(
            self._bound(test_step.tell),
            [self.ticket, testing.unsure],
            testing.answers,
            **LATEST,
        )
        testing.camera.stream(
            with_turns(test_step.look),
            [self.ticket, testing.camera, testing.unsure],
            testing.answers,
            stream_every=test_step.EVERY,
            **QUIET,
        )
        parts.judge.click(self._bound(judge), self.ticket, parts.shown, **QUIET)
        parts.test_set.submit(_with_event(self._bound(judge_by)), self.ticket, parts.shown, **QUIET)
        for drawing in (parts.matrix, parts.mistakes):
            mended = drawing.submit(_with_event(self._bound(mistakes.press)), self.ticket, parts.shown, **QUIET)
            self._opens(mended.then(self._bound(images_step.welcome), self.ticket, images.shown, **QUIET))

    def keep(self, keeping: KeepStep) -> None:
        """The fifth step: the model is taken along, pushed, or opened again."""
        self.steps.keep.select(self._bound(keep_step.prepare), self.ticket, keeping.shown, **QUIET)
        for key, button in keeping.ways.items():

            def take(visitor: Visitor, name: str, along: bool, key: str = key) -> Iterator[tuple[Any, str]]:
                yield gr.skip(), keep_step.MAKING
                yield keep_step.take(visitor, self.turns, key, name, along)

            button.click(
                self._bound(take), [self.ticket, keeping.name, keeping.along], [keeping.file, keeping.made], **QUIET
            ).then(None, keeping.file, None, js=keep_step.PRESS)

        def push(  # Gradio fills in who asks, and the token of whoever has logged in
            ticket: str | None,
            repository: str,
            kind: str,
            name: str,
            along: bool,
            request: gr.Request = None,
            token: gr.OAuthToken | None = None,
        ) -> str:
            theirs = token.token if token else None
            allowed = theirs is not None or (self.alone and at_this_computer(request))
            return self._bound(keep_step.push_it)(ticket, self.turns, repository, kind, name, along, theirs, allowed)

        asked = [self.ticket, keeping.repository, keeping.kind, keeping.name, keeping.along]
        keeping.push.click(push, asked, keeping.pushed)
        opened = keeping.opening.upload(
            self._bound(keep_step.open_model), [self.ticket, keeping.opening], [keeping.opened, keeping.name]
        )
        self._opens(opened.then(self._bound(keep_step.prepare), self.ticket, keeping.shown, **QUIET))

    def come_and_go(self, images: ImagesStep, training: TrainStep) -> None:
        """A tab arrives, comes back after a reload, and leaves."""

        def arrive(remembered: str | None, request: gr.Request) -> tuple[str, str]:
            mine = self.visitors.arrive(remembered, request.session_hash)
            return mine, mine

        def leave(request: gr.Request) -> None:
            self.visitors.leave(request.session_hash)

        self.page.unload(leave)
        arrived = self.page.load(arrive, self.memory, [self.ticket, self.memory], js=REMEMBERED, **QUIET)
        arrived = arrived.then(None, self.memory, None, js=REMEMBER)
        welcomed = arrived.then(self._bound(images_step.welcome), self.ticket, images.shown, **QUIET)
        prepared = self._opens(welcomed).then(self._bound(train_step.prepare), self.ticket, training.prepared, **QUIET)
        self._followed(prepared, training)

    def forget(self, button: gr.HTML, files: Sequence[gr.components.Component]) -> None:
        """Everything of this visitor goes at once, and the page begins anew; ``files`` may hold some of theirs."""

        def note(visitor: Visitor, *held: Any) -> None:
            visitor.uploads |= set(kept_files(held))

        def forget_everything(ticket: str | None) -> None:
            self.visitors.forget(ticket)

        # Noted by an event of its own: where a file has gone already, the rest goes nevertheless.
        button.submit(self._bound(note), [self.ticket, *files], None, **QUIET).then(
            forget_everything, self.ticket, None, **QUIET
        ).then(None, None, None, js=BEGIN_ANEW)

    def _going(self, step: str) -> tuple[Any, ...]:
        """What goes on to a step, seen from its top."""
        return lambda: gr.Tabs(selected=step), None, self.steps.tabs

    def _borrowed(self, pressed: Callable[..., Any], training: TrainStep) -> Callable[..., Any]:
        """What follows a press: at once, or where a GPU is lent to events, after it has read the images."""
        if self.engine is None:
            return pressed

        def borrow(visitor: Visitor) -> Iterator[str]:  # no lambda: Gradio streams only what is a generator itself
            yield from train_step.borrow(visitor, self.turns, self.engine)

        return pressed(self._bound(borrow), self.ticket, training.sentence, **QUIET).then

    def _followed(self, begun: Any, training: TrainStep) -> None:
        """A training that has begun is watched to its end, and then all that depends on it stands anew."""
        over = begun.then(self._bound(train_step.watch), self.ticket, training.drawings, **QUIET)
        over = over.then(self._bound(train_step.state), self.ticket, training.state, **QUIET)
        self._opens(over)

    def _opens(self, changed: Any) -> Any:
        """After a change the steps that can be used now are open, and the page says what comes next."""
        return changed.then(self._bound(navigation.stand), self.ticket, self.steps.shown, **QUIET)

    def _bound(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A handler of a visitor as one of a ticket; a generator stays one."""

        def find(ticket: str | None) -> Visitor:
            visitor = self.visitors.find(ticket)
            if visitor is None:
                raise gr.Error(GONE if ticket else EARLY)
            return visitor

        if inspect.isgeneratorfunction(handler):

            def event(ticket: str | None, *values: Any) -> Any:
                yield from handler(find(ticket), *values)
        else:

            def event(ticket: str | None, *values: Any) -> Any:
                return handler(find(ticket), *values)

        return event


def at_this_computer(request: gr.Request) -> bool:
    """Whether an event comes from a browser on this very computer, and through nobody's hands."""
    host = (request.headers.get("host") or "").rsplit(":", 1)[0].strip("[]")
    handed_on = any(name.lower().startswith(("x-forwarded", "forwarded", "via")) for name in request.headers)
    return bool(request.client) and request.client.host in LOOPBACK and host in LOOPBACK and not handed_on


def kept_files(held: Iterable[Any]) -> Iterator[Path]:
    """Those of the files that components hold which lie in Gradio's own folder, and so are its to remove."""
    home = Path(get_upload_folder()).resolve()
    for value in held:
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path and Path(path).resolve().is_relative_to(home):
                yield Path(path)


def _picked(event: gr.SelectData) -> tuple[str | None, str | None]:
    return model_step.pick(event.row_value)


def _with_event(handler: Callable[..., Any]) -> Callable[..., Any]:
    """What our own components send travels in the event, not in a value."""
    if inspect.isgeneratorfunction(handler):

        def event(ticket: str | None, sent: gr.EventData) -> Any:
            yield from handler(ticket, sent)
    else:

        def event(ticket: str | None, sent: gr.EventData) -> Any:
            return handler(ticket, sent)

    return event
