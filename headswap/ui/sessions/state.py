"""Immutable values that a session holds: the chosen model, the trained model, predictions, an error analysis."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import nan

from torch import Tensor

from headswap.data.dataset import LabelledImages
from headswap.evaluation.evaluate import Evaluation
from headswap.networks.classifier import Classifier
from headswap.training.checkpoints import restore
from headswap.training.events import Candidate, ClassificationMetrics
from headswap.ui.sessions.run import Run


@dataclass(frozen=True)
class ModelChoice:
    """The chosen backbone, head and their options."""

    backbone: str
    head: str
    head_options: dict[str, object] = field(default_factory=dict)
    crop: str = "centre"
    pretrained: bool = True

    @property
    def with_linear_head(self) -> ModelChoice:
        """The same choice with a linear head: equal for all choices that share their frozen features."""
        return replace(self, head="linear", head_options={})


@dataclass(frozen=True)
class TrainedModel:
    """A model with the run that trained it, and which candidate of that run it holds now.

    Attributes:
        model: The model, whose weights ``with_candidate`` changes in place.
        run: The run that trained it; None for a model from a file, of which only ``model.record`` is known.
        active_candidate: "frozen" or "reference" if one of these was restored; empty for what the run itself kept.
        own_candidate: What the run itself kept, while another candidate is active.
        run_number: Number of the run among the session's run summaries, from 1; 0 if it is none of them.
    """

    model: Classifier
    run: Run | None = None
    active_candidate: str = ""
    own_candidate: Candidate | None = field(default=None, repr=False)
    run_number: int = field(default=0, compare=False)

    @property
    def trained_stages(self) -> tuple[str, ...]:
        """Names of the stages that were fine-tuned in what the model holds now."""
        return () if self.active_candidate else self.trained_stages_of_run

    @property
    def trained_stages_of_run(self) -> tuple[str, ...]:
        """Names of the stages that were fine-tuned in what the run itself kept."""
        if self.run is None:
            return self.model.record.learning_stages if self.model.record else ()
        phases, number = self.run.phases, self.run.kept_epoch_number
        if self.run.kept and self.run.kept.refitted:  # its epoch number is that of the run before the refit
            return phases[-1].learning_stages
        begun = [phase for phase in phases if number is not None and phase.first_epoch <= number]
        return begun[-1].learning_stages if begun else ()

    @property
    def validation_metrics(self) -> ClassificationMetrics | None:
        """Validation metrics of what the model holds now; None if a file does not tell."""
        if self.run is None:
            result = self.model.record and self.model.record.result
            return (
                ClassificationMetrics(result.score, result.metric, result.correct, result.total, nan)
                if result
                else None
            )
        if self.active_candidate:
            return self._candidates[self.active_candidate].validation_metrics
        return self.run.kept_metrics

    @property
    def available_candidates(self) -> tuple[str, ...]:
        """Names of the candidates that ``with_candidate`` accepts now: "frozen", "reference" or "own"."""
        kept = self.run.kept if self.run else None
        if kept is None or kept.refitted:
            return ()
        reference = kept.candidates.get("reference")
        reference_metrics = reference.validation_metrics if reference else None
        is_available = {
            "frozen": "frozen" in kept.candidates and bool(self.trained_stages_of_run),
            "reference": reference_metrics is not None and reference_metrics.correct > kept.correct,
            "own": bool(self.active_candidate),
        }
        return tuple(name for name, available in is_available.items() if available and name != self.active_candidate)

    def with_candidate(self, name: str) -> TrainedModel:
        """Restore a candidate into the model, in place; "own" restores what the run itself kept."""
        if name == "own" and self.own_candidate is not None:
            restore(self.model, self.own_candidate)
            return replace(self, active_candidate="", own_candidate=None)
        model, candidate = self.model, self._candidates[name]
        own = self.own_candidate or Candidate(
            None, copy.deepcopy(model.head), self._clone_weights(candidate.weights), model.record, model.seen
        )
        restore(model, candidate)
        return replace(self, active_candidate=name, own_candidate=own)

    @property
    def _candidates(self) -> Mapping[str, Candidate]:
        return self.run.kept.candidates if self.run and self.run.kept else {}

    def _clone_weights(self, parameter_names: Iterable[str]) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: state[name].clone() for name in parameter_names}


@dataclass(frozen=True)
class ImagePrediction:
    """A model's prediction for one new image, or why the image could not be read.

    Attributes:
        name: Name of the file, or a description of the image.
        data_url: Thumbnail as a ``data:`` URL.
        ranked_probabilities: Classes with their probabilities, the most likely first.
        labels: The predicted labels of a model that allows several; None otherwise.
        problem: Error message of an unreadable image.
        true_label: The label of an image from the dataset.
    """

    name: str
    data_url: str = ""
    ranked_probabilities: tuple[tuple[str, float], ...] = ()
    labels: tuple[str, ...] | None = None
    problem: str = ""
    true_label: str = ""


@dataclass(frozen=True)
class PredictionBatch:
    """Predictions of one model for new images."""

    trained_model: TrainedModel
    predictions: tuple[ImagePrediction, ...]
    num_images: int  # as uploaded, of which the first ones were predicted


@dataclass(frozen=True, eq=False)
class ErrorAnalysis:
    """How one model answered labelled images, and which of its errors are shown.

    Attributes:
        trained_model: The model that was evaluated.
        images: The readable images, in the order of the evaluation.
        evaluation: Metrics, probabilities and mistakes.
        subset: "validation"; "learned" for the session's own images, most of which the model was trained on; or "test".
        unreadable: (name, reason) for each image that could not be read.
        selected_cell: (true class, predicted class) of the confusion matrix cell whose images are shown.
    """

    trained_model: TrainedModel
    images: LabelledImages
    evaluation: Evaluation
    subset: str
    unreadable: tuple[tuple[str, str], ...] = ()
    selected_cell: tuple[int, int] | None = None
