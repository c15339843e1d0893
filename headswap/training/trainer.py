"""Runs a plan's phases on cached features and yields events.

Frozen stages are computed once, before the first phase; a phase trains the head and the unfrozen stages on the cached
features. Knows nothing of screens and files.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite, nan
from time import perf_counter

import torch

from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.features.cache import FeatureCache
from headswap.features.frozen_pass import FrozenPass, run_frozen_pass
from headswap.features.inference import EngineSpec
from headswap.features.precompute import PrecomputedFeatures, fill_caches
from headswap.networks.classifier import Classifier
from headswap.networks.head_interface import is_solvable
from headswap.networks.head_registry import build_head
from headswap.networks.stage import count_parameters
from headswap.training.calibration import raise_temperature
from headswap.training.checkpoints import Checkpoints
from headswap.training.events import Epoch, Event, Kept, PhaseBegins, Reference, Step
from headswap.training.loop import (
    Learner,
    NonFiniteLossError,
    center_crop_features,
    compute_classification_metrics,
    estimate_epoch_seconds,
    pooled_features,
    predict_logits,
    solve_head,
    train_epoch,
)
from headswap.training.optimizer import PhaseOptimizer
from headswap.training.outcome import RunState, Validator
from headswap.training.plan import Plan
from headswap.training.record import PhaseRecord

SOLVED_HEAD_LOSS_RATIO = 0.6  # Plan.head_loss_ratio of a head that was solved: it fits its training images already


def align_training_images(images: LabelledImages, model: Classifier) -> LabelledImages:
    """The images with the model's classes, to learn from.

    Raises:
        InputError: if they are no ``LabelledImages``, show a class that it does not know, or none of a class that it
            would forget.
    """
    if not isinstance(images, LabelledImages):
        raise InputError(f"The images are those of headswap.load_images(folder), not {type(images).__name__}.")
    images = images.aligned_to(model.classes, model.multi_label)
    missing = [name for name, count in images.counts.items() if not count]
    if missing and not model.multi_label:
        raise InputError(
            f"No image shows '{missing[0]}', which the model would forget. Add images of it, or adapt a model with "
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
    """Split the images, and build empty caches: of training images in the plan's views, of others in the plain one.

    What the model has learned from stays a training image, and what was a validation image stays one.

    Raises:
        InputError: if their classes are not the model's, or a class has too few images to hold one out, or none that
            may be learned from.
    """
    if validation is None:
        training, held_out = model.seen.split(images, plan.validation_fraction, plan.seed)
    else:
        training, held_out = images, validation
    training, held_out = (some.aligned_to(model.classes, model.multi_label) for some in (training, held_out))
    return FeatureCache(model, training, plan.views, plan.seed, engine), FeatureCache(model, held_out, engine=engine)


def compute_initial_boundaries(model: Classifier, plan: Plan) -> set[int]:
    """The boundaries that one frozen pass can fill: that of the reference, and those that no earlier phase changes."""
    boundaries = [model.get_boundary(phase.learning_stages) for phase in plan.phases]
    return {model.get_boundary(0), *(b for i, b in enumerate(boundaries) if b <= min(boundaries[: i + 1]))}


class Trainer:
    """One run of a plan.

    Attributes:
        model: that learns.
        plan: of the run.
        learner: the model with its training images.
    """

    model: Classifier
    plan: Plan
    learner: Learner

    def __init__(
        self,
        model: Classifier,
        plan: Plan,
        train_cache: FeatureCache,
        validation_cache: FeatureCache | None,
        validated_run: Kept | None = None,
        precomputed: PrecomputedFeatures | None = None,
    ) -> None:
        """Check the phases; nothing is computed yet.

        Args:
            model: that learns.
            plan: of the run.
            train_cache: of this model.
            validation_cache: of this model; None in a refit.
            validated_run: in a refit the last event of the run before it, whose metrics are repeated.
            precomputed: a frozen pass that has begun already.

        Raises:
            InputError: as ``Learner.check_phase``.
            ValueError: if a phase unfreezes more stages than there are.
        """
        self.model, self.plan = model, plan
        self.learner = Learner(model, plan, train_cache)
        self._validation_cache, self._validated_run, self._precomputed = validation_cache, validated_run, precomputed
        self._leakage = (
            model.seen.describe_leakage(train_cache.images, validation_cache.images) if validation_cache else ""
        )
        self._original_device = next(model.parameters()).device
        self._boundaries = [model.get_boundary(phase.learning_stages) for phase in plan.phases]
        for phase in plan.phases:
            self.learner.check_phase(phase.learning_stages, phase.batch_size)
        self._epoch_seconds: dict[int, float] = {}  # by boundary
        self._began = perf_counter()
        self._state: RunState | None = None
        self._is_finished = False

    @property
    def state(self) -> RunState:
        """What was done so far.

        Raises:
            RuntimeError: before ``prepare``.
        """
        if self._state is None:
            raise RuntimeError("The run has not begun; prepare it first.")
        return self._state

    @property
    def last(self) -> Epoch | None:
        """The last epoch so far."""
        return self.state.epochs[-1] if self.state.epochs else None

    @property
    def caches(self) -> list[FeatureCache]:
        """Those of the training images and, except in a refit, of the validation images."""
        return [cache for cache in (self.learner.train_cache, self._validation_cache) if cache]

    def iterate_events(self) -> Generator[Event, None, None]:
        """Run everything, and yield all events in order."""
        with self.session():
            yield from fill_caches(self.caches, compute_initial_boundaries(self.model, self.plan), self._precomputed)
            yield from self.prepare()
            yield from self.run_phases(range(1, len(self.plan.phases) + 1))
            yield self.finish()

    @contextmanager
    def session(self) -> Iterator[None]:
        """However the block ends, the model holds what is to be kept."""
        num_unfrozen = len(self.model.learning_stages)
        self._began, self._state, self._is_finished = perf_counter(), None, False
        with self.learner.frozen_on_device(self._original_device):
            try:
                yield
            finally:
                self._end_session(num_unfrozen)

    def prepare(self) -> Iterator[Reference]:
        """Copy the initial weights and solve the reference head, after the frozen pass and before the first phase."""
        self._start_run()
        yield from self._fit_reference_head()
        self._estimate_epoch_seconds()

    def prepare_from(self, other: Trainer) -> None:
        """As ``prepare``, with the reference head of another run on the same features."""
        self._start_run()
        self.state.reference = other.state.reference
        if self.state.reference:
            reference_head = other.state.checkpoints.candidates["reference"].head
            self.state.checkpoints.add_candidate("reference", self.state.reference, reference_head)
        self._estimate_epoch_seconds()

    def abandon(self) -> None:
        """Leave the stages alone at the end of the session, since another run goes on with them."""
        self._is_finished = True

    def finish(self) -> Kept:
        """Put the result into the model, which can be used at once; the last event."""
        kept = self.state.finish()
        self._is_finished = True
        return kept

    def run_phases(self, numbers: Iterable[int]) -> Iterator[PhaseBegins | Step | Epoch | FrozenPass]:
        """Run the phases of these numbers, from 1, until the loss is not finite any more."""
        for number in numbers:
            if self.state.problem:
                return
            began = perf_counter()
            try:
                yield from self._run_phase(number, self.last.number + 1 if self.last else 1)
            except NonFiniteLossError as error:
                if self.state.checkpoints.best_epoch is None:
                    raise
                self.state.problem = str(error)
            if self.model.learning_stages:
                self.state.unfrozen_seconds += perf_counter() - began

    def _end_session(self, num_unfrozen: int) -> None:
        if self._state is None:
            self.model.unfreeze(num_unfrozen)
        elif not self._is_finished:
            self._state.finish_early()

    def _start_run(self) -> None:
        self._state = RunState(
            self.model,
            self.plan,
            self.learner.train_cache,
            Checkpoints(self.model, min(self._boundaries)),
            Validator(self.model, self._validation_cache) if self._validation_cache else None,
            self._validated_run,
            self._leakage,
            self._began,
        )

    def _fit_reference_head(self) -> Iterator[Reference]:
        """Solve an LDA head where every class has a training image and there are validation images."""
        model, cache = self.model, self.learner.train_cache
        if self._validation_cache is None or model.multi_label:
            return
        if not cache.targets.bincount(minlength=len(model.classes)).all():
            return
        began = perf_counter()
        features = pooled_features(model, cache)
        head = build_head("lda", features.shape[-1], len(model.classes))
        solve_head(head, features, cache.targets)
        with torch.no_grad():
            logits = head(pooled_features(model, self._validation_cache)[:, 0])
        reference = compute_classification_metrics(model, logits, self._validation_cache.targets)
        self.state.reference = reference
        self.state.checkpoints.add_candidate("reference", reference, head)
        yield Reference(reference, perf_counter() - began)

    def _estimate_epoch_seconds(self) -> None:
        num_validation_images = len(self._validation_cache.targets) if self._validation_cache else 0
        cached = self.learner.train_cache.boundaries
        for boundary in self._boundaries:
            # A boundary that is filled later is at least as deep as one that is filled now.
            measured = min((b for b in cached if b >= boundary), default=cached[-1])
            self._epoch_seconds[boundary] = estimate_epoch_seconds(self.learner, measured, num_validation_images)

    def _seconds_left(self, number: int, epochs: int) -> float:
        """Estimated seconds until the end of the whole run, after so many epochs of a phase."""
        phases = list(zip(self.plan.phases, self._boundaries, strict=True))
        total = sum(phase.epochs * self._epoch_seconds[boundary] for phase, boundary in phases[number - 1 :])
        return max(0.0, total - epochs * self._epoch_seconds[phases[number - 1][1]])

    def _run_phase(
        self, number: int, first_epoch: int
    ) -> Generator[PhaseBegins | Step | Epoch | FrozenPass, None, None]:
        model, phase = self.model, self.plan.phases[number - 1]
        model.unfreeze(phase.learning_stages)
        yield from self._fill_boundary(number)
        is_solved = is_solvable(model.head) and not model.learning_stages
        if model.learning_stages:
            self._prepare_unfreezing()
        optimizer = self.learner.start_phase(phase)
        self.state.phase_records.append(PhaseRecord(first_epoch, model.learning_stages))
        yield self._build_phase_begins(number, first_epoch, optimizer)
        if is_solved:
            epoch = self._solve_head(first_epoch)
            yield self.state.add_epoch(replace(epoch, left=self._seconds_left(number, phase.epochs)))
        else:
            yield from self._run_epochs(number, first_epoch, optimizer)

    def _fill_boundary(self, number: int) -> Iterator[FrozenPass]:
        """Cache the features of this phase; once stages learn, drop those that neither it nor a later phase uses."""
        boundary = self.model.boundary
        changing = self.caches if self.model.learning_stages else []
        for cache in changing:
            cache.drop_after(boundary)
        yield from run_frozen_pass(self.caches, [boundary])
        for cache in changing:
            cache.drop(set(cache.boundaries) - set(self._boundaries[number - 1 :]))

    def _prepare_unfreezing(self) -> None:
        """Before stages learn for the first time, add the frozen network as a candidate and raise the temperature."""
        model, state = self.model, self.state
        loss_ratio = self.plan.head_loss_ratio or (SOLVED_HEAD_LOSS_RATIO if is_solvable(model.head) else 0.0)
        if not state.checkpoints.has_unfrozen:
            if self.last is not None:
                state.checkpoints.add_candidate("frozen", self.last.validation_metrics)
            if loss_ratio:
                cache = self.learner.train_cache
                features = center_crop_features(model.eval(), cache)
                targets = cache.targets.to(self.learner.device)
                state.softening_scale = raise_temperature(model.head, features, targets, loss_ratio)
        state.checkpoints.mark_unfreezing()

    def _build_phase_begins(self, number: int, first_epoch: int, optimizer: PhaseOptimizer) -> PhaseBegins:
        model, phases = self.model, self.plan.phases
        learning_weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return PhaseBegins(
            number,
            len(phases),
            phases[number - 1],
            first_epoch,
            first_epoch - 1 + sum(phase.epochs for phase in phases[number - 1 :]),
            model.learning_stages,
            learning_weights,
            count_parameters(model) - learning_weights,
            self.learner.train_cache.bytes_per_image(model.boundary),
            optimizer.learning_rates,
            self._seconds_left(number, 0),
        )

    def _run_epochs(
        self, number: int, first_epoch: int, optimizer: PhaseOptimizer
    ) -> Generator[Step | Epoch, None, None]:
        phase, boundary, seconds = self.plan.phases[number - 1], self.model.boundary, 0.0
        for n in range(first_epoch, first_epoch + phase.epochs):
            began = perf_counter()
            loss, score = yield from train_epoch(self.learner, n, optimizer)
            epoch = self._validate_epoch(n, loss, score, began)
            seconds += epoch.seconds
            self._epoch_seconds[boundary] = seconds / (n - first_epoch + 1)
            if self._validation_cache and not isfinite(epoch.validation_loss):
                raise NonFiniteLossError(n, optimizer.learning_rates)
            yield self.state.add_epoch(replace(epoch, left=self._seconds_left(number, n - first_epoch + 1)))
            best = self.state.checkpoints.best_epoch
            if best and self.plan.patience and n - max(best.number, first_epoch - 1) >= self.plan.patience:
                return

    def _solve_head(self, number: int) -> Epoch:
        """The one epoch of a head that is solved instead of trained."""
        began, model, cache = perf_counter(), self.model, self.learner.train_cache
        # On the CPU, where the features are cached; not every accelerator solves linear equations.
        solve_head(model.head.cpu(), cache.get_features(model.boundary).float(), cache.targets)
        model.head.to(self.learner.device)
        training = compute_classification_metrics(model, predict_logits(model, cache), cache.targets)
        return self._validate_epoch(number, training.loss, training.score, began)

    def _validate_epoch(self, number: int, loss: float, score: float, began: float) -> Epoch:
        """Evaluate the validation images, if there are any, and build the event."""
        seconds = perf_counter() - began
        if self.state.validator is None:
            return Epoch(number, loss, score, nan, nan, 0, 0, self.model.metric, seconds)
        validation = self.state.validator.evaluate()
        return Epoch(
            number,
            loss,
            score,
            validation.loss,
            validation.score,
            validation.correct,
            validation.total,
            validation.metric,
            perf_counter() - began,
            predictions=validation.predictions,
        )
