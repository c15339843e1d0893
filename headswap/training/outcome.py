"""Collects what a run has done, and turns it into its result: the checkpoint that is kept, and the model's record.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import torch
from torch import Tensor

from headswap.data.leakage import SeenImages
from headswap.evaluation import metrics
from headswap.evaluation.significance import PredictionHistory, UnfreezingComparison, compare_unfreezing
from headswap.features.cache import FeatureCache
from headswap.networks.classifier import Classifier
from headswap.training.calibration import apply_temperature_scale, fit_temperature_scale
from headswap.training.checkpoints import Checkpoints
from headswap.training.events import ClassificationMetrics, Epoch, Kept, LabelMetrics
from headswap.training.loop import compute_classification_metrics, predict_logits
from headswap.training.plan import Plan
from headswap.training.record import EpochRecord, PhaseRecord, Record


class Validator:
    """Evaluates a model on its validation images, and collects the predictions before and after unfreezing.

    Attributes:
        cache: features of the validation images.
    """

    def __init__(self, model: Classifier, cache: FeatureCache) -> None:
        self.cache = cache
        self._model = model
        self._logits = torch.empty(0)
        self._history = {False: PredictionHistory(), True: PredictionHistory()}  # by whether stages were unfrozen

    def evaluate(self) -> ClassificationMetrics:
        """Compute the logits of the present network, and their metrics."""
        self._logits = self.predict_logits()
        return compute_classification_metrics(self._model, self._logits, self.cache.targets)

    def predict_logits(self) -> Tensor:
        """The logits ``[N, classes]`` of the present network."""
        return predict_logits(self._model, self.cache)

    def tune_thresholds(self) -> tuple[LabelMetrics, ...]:
        """Set the model's thresholds to those of the highest F1 of the last logits.

        Returns:
            The metrics of each label; nothing where images carry one label.
        """
        if not self._model.multi_label:
            return ()
        thresholds, f1 = metrics.best_thresholds(self._logits, self.cache.targets)
        self._model.thresholds.copy_(thresholds)
        columns = (metrics.average_precisions(self._logits.sigmoid(), self.cache.targets), f1, thresholds)
        return tuple(map(LabelMetrics, self._model.classes, *(column.tolist() for column in columns)))

    def record_predictions(self, unfrozen: bool) -> None:
        """Add the last predictions to those of the frozen or of the unfrozen network."""
        targets = self.cache.targets
        self._history[unfrozen].add(
            metrics.correct_mask(self._logits, targets), metrics.per_image_loss(self._logits, targets)
        )

    def discard_all_but_last(self) -> None:
        """Leave only the last predictions of each, where no epoch is selected."""
        for history in self._history.values():
            history.discard_all_but_last()

    def compare_unfreezing(self, seconds: float, seed: int) -> UnfreezingComparison | None:
        """Compare the frozen with the unfrozen network; None if there are not both.

        Args:
            seconds: that the unfrozen phases took.
            seed: of the halves and of the bootstrap.
        """
        frozen, unfrozen = self._history[False], self._history[True]
        if frozen.is_empty or unfrozen.is_empty:
            return None
        return compare_unfreezing(frozen, unfrozen, self.cache.images.groups, seconds, seed)


@dataclass(eq=False)
class RunState:
    """What one run has done so far.

    Attributes:
        model: that learns.
        plan: of the run.
        train_cache: features of the training images.
        checkpoints: of its weights.
        validator: None in a refit.
        validated_run: in a refit the last event of the run before it, whose metrics are repeated.
        leakage: a sentence about validation images that the model knew before, if there are any.
        began: when it began, by ``perf_counter``.
        reference: the metrics of an LDA head on the frozen features.
        epochs: all so far.
        phase_records: of all phases that began.
        problem: why it ended early, after something had been learned.
        softening_scale: the factor of the logits before stages were unfrozen.
        unfrozen_seconds: that the unfrozen phases took.
    """

    model: Classifier
    plan: Plan
    train_cache: FeatureCache
    checkpoints: Checkpoints
    validator: Validator | None
    validated_run: Kept | None
    leakage: str
    began: float
    reference: ClassificationMetrics | None = None
    epochs: list[Epoch] = field(default_factory=list)
    phase_records: list[PhaseRecord] = field(default_factory=list)
    problem: str = ""
    softening_scale: float = 1.0
    unfrozen_seconds: float = 0.0

    def add_epoch(self, epoch: Epoch) -> Epoch:
        """Add an epoch, and save its weights if it is the best so far.

        Returns:
            The epoch, marked if it is the best one.
        """
        if self.validator:
            self.validator.record_predictions(self.checkpoints.has_unfrozen)
            if self.checkpoints.is_best(epoch):
                epoch = replace(epoch, best=True, labels=self.validator.tune_thresholds())
                self.checkpoints.save_best(epoch)
        self.epochs.append(epoch)
        return epoch

    def finish(self) -> Kept:
        """Put the checkpoint of the plan into the model, with its record; the last event."""
        kept = self._select_checkpoint()
        record = self._build_record(
            kept.checkpoint,
            kept.epoch,
            kept.validation_metrics,
            selected_on_validation=kept.selected_on_validation,
            refitted=kept.refitted,
            verdict=kept.verdict.sentence if kept.verdict else "",
        )
        self.model.record = record
        for name, candidate in self.checkpoints.candidates.items():
            if candidate.validation_metrics and not self.validated_run:  # a refit has no other candidates
                restored = record.with_checkpoint(name, candidate.validation_metrics.to_result)
                self.checkpoints.candidates[name] = replace(
                    candidate, record=restored, seen=self._update_seen(restored)
                )
        self.model.seen = self._update_seen(record)
        self.model.eval()
        return kept

    def finish_early(self) -> None:
        """Put the weights of the best epoch into the model, with its record, after the run was stopped."""
        self.checkpoints.restore_best()
        best = self.checkpoints.best_epoch
        if best:
            record = self._build_record("best", best.number, best.validation_metrics, selected_on_validation=True)
            self.model.record, self.model.seen = record, self._update_seen(record)

    def _build_record(
        self,
        checkpoint: str,
        epoch: int,
        validation_metrics: ClassificationMetrics,
        *,
        selected_on_validation: bool,
        refitted: bool = False,
        verdict: str = "",
    ) -> Record:
        reference = self.validated_run.reference if self.validated_run else self.reference
        counts = Counter[str]()
        for cache in self._caches:
            counts.update(cache.images.counts)
        return Record(
            self.plan,
            {name: counts[name] for name in self.model.classes},
            len(self.train_cache.targets),
            tuple(map(_to_epoch_record, self.epochs)),
            tuple(self.phase_records),
            checkpoint,
            epoch,
            validation_metrics.to_result,
            reference.to_result if reference else None,
            perf_counter() - self.began,
            selected_on_validation,
            refitted,
            verdict,
        )

    @property
    def _caches(self) -> Sequence[FeatureCache]:
        return [self.train_cache, self.validator.cache] if self.validator else [self.train_cache]

    def _update_seen(self, record: Record) -> SeenImages:
        """The images that the network of this record knows, after this run."""
        validation = self.validator.cache.images if self.validator else None
        return self.model.seen.with_training(self.train_cache.images, validation, bool(record.learning_stages))

    def _select_checkpoint(self) -> Kept:
        """Put the checkpoint of the plan into the model; the best epoch's if the run ended early."""
        checkpoint = "best" if self.problem else self.plan.checkpoint
        if checkpoint == "between" and not self.checkpoints.interpolate_weights(self.plan.weight_interpolation):
            checkpoint = "last"
        logit_scale = self._calibrate_head() if checkpoint != "best" else 1.0
        if self.validator is None:
            return self._repeat_validated_run()
        best = self.checkpoints.best_epoch
        if checkpoint == "best" and best:
            self.checkpoints.restore_best()
            validation_metrics, epoch, labels = best.validation_metrics, best.number, best.labels
        else:
            epoch, validation_metrics = self.epochs[-1].number, self.validator.evaluate()
            labels = self.validator.tune_thresholds()
            if checkpoint == "between":
                self.validator.record_predictions(self.checkpoints.has_unfrozen)
            self.validator.discard_all_but_last()
        return Kept(
            epoch,
            checkpoint,
            validation_metrics.score,
            validation_metrics.metric,
            validation_metrics.correct,
            validation_metrics.total,
            labels,
            perf_counter() - self.began,
            selected_on_validation=checkpoint == "best",
            reference=self.reference,
            verdict=self.validator.compare_unfreezing(self.unfrozen_seconds, self.plan.seed),
            weight_interpolation=self.plan.weight_interpolation if checkpoint == "between" else 1.0,
            candidates=self.checkpoints.candidates,
            problem=self.problem,
            loss=validation_metrics.loss,
            predictions=validation_metrics.predictions,
            logit_scale=logit_scale,
            leakage=self.leakage,
        )

    def _repeat_validated_run(self) -> Kept:
        """The last event of a refit, with the metrics and thresholds of the run before it."""
        kept = self._require_validated_run()
        if self.model.multi_label:
            self.model.thresholds.copy_(torch.tensor([label.threshold for label in kept.labels]))
        return replace(kept, seconds=perf_counter() - self.began, refitted=True, problem="", candidates={})

    def _calibrate_head(self) -> float:
        """Lower a temperature that was raised before unfreezing, as far as the held-out images allow.

        It becomes at most as low as it was. Otherwise the stages' learning would leave all predictions uncertain.

        Returns:
            The factor of the logits.
        """
        if not self.checkpoints.has_unfrozen or self.softening_scale >= 1:
            return 1.0
        if self.validator is None:
            scale = self._require_validated_run().logit_scale
        else:
            scale = fit_temperature_scale(
                self.validator.predict_logits(), self.validator.cache.targets, 1 / self.softening_scale
            )
        apply_temperature_scale(self.model.head, scale)
        return scale

    def _require_validated_run(self) -> Kept:
        if self.validated_run is None:
            raise RuntimeError("A run has validation images, or the result of a run that had.")
        return self.validated_run


def _to_epoch_record(epoch: Epoch) -> EpochRecord:
    validation = (epoch.validation_loss, epoch.validation_score) if epoch.total else (None, None)
    return EpochRecord(epoch.training_loss, epoch.training_score, *validation)
