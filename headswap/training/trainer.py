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

from headswap.common.deprecation import renamed_arguments
from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.data.leakage import SeenImages
from headswap.evaluation import metrics
from headswap.evaluation.significance import PredictionHistory, UnfreezingComparison, compare_unfreezing
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass, run_frozen_pass
from headswap.features.inference import EngineSpec
from headswap.features.precompute import PrecomputedFeatures, fill_caches
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import is_solvable
from headswap.networks.head_registry import build_head
from headswap.networks.stage import count_parameters
from headswap.training.calibration import apply_temperature_scale, fit_temperature_scale, raise_temperature
from headswap.training.checkpoints import Checkpoints, restore
from headswap.training.event_stream import EventStream
from headswap.training.events import (
    Candidate,
    ClassificationMetrics,
    Epoch,
    Event,
    Kept,
    LabelMetrics,
    PhaseBegins,
    Reference,
)
from headswap.training.loop import (
    Learner,
    NonFiniteLossError,
    PhaseOptimizer,
    center_crop_features,
    compute_classification_metrics,
    estimate_epoch_seconds,
    predict_logits,
    train_epoch,
    vectors,
)
from headswap.training.plan import Plan
from headswap.training.record import EpochRecord, PhaseRecord, Record

SOLVED_HEAD_LOSS_RATIO = (
    0.6  # to which a head that was solved is softened in every plan: it already fits what it has seen
)


@renamed_arguments(beforehand="precomputed")
def train(
    model: Classifier,
    images: LabelledImages,
    plan: Plan | str | None = None,
    validation: LabelledImages | None = None,
    engine: str | None = None,
    precomputed: PrecomputedFeatures | None = None,
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
    images = align_training_images(images, model)
    plan = Plan.resolve(plan) or Plan.suggest(images, model)
    halves = build_feature_caches(model, images, plan, validation, engine)
    return EventStream("headswap.train(...)", Trainer(model, plan, *halves, precomputed=precomputed).iterate_events())


def start_frozen_pass(
    model: Classifier,
    images: LabelledImages,
    plan: Plan,
    former: PrecomputedFeatures | None = None,
    engine: EngineSpec | None = None,
) -> PrecomputedFeatures:
    """The frozen pass that ``train`` would begin with, to be begun before; ``former`` may have done some of it.

    Raises:
        InputError: as ``train``.
    """
    images = align_training_images(images, model)
    halves = build_feature_caches(model, images, plan, None, engine)
    return PrecomputedFeatures(model, halves, compute_initial_boundaries(model, plan), former)


def compute_initial_boundaries(model: Classifier, plan: Plan) -> set[int]:
    """What one pass can keep: the features for the reference, and what no earlier phase changes."""
    at = [model.get_boundary(phase.learning_stages) for phase in plan.phases]
    return {model.get_boundary(0), *(b for i, b in enumerate(at) if b <= min(at[: i + 1]))}


def align_training_images(images: LabelledImages, model: Classifier) -> LabelledImages:
    """The images for this model, to learn from.

    Raises:
        InputError: if they show a class that it does not know, or none of a class that it would forget.
    """
    images = images.aligned_to(model.classes, model.multi_label)
    unseen = [name for name, count in images.counts.items() if not count]
    if unseen and not model.multi_label:
        raise InputError(
            f"No image shows '{unseen[0]}', which the model would forget. Add images of it, or adapt a model with "
            "classes=images.classes."
        )
    return images


def build_feature_caches(
    model: Classifier,
    images: LabelledImages,
    plan: Plan,
    validation: LabelledImages | None,
    engine: EngineSpec | None,
) -> tuple[FeatureCache, FeatureCache]:
    """What is learned from in the plan's views, and what is held back, which is only ever seen plain.

    What the model has learned from is learned from again, and what has judged it judges it again.

    Raises:
        InputError: if their classes are not the model's, or a class has too few images to hold one back, or none that
            may be learned from.
    """
    if validation is None:
        learned, checked = model.seen.split(images, plan.validation_fraction, plan.seed)
    else:
        learned, checked = images, validation
    learned, checked = (some.aligned_to(model.classes, model.multi_label) for some in (learned, checked))
    return FeatureCache(model, learned, plan.views, plan.seed, engine), FeatureCache(model, checked, engine=engine)


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
    everything = align_training_images(images, model)
    plan, start = Plan.resolve(plan), _start_candidate(model, kept)
    plan = plan or _find_recorded_plan(model, kept) or Plan.suggest(everything, model)
    for phase in plan.phases:
        model.get_boundary(phase.learning_stages)
    learned = FeatureCache(model, everything, plan.views, plan.seed, engine)
    return EventStream("headswap.refit(...)", _run_refit(model, plan, learned, kept, start))


def _start_candidate(model: Classifier, kept: Kept | None) -> Candidate:
    """Where the honest run began; ``ValueError`` where that cannot be said."""
    if not isinstance(kept, Kept):
        raise ValueError(
            "kept is the last event of the training that is to be gone through once more, as fit returns it, not "
            f"{'None' if kept is None else type(kept).__name__}."
        )
    start = kept.candidates.get("start")
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


def _find_recorded_plan(model: Classifier, kept: Kept) -> Plan | None:
    """The plan that the training of this last event followed, where any network of it remembers that."""
    records = [offer.record for offer in kept.candidates.values() if offer.validation_metrics]
    return next((record.plan for record in [*records, model.record] if record), None)


def _run_refit(
    model: Classifier, plan: Plan, cache: FeatureCache, kept: Kept, start: Candidate
) -> Generator[Event, None, None]:
    state = model.state_dict()
    weights = {name: state[name].clone() for name in start.weights}
    before = Candidate(None, copy.deepcopy(model.head), weights, model.record, model.seen)
    done = False
    try:
        restore(model, start)
        model.seen = before.seen  # of images that judged, that they did is not forgotten
        with closing(Trainer(model, plan, cache, None, kept).iterate_events()) as events:
            for event in events:
                done = done or isinstance(event, Kept)
                yield event
    finally:
        if not done:
            restore(model, before)


class Trainer:
    """One run."""

    def __init__(
        self,
        model: Classifier,
        plan: Plan,
        train_cache: FeatureCache,
        validation_cache: FeatureCache | None,
        validated_run: Kept | None = None,
        precomputed: PrecomputedFeatures | None = None,
    ) -> None:
        """``checked`` is None in a refit, which repeats the figures of the ``honest`` run."""
        self.model, self.plan, self.validation_cache, self.validated_run = model, plan, validation_cache, validated_run
        self.precomputed = precomputed
        self.leakage = (
            model.seen.describe_leakage(train_cache.images, validation_cache.images) if validation_cache else ""
        )
        self.original_device = next(model.parameters()).device
        self.boundaries = [model.get_boundary(phase.learning_stages) for phase in plan.phases]
        self.learner = Learner(model, plan, train_cache)
        for phase in plan.phases:
            self.learner.check_phase(phase.learning_stages, phase.batch_size)
        self.history = {False: PredictionHistory(), True: PredictionHistory()}  # by whether stages had begun to learn
        self.reference: ClassificationMetrics | None = None
        self.epochs: list[Epoch] = []
        self.phase_records: list[PhaseRecord] = []
        self.problem = ""  # why it ended early, after something had been learned
        self.softening_scale = 1.0  # by what the head was multiplied before stages began to learn
        self.unfrozen_seconds = 0.0
        self.epoch_seconds: dict[int, float] = {}  # boundary to seconds of an epoch

    @property
    def last(self) -> Epoch | None:
        """The last epoch so far."""
        return self.epochs[-1] if self.epochs else None

    def iterate_events(self) -> Generator[Event, None, None]:
        """All events in order."""
        with self.session():
            yield from fill_caches(self.caches, compute_initial_boundaries(self.model, self.plan), self.precomputed)
            yield from self.prepare()
            yield from self.run_phases(range(1, len(self.plan.phases) + 1))
            yield self.end()

    @contextmanager
    def session(self) -> Iterator[None]:
        """However the block ends, the model holds what is to be kept."""
        model = self.model
        learning = len(model.learning_stages)
        self.began, self.checkpoints, self._is_finished = perf_counter(), None, False
        try:
            self.learner.move_to_device()
            model.freeze()
            yield
        finally:
            if self.checkpoints is None:
                model.unfreeze(learning)
            elif not self._is_finished:
                self.checkpoints.restore_best()
                if self.checkpoints.best_epoch:
                    best = self.checkpoints.best_epoch
                    model.record = self._record(
                        "best", best.number, best.validation_metrics, selected_on_validation=True
                    )
                    model.seen = self._update_seen(model.record)
            model.to(self.original_device).eval()

    def prepare(self) -> Iterator[Reference]:
        """After the frozen pass and before the first phase."""
        self.checkpoints = Checkpoints(self.model, min(self.boundaries))
        yield from self._fit_reference_head()
        self._estimate_epoch_seconds()

    def prepare_from(self, other: Trainer) -> None:
        """As ``begin``, with what has been solved already on the same activations."""
        self.checkpoints = Checkpoints(self.model, min(self.boundaries))
        self.reference = other.reference
        if self.reference:
            self.checkpoints.add_candidate("reference", self.reference, other.checkpoints.candidates["reference"].head)
        self._estimate_epoch_seconds()

    def abandon(self) -> None:
        """Another training goes on with the same stages, so these are left alone."""
        self._is_finished = True

    def end(self) -> Kept:
        """The last event; whoever hears of it can use the model at once."""
        kept = self._select_checkpoint()
        verdict = kept.verdict.sentence if kept.verdict else ""
        told = {"selected_on_validation": kept.selected_on_validation, "refitted": kept.refitted, "verdict": verdict}
        record = self.model.record = self._record(kept.checkpoint, kept.epoch, kept.validation_metrics, **told)
        for name, offer in self.checkpoints.candidates.items():
            if offer.validation_metrics and not self.validated_run:  # of a refit nothing else can be had
                instead = record.with_checkpoint(name, offer.validation_metrics.to_result)
                self.checkpoints.candidates[name] = replace(offer, record=instead, seen=self._update_seen(instead))
        self.model.seen = self._update_seen(record)
        self._is_finished = True
        self.model.eval()
        return kept

    def _record(self, kept: str, epoch: int, figures: ClassificationMetrics, **told: Any) -> Record:
        """What the model is to remember of this run."""
        reference = self.validated_run.reference if self.validated_run else self.reference
        counts = Counter[str]()
        for half in self.caches:
            counts.update(half.images.counts)
        return Record(
            self.plan,
            {name: counts[name] for name in self.model.classes},
            len(self.learner.train_cache.targets),
            tuple(_to_epoch_record(e) for e in self.epochs),
            tuple(self.phase_records),
            kept,
            epoch,
            figures.to_result,
            reference.to_result if reference else None,
            perf_counter() - self.began,
            **told,
        )

    def _update_seen(self, record: Record) -> SeenImages:
        """Which images the network of this record knows, after this run."""
        checked = self.validation_cache.images if self.validation_cache else None
        return self.model.seen.with_training(self.learner.train_cache.images, checked, bool(record.learning_stages))

    @property
    def caches(self) -> list[FeatureCache]:
        """What is learned from and, except in a refit, what is held back."""
        return [half for half in (self.learner.train_cache, self.validation_cache) if half]

    def _fit_reference_head(self) -> Iterator[Reference]:
        model, learned = self.model, self.learner.train_cache
        some_of_each = not model.multi_label and learned.targets.bincount(minlength=len(model.classes)).all()
        if self.validation_cache is None or not some_of_each:
            return
        began = perf_counter()
        features = vectors(model, learned)
        head = build_head("lda", features.shape[-1], len(model.classes))
        head.solve(features, learned.targets)
        with torch.no_grad():
            logits = head(vectors(model, self.validation_cache)[:, 0])
        self.reference = compute_classification_metrics(model, logits, self.validation_cache.targets)
        self.checkpoints.add_candidate("reference", self.reference, head)
        yield Reference(self.reference, perf_counter() - began)

    def _estimate_epoch_seconds(self) -> None:
        held_back = len(self.validation_cache.targets) if self.validation_cache else 0
        kept = self.learner.train_cache.boundaries
        for boundary in self.boundaries:
            # What is kept only later is at least as deep as what is kept now.
            measured = min((b for b in kept if b >= boundary), default=kept[-1])
            self.epoch_seconds[boundary] = estimate_epoch_seconds(self.learner, measured, held_back)

    def _seconds_left(self, number: int, epochs: int) -> float:
        """Seconds of the whole run after so many epochs of a phase."""
        phases = list(zip(self.plan.phases, self.boundaries, strict=True))
        whole = sum(phase.epochs * self.epoch_seconds[at] for phase, at in phases[number - 1 :])
        return max(0.0, whole - epochs * self.epoch_seconds[phases[number - 1][1]])

    def run_phases(self, numbers: Iterable[int]) -> Iterator[Event]:
        """These phases, up to a problem."""
        for number in numbers:
            if self.problem:
                return
            began = perf_counter()
            try:
                yield from self._phase(number, self.last.number + 1 if self.last else 1)
            except NonFiniteLossError as error:
                if self.checkpoints.best_epoch is None:
                    raise
                self.problem = str(error)
            if self.model.learning_stages:
                self.unfrozen_seconds += perf_counter() - began

    def _phase(self, number: int, first: int) -> Generator[Event, None, None]:
        model, phase = self.model, self.plan.phases[number - 1]
        model.unfreeze(phase.learning_stages)
        yield from self._fill_boundary(number)
        solved = is_solvable(model.head) and not model.learning_stages
        if model.learning_stages:
            self._prepare_unfreezing()
        optimizer = self.learner.start_phase(phase)
        self.phase_records.append(PhaseRecord(first, model.learning_stages))
        yield self._build_phase_begins(number, first, optimizer)
        if solved:
            yield self._track_best(replace(self._solve_head(first), left=self._seconds_left(number, phase.epochs)))
        else:
            yield from self._epochs(number, first, optimizer)

    def _fill_boundary(self, number: int) -> Iterator[FrozenPass]:
        """Keep what this phase needs; once stages learn, no more than it and later ones do."""
        boundary = self.model.boundary
        thawing = self.caches if self.model.learning_stages else []
        for half in thawing:
            half.drop_after(boundary)
        yield from run_frozen_pass(self.caches, [boundary])
        for half in thawing:
            half.drop(set(half.boundaries) - set(self.boundaries[number - 1 :]))

    def _prepare_unfreezing(self) -> None:
        """Before stages learn for the first time: what the head alone achieved can be had afterwards."""
        share = self.plan.head_loss_ratio or (SOLVED_HEAD_LOSS_RATIO if is_solvable(self.model.head) else 0.0)
        if not self.checkpoints.has_unfrozen:
            if self.last is not None:
                self.checkpoints.add_candidate("frozen", self.last.validation_metrics)
            if share:
                model, learned = self.model.eval(), self.learner.train_cache
                targets = learned.targets.to(self.learner.device)
                self.softening_scale = raise_temperature(
                    model.head, center_crop_features(model, learned), targets, share
                )
        self.checkpoints.mark_unfreezing()

    def _build_phase_begins(self, number: int, first: int, optimizer: PhaseOptimizer) -> PhaseBegins:
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
            count_parameters(model) - learning,
            self.learner.train_cache.bytes_per_image(model.boundary),
            optimizer.learning_rates,
            self._seconds_left(number, 0),
        )

    def _epochs(self, number: int, first: int, optimizer: PhaseOptimizer) -> Generator[Event, None, None]:
        phase, boundary, spent = self.plan.phases[number - 1], self.model.boundary, 0.0
        for n in range(first, first + phase.epochs):
            began = perf_counter()
            loss, score = yield from train_epoch(self.learner, n, optimizer)
            figured = self._validate_epoch(n, loss, score, began)
            spent += figured.seconds
            self.epoch_seconds[boundary] = spent / (n - first + 1)
            if self.validation_cache and not isfinite(figured.validation_loss):
                raise NonFiniteLossError(n, optimizer.learning_rates)
            yield self._track_best(replace(figured, left=self._seconds_left(number, n - first + 1)))
            if self.validation_cache and self.plan.patience:
                since = max(self.checkpoints.best_epoch.number, first - 1)
                if n - since >= self.plan.patience:
                    return

    def _solve_head(self, number: int) -> Epoch:
        """A head that is solved needs no steps: its one epoch."""
        began, model, learned = perf_counter(), self.model, self.learner.train_cache
        # On the processor, where what was kept lies; not every accelerator solves linear equations.
        model.head.cpu().solve(learned.get_features(model.boundary).float(), learned.targets)
        model.head.to(self.learner.device)
        told = compute_classification_metrics(model, predict_logits(model, learned), learned.targets)
        return self._validate_epoch(number, told.loss, told.score, began)

    def _validate_epoch(self, number: int, loss: float, score: float, began: float) -> Epoch:
        """The epoch with the validation images' figures."""
        seconds = perf_counter() - began
        if self.validation_cache is None:
            return Epoch(number, loss, score, nan, nan, 0, 0, self.model.metric, seconds)
        self._validation_logits = predict_logits(self.model, self.validation_cache)
        told = compute_classification_metrics(self.model, self._validation_logits, self.validation_cache.targets)
        validation = (told.loss, told.score, told.correct, told.total, told.metric)
        return Epoch(number, loss, score, *validation, perf_counter() - began, predictions=told.predictions)

    def _track_best(self, epoch: Epoch) -> Epoch:
        """The epoch, marked if it is the best one so far; then its weights are remembered, and its answers always."""
        if self.validation_cache:
            self._record_predictions()
        if self.checkpoints.is_best(epoch):
            epoch = replace(epoch, best=True, labels=self._tune_thresholds())
            self.checkpoints.save_best(epoch)
        self.epochs.append(epoch)
        return epoch

    def _tune_thresholds(self) -> tuple[LabelMetrics, ...]:
        """Of the last answers, where images carry several labels; the thresholds of the highest F1 go to the model."""
        if not self.model.multi_label:
            return ()
        logits, targets = self._validation_logits, self.validation_cache.targets
        thresholds, f1 = metrics.best_thresholds(logits, targets)
        self.model.thresholds.copy_(thresholds)
        columns = (metrics.average_precisions(logits.sigmoid(), targets), f1, thresholds)
        return tuple(map(LabelMetrics, self.model.classes, *(column.tolist() for column in columns)))

    def _select_checkpoint(self) -> Kept:
        """Put into the model what the plan says, and say what that is."""
        what = "best" if self.problem else self.plan.checkpoint
        if what == "between" and not self.checkpoints.interpolate_weights(self.plan.weight_interpolation):
            what = "last"
        sharpened = self._calibrate_head() if what != "best" else 1.0
        if self.validated_run:
            if self.model.multi_label:
                self.model.thresholds.copy_(torch.tensor([label.threshold for label in self.validated_run.labels]))
            return replace(
                self.validated_run, seconds=perf_counter() - self.began, refitted=True, problem="", candidates={}
            )
        if what == "best":
            self.checkpoints.restore_best()
            told, number, labels = (
                self.checkpoints.best_epoch.validation_metrics,
                self.checkpoints.best_epoch.number,
                self.checkpoints.best_epoch.labels,
            )
        else:
            number = self.last.number
            self._validation_logits = predict_logits(self.model, self.validation_cache)
            told = compute_classification_metrics(self.model, self._validation_logits, self.validation_cache.targets)
            labels = self._tune_thresholds()
            if what == "between":
                self._record_predictions()
            for history in self.history.values():
                history.discard_all_but_last()
        return Kept(
            number,
            what,
            told.score,
            told.metric,
            told.correct,
            told.total,
            labels,
            perf_counter() - self.began,
            selected_on_validation=what == "best",
            reference=self.reference,
            verdict=self._verdict(),
            weight_interpolation=self.plan.weight_interpolation if what == "between" else 1.0,
            candidates=self.checkpoints.candidates,
            problem=self.problem,
            loss=told.loss,
            predictions=told.predictions,
            logit_scale=sharpened,
            leakage=self.leakage,
        )

    def _calibrate_head(self) -> float:
        """Make a head that was softened as sure again as the held-back images bear out, and no surer than it was; the
        factor. What the stages have learned since would otherwise answer everything with "perhaps"."""
        if not self.checkpoints.has_unfrozen or self.softening_scale >= 1:
            return 1.0
        if self.validated_run:
            factor = self.validated_run.logit_scale
        else:
            factor = fit_temperature_scale(
                predict_logits(self.model, self.validation_cache),
                self.validation_cache.targets,
                1 / self.softening_scale,
            )
        apply_temperature_scale(self.model.head, factor)
        return factor

    def _verdict(self) -> UnfreezingComparison | None:
        frozen, thawed = self.history[False], self.history[True]
        if frozen.is_empty or thawed.is_empty:
            return None
        return compare_unfreezing(
            frozen, thawed, self.validation_cache.images.groups, self.unfrozen_seconds, self.plan.seed
        )

    def _record_predictions(self) -> None:
        logits, targets = self._validation_logits, self.validation_cache.targets
        history = self.history[self.checkpoints.has_unfrozen]
        history.add(metrics.correct_mask(logits, targets), metrics.per_image_loss(logits, targets))


def _to_epoch_record(epoch: Epoch) -> EpochRecord:
    checked = (epoch.validation_loss, epoch.validation_score) if epoch.total else (None, None)
    return EpochRecord(epoch.training_loss, epoch.training_score, *checked)
