"""Stratified, group-aware train/validation splits and cross-validation folds for single- and multi-label data.

scikit-learn's ``StratifiedGroupKFold`` and ``GroupShuffleSplit`` do the same for single labels only. Knows nothing of
images: only of labels and groups of samples.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

_MAX_ATTEMPTS = 20
NO_LABEL = -1  # stands for the label of samples without any, so that they are stratified as well


def expand_sides_to_groups(
    group_indices: Iterable[Sequence[int]], training_indices: set[int], validation_indices: set[int]
) -> tuple[set[int], set[int]]:
    """Put samples that are on no side yet on the side of their group, on training if it has samples on both.

    Args:
        group_indices: for each group the indices of its samples.
        training_indices: samples on the training side; they stay there, even if on the other side as well.
        validation_indices: samples on the validation side.

    Returns:
        The indices on the training and on the validation side; both sets are new.
    """
    training, validation = set(training_indices), validation_indices - training_indices
    if training or validation:
        for group in group_indices:
            unassigned = set(group) - training_indices - validation_indices
            if not training_indices.isdisjoint(group):
                training |= unassigned
            elif not validation_indices.isdisjoint(group):
                validation |= unassigned
    return training, validation


def stratified_group_split(
    label_sets: Sequence[Sequence[int]],
    group_indices: Sequence[Sequence[int]],
    fraction: float,
    seed: int,
    validation_indices: Collection[int] = (),
    training_indices: Collection[int] = (),
) -> tuple[set[int], int | None]:
    """Draw about ``fraction`` of the samples of each label for validation, in whole groups.

    Groups with several labels can make it impossible that both sides have every label; that is reported after
    ``_MAX_ATTEMPTS`` random orders of the groups.

    Args:
        label_sets: for each sample its labels: one, or with multi-label data several or none.
        group_indices: for each group the indices of its samples.
        fraction: of the validation side, between 0 and 1.
        seed: of the random order; the same seed gives the same split.
        validation_indices: whole groups that are on the validation side already; ``fraction`` is of the others.
        training_indices: whole groups that stay on the training side. A label among them needs no other sample there.

    Returns:
        The indices on the validation side, and a label that one side lacks or None.
    """
    labels = [tuple(label_set) or (NO_LABEL,) for label_set in label_sets]
    validation, training, generator = set(validation_indices), set(training_indices), random.Random(seed)
    order = [group for group in group_indices if validation.isdisjoint(group) and training.isdisjoint(group)]
    for _ in range(_MAX_ATTEMPTS):
        generator.shuffle(order)
        drawn, missing_label = _split_in_order(labels, order, fraction, validation, training)
        if missing_label is None:
            break
    return validation | drawn, missing_label


def _split_in_order(
    labels: Sequence[Sequence[int]],
    group_indices: Sequence[Sequence[int]],
    fraction: float,
    validation_indices: set[int],
    training_indices: set[int],
) -> tuple[set[int], int | None]:
    """One attempt of ``stratified_group_split``: take groups in this order while each label's quota allows it."""
    total = Counter(label for group in group_indices for i in group for label in labels[i])
    has_validation, has_training = (
        {label for i in side for label in labels[i]} for side in (validation_indices, training_indices)
    )
    available = {label: n - (label not in has_training) for label, n in total.items()}  # one stays for training
    quota = {
        label: min(max(round(fraction * n), label not in has_validation), available[label])
        for label, n in total.items()
    }
    taken: Counter[int] = Counter()
    drawn: set[int] = set()

    def take_if_within(group: Sequence[int], max_counts: Mapping[int, int]) -> None:
        counts = Counter(label for i in group for label in labels[i])
        if drawn.isdisjoint(group) and all(taken[label] + n <= max_counts[label] for label, n in counts.items()):
            taken.update(counts)
            drawn.update(group)

    for group in group_indices:
        take_if_within(group, quota)
    # If every group of a label exceeds its quota, take the smallest one that leaves a sample for training.
    smallest_first = sorted(group_indices, key=len)
    for label in sorted(total.keys() - has_validation):
        for group in smallest_first:
            if not taken[label] and any(label in labels[i] for i in group):
                take_if_within(group, available)
    required = total.keys() - has_validation - has_training - {NO_LABEL}
    return drawn, next((label for label in sorted(required) if not taken[label]), None)


# Not scikit-learn's StratifiedGroupKFold: it takes one label each, so this would still be needed for several labels;
# in 300 random cases it spread classes and sizes over the folds exactly as well as this; and it would give other folds,
# so other figures, for the same seed.
def stratified_group_folds(
    label_sets: Sequence[Sequence[int]], group_indices: Sequence[Sequence[int]], num_folds: int, seed: int
) -> list[list[int]]:
    """Divide samples into folds for cross-validation, in whole groups, each label spread as evenly as groups allow.

    Args:
        label_sets: as for ``stratified_group_split``.
        group_indices: as for ``stratified_group_split``.
        num_folds: how many folds.
        seed: of the random order of groups of one size; the same seed gives the same folds.

    Returns:
        The sorted indices of each fold; every sample is in one of them.
    """
    labels = [tuple(label_set) or (NO_LABEL,) for label_set in label_sets]
    order = list(group_indices)
    random.Random(seed).shuffle(order)
    fold_counts = [Counter[int]() for _ in range(num_folds)]
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for group in sorted(order, key=len, reverse=True):  # large groups first, while all folds have room
        counts = Counter(label for i in group for label in labels[i])

        def load_of(k: int, counts: Counter[int] = counts) -> tuple[int, int]:
            return sum(n * fold_counts[k][label] for label, n in counts.items()), len(folds[k])

        fold = min(range(num_folds), key=load_of)
        fold_counts[fold].update(counts)
        folds[fold] += group
    return [sorted(fold) for fold in folds]
