"""A card says what a model is and how good, neither more nor less, and shows any name as it stands."""

import dataclasses
import io
import re

import numpy as np
import pytest
import yaml
from bundles import tiny_model
from drawings import HEAD_ONLY, THAWED, TWO, load_shapes
from PIL import Image

import headswap
from headswap.evaluation.metrics import wilson_interval
from headswap.export.model_card import MAX_CONFUSION_MATRIX_CLASSES, build_model_card, escape_markdown, format_result
from headswap.export.plots import plot_confusion_matrix, plot_training_curves, to_printable_names
from headswap.networks.catalogue import find_backbone
from headswap.training.checkpoints import restore
from headswap.training.record import EpochRecord, PhaseRecord, Record, ValidationResult


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=8)


@pytest.fixture(scope="module")
def taught(images):
    """A model and the last event of its training."""
    model = tiny_model(images.classes)
    return model, headswap.fit(model, images, TWO)


def record_of(names, confusion=(), right=3, of=4, epochs=2, **told):
    """The past of a model of these classes."""
    passed = tuple(EpochRecord(1 / i, 0.5, 2 / i, 0.25) for i in range(1, epochs + 1))
    result = ValidationResult(right / of if of else 0.0, "accuracy", right, of, confusion)
    given = {"checkpoint": "best", "epoch": 1, "reference": None, "seconds": 61.0} | told
    return Record(HEAD_ONLY, dict.fromkeys(names, 7), 5, passed, (PhaseRecord(1, ()),), result=result, **given)


def text(model, title="flowers"):
    return build_model_card(model, title, "usage")["README.md"].decode()


def front(text):
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


# What it says


def test_it_says_what_the_model_is(taught):
    model, _ = taught
    said = text(model)
    row = find_backbone(model.backbone)
    assert said.startswith("---\n") and "\n# flowers\n" in said
    assert "Tells 3 classes from one another and nothing else: bars, boxes, dots." in said
    assert row.name in said and "began with random weights" in said
    assert f"{sum(p.numel() for p in model.head.parameters()):,} weights" in said
    assert "sees | 32 x 32 pixels; the shorter side is brought to 36, the centre is cut out" in said
    assert "## Use it\n\nusage" in said


def test_it_says_how_good_with_what_luck_can_do(taught):
    model, kept = taught
    low, high = wilson_interval(kept.correct, kept.total)
    said = text(model)
    assert f"{kept.correct} of {kept.total} images that were held back are named rightly" in said
    assert f"95 % interval: {100 * low:.0f} % to {100 * high:.0f} %" in said
    assert "These images chose the epoch, so the figure flatters." in said
    [entry] = front(said)["model-index"]
    [result] = entry["results"]
    assert result["metrics"][0]["value"] == round(kept.correct / kept.total, 4)
    assert result["dataset"]["name"] == "images held back by its author"


def test_it_says_how_it_was_taught(taught, images):
    model, _ = taught
    said = text(model)
    assert f"From {model.record.num_training_images} images in 2 views each" in said
    assert "1. the head alone: 3 epochs, one-cycle, rates: head 0.01" in said
    assert "2. the last 1 stages and the head: 3 epochs" in said
    for name, count in images.counts.items():
        assert f"| {name} | {count} |" in said


def test_it_shows_pictures_that_it_names(taught):
    entries = build_model_card(taught[0], "flowers", "usage")
    shown = set(re.findall(r"!\[.*?\]\((.*?)\)", entries["README.md"].decode()))
    assert shown == set(entries) - {"README.md"} == {"confusion.png", "curves.png"}
    for name in shown:
        picture = Image.open(io.BytesIO(entries[name]))
        assert picture.format == "PNG" and min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(10**6)) > 10


def test_of_a_model_that_was_not_taught_it_claims_nothing():
    entries = build_model_card(tiny_model(), "flowers", "usage")
    said = entries["README.md"].decode()
    assert set(entries) == {"README.md"}
    assert "It was not taught here, so nothing is known." in said
    assert "rightly" not in said and "model-index" not in front(said)


@pytest.mark.parametrize(
    "told, sentence",
    [
        ({"checkpoint": "last"}, "Kept: epoch 1, the last."),
        ({"checkpoint": "best", "selected_on_validation": True}, "Kept: epoch 1, the best on what was held back."),
        ({"checkpoint": "between"}, "Kept: weights 50 % of the way from the frozen network to epoch 1."),
        ({"checkpoint": "frozen"}, "Kept: the network before its stages learned."),
        ({"checkpoint": "reference"}, "Kept: the head that is solved at once, on frozen stages."),
        ({"refitted": True}, "learned once more from all images, those included; the figure is from before."),
        ({"verdict": "It was *not* worth it."}, r"It was \*not\* worth it."),
        ({"reference": ValidationResult(0.5, "accuracy", 1, 2)}, "solved at once on the same features: 1 of 2 images"),
    ],
)
def test_it_says_what_was_kept(told, sentence):
    model = tiny_model(("a", "b"))
    model.record = record_of("ab", **told)
    assert sentence in text(model)


def test_it_says_which_classes_came_later():
    model = tiny_model(("a", "b", "c"))
    model.record = record_of("ab")
    assert "Not yet known when this was measured: c." in text(model)


def test_where_nothing_was_held_back_it_gives_no_figure():
    model = tiny_model(("a", "b"))
    model.record = record_of("ab", right=0, of=0)
    said = text(model)
    assert "Nothing was held back to judge it by." in said and "model-index" not in front(said)


def test_a_result_of_several_labels_has_its_own_words():
    said = format_result(ValidationResult(0.756, "mean average precision", 3, 4))
    assert "with exactly their labels" in said and said.endswith("; mean average precision 0.76.")


def test_the_licence_is_that_of_the_backbones_weights():
    model = headswap.adapt("squeezenet1_1", 2, pretrained=False)
    assert "come under BSD-3-Clause." in text(model)
    assert front(text(model))["license_name"] == "bsd-3-clause"
    model.backbone = "regnet_y_128gf"
    assert "CC-BY-NC-4.0. Its terms forbid commercial use." in text(model)


# Pictures


def test_a_confusion_matrix_is_drawn_up_to_so_many_classes():
    for count in (2, MAX_CONFUSION_MATRIX_CLASSES, MAX_CONFUSION_MATRIX_CLASSES + 1):
        names = [f"class {i}" for i in range(count)]
        model = tiny_model(names)
        model.record = record_of(names, tuple(tuple(int(i == j) for i in range(count)) for j in range(count)))
        assert ("confusion.png" in build_model_card(model, "x", "x")) == (count <= MAX_CONFUSION_MATRIX_CLASSES)


def test_a_wrong_answer_changes_the_matrix():
    right, wrong = (plot_confusion_matrix(record_of("ab", rows)) for rows in (((9, 0), (0, 9)), ((9, 0), (4, 5))))
    assert right != wrong == plot_confusion_matrix(record_of("ab", ((9, 0), (4, 5))))


def test_of_several_labels_each_has_a_row():
    record = record_of("abc", (((5, 1), (2, 3)),) * 3)
    assert Image.open(io.BytesIO(plot_confusion_matrix(record))).width > 200


def test_a_class_without_images_and_a_training_without_validation_can_be_drawn():
    assert plot_confusion_matrix(record_of("ab", ((0, 0), (0, 0))))
    epochs = tuple(EpochRecord(1.0, 0.5, None, None) for _ in range(3))
    record = dataclasses.replace(record_of("ab"), epochs=epochs)
    assert plot_training_curves(record) != plot_training_curves(record_of("ab", epochs=3))


@pytest.mark.parametrize("name", [r"$\frac", "$x$", "$$", "\\", "猫", "😀", "\ud800", "\n\n", "x" * 500, "", "\u202e"])
def test_any_name_can_be_drawn(name):
    assert plot_confusion_matrix(record_of((name, "b"), ((1, 2), (3, 4))))


def test_names_in_many_scripts_are_written_and_those_that_no_font_here_has_are_numbered():
    names = (
        "Müller",
        "ошибка",
        "δοκιμή",
        "שלום",
        "شجرة",
        "naïve façade",
        "Đặng",
        "😀",
        "猫",
        "日本 tree",
        "",
        "a" * 60,
    )
    assert to_printable_names(names) == [*names[:8], "no. 9", "no. 10", "", "a" * 23 + "…"]
    model = tiny_model(("猫", "b"))
    model.record = record_of(("猫", "b"), ((1, 2), (3, 4)))
    assert "A number in it is the class of that place in the list below." in text(model)
    model.record = record_of(("no. 7", "b"), ((1, 2), (3, 4)))
    assert "A number in it" not in text(model)


def test_each_name_and_each_count_makes_another_picture():
    drawn = {
        plot_confusion_matrix(record_of(names, ((count, 0), (0, 9))))
        for names in (("cat", "b"), ("кот", "b"), ("γάτα", "b"))
        for count in (3, 4)
    }
    assert len(drawn) == 6


def test_large_numbers_and_many_classes_stay_within_the_picture():
    count = MAX_CONFUSION_MATRIX_CLASSES
    names = [f"a class with the number {i}" for i in range(count)]
    cells = tuple(tuple(123_456 * int(i == j) for i in range(count)) for j in range(count))
    with Image.open(io.BytesIO(plot_confusion_matrix(record_of(names, cells)))) as picture:
        assert picture.width * picture.height < 10e6
        border = picture.convert("L").crop((0, 0, picture.width, 8)).getextrema()
        assert border == (255, 255)


@pytest.mark.parametrize(
    "figures", [(float("nan"),), (float("inf"), 1.0), (1e308, -1e308), (0.0,), (5e-324, 0.0), (3.0,)]
)
def test_curves_of_any_figures_can_be_drawn(figures):
    epochs = tuple(EpochRecord(figure, 0.5, figure, None) for figure in figures * 2)
    assert plot_training_curves(dataclasses.replace(record_of("ab"), epochs=epochs))


def test_a_curve_goes_through_its_figures():
    """Of two trainings the worse one's validation curve lies lower in the picture of the score."""

    def middle(score):
        epochs = tuple(EpochRecord(1.0, score_of, 1.0, score) for score_of in (0.0, 1.0))
        record = dataclasses.replace(record_of("ab"), epochs=epochs)
        with Image.open(io.BytesIO(plot_training_curves(record))) as picture:
            right = picture.convert("RGB").crop((500, 60, 860, 268))
        red, green, blue = np.asarray(right).astype(int).transpose(2, 0, 1)
        rows, _ = ((blue - green > 80) & (red < 160)).nonzero()
        return rows.mean()

    assert middle(0.2) - middle(0.4) == pytest.approx(middle(0.6) - middle(0.8), abs=1)
    assert middle(0.2) > middle(0.8) + 80


# Names that are code

NAMES = (
    r"$\frac",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a|b",
    "a\n\n# b",
    "---\nlicense: mit\n---",
    "[a](http://b)",
    "**a** _b_ ~~c~~ `d`",
    "&amp; &lt;",
    "\\",
    "猫 😀",
    "\ud800",
    "\u202e",
    "{{ a }} {% b %}",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_code_is_text(name):
    said = escape_markdown(name)
    assert "\n" not in said and "<" not in said and ">" not in said
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|~$]", said)
    said.encode()


@pytest.mark.parametrize("name", [*NAMES[:3], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[3:])])
def test_a_card_of_such_names_is_whole(name):
    usual, model = tiny_model(("a", "b")), tiny_model((name, "b"))
    usual.record, model.record = record_of("ab"), record_of((name, "b"))
    said, expected = text(model, title=name), text(usual, title="a")
    assert len(said.splitlines()) == len(expected.splitlines())
    assert front(said).keys() == front(expected).keys()
    assert front(said)["license"] == "other"
    headings = [line for line in said.splitlines() if line.startswith("#")]
    assert len(headings) == len([line for line in expected.splitlines() if line.startswith("#")])


def test_what_is_kept_instead_is_what_it_says(images):
    model = tiny_model(images.classes)
    kept = headswap.fit(model, images, THAWED)
    offer = kept.candidates["reference"]
    restore(model, offer)
    said = text(model)
    assert "| head | lda" in said and "Kept: the head that is solved at once" in said
    assert f"{offer.validation_metrics.correct} of {offer.validation_metrics.total} images" in said
