"""What the test step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import re
from types import SimpleNamespace

import pytest
from telling import FINISHED
from visiting import is_error, text_of

from headswap.ui import test_step, train_step, wording
from headswap.ui.jobs import Turns
from headswap.ui.visitors import Trained, Visitor


def test_the_test_step_reminds_of_what_was_trained(trained):
    drawing, words = test_step.prepare(trained.visitor)
    kept = trained.visitor.job.run.kept
    assert 'class="hs-strip"' in drawing
    assert "EfficientNet-Lite0" in text_of(words)
    assert f"{kept.right} of {kept.of} validation images" in text_of(words)
    assert "blue, green and red" in text_of(words)


def test_before_training_the_test_step_says_what_to_do(visitor, fruits):
    drawing, words = test_step.prepare(visitor)
    assert 'class="hs-strip"' in drawing
    assert "No model has learned anything yet" in text_of(words)
    answer = test_step.classify(visitor, [str(fruits / "red/1.png")])
    assert is_error(answer)
    assert "Press Train" in text_of(answer)


def test_without_images_the_answers_are_a_hint(visitor, trained):
    for who in (visitor, trained.visitor):
        for nothing in (None, []):
            assert "The answers appear here" in text_of(test_step.classify(who, nothing))


def answers(html):
    """Verdict and bars of each answer: ``[(verdict, [(class, width)])]``."""
    found = []
    for article in re.findall(r"<article.*?</article>", html):
        verdict = re.search(r'class="hs-verdict">(.*?)</p>', article)[1]
        names = re.findall(r'class="hs-bar-name">(.*?)</span>', article)
        widths = re.findall(r"width:([\d.]+%)", article)
        found.append((verdict, list(zip(names, widths, strict=True))))
    return found


def test_the_answers_are_those_of_the_model(trained, fruits):
    paths = [str(path) for path in sorted(fruits.rglob("1.png"))]
    found = answers(test_step.classify(trained.visitor, paths))
    assert len(found) == 3
    for path, (verdict, bars) in zip(paths, found, strict=True):
        ranked = trained.visitor.trained.model.predict(path)
        assert bars == [(name, f"{share:.1%}") for name, share in ranked]
        name, share = ranked[0]
        assert verdict == (f"{name}, {share * 100:.0f} %" if share >= 0.5 else f"Not sure; perhaps {name}")


def test_a_corrupt_file_among_good_ones_is_named_and_the_others_are_answered(trained, fruits, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    paths = [str(fruits / "red/1.png"), str(tmp_path / "torn.png"), str(fruits / "blue/1.png")]
    html = test_step.classify(trained.visitor, paths)
    assert len(answers(html)) == 2
    assert html.count('role="alert"') == 1
    assert "torn.png: is damaged" in text_of(html)
    assert html.index("1.png") < html.index("torn.png") < html.rindex("1.png")


class Oracle:
    """A model that always answers the same."""

    preprocess, multi_label = SimpleNamespace(resize=32, interpolation="bicubic"), False

    def __init__(self, **shares):
        self.ranked = list(shares.items())

    def predict(self, pixels):
        return self.ranked


def asked(fruits, paths=None, **shares):
    visitor = Visitor(trained=Trained(Oracle(**shares), FINISHED))
    return test_step.classify(visitor, paths or [str(fruits / "red/1.png")])


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(0.94, "rose, 94 %"), (0.5, "rose, 50 %"), (0.499, "Not sure; perhaps rose"), (0.2, "Not sure; perhaps rose")],
)
def test_below_one_half_the_answer_is_not_sure(fruits, share, verdict):
    ((said, _),) = answers(asked(fruits, rose=share, tulip=1 - share))
    assert said == verdict


def test_many_classes_get_six_bars_and_a_count(fruits):
    html = asked(fruits, **{f"class{i}": 0.125 for i in range(8)})
    ((_, bars),) = answers(html)
    assert [name for name, _ in bars] == [f"class{i}" for i in range(6)]
    assert "and 2 less likely" in text_of(html)
    assert "less likely" not in asked(fruits, **{f"class{i}": 0.2 for i in range(6)})


def test_too_many_images_are_answered_in_part_and_that_is_said(fruits):
    html = asked(fruits, [str(fruits / "red/1.png")] * (test_step.MOST + 2), rose=1.0)
    assert len(answers(html)) == test_step.MOST
    assert f"The first {test_step.MOST} of {test_step.MOST + 2} images" in text_of(html)


# Several labels an image


def test_a_training_with_several_labels_is_judged_by_precision_and_answers_with_labels(tagged, fruits):
    visitor = Visitor(images=tagged)
    train_step.start(visitor, Turns(), 1, 0, 1)
    *_, (_, words, charts) = train_step.watch(visitor)
    assert visitor.job.run.state == "finished", visitor.job.run.problem
    assert "mean average precision" in text_of(words)
    for label in tagged.classes:
        assert label in text_of(words)
    assert "Mean average precision" in text_of(charts)
    assert "with all their labels" in text_of(test_step.prepare(visitor)[1])
    path = str(fruits / "red/1.png")
    ((verdict, bars),) = answers(test_step.classify(visitor, [path]))
    model = visitor.trained.model
    assert verdict == (wording.listed(model.labels(path)) or "None of the labels")
    assert bars == [(name, f"{share:.1%}") for name, share in model.predict(path)]
