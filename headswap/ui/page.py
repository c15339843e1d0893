"""The page: its steps in order and all the wiring between them, as one screen to read.

A handler is a plain function of a visitor and some values; here it is bound to components and to the registry.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from headswap.ui import images_step, keep_step, model_step, rates, test_step, theme, train_step
from headswap.ui.jobs import Turns
from headswap.ui.visitors import Visitor, Visitors

REMEMBERED = "() => sessionStorage.getItem('headswap')"
REMEMBER = "(ticket) => { sessionStorage.setItem('headswap', ticket); return ticket; }"
KEEP_UPLOADS = (600, 3600)  # seconds: how often to look, and how old a new image for the Test step may become
LOOPBACK = ("127.0.0.1", "::1", "localhost")
GONE = "You were away for a while, so your images were let go. Reload the page to begin anew."


def build(visitors: Visitors, alone: bool = False) -> gr.Blocks:
    """The page, for visitors of this registry; ``alone`` if nobody but this very computer can reach it."""
    turns = Turns()
    on_space = "SPACE_ID" in os.environ
    bound = _binder(visitors)
    with gr.Blocks(title="headswap", analytics_enabled=False, delete_cache=KEEP_UPLOADS) as page:
        gr.HTML(
            "<h1>headswap</h1><p>Give a trained network a new head, and watch it learn your pictures.</p>",
            elem_id="title",
            apply_default_css=False,
        )
        ticket = gr.State(None)
        memory = gr.Textbox(visible="hidden", elem_id="memory", label="memory")
        with gr.Tabs(elem_id="steps", overflow_behavior="wrap") as tabs:
            with gr.Tab("1 Images", id="images"):
                images = images_step.build()
            with gr.Tab("2 Model", id="model") as model_tab:
                model = model_step.build()
            with gr.Tab("3 Train", id="train") as train_tab:
                training = train_step.build()
            with gr.Tab("4 Test", id="test") as test_tab:
                testing = test_step.build()
            with gr.Tab("5 Keep", id="keep") as keep_tab:
                keeping = keep_step.build(pushing=alone or on_space, login=on_space)

        understood = [images.problem, images.understood, images.onward, images.picker]
        chosen = [model.strip, model.sentence, model.problem, model.seen, *model.groups.values()]
        plan = [training.head_epochs, training.stages, training.stage_epochs]
        buttons = training.buttons
        prepared = [*training.drawings, *plan, *buttons]
        tested = [testing.strip, testing.state]

        # Images
        quiet = {"show_progress": "hidden"}  # the drop area says itself how far it is
        reading = [
            images.sample.click(bound(images_step.load_sample), ticket, understood, **quiet),
            images.picker.submit(_with_event(bound(images_step.read)), ticket, understood, **quiet),
        ]
        images.picker.stop(bound(images_step.welcome), ticket, understood, cancels=reading, **quiet)
        images.understood.submit(_with_event(bound(images_step.edit)), ticket, understood, **quiet)
        images.onward.click(lambda: gr.Tabs(selected="model"), None, tabs, queue=False)

        # Model
        choose = bound(model_step.choose), [ticket, *model.choices], chosen
        networks = (model.backbone, model.other)
        for named, cleared in (
            networks,
            networks[::-1],
        ):  # one of both names the network, so the other is cleared first
            named.input(lambda: None, None, cleared, queue=False, trigger_mode="always_last").then(
                *choose, show_progress="hidden"
            )
        model.table.select(_picked, None, networks, show_progress="hidden").then(*choose, show_progress="hidden")
        gr.on(
            [control.input for control in model.choices if control not in networks],
            *choose,
            show_progress="hidden",
            trigger_mode="always_last",  # one event for all of them, so that no older choice overtakes a newer one
        )
        model_tab.select(*choose, show_progress="hidden")
        model.onward.click(lambda: gr.Tabs(selected="train"), None, tabs, queue=False)

        # Train
        prepare = bound(train_step.prepare), ticket, prepared
        train_tab.select(*prepare, show_progress="hidden").then(
            bound(train_step.choice), ticket, training.going_on, show_progress="hidden"
        )
        for button, begin, given in (
            (training.train, train_step.start, [*plan, training.head_rate]),
            (training.again, train_step.again, []),
        ):
            button.click(
                bound(lambda visitor, *values, begin=begin: begin(visitor, turns, *values)),
                [ticket, *given],
                [training.problem, *buttons],
                show_progress="hidden",
            ).then(bound(train_step.watch), ticket, training.drawings, show_progress="hidden").then(
                bound(train_step.buttons), ticket, buttons, show_progress="hidden"
            )
        for button, name in (
            (training.frozen, "frozen"),
            (training.reference, "reference"),
            (training.own, "own"),
        ):
            button.click(
                bound(lambda visitor, name=name: train_step.keep(visitor, name)),
                ticket,
                [*training.drawings, *buttons],
                show_progress="hidden",
            )

        def find_rate(visitor: Visitor) -> Iterator[str]:  # no lambda: Gradio streams only what is a generator itself
            yield from rates.find(visitor, turns)

        training.rates.find.click(bound(find_rate), ticket, training.rates.told, show_progress="hidden")
        training.stop.click(bound(train_step.stop), ticket, None, show_progress="hidden")
        training.onward.click(lambda: gr.Tabs(selected="test"), None, tabs, queue=False)
        training.going_on.input(
            bound(train_step.go_on),
            [ticket, training.going_on],
            [*prepared, training.going_on],
            show_progress="hidden",
            trigger_mode="always_last",
        )
        training.lesson.expand(bound(keep_step.script), ticket, training.script, show_progress="hidden")

        # Test
        test_tab.select(bound(test_step.prepare), ticket, tested, show_progress="hidden")
        testing.files.change(bound(test_step.classify), [ticket, testing.files], testing.answers)

        # Keep
        keep_tab.select(bound(keep_step.prepare), ticket, keeping.shown, show_progress="hidden")
        for way, button in keeping.ways.items():

            def take(visitor: Visitor, name: str, along: bool, way: str = way) -> tuple[str | None, str]:
                return keep_step.take(visitor, turns, way, name, along)

            button.click(bound(take), [ticket, keeping.name, keeping.along], [keeping.file, keeping.made]).then(
                None, keeping.file, None, js=keep_step.PRESS
            )

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
            allowed = theirs is not None or (alone and at_this_computer(request))
            return bound(keep_step.push_it)(ticket, turns, repository, kind, name, along, theirs, allowed)

        pushed = [ticket, keeping.repository, keeping.kind, keeping.name, keeping.along]
        keeping.push.click(push, pushed, keeping.pushed)
        keeping.opening.upload(bound(keep_step.open_model), [ticket, keeping.opening], keeping.opened).then(
            bound(keep_step.prepare), ticket, keeping.shown, show_progress="hidden"
        )

        # Arriving, coming back and leaving
        def arrive(remembered: str | None, request: gr.Request) -> tuple[str, str]:
            mine = visitors.arrive(remembered, request.session_hash)
            return mine, mine

        def leave(request: gr.Request) -> None:
            visitors.leave(request.session_hash)

        page.unload(leave)
        page.load(arrive, memory, [ticket, memory], js=REMEMBERED, show_progress="hidden").then(
            None, memory, None, js=REMEMBER
        ).then(bound(images_step.welcome), ticket, understood, show_progress="hidden").then(
            bound(train_step.prepare), ticket, prepared, show_progress="hidden"
        ).then(bound(train_step.watch), ticket, training.drawings, show_progress="hidden").then(
            bound(train_step.buttons), ticket, buttons, show_progress="hidden"
        )
    return page


def launch(**settings: Any) -> None:
    """Start the page for as long as the program runs; ``settings`` go to Gradio's ``launch`` and win over these."""
    visitors = Visitors()
    visitors.sweep_in_background()
    alone = settings.get("server_name", "127.0.0.1") in LOOPBACK and not settings.get("share")
    alone = alone and not os.environ.keys() & {"SPACE_ID", "GRADIO_SHARE", "GRADIO_SERVER_NAME"}
    page = build(visitors, alone).queue(default_concurrency_limit=None)
    page.launch(
        **{
            "theme": look(),
            "head": f"<style>{theme.css()}</style>",
            "footer_links": [],
            "max_threads": 200,  # each watching event holds one
            "max_file_size": "1gb",
            "state_session_capacity": 300,
            "run_history": False,  # it would keep one pupil's pictures for the next
            "ssr_mode": False,
            **settings,
        }
    )


def at_this_computer(request: gr.Request) -> bool:
    """Whether an event comes from a browser on this very computer, and through nobody's hands."""
    host = (request.headers.get("host") or "").rsplit(":", 1)[0].strip("[]")
    handed_on = any(name.lower().startswith(("x-forwarded", "forwarded", "via")) for name in request.headers)
    return bool(request.client) and request.client.host in LOOPBACK and host in LOOPBACK and not handed_on


def look() -> gr.themes.Base:
    """Gradio's default with its contrast failures mended, and orange for what starts learning."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
    )


def _binder(visitors: Visitors) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turns a handler of a visitor into one of a ticket; a generator stays one."""

    def find(ticket: str | None) -> Visitor:
        visitor = visitors.find(ticket)
        if visitor is None:
            raise gr.Error(GONE)
        return visitor

    def bound(handler: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(handler):

            def event(ticket: str | None, *values: Any) -> Any:
                yield from handler(find(ticket), *values)
        else:

            def event(ticket: str | None, *values: Any) -> Any:
                return handler(find(ticket), *values)

        return event

    return bound


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
