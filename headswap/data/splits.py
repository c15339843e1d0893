"""A stratified draw of whole groups. Knows nothing of images: only what each thing shows and what belongs together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

_TRIES = 20
NOTHING = -1  # in place of a label, for what shows none: those are drawn in proportion as well


def draw(
    shown: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    share: float,
    seed: int,
    drawn: Collection[int] = (),
    kept: Collection[int] = (),
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
    labels = [tuple(some) or (NOTHING,) for some in shown]
    before, never, chance = set(drawn), set(kept), random.Random(seed)
    order = [group for group in groups if before.isdisjoint(group) and never.isdisjoint(group)]
    for _ in range(_TRIES):
        chance.shuffle(order)
        taken, torn = _draw_in_order(labels, order, share, before, never)
        if torn is None:
            break
    return before | taken, torn


def _draw_in_order(
    labels: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    share: float,
    before: set[int],
    never: set[int],
) -> tuple[set[int], int | None]:
    total = Counter(label for group in groups for i in group for label in labels[i])
    judged, learned = ({label for i in side for label in labels[i]} for side in (before, never))
    spare = {label: n - (label not in learned) for label, n in total.items()}
    wanted = {label: min(max(round(share * n), label not in judged), spare[label]) for label, n in total.items()}
    taken: Counter[int] = Counter()
    drawn: set[int] = set()

    def take(group: Sequence[int], most: Mapping[int, int]) -> None:
        inside = Counter(label for i in group for label in labels[i])
        if drawn.isdisjoint(group) and all(taken[label] + n <= most[label] for label, n in inside.items()):
            taken.update(inside)
            drawn.update(group)

    for group in groups:
        take(group, wanted)
    # Where all groups of a label exceed its share, the smallest that leaves something to learn from is taken.
    smallest_first = sorted(groups, key=len)
    for label in sorted(total.keys() - judged):
        for group in smallest_first:
            if not taken[label] and any(label in labels[i] for i in group):
                take(group, spare)
    lacking = total.keys() - judged - learned - {NOTHING}
    return drawn, next((label for label in sorted(lacking) if not taken[label]), None)


def folds(shown: Sequence[Sequence[int]], groups: Sequence[Sequence[int]], count: int, seed: int) -> list[list[int]]:
    """``count`` disjoint lists of places, groups whole, each label spread over them as evenly as groups allow.

    Args:
        shown, groups: as for ``draw``.
        count: of the folds.
        seed: the same gives the same folds.
    """
    labels = [tuple(some) or (NOTHING,) for some in shown]
    order = list(groups)
    random.Random(seed).shuffle(order)
    carried = [Counter[int]() for _ in range(count)]
    drawn: list[list[int]] = [[] for _ in range(count)]
    for group in sorted(order, key=len, reverse=True):  # the large ones first, while there is a choice
        inside = Counter(label for i in group for label in labels[i])
        fold = min(
            range(count), key=lambda k: (sum(n * carried[k][label] for label, n in inside.items()), len(drawn[k]))
        )
        carried[fold].update(inside)
        drawn[fold] += group
    return [sorted(fold) for fold in drawn]
