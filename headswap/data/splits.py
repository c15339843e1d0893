"""A stratified draw of whole groups. Knows nothing of images: only what each thing shows and what belongs together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

_MAX_ATTEMPTS = 20
NO_LABEL = -1  # in place of a label, for what shows none: those are drawn in proportion as well


def stratified_group_split(
    label_sets: Sequence[Sequence[int]],
    group_indices: Sequence[Sequence[int]],
    fraction: float,
    seed: int,
    validation_indices: Collection[int] = (),
    training_indices: Collection[int] = (),
) -> tuple[set[int], int | None]:
    """Places of about ``share`` of what shows each label, groups whole, and a label that one side lacks, or None.

    Args:
        shown: for each thing the labels that it shows; one for a class, several or none for what has many labels.
        groups: places among the things that stay together.
        share: between 0 and 1.
        seed: the same gives the same draw.
        drawn: places that were drawn before, in whole groups: they stay so, and the share is of the others.
        kept: places that are never drawn, in whole groups. A label that is among these needs no other.

    Groups with several labels can make it unavoidable that a side lacks one; some draws are tried before that is said.
    """
    labels = [tuple(some) or (NO_LABEL,) for some in label_sets]
    before, never, chance = set(validation_indices), set(training_indices), random.Random(seed)
    order = [group for group in group_indices if before.isdisjoint(group) and never.isdisjoint(group)]
    for _ in range(_MAX_ATTEMPTS):
        chance.shuffle(order)
        taken, torn = _split_in_order(labels, order, fraction, before, never)
        if torn is None:
            break
    return before | taken, torn


def _split_in_order(
    labels: Sequence[Sequence[int]],
    group_indices: Sequence[Sequence[int]],
    fraction: float,
    validation_indices: set[int],
    training_indices: set[int],
) -> tuple[set[int], int | None]:
    total = Counter(label for group in group_indices for i in group for label in labels[i])
    judged, learned = ({label for i in side for label in labels[i]} for side in (validation_indices, training_indices))
    spare = {label: n - (label not in learned) for label, n in total.items()}
    wanted = {label: min(max(round(fraction * n), label not in judged), spare[label]) for label, n in total.items()}
    taken: Counter[int] = Counter()
    drawn: set[int] = set()

    def take(group: Sequence[int], most: Mapping[int, int]) -> None:
        inside = Counter(label for i in group for label in labels[i])
        if drawn.isdisjoint(group) and all(taken[label] + n <= most[label] for label, n in inside.items()):
            taken.update(inside)
            drawn.update(group)

    for group in group_indices:
        take(group, wanted)
    # Where all groups of a label exceed its share, the smallest that leaves something to learn from is taken.
    smallest_first = sorted(group_indices, key=len)
    for label in sorted(total.keys() - judged):
        for group in smallest_first:
            if not taken[label] and any(label in labels[i] for i in group):
                take(group, spare)
    lacking = total.keys() - judged - learned - {NO_LABEL}
    return drawn, next((label for label in sorted(lacking) if not taken[label]), None)


# Not scikit-learn's StratifiedGroupKFold: it takes one label each, so this would still be needed for several labels;
# in 300 random cases it spread classes and sizes over the folds exactly as well as this; and it would give other folds,
# so other figures, for the same seed.
def stratified_group_folds(
    label_sets: Sequence[Sequence[int]], group_indices: Sequence[Sequence[int]], num_folds: int, seed: int
) -> list[list[int]]:
    """``count`` disjoint lists of places, groups whole, each label spread over them as evenly as groups allow.

    Args:
        shown, groups: as for ``draw``.
        count: of the folds.
        seed: the same gives the same folds.
    """
    labels = [tuple(some) or (NO_LABEL,) for some in label_sets]
    order = list(group_indices)
    random.Random(seed).shuffle(order)
    carried = [Counter[int]() for _ in range(num_folds)]
    drawn: list[list[int]] = [[] for _ in range(num_folds)]
    for group in sorted(order, key=len, reverse=True):  # the large ones first, while there is a choice
        inside = Counter(label for i in group for label in labels[i])
        fold = min(
            range(num_folds), key=lambda k: (sum(n * carried[k][label] for label, n in inside.items()), len(drawn[k]))
        )
        carried[fold].update(inside)
        drawn[fold] += group
    return [sorted(fold) for fold in drawn]
