"""The figures agree with their definitions, worked out by hand."""

import math

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
