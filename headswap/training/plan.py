"""How a training goes: its phases, their learning rates, and what advice the number of images gives.

Knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from headswap.common.text import nearest
from headswap.networks.heads import solvable
from headswap.networks.stage import count_weights

if TYPE_CHECKING:
    from headswap.data.dataset import LabelledImages
    from headswap.networks.classifier import Classifier

MOST_LEARNING_WEIGHTS = (
    12_000_000  # in unfrozen stages; beyond it two cores take longer for an epoch than anyone watches
)


SCHEDULES = ("one-cycle", "cosine")
KEEPS = ("best", "last", "between")


@dataclass(frozen=True)
class Phase:
    """A stretch of the training with one boundary between what stands still and what learns."""

    epochs: int
    learning_stages: int | None  # the last so many learn with the head: 0 only the head, None everything
    head_rate: float  # the highest learning rate of the schedule, for the head
    backbone_rate: float = 0.0  # and for the last of the stages that learn
    deeper: float = 1.0  # each stage further down learns at so many times the rate of the one above it
    schedule: str = "one-cycle"  # or "cosine": both warm up, then fall to nothing along a cosine
    warm_up: float = 0.3  # share of the steps in which the rates rise
    batch_size: int | None = None  # the plan's, unless this phase has one of its own

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"There is no schedule '{self.schedule}'. {nearest(self.schedule, SCHEDULES)}")


@dataclass(frozen=True)
class Plan:
    """Phases in order, and what they share."""

    phases: tuple[Phase, ...]
    views: int = 4  # of each training image: the centre, its mirror image and random crops
    batch_size: int = 16
    weight_decay: float = 1e-2  # on weights; norms and biases are spared
    label_smoothing: float = 0.1
    mixup: float = 0.0  # alpha of the Beta distribution of shares; 0.2 is usual, 0 mixes nothing
    class_weights: bool = False  # let every class count as much as every other, however few its images
    patience: int | None = None  # a phase ends after so many epochs without a better one; None never ends it early
    soften: float = 0.0  # before stages thaw the head is softened to this share of a guess's loss; 0 leaves it
    keep: str = "best"  # of the epochs, by validation; or the "last"; or what lies "between" the frozen network and it
    share: float = 0.5  # of that way
    validation: float = 0.2  # share of the images that is held back to choose the weights
    seed: int = 0
    advice: str = ""  # why the plan is so, for a person

    def __post_init__(self) -> None:
        if not self.phases or any(phase.epochs < 1 for phase in self.phases):
            raise ValueError("A plan needs a phase, and each phase an epoch at least.")
        if self.views < 1 or self.batch_size < 1:
            raise ValueError("A plan needs one view of each image and one image a batch at least.")
        if self.keep not in KEEPS:
            raise ValueError(f"A plan cannot keep '{self.keep}'. {nearest(self.keep, KEEPS)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"The share of the way is more than 0 and at most 1, not {self.share}.")

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
    def chosen(cls, plan: Plan | str | None) -> Plan | None:
        """What every verb that takes a plan understands: a plan, the name of a classic one, or None, which leaves the
        choice to the verb.

        Raises:
            ValueError: for an unknown name, with the nearest ones, and for anything else.
        """
        if isinstance(plan, str):
            return cls.named(plan)
        if plan is not None and not isinstance(plan, cls):
            raise ValueError(
                f"plan is a headswap.Plan, one of the names {', '.join(NAMED)}, or None for the suggested one, not "
                f"{type(plan).__name__}."
            )
        return plan

    @classmethod
    def suggest(cls, images: LabelledImages, model: Classifier) -> Plan:
        """The default: the head alone, then the last stages, of which half is kept.

        It depends on how many images and classes there are, on the weights of the head and of the last stages, and on
        how fast this machine runs the network; ``advice`` says why in a sentence or two. A model whose stages have
        learned already goes on with these.
        """
        fewest, most = min(images.counts.values()), max(images.counts.values())
        learning = len(model.learning_stages)
        thawed = replace(THAWED, learning_stages=learning or stages_to_unfreeze(model))
        head = replace(HEAD, epochs=1) if solvable(model.head) else HEAD
        lopsided = not images.multi_label and most >= LOPSIDED * fewest
        return cls(
            (thawed,) if learning else (head, thawed),
            views_of(len(images), model.pace()),
            label_smoothing=0.0,
            class_weights=lopsided,
            soften=0.6,
            keep="between",
            advice=" ".join(_advice(images, model, fewest, lopsided)),
        )


def outlook(images: LabelledImages, model: Classifier) -> str:
    """What these images promise with this head, in a few sentences: which head suits them, and whether unfreezing will.

    The bounds are measured: EfficientNet-Lite0 on four kinds of photographs, 5 to 40 images a class.
    """
    fewest, weights = min(images.counts.values()), count_weights(model.head)
    each = weights / len(images)
    share = f"{each:,.0f} for each" if each >= 1.5 else "one for each at most"
    said = [f"There are {len(images):,} images for the head's {weights:,} weights, {share}."]
    if each > MANY_WEIGHTS:
        said.append("That is many: a smaller head overfits less, and a dropout of 0.5 helps.")
    if fewest < ENOUGH_IMAGES:
        suits = "a linear head" if images.multi_label else "LDA or a linear head"
        said.append(f"With {fewest} images in the smallest class {suits} without dropout suits best.")
    elif fewest < PLENTY_OF_IMAGES:
        said.append(
            f"With {fewest} images in the smallest class a linear head suits, or a bottleneck with a dropout of 0.2."
        )
    else:
        said.append(f"With {fewest} images in the smallest class a bottleneck or an MLP with a dropout of 0.3 can pay.")
    if fewest < FEW_IMAGES:
        said.append("Unfreezing is more likely to hurt than to help here.")
    elif fewest < ENOUGH_IMAGES:
        said.append("Unfreezing will change little here, for better or worse.")
    else:
        said.append("Unfreezing can pay here where the pictures look unlike ImageNet's photographs of things.")
    return " ".join(said)


def views_of(count: int, pace: float) -> int:
    """Of each training image: fewer where images are many, or this machine would read them for minutes."""
    views = 4 if count < MANY_IMAGES else 2
    while views > 1 and count * views * pace > MOST_SECONDS:
        views //= 2
    return views


def _advice(images: LabelledImages, model: Classifier, fewest: int, lopsided: bool) -> Iterator[str]:
    kept = "so what is kept lies half-way between the frozen network and what they learn."
    if fewest < FEW_IMAGES:
        yield f"With as few as {fewest} images in a class the last stages learn little that holds, {kept}"
    else:
        yield f"With {fewest} images or more in each class the last stages may learn a little, too, {kept}"
    weights = count_weights(model.head)
    if weights > MANY_WEIGHTS * len(images):
        yield f"The head has {weights:,} weights for {len(images)} images; a smaller one overfits less."
    if lopsided:
        yield "The classes differ much in number, so each counts as much as every other."


FEW_IMAGES = 10  # in the smallest class
ENOUGH_IMAGES = 20  # in the smallest class, for unfreezing to pay
PLENTY_OF_IMAGES = 100  # in the smallest class, for a head with layers of its own
MANY_IMAGES = 200  # in all; then the mirror image is view enough: four views gained nothing and cost twice the time
LOPSIDED = 3  # times as many images in the largest class as in the smallest
MANY_WEIGHTS = 1000  # of the head, for each image
MOST_SECONDS = 120  # for reading the images through the frozen stages
HEAD = Phase(40, 0, 1e-3, batch_size=32)
THAWED = Phase(4, None, 1e-4, 3e-4)
NAMED: Mapping[str, Plan] = MappingProxyType(
    {
        "head only": Plan((HEAD,)),
        "freeze then unfreeze": Plan((HEAD, Phase(8, None, 1e-3, 1e-4)), views=2),
        "gradual": Plan((HEAD, Phase(4, 1, 1e-3, 1e-4), Phase(4, 2, 1e-3, 1e-4), Phase(4, 3, 1e-3, 1e-4))),
        "from the start": Plan((Phase(12, None, 1e-3, 1e-4),), views=2),
    }
)


def stages_to_unfreeze(model: Classifier) -> int:
    """A third of the stages at the most, at least one, and no more weights than two cores can move."""
    weights = [count_weights(stage) for stage in reversed(model.countable)]
    at_most = max(1, len(weights) // 3)
    return max(1, sum(sum(weights[: n + 1]) <= MOST_LEARNING_WEIGHTS for n in range(at_most)))
