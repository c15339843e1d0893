"""Defines training plans: phases with learning rates and schedule, regularisation and which checkpoint is kept.

Knows nothing of how anything is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from headswap.common.deprecation import renamed_attributes
from headswap.common.text import suggest_names
from headswap.networks.head_interface import is_solvable
from headswap.training.advice import IMBALANCE_RATIO, choose_num_unfrozen_stages, choose_num_views, explain_plan

if TYPE_CHECKING:
    from headswap.data.dataset import LabelledImages
    from headswap.networks.classifier import Classifier

SCHEDULES = ("one-cycle", "cosine")
PLAN_CHECKPOINTS = ("best", "last", "between")


@renamed_attributes(head_rate="head_lr", backbone_rate="backbone_lr", deeper="layer_decay", warm_up="warmup_ratio")
@dataclass(frozen=True)
class Phase:
    """A number of epochs with the same stages frozen.

    Attributes:
        epochs: at least one.
        learning_stages: the number of last stages that learn with the head; 0 only the head, None everything.
        head_lr: the highest learning rate of the schedule, for the head.
        backbone_lr: likewise, for the last stage; wanted where stages learn.
        layer_decay: the learning rate of each stage relative to that of the next one towards the head.
        schedule: "one-cycle" or "cosine"; both have a warm-up and then fall to 0 along a cosine.
        warmup_ratio: the share of the steps in which the learning rates rise.
        batch_size: the plan's by default.
    """

    epochs: int
    learning_stages: int | None
    head_lr: float
    backbone_lr: float = 0.0
    layer_decay: float = 1.0
    schedule: str = "one-cycle"
    warmup_ratio: float = 0.3
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"There is no schedule '{self.schedule}'. {suggest_names(self.schedule, SCHEDULES)}")
        if self.learning_stages != 0 and not self.backbone_lr:
            raise ValueError("Stages that learn need a learning rate, backbone_lr; with learning_stages=0 none learn.")


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
    """Phases in order, and what they have in common.

    Attributes:
        phases: at least one.
        views: of each training image: the plain crop, its mirror image and random crops.
        batch_size: images in a step.
        weight_decay: of weights; norms and biases have none.
        label_smoothing: of the cross-entropy.
        mixup: alpha of the Beta distribution; 0.2 is usual, 0 mixes nothing.
        balance_classes: whether every class counts as much as every other, however few its images.
        patience: a phase ends after so many epochs without a better one; None never ends it early.
        head_loss_ratio: before stages are unfrozen, the head's temperature is raised until its loss is this share of a
            guess's loss; 0 leaves it.
        checkpoint: the "best" epoch by validation, the "last", or weights "between" those of the frozen network and of
            the last epoch.
        weight_interpolation: where between them, from 0 (frozen) to 1 (last).
        validation_fraction: the share of the images that is held out to select the weights.
        seed: of everything that is random.
        advice: why the plan is so, in words.
    """

    phases: tuple[Phase, ...]
    views: int = 4
    batch_size: int = 16
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    mixup: float = 0.0
    balance_classes: bool = False
    patience: int | None = None
    head_loss_ratio: float = 0.0
    checkpoint: str = "best"
    weight_interpolation: float = 0.5
    validation_fraction: float = 0.2
    seed: int = 0
    advice: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.phases, Phase):
            raise ValueError("phases is a tuple, of a single phase as well: Plan((Phase(...),)).")
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
        """A predefined plan: "head only", "freeze then unfreeze", "gradual" or "from the start".

        Raises:
            ValueError: for an unknown name, with the nearest ones.
        """
        if name not in NAMED_PLANS:
            raise ValueError(f"There is no plan '{name}'. {suggest_names(name, NAMED_PLANS)}")
        return NAMED_PLANS[name]

    @classmethod
    def resolve(cls, plan: Plan | str | None) -> Plan | None:
        """Turn what a caller gave as a plan into a plan.

        Args:
            plan: a plan, the name of a predefined one, or None.

        Returns:
            The plan; None stays None.

        Raises:
            ValueError: for an unknown name, with the nearest ones, and for anything else.
        """
        if isinstance(plan, str):
            return cls.from_name(plan)
        if plan is not None and not isinstance(plan, cls):
            raise ValueError(
                f"plan is a headswap.Plan, one of the names {', '.join(NAMED_PLANS)}, or None for the suggested one, "
                f"not {type(plan).__name__}."
            )
        return plan

    @classmethod
    def suggest(cls, images: LabelledImages, model: Classifier) -> Plan:
        """The default plan: the head alone, then the last stages, whose weights are interpolated half-way.

        It depends on the number of images and classes, on the weights of the head and of the last stages, and on the
        network's operations, never on the machine; ``advice`` says why in a sentence or two. A model whose stages are
        unfrozen already goes on with these.
        """
        smallest, largest = min(images.counts.values()), max(images.counts.values())
        num_unfrozen = len(model.learning_stages)
        unfrozen_phase = replace(UNFROZEN_PHASE, learning_stages=num_unfrozen or choose_num_unfrozen_stages(model))
        head_phase = replace(HEAD_PHASE, epochs=1) if is_solvable(model.head) else HEAD_PHASE
        is_imbalanced = not images.multi_label and largest >= IMBALANCE_RATIO * smallest
        return cls(
            (unfrozen_phase,) if num_unfrozen else (head_phase, unfrozen_phase),
            choose_num_views(len(images), model.count_flops_per_image()),
            label_smoothing=0.0,
            balance_classes=is_imbalanced,
            head_loss_ratio=0.6,
            checkpoint="between",
            advice=explain_plan(images, model, smallest, is_imbalanced),
        )


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
