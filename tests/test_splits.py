"""A draw keeps groups whole and gives each side some of every label."""

from collections import Counter

from headswap.splits import draw

ALONE = [[i] for i in range(40)]


def test_each_label_is_drawn_in_its_share():
    shown = [(i % 4,) for i in range(40)]
    drawn, torn = draw(shown, ALONE, 0.2, seed=0)
    assert torn is None
    assert Counter(shown[i] for i in drawn) == {(label,): 2 for label in range(4)}


def test_several_labels_and_none_are_drawn_in_proportion():
    shown = [(0, 1), (1,), (), (0,)] * 10
    drawn, torn = draw(shown, ALONE, 0.2, seed=0)
    assert torn is None
    taken = Counter(label for i in drawn for label in shown[i])
    assert all(2 <= taken[label] <= 4 for label in (0, 1))
    assert sum(not shown[i] for i in drawn) == 2


def test_groups_with_many_labels_stay_whole():
    shown = [(0, 1), (1,), (), (0,)] * 10
    groups = [[i, i + 1] for i in range(0, 40, 2)]
    drawn, _ = draw(shown, groups, 0.25, seed=1)
    assert drawn and all(len(drawn.intersection(group)) in (0, 2) for group in groups)


def test_a_label_that_one_side_must_lack_is_named():
    shown = [(0,), (0,), (1,), (1,)]
    assert draw(shown, [[0, 1], [2], [3]], 0.5, seed=0)[1] == 0


def test_a_seed_gives_its_draw_again_and_another_gives_another():
    shown = [(i % 2,) for i in range(40)]
    assert draw(shown, ALONE, 0.2, seed=3) == draw(shown, ALONE, 0.2, seed=3)
    assert draw(shown, ALONE, 0.2, seed=3) != draw(shown, ALONE, 0.2, seed=4)
