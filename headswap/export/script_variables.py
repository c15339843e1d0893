"""Translates the plan of a training and its images into variables of the script's template.

Knows nothing of where the parts of the network lie but their Python expressions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headswap.data import sources
from headswap.data.dataset import LabelledImages
from headswap.data.decoding import has_16_bit_colors
from headswap.export.python_source import MAX_LINE_LENGTH
from headswap.export.script_network import ScriptNetwork
from headswap.networks.classifier import Classifier
from headswap.training.plan import Phase, Plan
from headswap.training.record import Record
from headswap.training.trainer import SOLVED_HEAD_LOSS_RATIO

# The script looks for files with these endings; it has Pillow alone, which reads no HEIC.
SCRIPT_IMAGE_SUFFIXES = tuple(sorted(sources.IMAGE_EXTENSIONS - sources.HEIC_EXTENSIONS))


@dataclass(frozen=True)
class ScriptPhase:
    """A phase of the training, as the script runs it.

    Attributes:
        number: from 1 on.
        phase: the phase of the plan.
        batch_size: the phase's own or the plan's.
        trainable: Python expressions of the backbone's parts that are trained, with their peak learning rates.
        stage_names: the names of the stages that are trained.
        computes_features: whether the features of the frozen backbone have to be computed before it.
        is_first_unfreeze: whether it is the first phase that trains stages.
    """

    number: int
    phase: Phase
    batch_size: int
    trainable: list[tuple[str, float]]
    stage_names: list[str]
    computes_features: bool
    is_first_unfreeze: bool

    @property
    def trainable_text(self) -> str:
        """What is trained, for a comment."""
        if self.trainable[0][0] == "backbone":
            return "the whole network"
        first, *_, last = *self.stage_names, self.stage_names[-1]
        stages = f"stages from {first} to {last}" if len(self.stage_names) > 1 else f"stage {first}"
        return f"the {stages} and the head"

    @property
    def learning_rates(self) -> str:
        """A dict from each trained part to its peak learning rate, as Python source."""
        pairs = [f"{part}: {lr!r}" for part, lr in [*self.trainable, ("model.head", self.phase.head_lr)]]
        line = f"{{{', '.join(pairs)}}}"
        if len(f"    rates = {line}") <= MAX_LINE_LENGTH:  # as the template writes it
            return line
        return "\n".join(["{", *(f"        {pair}," for pair in pairs), "    }"])


def plan_variables(model: Classifier, network: ScriptNetwork) -> dict[str, Any]:
    """The template's variables that depend on the plan.

    Args:
        model: a model with a record.
        network: its network.
    """
    record: Record = model.record
    plan = _effective_plan(record)
    phases = list(_iter_script_phases(plan, network))
    has_solved_head = network.head_name == "lda"
    unfreezes = any(phase.is_first_unfreeze for phase in phases)
    trained_phases = [phase for phase in phases if phase.trainable or not has_solved_head]
    # A head that is trained with the stages from the start has no confidence to lose.
    softens_head = unfreezes and not phases[0].trainable
    head_loss_ratio = plan.head_loss_ratio or (SOLVED_HEAD_LOSS_RATIO if has_solved_head else 0.0)
    return {
        "plan": plan,
        "phases": phases,
        "record": record,
        "multi_label": model.multi_label,
        "solves_head": has_solved_head and any(not phase.trainable for phase in phases),
        "trains": bool(trained_phases),
        "schedules": sorted({phase.phase.schedule for phase in trained_phases}),
        "unfreezes": unfreezes,
        "head_loss_ratio": head_loss_ratio if softens_head else 0.0,
        "interpolates": plan.checkpoint == "between" and unfreezes and plan.weight_interpolation < 1,
        "keeps_best": bool(trained_phases) and plan.checkpoint == "best",
        "patience": plan.patience if trained_phases else None,
    }


def image_variables(model: Classifier, images: LabelledImages | None) -> dict[str, Any]:
    """The template's variables that depend on the images: where they lie, and which of them are held out.

    Args:
        model: a model with a record.
        images: the images that it was trained on, or None if they are not known.

    Raises:
        InputError: if the images have other classes than the model.
    """
    variables: dict[str, Any] = {
        "classes": list(model.classes),
        "held_out": None,  # names, or None: the script draws them
        "labels_by_name": None,  # where folders do not give the labels
        "class_of_folder": None,  # where folders have other names than their classes
        "has_non_ascii_names": not all(map(str.isascii, (*model.classes, *(images.names if images else ())))),
        "has_16_bit_colors": images is None or any(map(has_16_bit_colors, images.paths)),
        "image_suffixes": list(SCRIPT_IMAGE_SUFFIXES),
    }
    if images is None:
        return variables
    images = images.aligned_to(model.classes, model.multi_label)
    plan: Plan = model.record.plan
    _, validation = model.seen.split(images, plan.validation_fraction, plan.seed)
    depth = _class_folder_depth(images)
    if depth is None:
        labels = [list(some) for some in images.label_sets] if model.multi_label else images.labels
        return variables | {
            "labels_by_name": dict(zip(images.names, labels, strict=True)),
            "held_out": set(validation.names),
        }
    class_of_folder = {
        name.split("/")[depth]: images.classes[label]
        for name, (label,) in zip(images.names, images.label_sets, strict=True)
    }
    is_renamed = any(folder != name for folder, name in class_of_folder.items())
    return variables | {
        "held_out": {"/".join(name.split("/")[depth:]) for name in validation.names},
        "class_of_folder": class_of_folder if is_renamed else None,
    }


def _effective_plan(record: Record) -> Plan:
    """The plan, or the part of it that leads to the checkpoint that was kept instead of the plan's."""
    plan = record.plan
    if record.checkpoint == "reference":
        return replace(plan, phases=(replace(plan.phases[0], learning_stages=0),), checkpoint="last")
    if record.checkpoint == "frozen":
        num_frozen = next((i for i, phase in enumerate(plan.phases) if phase.learning_stages != 0), len(plan.phases))
        return replace(plan, phases=plan.phases[:num_frozen] or plan.phases, checkpoint="last")
    return plan


def _iter_script_phases(plan: Plan, network: ScriptNetwork) -> Iterator[ScriptPhase]:
    has_features = is_unfrozen = False
    for number, phase in enumerate(plan.phases, 1):
        trainable = network.trainable_expressions(phase)
        yield ScriptPhase(
            number,
            phase,
            phase.batch_size or plan.batch_size,
            trainable,
            network.trainable_stage_names(phase) if trainable else [],
            computes_features=not trainable and not has_features,
            is_first_unfreeze=bool(trainable) and not is_unfrozen,
        )
        has_features, is_unfrozen = not trainable, is_unfrozen or bool(trainable)


def _class_folder_depth(images: LabelledImages) -> int | None:
    """The number of folders above those that are the classes; None where folders do not give the labels."""
    # Without the images that were removed or could not be read, the folders hold more than the data set.
    unread = any(Path(name).suffix.lower() in SCRIPT_IMAGE_SUFFIXES for name, _ in images.report.skipped)
    if images.multi_label or any(images.held_out) or unread or len(images) != images.report.num_read:
        return None
    paths = [name.split("/") for name in images.names]
    for depth in range(min(map(len, paths)) - 1):
        if len({tuple(path[:depth]) for path in paths}) > 1:
            return None
        folder_labels = {(path[depth], label) for path, label in zip(paths, images.labels, strict=True)}
        if len(folder_labels) == len(dict(folder_labels)):
            return depth
    return None
