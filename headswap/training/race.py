"""A race of heads: several learn side by side from the same activations, and the winner's stages thaw.

Knows nothing of how a phase goes, nor of screens.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from headswap.common.deprecation import renamed_arguments
from headswap.data.dataset import LabelledImages
from headswap.features.precompute import PrecomputedFeatures, fill_caches
from headswap.networks.adaptation import adapt, attach_head
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS
from headswap.networks.stage import count_parameters
from headswap.training.event_stream import EventStream
from headswap.training.events import Epoch, Event, PhaseBegins, Step
from headswap.training.plan import Plan
from headswap.training.trainer import Trainer, build_feature_caches, compute_initial_boundaries

HeadSpecs = Sequence[str] | Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Lap:
    """Something happened to one of the heads."""

    head: str
    event: PhaseBegins | Step | Epoch
    model: Classifier | None = field(default=None, repr=False, compare=False)  # which learns


@dataclass(frozen=True)
class RankedHead:
    """How a head came in."""

    head: str
    weights: int
    epoch: Epoch  # its last


@dataclass(frozen=True)
class Won:
    """The frozen phase is over. What follows are the events of the winner's training alone."""

    places: tuple[RankedHead, ...]  # the best first: by score, and of equals the one with fewer weights
    model: Classifier = field(repr=False)  # the winner, which goes on to learn

    @property
    def head(self) -> str:
        """The winner's name."""
        return self.places[0].head

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        told = ", ".join(f"{place.head} {place.epoch.correct}" for place in self.places)
        return f"Of {self.places[0].epoch.total} validation images right: {told}. {self.head} goes on."


@renamed_arguments(beforehand="precomputed")
def race(
    images: LabelledImages,
    backbone: str | Classifier | nn.Module,
    heads: HeadSpecs,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
    precomputed: PrecomputedFeatures | None = None,
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
    plan = Plan.resolve(plan)
    if not all(isinstance(name, str) for name in options):
        raise ValueError("Heads race by their names; give one of your own a name with headswap.register_head.")
    if len(options) < 2:
        raise ValueError(f"A race needs two heads at least, such as {' and '.join(list(HEADS)[:2])}.")
    if plan and plan.phases[0].learning_stages != 0:
        raise ValueError("In a race only heads learn in the first phase; give it learning_stages=0.")
    carrier = adapt(backbone, images.classes, multi_label=images.multi_label)
    models = {name: attach_head(carrier, name, **how) for name, how in options.items()}
    plans = {name: plan or Plan.suggest(images, model) for name, model in models.items()}
    first = next(iter(plans.values()))
    widest = replace(first, views=max(plan.views for plan in plans.values()))
    halves = build_feature_caches(carrier, images, widest, validation, engine)
    runners = {name: Trainer(model, plans[name], *halves) for name, model in models.items()}
    return EventStream("headswap.race(...)", _run_race(runners, precomputed))


def select_best_model(models: Iterable[Classifier]) -> Classifier | None:
    """Of the models of a race that was stopped before anything was decided, the one whose best epoch is the best; None
    where none had learned."""
    learned = [model for model in models if model.record]
    return max(learned, key=lambda m: (m.record.result.score, -count_parameters(m.head)), default=None)


def _run_race(
    trainers: dict[str, Trainer], precomputed: PrecomputedFeatures | None
) -> Generator[Event | Lap | Won, None, None]:
    with ExitStack() as going:
        for runner in trainers.values():
            going.enter_context(runner.session())
        first = next(iter(trainers.values()))
        wanted = set().union(*(compute_initial_boundaries(runner.model, runner.plan) for runner in trainers.values()))
        yield from fill_caches(first.caches, wanted, precomputed)
        yield from first.prepare()
        for runner in list(trainers.values())[1:]:
            runner.prepare_from(first)
        for lap in _interleave_epochs({name: runner.run_phases([1]) for name, runner in trainers.items()}):
            yield replace(lap, model=trainers[lap.head].model)
        places = sorted(
            (RankedHead(name, count_parameters(runner.model.head), runner.last) for name, runner in trainers.items()),
            key=lambda place: (-place.epoch.validation_score, place.weights),
        )
        winner = trainers[places[0].head]
        for runner in trainers.values():
            if runner is not winner:
                runner.abandon()
        yield Won(tuple(places), winner.model)
        yield from winner.run_phases(range(2, len(winner.plan.phases) + 1))
        yield winner.end()


def _interleave_epochs(laps: dict[str, Iterator[Event]]) -> Iterator[Lap]:
    """One epoch of each in turn until all are through."""
    while laps:
        for name, events in list(laps.items()):
            for event in events:
                yield Lap(name, event)
                if isinstance(event, Epoch):
                    break
            else:
                del laps[name]
