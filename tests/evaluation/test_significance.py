"""Whether unfreezing was worth it is judged by answers that did not choose, and said in words that anyone can use."""

import math

import pytest
import torch

from headswap.evaluation.significance import (
    SIGNIFICANCE_LEVEL,
    PredictionHistory,
    UnfreezingComparison,
    compare_unfreezing,
    mcnemar_p_value,
)


def history(*networks):
    """Of networks told by their marks: "10" names the first image rightly and the second wrongly."""
    told = PredictionHistory()
    for marks in networks:
        right = torch.tensor([mark == "1" for mark in marks])
        told.add(right, 1 - right.float())
    return told


def verdict(better, worse, of=100, both=40):
    """One network against another, on images in groups of their own."""
    neither = of - both - better - worse
    frozen = "1" * both + "0" * better + "1" * worse + "0" * neither
    unfrozen = "1" * both + "1" * better + "0" * worse + "0" * neither
    return compare_unfreezing(history(frozen), history(unfrozen), range(of), 12.4)


# The counts and the test


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (1, 1, 1.0),  # both tails hold the middle: more than one, cut to one
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (8, 1, 2 * (1 + 9) / 512),
        (9, 2, 2 * (1 + 11 + 55) / 2048),
        (2, 9, 2 * (1 + 11 + 55) / 2048),
        (10, 10, 1.0),
    ],
)
def test_the_test_is_mcnemars_exact_one(better, worse, p):
    assert mcnemar_p_value(better, worse) == pytest.approx(min(1.0, p))


def test_mcnemars_test_is_the_sum_of_binomial_coefficients():
    for better, worse in [(a, b) for a in range(0, 40, 3) for b in range(0, 40, 3)] + [(300, 250), (1000, 1100)]:
        n = better + worse
        exact = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2**n)
        assert mcnemar_p_value(better, worse) == pytest.approx(exact, rel=0, abs=1e-12)


def test_many_changed_answers_are_no_trouble():
    assert mcnemar_p_value(1000, 1000) == 1.0
    assert 0 < mcnemar_p_value(1100, 900) < 1e-4


def test_answers_are_compared_image_by_image():
    told = compare_unfreezing(history("110010"), history("101011"), range(6), 3.0)
    assert (told.total, told.frozen, told.unfrozen, told.better, told.worse) == (6, 3, 4, 2, 1)
    assert told.p == mcnemar_p_value(2, 1) and told.seconds == 3.0


def test_the_same_seed_gives_the_same_verdict():
    frozen, unfrozen = "1100" * 10, "0110" * 10
    assert compare_unfreezing(history(frozen), history(unfrozen), range(40), 1) == compare_unfreezing(
        history(frozen), history(unfrozen), range(40), 1
    )


# Choosing on one half, judging on the other


def test_each_half_is_judged_by_the_network_that_the_other_half_chose():
    half = torch.tensor([True, True, True, False, False, False])
    told = history("111000", "000111")  # each is best where it was lucky, and that is where it is not asked
    assert told.cross_fit(half).tolist() == [False] * 6


def test_luck_that_chose_the_epoch_does_not_count():
    """Forty epochs of coins: the best names far more than half rightly, and is worth no more than any other."""
    chance = torch.Generator().manual_seed(0)
    told, epochs = PredictionHistory(), [torch.rand(200, generator=chance) < 0.5 for _ in range(40)]
    for right in epochs:
        told.add(right, torch.zeros(200))
    best = max(int(right.sum()) for right in epochs)
    halves = [torch.rand(200, generator=chance) < 0.5 for _ in range(20)]
    honest = sum(int(told.cross_fit(half).sum()) for half in halves) / len(halves)
    assert best >= 115 and honest < 106


def test_of_epochs_with_as_much_right_the_one_with_the_lowest_loss_is_chosen():
    told = PredictionHistory()
    told.add(torch.tensor([True, False, False, True]), torch.tensor([0.1, 0.9, 0.9, 0.1]))
    told.add(torch.tensor([False, True, True, False]), torch.tensor([0.8, 0.1, 0.1, 0.8]))
    assert told.cross_fit(torch.tensor([True, True, False, False])).tolist() == [False, True, True, False]


def test_where_nothing_is_chosen_the_last_network_is_judged():
    told = history("1111", "0011")
    told.discard_all_but_last()
    assert told.cross_fit(torch.tensor([True, False, True, False])).tolist() == [False, False, True, True]


def test_an_epoch_that_everyone_would_choose_is_judged_on_all_images():
    told = compare_unfreezing(history("0" * 20, "1" * 10 + "0" * 10), history("1" * 20, "0" * 20), range(20), 1)
    assert told.unfrozen == 20


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole(seed):
    """A group that is right in one epoch alone chooses it, and so would flatter itself were it torn apart."""
    groups = [number // 5 for number in range(40)]
    epochs = ["".join("1" if number // 5 == group else "0" for number in range(40)) for group in range(8)]
    told = compare_unfreezing(history("0" * 40), history(*epochs), groups, 1, seed)
    assert told.unfrozen == 0


def test_images_without_groups_would_flatter_here():
    """That the claim above can fail."""
    epochs = ["".join("1" if number // 5 == group else "0" for number in range(40)) for group in range(8)]
    told = [compare_unfreezing(history("0" * 40), history(*epochs), range(40), 1, seed).unfrozen for seed in range(5)]
    assert sum(told) > 0


@pytest.mark.parametrize("count", [2, 3, 9, 10])
def test_both_halves_choose(count):
    """Were one of them empty, it would choose the first epoch whatever that is."""
    told = compare_unfreezing(history("0" * count), history("0" * count, "1" * count), range(count), 1)
    assert told.unfrozen == count


# The interval


def test_the_interval_holds_the_difference():
    for better, worse in ((0, 0), (9, 1), (1, 9), (12, 12), (30, 0)):
        low, high = verdict(better, worse).interval
        assert low <= (better - worse) / 100 <= high
        assert (low == high) == (better + worse == 0)


def test_more_images_make_it_narrower():
    widths = [high - low for low, high in (verdict(3 * n, n, 20 * n, 8 * n).interval for n in (1, 4, 16))]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == pytest.approx(4 * widths[2], rel=0.25)


def test_the_interval_is_as_wide_as_the_paired_differences_say():
    low, high = verdict(30, 10).interval
    deviation = (0.4 - 0.2**2) ** 0.5 / 10
    assert low == pytest.approx(0.2 - 1.96 * deviation, abs=0.02)
    assert high == pytest.approx(0.2 + 1.96 * deviation, abs=0.02)


# The sentence


def test_nothing_changed():
    assert verdict(0, 0).sentence == (
        "On 100 validation images unfreezing changed nothing for the better or the worse. It cost 12 s."
    )


def test_chance_says_so_in_the_singular():
    assert verdict(1, 0, 60).sentence == (
        "On 60 validation images unfreezing changed 1 answer for the better and 0 for the worse: that is chance. "
        "It cost 12 s."
    )


def test_chance_says_so_in_the_plural():
    assert "changed 3 answers for the better and 1 for the worse: that is chance. It cost" in verdict(3, 1).sentence


def test_a_gain_says_how_large_it_may_be():
    told = verdict(15, 2)
    low, high = (round(100 * end) for end in told.interval)
    assert told.p < SIGNIFICANCE_LEVEL and 0 < low < 13 < high
    assert told.sentence == (
        "On 100 validation images unfreezing changed 15 answers for the better and 2 for the worse: that is more than "
        f"chance, {low} to {high} points of accuracy. It cost 12 s."
    )


def test_a_loss_says_that_it_is_one():
    told = verdict(2, 15)
    low, high = (round(-100 * end) for end in reversed(told.interval))
    assert 0 < low < 13 < high
    assert f"that is more than chance, and a loss, {low} to {high} points of accuracy. " in told.sentence


def test_it_never_costs_nothing():
    assert UnfreezingComparison(10, 5, 5, 0, 0, 1.0, (0.0, 0.0), 0.01).sentence.endswith("It cost 1 s.")
