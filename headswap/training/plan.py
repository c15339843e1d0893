"""How a training goes: its phases, their learning rates, and what advice the number of images gives.

Knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from headswap.common.deprecation import renamed_attributes
from headswap.common.text import suggest_names
from headswap.networks.head_interface import is_solvable
from headswap.networks.stage import count_parameters

if TYPE_CHECKING:
    from headswap.data.dataset import LabelledImages
    from headswap.networks.classifier import Classifier

MAX_UNFROZEN_WEIGHTS = (
    12_000_000  # in unfrozen stages; beyond it two cores take longer for an epoch than anyone watches
)


SCHEDULES = ("one-cycle", "cosine")
PLAN_CHECKPOINTS = ("best", "last", "between")


@renamed_attributes(head_rate="head_lr", backbone_rate="backbone_lr", deeper="layer_decay", warm_up="warmup_ratio")
@dataclass(frozen=True)
class Phase:
    """A stretch of the training with one boundary between what stands still and what learns."""

    epochs: int
    learning_stages: int | None  # the last so many learn with the head: 0 only the head, None everything
    head_lr: float  # the highest learning rate of the schedule, for the head
    backbone_lr: float = 0.0  # and for the last of the stages that learn
    layer_decay: float = 1.0  # each stage further down learns at so many times the rate of the one above it
    schedule: str = "one-cycle"  # or "cosine": both warm up, then fall to nothing along a cosine
    warmup_ratio: float = 0.3  # share of the steps in which the rates rise
    batch_size: int | None = None  # the plan's, unless this phase has one of its own

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"There is no schedule '{self.schedule}'. {suggest_names(self.schedule, SCHEDULES)}")


@renamed_attributes(
    soften="head_loss_ratio",
    keep="checkpoint",
    share="weight_interpolation",
    validation="validation_fraction",
    class_weights="balance_classes",
    named="from_name",
    chosen="resolve",
)
@dataclass(frozen=True)
class Plan:
    """Phases in order, and what they share."""

    phases: tuple[Phase, ...]
    views: int = 4  # of each training image: the centre, its mirror image and random crops
    batch_size: int = 16
    weight_decay: float = 1e-2  # on weights; norms and biases are spared
    label_smoothing: float = 0.1
    mixup: float = 0.0  # alpha of the Beta distribution of shares; 0.2 is usual, 0 mixes nothing
    balance_classes: bool = False  # let every class count as much as every other, however few its images
    patience: int | None = None  # a phase ends after so many epochs without a better one; None never ends it early
    head_loss_ratio: float = 0.0  # before stages thaw the head is softened to this share of a guess's loss; 0 leaves it
    checkpoint: str = (
        "best"  # of the epochs, by validation; or the "last"; or what lies "between" the frozen network and it
    )
    weight_interpolation: float = 0.5  # of that way
    validation_fraction: float = 0.2  # share of the images that is held back to choose the weights
    seed: int = 0
    advice: str = ""  # why the plan is so, for a person

    def __post_init__(self) -> None:
        if not self.phases or any(phase.epochs < 1 for phase in self.phases):
            raise ValueError("A plan needs a phase, and each phase an epoch at least.")
        if self.views < 1 or self.batch_size < 1:
            raise ValueError("A plan needs one view of each image and one image a batch at least.")
        if self.checkpoint not in PLAN_CHECKPOINTS:
            raise ValueError(
                f"A plan cannot keep '{self.checkpoint}'. {suggest_names(self.checkpoint, PLAN_CHECKPOINTS)}"
            )
        if not 0 < self.weight_interpolation <= 1:
            raise ValueError(f"The share of the way is more than 0 and at most 1, not {self.weight_interpolation}.")

    @classmethod
    def from_name(cls, name: str) -> Plan:
        """One of the classic plans: "head only", "freeze then unfreeze", "gradual" or "from the start".

        Raises:
            ValueError: for an unknown name, with the nearest ones.
        """
        if name not in NAMED_PLANS:
            raise ValueError(f"There is no plan '{name}'. {suggest_names(name, NAMED_PLANS)}")
        return NAMED_PLANS[name]

    @classmethod
    def resolve(cls, plan: Plan | str | None) -> Plan | None:
        """What every verb that takes a plan understands: a plan, the name of a classic one, or None, which leaves the
        choice to the verb.

        Raises:
            ValueError: for an unknown name, with the nearest ones, and for anything else.
        """
        if isinstance(plan, str):
            return cls.from_name(plan)
        if plan is not None and not isinstance(plan, cls):
            raise ValueError(
                f"plan is a headswap.Plan, one of the names {', '.join(NAMED_PLANS)}, or None for the suggested one, not "
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
        thawed = replace(UNFROZEN_PHASE, learning_stages=learning or choose_num_unfrozen_stages(model))
        head = replace(HEAD_PHASE, epochs=1) if is_solvable(model.head) else HEAD_PHASE
        lopsided = not images.multi_label and most >= IMBALANCE_RATIO * fewest
        return cls(
            (thawed,) if learning else (head, thawed),
            choose_num_views(len(images), model.measure_seconds_per_image()),
            label_smoothing=0.0,
            balance_classes=lopsided,
            head_loss_ratio=0.6,
            checkpoint="between",
            advice=" ".join(_explain_plan(images, model, fewest, lopsided)),
        )


def describe_dataset_fit(images: LabelledImages, model: Classifier) -> str:
    """What these images promise with this head, in a few sentences: which head suits them, and whether unfreezing will.

    The bounds are measured: EfficientNet-Lite0 on four kinds of photographs, 5 to 40 images a class.
    """
    fewest, weights = min(images.counts.values()), count_parameters(model.head)
    each = weights / len(images)
    share = f"{each:,.0f} for each" if each >= 1.5 else "one for each at most"
    said = [f"There are {len(images):,} images for the head's {weights:,} weights, {share}."]
    if each > MANY_HEAD_WEIGHTS_PER_IMAGE:
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


def choose_num_views(num_images: int, seconds_per_view: float) -> int:
    """Of each training image: fewer where images are many, or this machine would read them for minutes."""
    views = 4 if num_images < MANY_IMAGES else 2
    while views > 1 and num_images * views * seconds_per_view > MAX_FROZEN_PASS_SECONDS:
        views //= 2
    return views


def _explain_plan(
    images: LabelledImages, model: Classifier, smallest_class_size: int, is_imbalanced: bool
) -> Iterator[str]:
    kept = "so what is kept lies half-way between the frozen network and what they learn."
    if smallest_class_size < FEW_IMAGES:
        yield f"With as few as {smallest_class_size} images in a class the last stages learn little that holds, {kept}"
    else:
        yield f"With {smallest_class_size} images or more in each class the last stages may learn a little, too, {kept}"
    weights = count_parameters(model.head)
    if weights > MANY_HEAD_WEIGHTS_PER_IMAGE * len(images):
        yield f"The head has {weights:,} weights for {len(images)} images; a smaller one overfits less."
    if is_imbalanced:
        yield "The classes differ much in number, so each counts as much as every other."


FEW_IMAGES = 10  # in the smallest class
ENOUGH_IMAGES = 20  # in the smallest class, for unfreezing to pay
PLENTY_OF_IMAGES = 100  # in the smallest class, for a head with layers of its own
MANY_IMAGES = 200  # in all; then the mirror image is view enough: four views gained nothing and cost twice the time
IMBALANCE_RATIO = 3  # times as many images in the largest class as in the smallest
MANY_HEAD_WEIGHTS_PER_IMAGE = 1000  # of the head, for each image
MAX_FROZEN_PASS_SECONDS = 120  # for reading the images through the frozen stages
HEAD_PHASE = Phase(40, 0, 1e-3, batch_size=32)
UNFROZEN_PHASE = Phase(4, None, 1e-4, 3e-4)
NAMED_PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        "head only": Plan((HEAD_PHASE,)),
        "freeze then unfreeze": Plan((HEAD_PHASE, Phase(8, None, 1e-3, 1e-4)), views=2),
        "gradual": Plan((HEAD_PHASE, Phase(4, 1, 1e-3, 1e-4), Phase(4, 2, 1e-3, 1e-4), Phase(4, 3, 1e-3, 1e-4))),
        "from the start": Plan((Phase(12, None, 1e-3, 1e-4),), views=2),
    }
)


def choose_num_unfrozen_stages(model: Classifier) -> int:
    """A third of the stages at the most, at least one, and no more weights than two cores can move."""
    weights = [count_parameters(stage) for stage in reversed(model.freezable_stages)]
    at_most = max(1, len(weights) // 3)
    return max(1, sum(sum(weights[: n + 1]) <= MAX_UNFROZEN_WEIGHTS for n in range(at_most)))
