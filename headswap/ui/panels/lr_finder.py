"""Learning-rate finder: runs the range test and plots loss against learning rate with a suggestion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import gradio as gr

from headswap.common.errors import InputError
from headswap.common.text import format_duration
from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Step
from headswap.training.lr_finder import MAX_LR, MIN_LR, RateTest, lr_find
from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.chosen_network import build_seeded_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.views import line_chart
from headswap.ui.views.html import render_problem_card, render_status

NUM_DECADES = round(math.log10(MAX_LR / MIN_LR))


@dataclass(frozen=True)
class LrFinderPanel:
    """The panel's components."""

    find_button: gr.Button
    result: gr.HTML


def build() -> LrFinderPanel:
    """Build the components, without events."""
    button = gr.Button("Find a learning rate for the head", elem_id="find-rate")
    build_note("find-rate")
    return LrFinderPanel(button, gr.HTML(elem_id="rates", apply_default_css=False))


def find_learning_rate(session: Session, scheduler: Scheduler) -> Iterator[str]:
    """Run the range test on the session's images, with a network that is built for it.

    Yields:
        New values of ``LrFinderPanel.result``.
    """
    images = session.images
    if images is None or session.untrainable_reason:
        yield render_problem_card(session.untrainable_reason)
        return
    yield render_status("Building the network; it may wait for its turn on this machine.")
    try:
        model = build_seeded_network(session.choice, images, scheduler, lambda done, total: None)
        with closing(lr_find(model, images)) as events:
            while True:
                with scheduler.compute_slot():
                    event = next(events, None)
                if event is None:
                    return
                yield _render_event(event)
    except (InputError, ValueError) as error:
        yield render_problem_card(str(error))


def _render_event(event: FrozenPass | Step | RateTest) -> str:
    match event:
        case FrozenPass():
            return render_status(
                f"Reading the images through the frozen stages: {event.done:,} of {event.total:,} views, "
                f"{format_duration(event.left)} left."
            )
        case Step():
            return render_status(f"The rate rises: step {event.step} of {event.steps}.")
    return render_lr_curve(event)


def render_lr_curve(rate_test: RateTest) -> str:
    """The loss over the learning rates on a logarithmic axis, and the suggestion in a sentence."""
    decades = [math.log10(rate / MIN_LR) for rate in rate_test.rates]
    points = tuple(zip(decades, rate_test.losses, strict=True))
    suggestion = min(points, key=lambda point: abs(point[0] - math.log10(rate_test.suggestion / MIN_LR)))
    sentence = (
        f"The loss falls most steeply at a rate of {rate_test.suggestion:.2g}: learn at about that, or somewhat below."
    )
    chart = line_chart.LineChart(
        "Loss while the rate rises",
        (),
        (line_chart.Series("loss", points, "validation"),),
        NUM_DECADES,
        marker=suggestion,
        marker_text="steepest",
        x_label="rate",
        x_ticks=tuple((decade, f"{MIN_LR * 10**decade:g}") for decade in range(NUM_DECADES + 1)),
        alt_text=sentence,
    )
    return f'<div class="hs-charts">{line_chart.render_line_chart(chart)}</div>{render_status(sentence)}'
