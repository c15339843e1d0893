"""Trains several heads in turn on one set of cached features, and continues with the best one.

Knows nothing of how a phase is run, nor of screens.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from headswap.common.deprecation import renamed_arguments
from headswap.data.dataset import LabelledImages
from headswap.features.frozen_pass import FrozenPass
from headswap.features.precompute import PrecomputedFeatures, fill_caches
from headswap.networks.adaptation import adapt, attach_head
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS
from headswap.networks.stage import count_parameters
from headswap.training.event_stream import EventStream
from headswap.training.events import Epoch, Event, PhaseBegins, Step
from headswap.training.plan import Plan
from headswap.training.trainer import Trainer, build_feature_caches, compute_initial_boundaries

DEFAULT_RACE_HEADS = ("linear", "bottleneck", "mlp", "lda")
HeadSpecs = Sequence[str] | Mapping[str, Mapping[str, Any]]
LapEvent = PhaseBegins | Step | Epoch


@dataclass(frozen=True)
class Lap:
    """An event of the training of one head.

    Attributes:
        head: its name.
        event: of its training.
        model: that learns.
    """

    head: str
    event: LapEvent
    model: Classifier | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class RankedHead:
    """The result of one head.

    Attributes:
        head: its name.
        weights: number of its weights.
        epoch: its last.
    """

    head: str
    weights: int
    epoch: Epoch


@dataclass(frozen=True)
class Won:
    """The frozen phase is over; what follows are the events of the winner's training alone.

    Attributes:
        places: the best first: by score, and among equals the one with fewer weights.
        model: the winner, which continues to learn.
    """

    places: tuple[RankedHead, ...]
    model: Classifier = field(repr=False)

    @property
    def head(self) -> str:
        """The winner's name."""
        return self.places[0].head

    @property
    def sentence(self) -> str:
        """The result in words."""
        results = ", ".join(f"{place.head} {place.epoch.correct}" for place in self.places)
        return f"Of {self.places[0].epoch.total} validation images right: {results}. {self.head} goes on."


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
    """Train heads in turn in the frozen phase, for hardly more than the time of one; the best continues.

    The arguments are checked at once; iterate what is returned, or call its ``run()``. The frozen pass is made once for
    all heads: maps are cached once, and pooled from there. The winner's model is in the event ``Won`` and is trained
    when the generator is at its end.

    Args:
        images: to learn from.
        backbone: as for ``adapt``.
        heads: their names, or names with the options of each: ``{"linear": {}, "mlp": {"hidden_dims": (256,)}}``.
        plan: as for ``train``, for all of them; by default each has the one that is suggested for it.
        validation: images that are never learned from; by default a part of ``images``.
        engine: as for ``train``.
        precomputed: as for ``train``.

    Returns:
        The events; the last one is ``Kept``.

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
    backbone_model = adapt(backbone, images.classes, multi_label=images.multi_label)
    models = {name: attach_head(backbone_model, name, **how) for name, how in options.items()}
    plans = {name: plan or Plan.suggest(images, model) for name, model in models.items()}
    first = next(iter(plans.values()))
    cache_plan = replace(first, views=max(plan.views for plan in plans.values()))
    caches = build_feature_caches(backbone_model, images, cache_plan, validation, engine)
    trainers = {name: Trainer(model, plans[name], *caches) for name, model in models.items()}
    return EventStream("headswap.race(...)", _run_race(trainers, precomputed))


def select_best_model(models: Iterable[Classifier]) -> Classifier | None:
    """The model with the best epoch, of a race that was stopped before ``Won``; None if none had an epoch."""
    trained = [model for model in models if model.record]
    return max(trained, key=lambda m: (m.record.result.score, -count_parameters(m.head)), default=None)


def _run_race(
    trainers: dict[str, Trainer], precomputed: PrecomputedFeatures | None
) -> Generator[Event | Lap | Won, None, None]:
    first, *others = trainers.values()
    with ExitStack() as sessions:
        for trainer in trainers.values():
            sessions.enter_context(trainer.session())
        boundaries = set[int]().union(*(compute_initial_boundaries(t.model, t.plan) for t in trainers.values()))
        yield from fill_caches(first.caches, boundaries, precomputed)
        yield from first.prepare()
        for trainer in others:
            trainer.prepare_from(first)
        for name, event in _interleave_epochs({name: t.run_phases([1]) for name, t in trainers.items()}):
            yield Lap(name, event, trainers[name].model)
        places = _rank_heads(trainers)
        winner = trainers[places[0].head]
        for trainer in trainers.values():
            if trainer is not winner:
                trainer.abandon()
        yield Won(places, winner.model)
        yield from winner.run_phases(range(2, len(winner.plan.phases) + 1))
        yield winner.finish()


def _rank_heads(trainers: Mapping[str, Trainer]) -> tuple[RankedHead, ...]:
    results = [
        RankedHead(name, count_parameters(trainer.model.head), trainer.last)
        for name, trainer in trainers.items()
        if trainer.last
    ]
    return tuple(sorted(results, key=lambda result: (-result.epoch.validation_score, result.weights)))


def _interleave_epochs(streams: dict[str, Iterator[LapEvent | FrozenPass]]) -> Iterator[tuple[str, LapEvent]]:
    """Take one epoch of each stream in turn, until all are at their end."""
    while streams:
        for name, events in list(streams.items()):
            for event in events:
                if isinstance(event, FrozenPass):  # of one pass for all heads, which is over
                    continue
                yield name, event
                if isinstance(event, Epoch):
                    break
            else:
                del streams[name]
