"""A model is judged by its answers alone, and for answers that are known the figures are those worked out by hand."""

import math

import pytest
import torch
from drawings import copied, draw_folder, load_shapes, moved, small_model

import headswap
from headswap import InputError, LabelledImages, Phase, Plan
from headswap.evaluation.evaluate import Mistake
from headswap.evaluation.metrics import wilson_interval

BRIEF = Plan((Phase(3, 0, 1e-2),), views=1)

# What is answered to four bars, two boxes and one picture of dots: one of the bars and one of the boxes wrongly.
UNEVEN = (0, 1, 2, 3, 4, 5, 8)
ANSWERS = [
    [0.90, 0.05, 0.05],
    [0.80, 0.15, 0.05],
    [0.30, 0.60, 0.10],
    [0.70, 0.20, 0.10],
    [0.40, 0.50, 0.10],
    [0.75, 0.17, 0.08],
    [0.10, 0.30, 0.60],
]

# And to five pictures that are odd, odd and round, neither, round, odd.
LABELS = "file,labels\nbars/0.png,odd\nbars/1.png,odd;round\nbars/2.png,\nbars/3.png,round\nbars/4.png,odd\n"
THRESHOLDS = [0.3, 0.6]
SEVERAL = [[0.4, 0.2], [0.7, 0.5], [0.8, 0.7], [0.1, 0.95], [0.6, 0.1]]


class Ready(torch.nn.Module):
    """A head that has its logits ready, a row for each image in turn, whatever it is shown."""

    def __init__(self, rows):
        super().__init__()
        self.rows = iter(rows)

    def forward(self, features):
        return torch.stack([next(self.rows) for _ in features])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=4)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    folder = draw_folder(tmp_path_factory.mktemp("tagged"), each=5, names=("bars",))
    (folder / "labels.csv").write_text(LABELS)
    loaded = headswap.load_images(folder)
    return loaded.subset(sorted(range(len(loaded)), key=loaded.names.__getitem__))  # as the table has them


def judged(images, answers):
    """What is found of a model that gives these probabilities."""
    model = small_model(images.classes)
    model.head = Ready(torch.tensor(answers).log())
    return headswap.evaluate(model, images)


def judged_by_label(images, answers):
    model = small_model(images.classes, multi_label=True)
    model.thresholds.copy_(torch.tensor(THRESHOLDS))
    model.head = Ready(torch.tensor(answers).logit())
    return headswap.evaluate(model, images)


def figures(found):
    return [(c.name, c.precision, c.recall, c.f1, c.support) for c in found.per_class]


# One class an image


def test_the_share_that_is_right_stands_beside_its_interval_and_the_share_of_the_largest_class(images):
    found = judged(images.subset(UNEVEN), ANSWERS)
    assert (found.correct, found.total, found.accuracy) == (5, 7, 5 / 7)
    assert found.interval == wilson_interval(5, 7)
    assert found.always_largest == 4 / 7


def test_a_row_of_the_confusion_matrix_is_a_true_class_and_a_column_an_answer(images):
    answers = [*ANSWERS[:6], [0.7, 0.2, 0.1]]  # the dots are taken for bars, and no bars for dots
    found = judged(images.subset(UNEVEN), answers)
    assert found.confusion.dtype == torch.int64
    assert found.confusion.tolist() == [[3, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_each_class_is_judged_against_all_others(images):
    answers = [*ANSWERS[:6], [0.7, 0.2, 0.1]]
    bars, boxes, dots = figures(judged(images.subset(UNEVEN), answers))
    assert bars == ("bars", pytest.approx(3 / 5), pytest.approx(3 / 4), pytest.approx(2 / 3), 4)
    assert boxes == ("boxes", 0.5, 0.5, 0.5, 2)
    assert dots == ("dots", 0, 0, 0, 1)


def test_average_precision_ranks_the_images_by_the_probability_of_the_class(images):
    found = judged(images.subset(UNEVEN), ANSWERS)
    # Bars are found at ranks 1, 2, 4 and 6, boxes at 2 and 5, dots at 1.
    areas = [(1 + 1 + 3 / 4 + 4 / 6) / 4, (1 / 2 + 2 / 5) / 2, 1]
    assert [c.average_precision for c in found.per_class] == pytest.approx(areas)
    assert found.mean_average_precision == pytest.approx(sum(areas) / 3)


def test_the_most_confident_wrong_answer_comes_first(images):
    chosen = images.subset(UNEVEN)
    first, second = judged(chosen, ANSWERS).mistakes
    assert first == Mistake(5, chosen.names[5], "boxes", "bars", pytest.approx(0.75))
    assert second == Mistake(2, chosen.names[2], "bars", "boxes", pytest.approx(0.6))


def test_the_answers_are_kept_and_can_be_written_to(images):
    found = judged(images.subset(UNEVEN), ANSWERS)
    assert found.probabilities.tolist() == [pytest.approx(row) for row in ANSWERS]
    assert "probabilities" not in repr(found)
    found.probabilities[0] = 0


def test_a_class_that_no_image_shows_has_no_area_and_does_not_count_in_the_mean(images):
    found = judged(images.subset([0, 1, 4]), [[0.9, 0.05, 0.05], [0.2, 0.1, 0.7], [0.1, 0.8, 0.1]])
    assert figures(found)[2] == ("dots", 0, 0, 0, 0)
    assert math.isnan(found.per_class[2].average_precision)
    assert found.mean_average_precision == pytest.approx(1)
    assert found.confusion.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_where_all_is_right_there_is_no_mistake(images):
    found = judged(images.subset([0, 8]), [[0.9, 0.05, 0.05], [0.1, 0.1, 0.8]])
    assert found.mistakes == () and found.accuracy == 1 and found.interval[1] == 1


# Several labels an image


def test_labels_are_called_above_the_models_own_thresholds(tagged):
    found = judged_by_label(tagged, SEVERAL)
    assert found.multi_label and (found.correct, found.total) == (3, 5)
    assert found.confusion.tolist() == [[[1, 1], [0, 3]], [[2, 1], [1, 1]]]
    odd, round_ = figures(found)
    assert odd == ("odd", pytest.approx(3 / 4), 1, pytest.approx(6 / 7), 3)
    assert round_ == ("round", 0.5, 0.5, 0.5, 2)


def test_the_mean_average_precision_is_that_of_the_labels(tagged):
    found = judged_by_label(tagged, SEVERAL)
    areas = [(1 / 2 + 2 / 3 + 3 / 4) / 3, (1 + 2 / 3) / 2]
    assert [c.average_precision for c in found.per_class] == pytest.approx(areas)
    assert found.mean_average_precision == pytest.approx(sum(areas) / 2)


def test_of_an_image_the_label_is_told_that_was_called_or_missed_most_confidently(tagged):
    first, second = judged_by_label(tagged, SEVERAL).mistakes
    assert first == Mistake(2, tagged.names[2], None, "odd", pytest.approx(0.8))
    assert second == Mistake(1, tagged.names[1], "round", None, pytest.approx(0.5))


def test_a_label_that_is_missed_is_as_sure_as_it_was_thought_absent(tagged):
    [mistake] = judged_by_label(tagged.subset([1]), [[0.29, 0.04]]).mistakes  # of both, round was thought less of
    assert mistake == Mistake(0, tagged.names[1], "round", None, pytest.approx(0.96))


def test_always_answering_means_the_set_of_labels_that_is_most_frequent(tagged):
    neither = tagged.subset([0, 2, 1, 2, 2])
    assert judged_by_label(neither, SEVERAL).always_largest == 3 / 5


def test_images_of_which_none_carries_a_label_have_no_mean_average_precision(tagged):
    found = judged_by_label(tagged.subset([2]), [[0.1, 0.1]])
    assert math.isnan(found.mean_average_precision) and found.correct == 1


def test_a_model_of_many_labels_is_judged_by_images_with_one(images):
    model = small_model(images.classes, multi_label=True)
    model.head = Ready(torch.tensor([[2.0, -1.0, -1.0], [1.0, 1.0, -1.0]]))
    found = headswap.evaluate(model, images.subset([0, 4]))
    assert found.correct == 1 and found.confusion.shape == (3, 2, 2)


# The model and the images


def test_what_a_training_kept_is_found_again(images):
    model = small_model(images.classes)
    kept = headswap.fit(model, images, BRIEF)
    found = headswap.evaluate(model, images.split(BRIEF.validation_fraction, BRIEF.seed)[1])
    assert (found.correct, found.total, found.interval) == (kept.correct, kept.total, kept.interval)


def test_the_figures_of_labels_that_a_training_kept_are_found_again(images):
    model = small_model(images.classes, multi_label=True)
    kept = headswap.fit(model, images, BRIEF)
    found = headswap.evaluate(model, images.split(BRIEF.validation_fraction, BRIEF.seed)[1])
    assert found.mean_average_precision == pytest.approx(kept.score)
    assert [c.f1 for c in found.per_class] == pytest.approx([label.f1 for label in kept.labels])


def test_the_model_stays_as_it_is(images):
    model = small_model(images.classes).unfreeze(2).train()
    before, modes = copied(model), [m.training for m in model.modules()]
    first, second = (headswap.evaluate(model, images) for _ in range(2))
    assert moved(before, model) == set() and modes == [m.training for m in model.modules()]
    assert torch.equal(first.probabilities, second.probabilities)


def test_an_image_is_read_as_the_model_wants_it_when_its_turn_comes(images, monkeypatch):
    model, told, read = small_model(images.classes), [], LabelledImages.pixels
    monkeypatch.setattr(LabelledImages, "pixels", lambda self, *asked: told.append(asked) or read(self, *asked))
    model.head.register_forward_hook(lambda *_: told.append("answered"))
    monkeypatch.setattr("headswap.networks.prediction.PREDICT_BATCH_SIZE", 2)
    headswap.evaluate(model, images.subset([0, 4, 8]))
    wanted = (model.preprocess.resize, model.preprocess.interpolation)
    assert told == [(0, *wanted), (1, *wanted), "answered", (2, *wanted), "answered"]


def refusal(act, *arguments):
    with pytest.raises(InputError) as caught:
        act(*arguments)
    return str(caught.value)


def test_other_classes_than_the_models_are_refused_as_a_training_refuses_them(images):
    other = small_model(("bars", "boxes", "rings"))
    told = refusal(headswap.evaluate, other, images)
    assert "The images show bars, boxes, dots, but the model's classes are bars, boxes, rings." in told
    assert told == refusal(headswap.train, other, images, BRIEF)


def test_the_order_of_the_classes_is_the_models(images):
    model = small_model(images.classes)
    turned = headswap.adapt(model, images.classes[::-1])
    for new, old in zip(turned.head.parameters(), model.head.parameters(), strict=True):
        new.data = old.data.flip(0)
    mine, theirs = (headswap.evaluate(judged, images) for judged in (model, turned))
    assert theirs.correct == mine.correct
    assert torch.equal(theirs.confusion, mine.confusion.flip(0, 1))


def test_a_few_of_the_models_classes_are_enough_to_judge_it_but_not_to_teach_it(images):
    model = small_model((*images.classes, "rings"))
    judged = headswap.evaluate(model, images)
    assert judged.total == len(images) and judged.per_class[-1].support == 0
    assert "No image shows 'rings', which the model would forget." in refusal(headswap.train, model, images, BRIEF)


def test_images_with_several_labels_want_a_model_that_knows_it(tagged):
    model = small_model(tagged.classes)
    told = refusal(headswap.evaluate, model, tagged)
    assert "multi_label=True" in told and told == refusal(headswap.train, model, tagged, BRIEF)


def test_no_images_judge_nothing(images):
    assert "no images" in refusal(headswap.evaluate, small_model(images.classes), images.subset([]))


# What is printed


def test_printed_it_is_a_sentence_and_a_table(images):
    assert str(judged(images.subset(UNEVEN), ANSWERS)).splitlines() == [
        "5 of 7 right, 71 % (36 % to 92 %); always answering the largest class would get 57 %.",
        "",
        "class  precision  recall    F1  support",
        "bars        0.75    0.75  0.75        4",
        "boxes       0.50    0.50  0.50        2",
        "dots        1.00    1.00  1.00        1",
    ]


def test_printed_with_several_labels_it_tells_their_average_precision(tagged):
    assert str(judged_by_label(tagged.subset([0, 2, 4]), [SEVERAL[i] for i in (0, 2, 4)])).splitlines() == [
        "2 of 3 right, 67 % (21 % to 94 %); always answering the most frequent labels would get 67 %. "
        "The mean average precision is 0.58.",
        "",
        "class  precision  recall    F1  support  average precision",
        "odd         0.67    1.00  0.80        2               0.58",
        "round          –       –     –        0                  –",
    ]
