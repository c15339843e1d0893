"""The weights that a run passes: where it began, its best epoch, part of the way back, and what can be had instead.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

import copy
from math import isfinite

import torch
from torch import Tensor, nn

from headswap.networks.classifier import Classifier
from headswap.training.events import Epoch, Figures, Offer


def keep(model: Classifier, offer: Offer) -> Classifier:
    """Put a network that a training offered, such as ``kept.offers["frozen"]``, into its model, which then stands
    still but for its head."""
    model.head = copy.deepcopy(offer.head).to(next(model.stages.parameters()))
    model.load_state_dict(offer.weights, strict=False)
    model.record, model.seen = offer.record, offer.seen
    model.freeze().eval()
    return model


class Keeper:
    """The weights of one run: of the head and of every stage that ever learns in it."""

    def __init__(self, model: Classifier, deepest: int) -> None:
        """``deepest`` is the lowest boundary of the run; at first everything is as it stands now."""
        self.model = model
        self.best: Epoch | None = None
        self.offers: dict[str, Offer] = {}
        owned = {id(p) for part in model.sequence[deepest:] for p in part.parameters()}
        self._names = {name for name, p in model.named_parameters() if id(p) in owned}
        self._origin: dict[str, Tensor] | None = None
        self._first = self._copied(self._names)
        self._best = self._first = self.now()
        self.offer("start", None)

    def now(self) -> dict[str, Tensor]:
        """A copy; stages are copied once for all until they begin to learn."""
        return self._first | self._copied(self._names if self.thawed else set())

    def _copied(self, names: set[str]) -> dict[str, Tensor]:
        """These, and all of the head: one of somebody's own may have buffers that move."""
        state = self.model.state_dict().items()
        return {
            key: t.detach().clone()
            for key, t in state
            if key in names or key == "thresholds" or key.startswith("head.")
        }

    def offer(self, name: str, figures: Figures | None, head: nn.Module | None = None) -> None:
        """What stands now, or another head on stages as they were at first, can be had afterwards under this name."""
        weights = self._first if head else self.now()
        stages = {key: t for key, t in weights.items() if not key.startswith("head.")}
        model = self.model
        self.offers[name] = Offer(figures, copy.deepcopy(head or model.head), stages, model.record, model.seen)

    def better(self, epoch: Epoch) -> bool:
        """Whether it is the best one so far."""
        now = self.best
        if not isfinite(epoch.validation_loss):
            return False
        return now is None or (epoch.validation_score, -epoch.validation_loss) > (
            now.validation_score,
            -now.validation_loss,
        )

    def remember(self, epoch: Epoch) -> None:
        """The weights as they stand now are the best so far."""
        self.best, self._best = epoch, self.now()

    @property
    def thawed(self) -> bool:
        """Whether stages have begun to learn."""
        return self._origin is not None

    def begin_to_thaw(self) -> None:
        """Stages begin to learn from here; only the first call counts."""
        self._origin = self._origin or self.now()

    def go_back(self, share: float) -> bool:
        """Let the weights lie at this share of the way from where the stages began to learn to now; whether they began.

        One network, and on average over many small sets better than either end: Wortsman et al., "Robust fine-tuning
        of zero-shot models" (2022).
        """
        if self._origin is None:
            return False
        now = self.model.state_dict()
        between = {
            key: torch.lerp(t, now[key], share) if t.is_floating_point() else now[key]
            for key, t in self._origin.items()
        }
        self.model.load_state_dict(between, strict=False)
        return True

    def restore_best(self) -> None:
        """The weights of the best epoch, or before there was one those at the beginning."""
        self.model.load_state_dict(self._best, strict=False)
