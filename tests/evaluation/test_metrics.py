"""The figures agree with their definitions, worked out by hand."""

import math
from statistics import NormalDist

import pytest
import torch

from headswap.evaluation import metrics

LOGITS = torch.tensor([[2.0, -1.0], [1.0, 3.0], [-1.0, -2.0], [-2.0, 1.0]])
MARKS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


def test_one_label_an_image_is_judged_by_accuracy():
    targets = torch.tensor([0, 0, 0, 1])
    assert metrics.count_correct(LOGITS, targets) == 3
    assert metrics.score(LOGITS, targets) == 0.75


def test_an_image_with_several_labels_is_right_only_with_all_of_them():
    assert metrics.count_correct(LOGITS, MARKS) == 2


def test_average_precision_is_the_area_below_the_curve():
    # Label 0 ranks the images 0, 1, 2, 3 and is carried by 0 and 2: precision 1 and 2/3 where they are found.
    assert metrics.average_precisions(LOGITS, MARKS).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert metrics.score(LOGITS, MARKS) == pytest.approx((5 / 6 + 1) / 2)


def test_a_label_that_nothing_carries_has_no_figure_and_does_not_count():
    marks = MARKS.clone()
    marks[:, 1] = 0
    precisions = metrics.average_precisions(LOGITS, marks)
    assert precisions[1].isnan() and metrics.score(LOGITS, marks) == pytest.approx(5 / 6)
    thresholds, f1 = metrics.best_thresholds(LOGITS, marks)
    assert thresholds[1] == 0.5 and f1[1].isnan()


def test_the_threshold_gives_the_best_f1_and_sits_between_two_answers():
    thresholds, f1 = metrics.best_thresholds(LOGITS, MARKS)
    # Calling the three likeliest: both that carry label 0 among three, so 2 * 2 / (3 + 2).
    assert f1.tolist() == pytest.approx([0.8, 1.0])
    answers = LOGITS.sigmoid()
    assert answers[3, 0] < thresholds[0] < answers[2, 0]
    assert answers[0, 1] < thresholds[1] < answers[3, 1]
    assert ((answers > thresholds)[:, 1] == MARKS[:, 1].bool()).all()


def test_the_losses_are_torchs_own():
    targets = torch.tensor([0, 1, 0, 1])
    assert metrics.classification_loss(LOGITS, targets, 0.1) == torch.nn.CrossEntropyLoss(label_smoothing=0.1)(
        LOGITS, targets
    )
    assert metrics.classification_loss(LOGITS, MARKS) == torch.nn.BCEWithLogitsLoss()(LOGITS, MARKS)


@pytest.mark.parametrize(("right", "of", "low", "high"), [(57, 60, 0.8630, 0.9829), (0, 10, 0.0, 0.2775)])
def test_wilsons_interval_is_the_published_one(right, of, low, high):
    assert metrics.wilson_interval(right, of) == pytest.approx((low, high), abs=1e-4)
    assert not any(map(math.isnan, metrics.wilson_interval(of, of)))


@pytest.mark.parametrize("total", [1, 2, 7, 60, 1000, 100_000])
def test_wilsons_interval_is_the_formula(total):
    z = NormalDist().inv_cdf(0.975)
    for correct in {0, 1, total // 3, total // 2, total - 1, total}:
        share, spread = correct / total, z * z / total
        middle = (share + spread / 2) / (1 + spread)
        half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
        wanted = max(0.0, middle - half), min(1.0, middle + half)
        assert metrics.wilson_interval(correct, total) == pytest.approx(wanted, rel=0, abs=1e-12)


def random_labels(trial):
    """Logits, many of them equal, and targets of 1 to 6 labels, some of which no image carries or all do."""
    generator = torch.Generator().manual_seed(trial)
    images, labels = (int(torch.randint(1, most, (1,), generator=generator)) for most in (30, 7))
    logits = torch.randn(images, labels, generator=generator).mul(3).round(decimals=trial % 2)
    targets = (torch.rand(images, labels, generator=generator) < torch.rand(labels, generator=generator)).float()
    targets[:, 0] = (trial % 3 == 0) if trial % 3 < 2 else targets[:, 0]
    return logits, targets


@pytest.mark.parametrize("trial", range(24))
def test_figures_of_several_labels_are_their_definitions(trial):
    logits, targets = random_labels(trial)
    called, truth = logits > 0, targets > 0
    tp, fp, fn = (called & truth).sum(0), (called & ~truth).sum(0), (~called & truth).sum(0)
    wanted = [
        [top / bottom if bottom else 0.0 for top, bottom in zip(tops.tolist(), bottoms.tolist(), strict=True)]
        for tops, bottoms in ((tp, tp + fp), (tp, tp + fn), (2 * tp, 2 * tp + fp + fn))
    ]
    for figures, exact in zip(metrics.precision_recall_f1(called, truth), wanted, strict=True):
        assert figures == pytest.approx(exact, abs=1e-6)
    confusion = metrics.predict_from_logits(logits, targets).confusion_matrix()
    assert confusion.dtype == torch.int64
    assert confusion.tolist() == [
        [[len(logits) - p - m - n, p], [m, n]] for n, p, m in zip(tp.tolist(), fp.tolist(), fn.tolist(), strict=True)
    ]


@pytest.mark.parametrize("trial", range(24))
def test_average_precision_is_the_mean_precision_where_a_carrier_is_found(trial):
    logits, targets = random_labels(trial)
    for scores, marks, found in zip(logits.T, targets.T, metrics.average_precisions(logits, targets), strict=True):
        # Of images with equal scores none is found before the others.
        precisions = [marks[scores >= scores[i]].mean().item() for i in marks.nonzero().flatten()]
        if precisions:
            assert found.item() == pytest.approx(sum(precisions) / len(precisions), abs=1e-6)
        else:
            assert found.isnan()


def test_answers_that_are_no_numbers_have_no_average_precision():
    logits = LOGITS.clone()
    logits[0, 0] = math.nan
    assert metrics.average_precisions(logits, MARKS).isnan().tolist() == [True, False]
    assert metrics.score(torch.full_like(LOGITS, math.nan), MARKS) == 0.0


def test_a_confusion_matrix_has_a_row_for_each_true_class_even_where_no_image_shows_it():
    predictions = metrics.Predictions(torch.tensor([0, 2, 2, 0]), torch.tensor([0, 0, 2, 2]), 4)
    assert predictions.confusion_matrix().tolist() == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]
