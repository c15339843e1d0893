"""Stores weight snapshots of a training run: initial, frozen, best epoch, interpolation, and candidates to restore.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

import copy
from math import isfinite

import torch
from torch import Tensor, nn

from headswap.common.deprecation import renamed_arguments
from headswap.networks.classifier import Classifier
from headswap.training.events import Candidate, ClassificationMetrics, Epoch


@renamed_arguments(offer="candidate")
def restore(model: Classifier, candidate: Candidate) -> Classifier:
    """Put a candidate of a training, such as ``kept.candidates["frozen"]``, into its model.

    Args:
        model: that was trained; it is changed in place, and all its stages are frozen.
        candidate: of that training.

    Returns:
        The model.
    """
    model.head = copy.deepcopy(candidate.head).to(next(model.stages.parameters()))
    model.load_state_dict(candidate.weights, strict=False)
    model.record, model.seen = candidate.record, candidate.seen
    model.freeze().eval()
    return model


class Checkpoints:
    """Snapshots of the weights of one run: of the head and of every stage that ever learns in it.

    Attributes:
        model: that learns.
        best_epoch: so far.
        candidates: by name, as ``Kept.candidates``.
    """

    def __init__(self, model: Classifier, lowest_boundary: int) -> None:
        """Copy the initial weights, as candidate "start".

        Args:
            model: before anything was learned.
            lowest_boundary: of the run; earlier stages never learn and are not copied.
        """
        self.model = model
        self.best_epoch: Epoch | None = None
        self.candidates: dict[str, Candidate] = {}
        trained = {id(p) for stage in model.feature_stages[lowest_boundary:] for p in stage.parameters()}
        self._trained_names = {name for name, p in model.named_parameters() if id(p) in trained}
        self._frozen_weights: dict[str, Tensor] | None = None
        self._initial_weights = self._copy_state(self._trained_names)
        self._best = self._initial_weights = self.snapshot()
        self.add_candidate("start", None)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the present weights; those of stages are copied only once while they are frozen."""
        return self._initial_weights | self._copy_state(self._trained_names if self.has_unfrozen else set())

    def _copy_state(self, names: set[str]) -> dict[str, Tensor]:
        """Copy these tensors and all of the head, whose buffers may change in a user's own module."""
        state = self.model.state_dict().items()
        return {
            key: t.detach().clone()
            for key, t in state
            if key in names or key == "thresholds" or key.startswith("head.")
        }

    def add_candidate(
        self, name: str, validation_metrics: ClassificationMetrics | None, head: nn.Module | None = None
    ) -> None:
        """Add the present network, or another head on the initial stages, to the candidates."""
        weights = self._initial_weights if head else self.snapshot()
        stages = {key: t for key, t in weights.items() if not key.startswith("head.")}
        model = self.model
        self.candidates[name] = Candidate(
            validation_metrics, copy.deepcopy(head or model.head), stages, model.record, model.seen
        )

    def is_best(self, epoch: Epoch) -> bool:
        """Whether an epoch is better than all before: a higher score, or the same with a lower loss."""
        best = self.best_epoch
        if not isfinite(epoch.validation_loss):
            return False
        return best is None or (epoch.validation_score, -epoch.validation_loss) > (
            best.validation_score,
            -best.validation_loss,
        )

    def save_best(self, epoch: Epoch) -> None:
        """Copy the present weights as those of the best epoch so far."""
        self.best_epoch, self._best = epoch, self.snapshot()

    @property
    def has_unfrozen(self) -> bool:
        """Whether stages have begun to learn."""
        return self._frozen_weights is not None

    def mark_unfreezing(self) -> None:
        """Copy the weights of the frozen network before stages begin to learn; only the first call counts."""
        self._frozen_weights = self._frozen_weights or self.snapshot()

    def interpolate_weights(self, weight_interpolation: float) -> bool:
        """Interpolate linearly between the frozen network's weights and the present ones.

        One network, and on average over many small datasets better than either end: Wortsman et al., "Robust
        fine-tuning of zero-shot models" (2022).

        Args:
            weight_interpolation: from 0 (frozen) to 1 (present).

        Returns:
            Whether stages have learned; otherwise nothing is changed.
        """
        if self._frozen_weights is None:
            return False
        present = self.model.state_dict()
        interpolated = {
            key: torch.lerp(t, present[key], weight_interpolation) if t.is_floating_point() else present[key]
            for key, t in self._frozen_weights.items()
        }
        self.model.load_state_dict(interpolated, strict=False)
        return True

    def restore_best(self) -> None:
        """Put the weights of the best epoch into the model, or the initial ones if there was none."""
        self.model.load_state_dict(self._best, strict=False)
