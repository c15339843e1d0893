"""What the confusion matrix promises, read from its HTML: no browser, no network."""

import re
import runpy
from xml.etree import ElementTree

import pytest

from headswap.ui.views import confusion_matrix
from headswap.ui.views.confusion_matrix import (
    ConfusedPair,
    list_confused_pairs,
    list_label_errors,
    render_confusion_matrix,
    render_pair_list,
)

LEAVES, COUNTS = ("healthy", "mildew", "rust"), ((6, 0, 0), (1, 5, 0), (0, 2, 4))
CODE = "<img src=x onerror=alert(1)> ${7*7} {{value}} \"'"


def tree(html):
    return ElementTree.fromstring(html)


def buttons(html):
    return [
        (b.get("data-given"), b.get("data-answered"), b.get("aria-pressed"), "".join(b.itertext()))
        for b in tree(html).iter("button")
    ]


def test_it_is_a_table_whose_heads_say_which_way_they_go():
    table = tree(render_confusion_matrix(LEAVES, COUNTS)).find("table")
    assert table.find("caption") is not None
    for scope in ("col", "row"):
        assert ["".join(th.itertext()) for th in table.iter("th") if th.get("scope") == scope] == list(LEAVES)
    rows = [[int("".join(td.itertext())) for td in tr.findall("td")] for tr in table.find("tbody")]
    assert rows == [list(row) for row in COUNTS]


def test_a_cell_with_images_is_a_button_that_says_what_it_stands_for():
    html = render_confusion_matrix(LEAVES, COUNTS, selected_cell=(2, 1))
    assert buttons(html) == [
        ("0", "0", "false", "6"),
        ("1", "0", "false", "1"),
        ("1", "1", "false", "5"),
        ("2", "1", "true", "2"),
        ("2", "2", "false", "4"),
    ]
    labels = [button.get("aria-label") for button in tree(html).iter("button")]
    assert "1 image of mildew answered healthy" in labels and "2 images of rust answered mildew" in labels


def test_right_and_wrong_are_told_apart_by_more_than_a_colour_and_shaded_by_their_share():
    cells = re.findall(r'<td class="(hs-\w+)" style="--share:([\d.]+)">', render_confusion_matrix(LEAVES, COUNTS))
    assert cells == [
        ("hs-right", "1.000"),
        ("hs-wrong", "0.167"),
        ("hs-right", "0.833"),
        ("hs-wrong", "0.333"),
        ("hs-right", "0.667"),
    ]


def test_names_that_are_code_are_only_names():
    for html in (
        render_confusion_matrix((CODE, "b"), ((1, 1), (1, 1))),
        render_pair_list([ConfusedPair(CODE, 1, (0, 1))], None, CODE),
    ):
        assert "<img" not in html
        assert CODE in "".join(tree(html).itertext())


@pytest.mark.parametrize(
    ("classes", "turned"), [(LEAVES, False), (("a name that is long", "b"), True), (tuple("abcdefghi"), True)]
)
def test_names_that_have_no_room_are_turned(classes, turned):
    html = render_confusion_matrix(classes, [[1] * len(classes)] * len(classes))
    assert ("hs-turned" in html) == turned


@pytest.mark.parametrize("many", [25, 26])
def test_beyond_twenty_five_classes_the_pairs_most_confused_are_listed(many):
    names = [f"c{i}" for i in range(many)]
    counts = [[5 * (i == j) for j in range(many)] for i in range(many)]
    counts[3][4], counts[4][3], counts[0][1] = 1, 7, 2
    html = render_confusion_matrix(names, counts)
    assert ("<table" in html) == (many == 25)
    if many == 26:
        assert [words for *_, words in buttons(html)] == [
            "7 images: c4, answered c3",
            "2 images: c0, answered c1",
            "1 image: c3, answered c4",
        ]


def test_a_long_list_says_how_much_it_leaves_out_and_an_empty_one_says_nothing():
    found = [ConfusedPair(f"pair {i}", 1, (i, 0)) for i in range(confusion_matrix.MAX_LISTED_PAIRS + 2)]
    assert "and 2 more" in render_pair_list(found, None, "Pairs")
    assert len(buttons(render_pair_list(found, None, "Pairs"))) == confusion_matrix.MAX_LISTED_PAIRS
    assert (
        render_pair_list([], None, "Pairs") == ""
        and list_confused_pairs(LEAVES, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]) == []
    )


def test_a_class_of_which_there_is_no_image_is_no_division_by_zero():
    assert render_confusion_matrix(("a", "b"), ((0, 0), (0, 3))).count("<button") == 1


def test_the_errors_of_labels_are_those_missed_and_those_called_wrongly():
    counts = [[[5, 2], [1, 3]], [[9, 0], [0, 2]]]  # by truth and by answer
    assert list_label_errors(("dark", "red"), counts) == [
        ConfusedPair("dark, missed", 1, (0, -1)),
        ConfusedPair("dark, called wrongly", 2, (-1, 0)),
    ]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_it_draws_itself_in_all_its_moods(tmp_path, monkeypatch):
    out = tmp_path / "out.html"
    monkeypatch.setattr("sys.argv", ["gallery", str(out)])
    runpy.run_module("headswap.ui.views.gallery", run_name="__main__")
    assert out.read_text("utf-8").count("<table") == 5 * 4
