"""A draw keeps groups whole and gives each side some of every label."""

from collections import Counter

import pytest

from headswap.data.splits import stratified_group_folds, stratified_group_split

ALONE = [[i] for i in range(40)]


def test_each_label_is_drawn_in_its_share():
    shown = [(i % 4,) for i in range(40)]
    drawn, torn = stratified_group_split(shown, ALONE, 0.2, seed=0)
    assert torn is None
    assert Counter(shown[i] for i in drawn) == {(label,): 2 for label in range(4)}


def test_several_labels_and_none_are_drawn_in_proportion():
    shown = [(0, 1), (1,), (), (0,)] * 10
    drawn, torn = stratified_group_split(shown, ALONE, 0.2, seed=0)
    assert torn is None
    taken = Counter(label for i in drawn for label in shown[i])
    assert all(2 <= taken[label] <= 4 for label in (0, 1))
    assert sum(not shown[i] for i in drawn) == 2


def test_groups_with_many_labels_stay_whole():
    shown = [(0, 1), (1,), (), (0,)] * 10
    groups = [[i, i + 1] for i in range(0, 40, 2)]
    drawn, _ = stratified_group_split(shown, groups, 0.25, seed=1)
    assert drawn and all(len(drawn.intersection(group)) in (0, 2) for group in groups)


def test_a_label_that_one_side_must_lack_is_named():
    shown = [(0,), (0,), (1,), (1,)]
    assert stratified_group_split(shown, [[0, 1], [2], [3]], 0.5, seed=0)[1] == 0


def test_a_seed_gives_its_draw_again_and_another_gives_another():
    shown = [(i % 2,) for i in range(40)]
    assert stratified_group_split(shown, ALONE, 0.2, seed=3) == stratified_group_split(shown, ALONE, 0.2, seed=3)
    assert stratified_group_split(shown, ALONE, 0.2, seed=3) != stratified_group_split(shown, ALONE, 0.2, seed=4)


# Folds


def test_every_place_is_in_one_fold():
    shown = [(i % 4,) for i in range(40)]
    parts = stratified_group_folds(shown, ALONE, 3, seed=0)
    assert sorted(i for part in parts for i in part) == list(range(40))
    assert all(part == sorted(part) for part in parts)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_each_label_is_spread_over_the_folds_and_so_are_the_places(count):
    shown = [(0,)] * 23 + [(1,)] * 11 + [(2,)] * 6
    parts = stratified_group_folds(shown, ALONE, count, seed=1)
    for label in range(3):
        carried = [sum(shown[i] == (label,) for i in part) for part in parts]
        assert max(carried) - min(carried) <= 1
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_group_is_in_one_fold_as_a_whole():
    shown = [(i % 2,) for i in range(40)]
    groups = [list(range(i, i + size)) for i, size in ((0, 7), (7, 1), (8, 12), (20, 4), (24, 4), (28, 12))]
    parts = stratified_group_folds(shown, groups, 3, seed=0)
    assert all(sum(not set(group).isdisjoint(part) for part in parts) == 1 for group in groups)
    assert min(map(len, parts)) >= 12  # a third of 40 would be 13


def test_several_labels_and_none_are_spread():
    shown = [(0, 1), (1,), (), (0,)] * 10
    for part in stratified_group_folds(shown, ALONE, 5, seed=0):
        assert all(3 <= sum(label in shown[i] for i in part) <= 5 for label in (0, 1))
        assert 1 <= sum(not shown[i] for i in part) <= 3


def test_a_seed_gives_its_folds_again_and_another_gives_others():
    shown = [(i % 2,) for i in range(40)]
    assert stratified_group_folds(shown, ALONE, 4, seed=3) == stratified_group_folds(shown, ALONE, 4, seed=3)
    assert stratified_group_folds(shown, ALONE, 4, seed=3) != stratified_group_folds(shown, ALONE, 4, seed=4)
