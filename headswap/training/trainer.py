"""A training as a sequence of phases, told as events; whoever watches only draws them.

Frozen stages are run once, before the first phase; a phase runs the head, and the stages that learn, on what was kept.
Knows nothing of screens and files.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from math import isfinite, nan
from time import perf_counter
from typing import Any

import torch

from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import Seen
from headswap.evaluation import metrics
from headswap.evaluation.significance import History, Verdict, judge
from headswap.features.cache import Activations
from headswap.features.frozen_pass import FrozenPass, frozen_pass
from headswap.features.inference import Engine
from headswap.features.precompute import Beforehand, first_pass
from headswap.networks.classifier import Classifier
from headswap.networks.heads import build_head, solvable
from headswap.networks.stage import count_weights
from headswap.training.calibration import multiply, soften, surest
from headswap.training.checkpoints import Keeper, keep
from headswap.training.event_stream import EventStream
from headswap.training.events import Epoch, Event, Figures, Kept, LabelFigures, Offer, PhaseBegins, Reference
from headswap.training.loop import (
    Learner,
    LossIsNoNumber,
    Optimizer,
    answers,
    epoch_of,
    figures,
    plain_features,
    seconds_of_an_epoch,
    vectors,
)
from headswap.training.plan import Plan
from headswap.training.record import Passed, Record, Stretch

SOFT = 0.6  # to which a head that was solved is softened in every plan: it already fits what it has seen


def train(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
    beforehand: Beforehand | None = None,
) -> EventStream[Event]:
    """Teach a model its classes.

    The arguments are checked at once; the training itself goes on as the returned generator is run: loop over it, or
    call its ``run()``. Closing it stops the training; the model then holds the best weights so far. What was unfrozen
    stays unfrozen, in evaluation mode.

    Args:
        model: as ``adapt`` made it; it is changed in place.
        images: to learn from; their classes are the model's.
        plan: its phases, or the name of a classic one; by default the suggested one.
        validation: images that are never learned from; by default a part of ``images``: those that were held back
            from this model before, and a share of those that are new to it.
        engine: how frozen stages are run: "eager", "folded" (batch norms in the convolutions) or "onnxruntime"; by
            default the fastest that suits them. They agree within 1e-4.
        beforehand: a frozen pass that has begun already (``begin_pass``). Where it is one of other images, views or
            stages, it is not used.

    Raises:
        InputError: if the images' classes are not the model's, or a class has too few images to hold one back; and
            from the generator, if the loss is no number any more before anything was learned.
        ValueError: if the plan asks for more stages than the network has, or for an unknown plan or engine.
    """
    images = shown_by(images, model)
    plan = Plan.chosen(plan) or Plan.suggest(images, model)
    halves = halved(model, images, plan, validation, engine)
    return EventStream("headswap.train(...)", Training(model, plan, *halves, beforehand=beforehand).run())


def begin_pass(
    model: Classifier,
    images: LabelledImages,
    plan: Plan,
    former: Beforehand | None = None,
    engine: Engine | None = None,
) -> Beforehand:
    """The frozen pass that ``train`` would begin with, to be begun before; ``former`` may have done some of it.

    Raises:
        InputError: as ``train``.
    """
    images = shown_by(images, model)
    halves = halved(model, images, plan, None, engine)
    return Beforehand(model, halves, first_boundaries(model, plan), former)


def first_boundaries(model: Classifier, plan: Plan) -> set[int]:
    """What one pass can keep: the features for the reference, and what no earlier phase changes."""
    at = [model.boundary_of(phase.learning_stages) for phase in plan.phases]
    return {model.boundary_of(0), *(b for i, b in enumerate(at) if b <= min(at[: i + 1]))}


def shown_by(images: LabelledImages, model: Classifier) -> LabelledImages:
    """The images for this model, to learn from.

    Raises:
        InputError: if they show a class that it does not know, or none of a class that it would forget.
    """
    images = images.fitting(model.classes, model.multi_label)
    unseen = [name for name, count in images.counts.items() if not count]
    if unseen and not model.multi_label:
        raise InputError(
            f"No image shows '{unseen[0]}', which the model would forget. Add images of it, or adapt a model with "
            "classes=images.classes."
        )
    return images


def halved(
    model: Classifier,
    images: LabelledImages,
    plan: Plan,
    validation: LabelledImages | None,
    engine: Engine | None,
) -> tuple[Activations, Activations]:
    """What is learned from in the plan's views, and what is held back, which is only ever seen plain.

    What the model has learned from is learned from again, and what has judged it judges it again.

    Raises:
        InputError: if their classes are not the model's, or a class has too few images to hold one back, or none that
            may be learned from.
    """
    if validation is None:
        learned, checked = model.seen.split(images, plan.validation, plan.seed)
    else:
        learned, checked = images, validation
    learned, checked = (some.fitting(model.classes, model.multi_label) for some in (learned, checked))
    return Activations(model, learned, plan.views, plan.seed, engine), Activations(model, checked, engine=engine)


def fit(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
) -> Kept:
    """``train`` without watching, the short form of ``train(...).run()``; returns the last event."""
    return train(model, images, plan, validation, engine).run()


def refit(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    kept: Kept | None = None,
    engine: str | None = None,
) -> EventStream[Event]:
    """Learn once more from all images, those included that were held back; worth a few points where there are few.

    The arguments are checked at once; loop over what is returned, or call its ``run()``. The model begins where the
    honest run began and follows its plan to the end. Nothing is left to judge it by, so the last event repeats the
    honest run's figures and says so. Closed before, the model holds again what it held.

    Args:
        model: that ``train`` taught.
        images: all of them.
        plan: of the honest run, which is the default.
        kept: the honest run's last event; it must be given.
        engine: as for ``train``.

    Raises:
        InputError: if the images' classes are not the model's; and from the generator, if the loss is no number any
            more.
        ValueError: if ``kept`` is missing, of another model or itself of a refit; for an unknown plan or engine; or
            if the plan asks for more stages than the network has.
    """
    everything = shown_by(images, model)
    plan, start = Plan.chosen(plan), _start_of(model, kept)
    plan = plan or _plan_of(model, kept) or Plan.suggest(everything, model)
    for phase in plan.phases:
        model.boundary_of(phase.learning_stages)
    learned = Activations(model, everything, plan.views, plan.seed, engine)
    return EventStream("headswap.refit(...)", _refitted(model, plan, learned, kept, start))


def _start_of(model: Classifier, kept: Kept | None) -> Offer:
    """Where the honest run began; ``ValueError`` where that cannot be said."""
    if not isinstance(kept, Kept):
        raise ValueError(
            "kept is the last event of the training that is to be gone through once more, as fit returns it, not "
            f"{'None' if kept is None else type(kept).__name__}."
        )
    start = kept.offers.get("start")
    if start is None:
        raise ValueError("This is the last event of a refit; give that of the training before it, which held back.")
    state = model.state_dict()
    strange = any(name not in state or state[name].shape != weight.shape for name, weight in start.weights.items())
    try:
        model.check_head(start.head)
    except InputError:
        strange = True
    if strange:
        raise ValueError("kept is the last event of a training of another model.")
    return start


def _plan_of(model: Classifier, kept: Kept) -> Plan | None:
    """The plan that the training of this last event followed, where any network of it remembers that."""
    records = [offer.record for offer in kept.offers.values() if offer.figures]
    return next((record.plan for record in [*records, model.record] if record), None)


def _refitted(
    model: Classifier, plan: Plan, everything: Activations, kept: Kept, start: Offer
) -> Generator[Event, None, None]:
    state = model.state_dict()
    weights = {name: state[name].clone() for name in start.weights}
    before = Offer(None, copy.deepcopy(model.head), weights, model.record, model.seen)
    done = False
    try:
        keep(model, start)
        model.seen = before.seen  # of images that judged, that they did is not forgotten
        with closing(Training(model, plan, everything, None, kept).run()) as events:
            for event in events:
                done = done or isinstance(event, Kept)
                yield event
    finally:
        if not done:
            keep(model, before)


class Training:
    """One run."""

    def __init__(
        self,
        model: Classifier,
        plan: Plan,
        learned: Activations,
        checked: Activations | None,
        honest: Kept | None = None,
        beforehand: Beforehand | None = None,
    ) -> None:
        """``checked`` is None in a refit, which repeats the figures of the ``honest`` run."""
        self.model, self.plan, self.checked, self.honest = model, plan, checked, honest
        self.beforehand = beforehand
        self.leakage = model.seen.leakage(learned.images, checked.images) if checked else ""
        self.home = next(model.parameters()).device
        self.boundaries = [model.boundary_of(phase.learning_stages) for phase in plan.phases]
        self.learner = Learner(model, plan, learned)
        for phase in plan.phases:
            self.learner.check(phase.learning_stages, phase.batch_size)
        self.history = {False: History(), True: History()}  # by whether stages had begun to learn
        self.reference: Figures | None = None
        self.epochs: list[Epoch] = []
        self.stretches: list[Stretch] = []
        self.problem = ""  # why it ended early, after something had been learned
        self.softened = 1.0  # by what the head was multiplied before stages began to learn
        self.thawed_seconds = 0.0
        self.predicted: dict[int, float] = {}  # boundary to seconds of an epoch

    @property
    def last(self) -> Epoch | None:
        """The last epoch so far."""
        return self.epochs[-1] if self.epochs else None

    def run(self) -> Generator[Event, None, None]:
        """All events in order."""
        with self.going():
            yield from first_pass(self.halves, first_boundaries(self.model, self.plan), self.beforehand)
            yield from self.begin()
            yield from self.phases(range(1, len(self.plan.phases) + 1))
            yield self.end()

    @contextmanager
    def going(self) -> Iterator[None]:
        """However the block ends, the model holds what is to be kept."""
        model = self.model
        learning = len(model.learning_stages)
        self.began, self.keeper, self._settled = perf_counter(), None, False
        try:
            self.learner.settle()
            model.freeze()
            yield
        finally:
            if self.keeper is None:
                model.unfreeze(learning)
            elif not self._settled:
                self.keeper.restore_best()
                if self.keeper.best:
                    best = self.keeper.best
                    model.record = self._record("best", best.number, best.figures, chosen=True)
                    model.seen = self._seen(model.record)
            model.to(self.home).eval()

    def begin(self) -> Iterator[Reference]:
        """After the frozen pass and before the first phase."""
        self.keeper = Keeper(self.model, min(self.boundaries))
        yield from self._solve_reference()
        self._predict()

    def begin_like(self, other: Training) -> None:
        """As ``begin``, with what has been solved already on the same activations."""
        self.keeper = Keeper(self.model, min(self.boundaries))
        self.reference = other.reference
        if self.reference:
            self.keeper.offer("reference", self.reference, other.keeper.offers["reference"].head)
        self._predict()

    def retire(self) -> None:
        """Another training goes on with the same stages, so these are left alone."""
        self._settled = True

    def end(self) -> Kept:
        """The last event; whoever hears of it can use the model at once."""
        kept = self._keep()
        verdict = kept.verdict.sentence if kept.verdict else ""
        told = {"chosen": kept.chosen, "refitted": kept.refitted, "verdict": verdict}
        record = self.model.record = self._record(kept.what, kept.epoch, kept.figures, **told)
        for name, offer in self.keeper.offers.items():
            if offer.figures and not self.honest:  # of a refit nothing else can be had
                instead = record.instead(name, offer.figures.result)
                self.keeper.offers[name] = replace(offer, record=instead, seen=self._seen(instead))
        self.model.seen = self._seen(record)
        self._settled = True
        self.model.eval()
        return kept

    def _record(self, kept: str, epoch: int, figures: Figures, **told: Any) -> Record:
        """What the model is to remember of this run."""
        reference = self.honest.reference if self.honest else self.reference
        counts = Counter[str]()
        for half in self.halves:
            counts.update(half.images.counts)
        return Record(
            self.plan,
            {name: counts[name] for name in self.model.classes},
            len(self.learner.learned.targets),
            tuple(_passed(e) for e in self.epochs),
            tuple(self.stretches),
            kept,
            epoch,
            figures.result,
            reference.result if reference else None,
            perf_counter() - self.began,
            **told,
        )

    def _seen(self, record: Record) -> Seen:
        """Which images the network of this record knows, after this run."""
        checked = self.checked.images if self.checked else None
        return self.model.seen.after(self.learner.learned.images, checked, bool(record.learning_stages))

    @property
    def halves(self) -> list[Activations]:
        """What is learned from and, except in a refit, what is held back."""
        return [half for half in (self.learner.learned, self.checked) if half]

    def _solve_reference(self) -> Iterator[Reference]:
        model, learned = self.model, self.learner.learned
        some_of_each = not model.multi_label and learned.targets.bincount(minlength=len(model.classes)).all()
        if self.checked is None or not some_of_each:
            return
        began = perf_counter()
        features = vectors(model, learned)
        head = build_head("lda", features.shape[-1], len(model.classes))
        head.solve(features, learned.targets)
        with torch.no_grad():
            logits = head(vectors(model, self.checked)[:, 0])
        self.reference = figures(model, logits, self.checked.targets)
        self.keeper.offer("reference", self.reference, head)
        yield Reference(self.reference, perf_counter() - began)

    def _predict(self) -> None:
        held_back = len(self.checked.targets) if self.checked else 0
        kept = self.learner.learned.boundaries
        for boundary in self.boundaries:
            # What is kept only later is at least as deep as what is kept now.
            measured = min((b for b in kept if b >= boundary), default=kept[-1])
            self.predicted[boundary] = seconds_of_an_epoch(self.learner, measured, held_back)

    def _left(self, number: int, epochs: int) -> float:
        """Seconds of the whole run after so many epochs of a phase."""
        phases = list(zip(self.plan.phases, self.boundaries, strict=True))
        whole = sum(phase.epochs * self.predicted[at] for phase, at in phases[number - 1 :])
        return max(0.0, whole - epochs * self.predicted[phases[number - 1][1]])

    def phases(self, numbers: Iterable[int]) -> Iterator[Event]:
        """These phases, up to a problem."""
        for number in numbers:
            if self.problem:
                return
            began = perf_counter()
            try:
                yield from self._phase(number, self.last.number + 1 if self.last else 1)
            except LossIsNoNumber as error:
                if self.keeper.best is None:
                    raise
                self.problem = str(error)
            if self.model.learning_stages:
                self.thawed_seconds += perf_counter() - began

    def _phase(self, number: int, first: int) -> Generator[Event, None, None]:
        model, phase = self.model, self.plan.phases[number - 1]
        model.unfreeze(phase.learning_stages)
        yield from self._ready_boundary(number)
        solved = solvable(model.head) and not model.learning_stages
        if model.learning_stages:
            self._thaw()
        optimizer = self.learner.enter(phase)
        self.stretches.append(Stretch(first, model.learning_stages))
        yield self._begins(number, first, optimizer)
        if solved:
            yield self._judged(replace(self._solved(first), left=self._left(number, phase.epochs)))
        else:
            yield from self._epochs(number, first, optimizer)

    def _ready_boundary(self, number: int) -> Iterator[FrozenPass]:
        """Keep what this phase needs; once stages learn, no more than it and later ones do."""
        boundary = self.model.boundary
        thawing = self.halves if self.model.learning_stages else []
        for half in thawing:
            half.thaw(boundary)
        yield from frozen_pass(self.halves, [boundary])
        for half in thawing:
            half.forget(set(half.boundaries) - set(self.boundaries[number - 1 :]))

    def _thaw(self) -> None:
        """Before stages learn for the first time: what the head alone achieved can be had afterwards."""
        share = self.plan.soften or (SOFT if solvable(self.model.head) else 0.0)
        if not self.keeper.thawed:
            if self.last is not None:
                self.keeper.offer("frozen", self.last.figures)
            if share:
                model, learned = self.model.eval(), self.learner.learned
                targets = learned.targets.to(self.learner.device)
                self.softened = soften(model.head, plain_features(model, learned), targets, share)
        self.keeper.begin_to_thaw()

    def _begins(self, number: int, first: int, optimizer: Optimizer) -> PhaseBegins:
        model, phases = self.model, self.plan.phases
        learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return PhaseBegins(
            number,
            len(phases),
            phases[number - 1],
            first,
            first - 1 + sum(phase.epochs for phase in phases[number - 1 :]),
            model.learning_stages,
            learning,
            count_weights(model) - learning,
            self.learner.learned.bytes_per_image(model.boundary),
            optimizer.rates,
            self._left(number, 0),
        )

    def _epochs(self, number: int, first: int, optimizer: Optimizer) -> Generator[Event, None, None]:
        phase, boundary, spent = self.plan.phases[number - 1], self.model.boundary, 0.0
        for n in range(first, first + phase.epochs):
            began = perf_counter()
            loss, score = yield from epoch_of(self.learner, n, optimizer)
            figured = self._figured(n, loss, score, began)
            spent += figured.seconds
            self.predicted[boundary] = spent / (n - first + 1)
            if self.checked and not isfinite(figured.validation_loss):
                raise LossIsNoNumber(n, optimizer.rates)
            yield self._judged(replace(figured, left=self._left(number, n - first + 1)))
            if self.checked and self.plan.patience:
                since = max(self.keeper.best.number, first - 1)
                if n - since >= self.plan.patience:
                    return

    def _solved(self, number: int) -> Epoch:
        """A head that is solved needs no steps: its one epoch."""
        began, model, learned = perf_counter(), self.model, self.learner.learned
        # On the processor, where what was kept lies; not every accelerator solves linear equations.
        model.head.cpu().solve(learned.at(model.boundary).float(), learned.targets)
        model.head.to(self.learner.device)
        told = figures(model, answers(model, learned), learned.targets)
        return self._figured(number, told.loss, told.score, began)

    def _figured(self, number: int, loss: float, score: float, began: float) -> Epoch:
        """The epoch with the validation images' figures."""
        seconds = perf_counter() - began
        if self.checked is None:
            return Epoch(number, loss, score, nan, nan, 0, 0, self.model.metric, seconds)
        self._logits = answers(self.model, self.checked)
        told = figures(self.model, self._logits, self.checked.targets)
        validation = (told.loss, told.score, told.right, told.of, told.metric)
        return Epoch(number, loss, score, *validation, perf_counter() - began, answers=told.answers)

    def _judged(self, epoch: Epoch) -> Epoch:
        """The epoch, marked if it is the best one so far; then its weights are remembered, and its answers always."""
        if self.checked:
            self._remember_answers()
        if self.keeper.better(epoch):
            epoch = replace(epoch, best=True, labels=self._label_figures())
            self.keeper.remember(epoch)
        self.epochs.append(epoch)
        return epoch

    def _label_figures(self) -> tuple[LabelFigures, ...]:
        """Of the last answers, where images carry several labels; the thresholds of the highest F1 go to the model."""
        if not self.model.multi_label:
            return ()
        logits, targets = self._logits, self.checked.targets
        thresholds, f1 = metrics.best_thresholds(logits, targets)
        self.model.thresholds.copy_(thresholds)
        columns = (metrics.average_precisions(logits, targets), f1, thresholds)
        return tuple(map(LabelFigures, self.model.classes, *(column.tolist() for column in columns)))

    def _keep(self) -> Kept:
        """Put into the model what the plan says, and say what that is."""
        what = "best" if self.problem else self.plan.keep
        if what == "between" and not self.keeper.go_back(self.plan.share):
            what = "last"
        sharpened = self._sharpened() if what != "best" else 1.0
        if self.honest:
            if self.model.multi_label:
                self.model.thresholds.copy_(torch.tensor([label.threshold for label in self.honest.labels]))
            return replace(self.honest, seconds=perf_counter() - self.began, refitted=True, problem="", offers={})
        if what == "best":
            self.keeper.restore_best()
            told, number, labels = self.keeper.best.figures, self.keeper.best.number, self.keeper.best.labels
        else:
            number = self.last.number
            self._logits = answers(self.model, self.checked)
            told = figures(self.model, self._logits, self.checked.targets)
            labels = self._label_figures()
            if what == "between":
                self._remember_answers()
            for history in self.history.values():
                history.keep_last()
        return Kept(
            number,
            what,
            told.score,
            told.metric,
            told.right,
            told.of,
            labels,
            perf_counter() - self.began,
            chosen=what == "best",
            reference=self.reference,
            verdict=self._verdict(),
            share=self.plan.share if what == "between" else 1.0,
            offers=self.keeper.offers,
            problem=self.problem,
            loss=told.loss,
            answers=told.answers,
            sharpened=sharpened,
            leakage=self.leakage,
        )

    def _sharpened(self) -> float:
        """Make a head that was softened as sure again as the held-back images bear out, and no surer than it was; the
        factor. What the stages have learned since would otherwise answer everything with "perhaps"."""
        if not self.keeper.thawed or self.softened >= 1:
            return 1.0
        if self.honest:
            factor = self.honest.sharpened
        else:
            factor = surest(answers(self.model, self.checked), self.checked.targets, 1 / self.softened)
        multiply(self.model.head, factor)
        return factor

    def _verdict(self) -> Verdict | None:
        frozen, thawed = self.history[False], self.history[True]
        if frozen.empty or thawed.empty:
            return None
        return judge(frozen, thawed, self.checked.images.groups, self.thawed_seconds, self.plan.seed)

    def _remember_answers(self) -> None:
        logits, targets = self._logits, self.checked.targets
        history = self.history[self.keeper.thawed]
        history.add(metrics.marks(logits, targets), metrics.losses(logits, targets))


def _passed(epoch: Epoch) -> Passed:
    checked = (epoch.validation_loss, epoch.validation_score) if epoch.of else (None, None)
    return Passed(epoch.training_loss, epoch.training_score, *checked)
