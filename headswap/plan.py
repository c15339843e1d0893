"""How a training goes: its phases, their learning rates, and what advice the number of images gives.

Knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from headswap.heads import solvable
from headswap.names import nearest

if TYPE_CHECKING:
    from headswap.images import LabelledImages
    from headswap.model import Classifier

MOST_LEARNING_WEIGHTS = (
    12_000_000  # in unfrozen stages; beyond it two cores take longer for an epoch than anyone watches
)


@dataclass(frozen=True)
class Phase:
    """A stretch of the training with one boundary between what stands still and what learns."""

    epochs: int
    learning_stages: int | None  # the last so many learn with the head: 0 only the head, None everything
    head_rate: float  # the highest learning rate of the one-cycle schedule, for the head
    backbone_rate: float = 0.0  # and for the stages that learn


@dataclass(frozen=True)
class Plan:
    """Phases in order, and what they share."""

    phases: tuple[Phase, ...]
    views: int = 4  # of each training image: the centre, its mirror image and random crops
    batch_size: int = 16
    weight_decay: float = 1e-2  # on weights; norms and biases are spared
    label_smoothing: float = 0.1
    validation: float = 0.2  # share of the images that is held back to choose the weights
    seed: int = 0
    advice: str = ""  # why the plan is so, for a person

    def __post_init__(self) -> None:
        if not self.phases or any(phase.epochs < 1 for phase in self.phases):
            raise ValueError("A plan needs a phase, and each phase an epoch at least.")
        if self.views < 1 or self.batch_size < 1:
            raise ValueError("A plan needs one view of each image and one image a batch at least.")

    @classmethod
    def named(cls, name: str) -> Plan:
        """One of the classic plans: "head only", "freeze then unfreeze", "gradual" or "from the start".

        Raises:
            ValueError: for an unknown name, with the nearest ones.
        """
        if name not in NAMED:
            raise ValueError(f"There is no plan '{name}'. {nearest(name, NAMED)}")
        return NAMED[name]

    @classmethod
    def suggest(cls, images: LabelledImages, model: Classifier) -> Plan:
        """The default: the head alone, then the last stages at a lower rate where there are images enough for it."""
        fewest = min(images.counts.values())
        stages = _stages_to_unfreeze(model)
        if fewest < FEW_IMAGES:
            epochs = 3
            advice = (
                f"With as few as {fewest} images in a class the last stages learn only briefly: "
                "unfreezing pays from about 20 a class."
            )
        else:
            epochs = 6
            advice = f"With {fewest} images or more in each class the last stages may learn a little, too."
        views = 4 if len(images) < MANY_IMAGES else 2
        if solvable(model.head):
            return cls(
                (replace(HEAD, epochs=1), Phase(epochs, stages, 1e-3, 1e-3)), views, label_smoothing=0.0, advice=advice
            )
        return cls((HEAD, Phase(epochs, stages, 1e-3, 1e-4)), views=views, advice=advice)


FEW_IMAGES = 10  # in the smallest class
MANY_IMAGES = 200  # in all; then the mirror image is view enough: four views gained nothing and cost twice the time
HEAD = Phase(40, 0, 1e-3)
NAMED: Mapping[str, Plan] = MappingProxyType(
    {
        "head only": Plan((HEAD,)),
        "freeze then unfreeze": Plan((HEAD, Phase(8, None, 1e-3, 1e-4)), views=2),
        "gradual": Plan((HEAD, Phase(4, 1, 1e-3, 1e-4), Phase(4, 2, 1e-3, 1e-4), Phase(4, 3, 1e-3, 1e-4))),
        "from the start": Plan((Phase(12, None, 1e-3, 1e-4),), views=2),
    }
)


def _stages_to_unfreeze(model: Classifier) -> int:
    """A third of the stages at the most, at least one, and no more weights than two cores can move."""
    weights = [sum(p.numel() for p in stage.parameters()) for stage in reversed(model.countable)]
    at_most = max(1, len(weights) // 3)
    return max(1, sum(sum(weights[: n + 1]) <= MOST_LEARNING_WEIGHTS for n in range(at_most)))
