"""A race of heads: several learn side by side from the same activations, and the winner's stages thaw.

Knows nothing of how a phase goes, nor of screens.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from headswap.data.dataset import LabelledImages
from headswap.features.precompute import Beforehand, first_pass
from headswap.networks.classifier import Classifier, adapt, crown
from headswap.networks.heads import HEADS
from headswap.networks.stage import count_weights
from headswap.training.event_stream import EventStream
from headswap.training.events import Epoch, Event, PhaseBegins, Step
from headswap.training.plan import Plan
from headswap.training.trainer import Training, first_boundaries, halved

Heads = Sequence[str] | Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Lap:
    """Something happened to one of the heads."""

    head: str
    event: PhaseBegins | Step | Epoch
    model: Classifier | None = field(default=None, repr=False, compare=False)  # which learns


@dataclass(frozen=True)
class Place:
    """How a head came in."""

    head: str
    weights: int
    epoch: Epoch  # its last


@dataclass(frozen=True)
class Won:
    """The frozen phase is over. What follows are the events of the winner's training alone."""

    places: tuple[Place, ...]  # the best first: by score, and of equals the one with fewer weights
    model: Classifier = field(repr=False)  # the winner, which goes on to learn

    @property
    def head(self) -> str:
        """The winner's name."""
        return self.places[0].head

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        told = ", ".join(f"{place.head} {place.epoch.right}" for place in self.places)
        return f"Of {self.places[0].epoch.of} validation images right: {told}. {self.head} goes on."


def race(
    images: LabelledImages,
    backbone: str | Classifier | nn.Module,
    heads: Heads,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
    beforehand: Beforehand | None = None,
) -> EventStream[Event | Lap | Won]:
    """Let heads learn side by side in the frozen phase, for hardly more than the price of one; the best goes on.

    The arguments are checked at once; loop over what is returned, or call its ``run()``. The images pass the frozen
    stages once for all heads: maps are kept once, and pooled from there. The winner's model is in the event ``Won`` and
    has learned when the generator is through.

    Args:
        images: to learn from.
        backbone: as for ``adapt``.
        heads: their names, or names with the options of each: ``{"linear": {}, "mlp": {"hidden_dims": (256,)}}``.
        plan: as for ``train``, for all of them; by default each has the one that is suggested for it.
        validation: images that are never learned from; by default a part of ``images``.
        engine: as for ``train``.
        beforehand: as for ``train``.

    Raises:
        ValueError: if there are fewer than two heads, for an unknown head or network, or a plan that does not begin
            with the head alone.
        InputError: as ``train`` and ``adapt``.
    """
    heads = [heads] if isinstance(heads, str) else heads
    options = heads if isinstance(heads, Mapping) else {name: {} for name in heads}
    plan = Plan.chosen(plan)
    if not all(isinstance(name, str) for name in options):
        raise ValueError(
            "Heads race by their names; give one of your own a name with headswap.networks.heads.register."
        )
    if len(options) < 2:
        raise ValueError(f"A race needs two heads at least, such as {' and '.join(list(HEADS)[:2])}.")
    if plan and plan.phases[0].learning_stages != 0:
        raise ValueError("In a race only heads learn in the first phase; give it learning_stages=0.")
    carrier = adapt(backbone, images.classes, multi_label=images.multi_label)
    models = {name: crown(carrier, name, **how) for name, how in options.items()}
    plans = {name: plan or Plan.suggest(images, model) for name, model in models.items()}
    first = next(iter(plans.values()))
    widest = replace(first, views=max(plan.views for plan in plans.values()))
    halves = halved(carrier, images, widest, validation, engine)
    runners = {name: Training(model, plans[name], *halves) for name, model in models.items()}
    return EventStream("headswap.race(...)", _run(runners, beforehand))


def leader(models: Iterable[Classifier]) -> Classifier | None:
    """Of the models of a race that was stopped before anything was decided, the one whose best epoch is the best; None
    where none had learned."""
    learned = [model for model in models if model.record]
    return max(learned, key=lambda m: (m.record.result.score, -count_weights(m.head)), default=None)


def _run(runners: dict[str, Training], beforehand: Beforehand | None) -> Generator[Event | Lap | Won, None, None]:
    with ExitStack() as going:
        for runner in runners.values():
            going.enter_context(runner.going())
        first = next(iter(runners.values()))
        wanted = set().union(*(first_boundaries(runner.model, runner.plan) for runner in runners.values()))
        yield from first_pass(first.halves, wanted, beforehand)
        yield from first.begin()
        for runner in list(runners.values())[1:]:
            runner.begin_like(first)
        for lap in _side_by_side({name: runner.phases([1]) for name, runner in runners.items()}):
            yield replace(lap, model=runners[lap.head].model)
        places = sorted(
            (Place(name, count_weights(runner.model.head), runner.last) for name, runner in runners.items()),
            key=lambda place: (-place.epoch.validation_score, place.weights),
        )
        winner = runners[places[0].head]
        for runner in runners.values():
            if runner is not winner:
                runner.retire()
        yield Won(tuple(places), winner.model)
        yield from winner.phases(range(2, len(winner.plan.phases) + 1))
        yield winner.end()


def _side_by_side(laps: dict[str, Iterator[Event]]) -> Iterator[Lap]:
    """One epoch of each in turn until all are through."""
    while laps:
        for name, events in list(laps.items()):
            for event in events:
                yield Lap(name, event)
                if isinstance(event, Epoch):
                    break
            else:
                del laps[name]
