"""The weights that a run passes: where it began, its best epoch, part of the way back, and what can be had instead.

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
    """Put a network that a training offered, such as ``kept.offers["frozen"]``, into its model, which then stands
    still but for its head."""
    model.head = copy.deepcopy(candidate.head).to(next(model.stages.parameters()))
    model.load_state_dict(candidate.weights, strict=False)
    model.record, model.seen = candidate.record, candidate.seen
    model.freeze().eval()
    return model


class Checkpoints:
    """The weights of one run: of the head and of every stage that ever learns in it."""

    def __init__(self, model: Classifier, lowest_boundary: int) -> None:
        """``deepest`` is the lowest boundary of the run; at first everything is as it stands now."""
        self.model = model
        self.best_epoch: Epoch | None = None
        self.candidates: dict[str, Candidate] = {}
        owned = {id(p) for part in model.feature_stages[lowest_boundary:] for p in part.parameters()}
        self._trained_names = {name for name, p in model.named_parameters() if id(p) in owned}
        self._frozen_weights: dict[str, Tensor] | None = None
        self._initial_weights = self._copy_state(self._trained_names)
        self._best = self._initial_weights = self.snapshot()
        self.add_candidate("start", None)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy; stages are copied once for all until they begin to learn."""
        return self._initial_weights | self._copy_state(self._trained_names if self.has_unfrozen else set())

    def _copy_state(self, names: set[str]) -> dict[str, Tensor]:
        """These, and all of the head: one of somebody's own may have buffers that move."""
        state = self.model.state_dict().items()
        return {
            key: t.detach().clone()
            for key, t in state
            if key in names or key == "thresholds" or key.startswith("head.")
        }

    def add_candidate(self, name: str, figures: ClassificationMetrics | None, head: nn.Module | None = None) -> None:
        """What stands now, or another head on stages as they were at first, can be had afterwards under this name."""
        weights = self._initial_weights if head else self.snapshot()
        stages = {key: t for key, t in weights.items() if not key.startswith("head.")}
        model = self.model
        self.candidates[name] = Candidate(figures, copy.deepcopy(head or model.head), stages, model.record, model.seen)

    def is_best(self, epoch: Epoch) -> bool:
        """Whether it is the best one so far."""
        now = self.best_epoch
        if not isfinite(epoch.validation_loss):
            return False
        return now is None or (epoch.validation_score, -epoch.validation_loss) > (
            now.validation_score,
            -now.validation_loss,
        )

    def save_best(self, epoch: Epoch) -> None:
        """The weights as they stand now are the best so far."""
        self.best_epoch, self._best = epoch, self.snapshot()

    @property
    def has_unfrozen(self) -> bool:
        """Whether stages have begun to learn."""
        return self._frozen_weights is not None

    def mark_unfreezing(self) -> None:
        """Stages begin to learn from here; only the first call counts."""
        self._frozen_weights = self._frozen_weights or self.snapshot()

    def interpolate_weights(self, weight_interpolation: float) -> bool:
        """Let the weights lie at this share of the way from where the stages began to learn to now; whether they began.

        One network, and on average over many small sets better than either end: Wortsman et al., "Robust fine-tuning
        of zero-shot models" (2022).
        """
        if self._frozen_weights is None:
            return False
        now = self.model.state_dict()
        between = {
            key: torch.lerp(t, now[key], weight_interpolation) if t.is_floating_point() else now[key]
            for key, t in self._frozen_weights.items()
        }
        self.model.load_state_dict(between, strict=False)
        return True

    def restore_best(self) -> None:
        """The weights of the best epoch, or before there was one those at the beginning."""
        self.model.load_state_dict(self._best, strict=False)
