"""Beneath the plan of the third step: the learning-rate range test, drawn as the usual curve with a suggestion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html import escape

import gradio as gr

from headswap.common.errors import InputError
from headswap.common.text import seconds
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Step
from headswap.training.lr_finder import HIGHEST, LOWEST, RateTest, find_rate
from headswap.ui.panels.help_notes import note
from headswap.ui.sessions.chosen_network import network
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Visitor
from headswap.ui.views import line_chart
from headswap.ui.views.html import problem_card

DECADES = round(math.log10(HIGHEST / LOWEST))


@dataclass(frozen=True)
class Rates:
    """The components."""

    find: gr.Button
    told: gr.HTML


def build() -> Rates:
    """The components, without events."""
    button = gr.Button("Find a learning rate for the head", elem_id="find-rate")
    note("find-rate")
    return Rates(button, gr.HTML(elem_id="rates", apply_default_css=False))


def find(visitor: Visitor, turns: Turns) -> Iterator[str]:
    """Run the test on the visitor's images with a network of its own; values for ``told``."""
    if visitor.wanting:
        yield problem_card(visitor.wanting)
        return
    yield _said("Building the network; it may wait for its turn on this machine.")
    images = visitor.images
    try:
        model = network(visitor.choice, images, turns, lambda done, total: None)
        with closing(find_rate(model, images)) as events:
            while True:
                with turns.turn():
                    event = next(events, None)
                if event is None:
                    return
                yield _told(event)
    except (InputError, ValueError) as error:
        yield problem_card(str(error))


def _told(event: FrozenPass | Step | RateTest) -> str:
    match event:
        case FrozenPass():
            return _said(
                f"Reading the images through the frozen stages: {event.done:,} of {event.total:,} views, "
                f"{seconds(event.left)} left."
            )
        case Step():
            return _said(f"The rate rises: step {event.step} of {event.steps}.")
    return drawn(event)


def _said(words: str) -> str:
    return f'<p class="hs-sentence" role="status" aria-live="polite">{escape(words)}</p>'


def drawn(test: RateTest) -> str:
    """The loss over the rates, a decade for each step across, and what they suggest."""
    places = [math.log10(rate / LOWEST) for rate in test.rates]
    points = tuple(zip(places, test.losses, strict=True))
    suggestion = min(points, key=lambda point: abs(point[0] - math.log10(test.suggestion / LOWEST)))
    words = f"The loss falls most steeply at a rate of {test.suggestion:.2g}: learn at about that, or somewhat below."
    chart = line_chart.Chart(
        "Loss while the rate rises",
        (),
        (line_chart.Series("loss", points, "validation"),),
        DECADES,
        marker=suggestion,
        mark="steepest",
        across="rate",
        names=tuple((place, f"{LOWEST * 10**place:g}") for place in range(DECADES + 1)),
        said=words,
    )
    return f'<div class="hs-charts">{line_chart.draw(chart)}</div>{_said(words)}'
