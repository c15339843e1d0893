"""What a chart promises, read from its HTML: no browser, no network."""

import math
import re
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from headswap.ui.views import gallery, line_chart, theme
from headswap.ui.views.line_chart import (
    LineChart,
    PhaseBand,
    ReferenceLine,
    Series,
    describe_chart,
    render_line_chart,
    round_tick_step,
    spread_labels,
)

BANDS = (PhaseBand(0, 20, "the head learns", "still"), PhaseBand(20, 36, "the last 3 stages learn too", "learning"))


def series(label, values, kind=None):
    return Series(label, tuple(enumerate(values)), kind or label)


def accuracy(training, validation, epochs=36, **more):
    both = (series("training", training), series("validation", validation))
    return LineChart("Accuracy", BANDS, both, epochs, is_percent=True, **more)


def loss(*values, epochs=36, **more):
    return LineChart("Loss", BANDS, (series("validation", values),), epochs, **more)


def said(html, name):
    """The texts of the labels of one kind."""
    return re.findall(rf'<span class="{name}[^>]*>(.*?)</span>', html)


def placed(html, name):
    """Where the labels of one kind stand, in pixels from the top."""
    return [float(top) for top in re.findall(rf'<span class="{name}[^>]*top:([\d.]+)px', html)]


def test_the_sentence_gives_the_latest_figures_validation_first():
    chart = accuracy([0.3] * 12 + [0.95], [0.2] * 12 + [0.87])
    assert describe_chart(chart) == "Accuracy: validation 87 % after epoch 12 of 36, training 95 %."


def test_the_sentence_says_when_curves_end_at_different_epochs():
    chart = accuracy([0.3, 0.4, 0.5], [0.25, 0.26])
    expected = "Accuracy: validation 26 % after epoch 1 of 36, training 50 % after epoch 2 of 36."
    assert describe_chart(chart) == expected


def test_the_sentence_names_the_kept_epoch():
    assert describe_chart(loss(1.2, 0.314, 0.4, marker=(1, 0.314))).endswith(" Kept: epoch 1, 0.31.")


def test_an_empty_chart_says_so_in_the_card_and_in_the_sentence():
    chart = LineChart("Loss", (), (), 36, empty_text="The curve appears when you press Train")
    assert describe_chart(chart) == "Loss: The curve appears when you press Train."
    assert said(render_line_chart(chart), "hs-empty") == ["The curve appears when you press Train"]
    assert describe_chart(LineChart("Loss", (), (), 36)) == "Loss: nothing to show yet."


def test_an_empty_chart_invents_no_figures():
    html = render_line_chart(LineChart("Loss", (), (), 36, empty_text="Press Train"))
    assert not said(html, "hs-x") and not said(html, "hs-y") and "polyline" not in html


@pytest.mark.parametrize("extent", [1e-6, 0.0123, 0.2, 0.5, 0.99, 1, 1.0001, 3.7, 36, 40, 199, 200, 7e9])
@pytest.mark.parametrize("most", [4, 5, 6])
def test_steps_are_one_two_or_five_times_a_power_of_ten(extent, most):
    step = round_tick_step(extent, most)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - lead) for lead in (1, 2, 5)) < 1e-9
    assert most / 2.6 <= extent / step <= most + 1e-6


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (1.27, ["0.0", "0.5", "1.0", "1.5"]),
        (0.31, ["0.0", "0.1", "0.2", "0.3", "0.4"]),
        (0.06, ["0.00", "0.02", "0.04", "0.06"]),
        (7.3, ["0", "2", "4", "6", "8"]),
        (0.0, ["0.0", "0.5", "1.0"]),
    ],
)
def test_a_loss_starts_at_zero_and_has_round_ticks(highest, ticks):
    assert said(render_line_chart(loss(highest, highest / 2)), "hs-y") == ticks


@pytest.mark.parametrize(
    ("lowest", "ticks"),
    [
        (0.1, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        (0.6, ["50 %", "60 %", "70 %", "80 %", "90 %", "100 %"]),
        (0.9, ["80 %", "85 %", "90 %", "95 %", "100 %"]),
        (0.0, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
    ],
)
def test_an_accuracy_reaches_to_a_hundred_per_cent_in_round_steps(lowest, ticks):
    assert said(render_line_chart(accuracy([lowest, 1.0], [lowest, 0.95])), "hs-y") == ticks


@pytest.mark.parametrize(("epochs", "ticks"), [(3, "0123"), (36, [0, 10, 20, 30]), (200, [0, 50, 100, 150, 200])])
def test_epochs_have_round_ticks(epochs, ticks):
    assert said(render_line_chart(loss(1.0, 0.5, epochs=epochs)), "hs-x") == [str(tick) for tick in ticks]


def test_a_chart_widens_when_a_run_goes_on_longer_than_planned():
    drawn = re.search(r'points="([^"]*)"', render_line_chart(loss(*[1.0] * 9, epochs=4)))[1]
    assert (
        drawn.split()[-1].startswith("1000,") and said(render_line_chart(loss(*[1.0] * 9, epochs=4)), "hs-x")[-1] == "8"
    )


@pytest.mark.parametrize("ends", [(0.9, 0.9), (0.9, 0.89), (1.0, 1.0), (0.0, 0.0), (0.02, 0.0), (0.3, 0.9)])
def test_labels_at_the_curves_ends_stay_apart_and_inside(ends):
    tops = placed(render_line_chart(accuracy([0.1, ends[0]], [0.1, ends[1]])), "hs-end")
    assert len(tops) == 2 and abs(tops[0] - tops[1]) >= 24  # two lines of text each, so twice what one needs
    assert all(6 <= top <= line_chart.PLOT_HEIGHT - 12 for top in tops)


def test_labels_keep_the_order_of_their_curves_and_move_no_more_than_needed():
    assert spread_labels([50, 100], 26, 0, 180) == [50, 100]
    assert spread_labels([100, 50, 60], 20, 0, 180) == [100, 50, 70]
    assert spread_labels([179, 178, 177], 20, 0, 180) == [180, 160, 140]
    assert spread_labels([], 20, 0, 180) == []


def test_a_single_point_is_a_dot():
    html = render_line_chart(loss(0.7))
    assert html.count("hs-dot") == 1
    assert '<path class="hs-validation hs-dot" d="M0,22.5h.01"/>' in html


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_left_out(bad):
    html = render_line_chart(loss(1.0, bad, 0.5, marker=(1, bad)))
    assert len(re.search(r'points="([^"]*)"', html)[1].split()) == 2
    assert html == render_line_chart(
        LineChart("Loss", BANDS, (Series("validation", ((0, 1.0), (2, 0.5)), "validation"),), 36)
    )
    assert not re.search(r"\b(nan|inf)\b", html + describe_chart(loss(1.0, bad, bad)), re.I)
    assert describe_chart(loss(bad)) == "Loss: nothing to show yet."


def test_points_lie_where_their_figures_say():
    html = render_line_chart(LineChart("Accuracy", (), (series("validation", (0.0, 0.5, 1.0)),), 2, is_percent=True))
    assert 'points="0,180 500,90 1000,0"' in html


def test_training_and_validation_can_be_told_apart_without_colour():
    assert re.search(r"\.hs-training {[^}]*stroke-dasharray", theme.read_css())
    assert not re.search(r"\.hs-validation {[^}]*stroke-dasharray", theme.read_css())


def test_a_band_lies_behind_its_epochs_and_a_dashed_line_marks_a_thaw():
    html = render_line_chart(loss(1.0, 0.5))
    assert '<rect class="hs-still" x="0" height="180" width="555.6"/>' in html
    assert '<rect class="hs-learning" x="555.6" height="180" width="444.4"/>' in html
    assert '<path class="hs-thaw" d="M555.6 0v180"/>' in html
    assert html.index("<rect") < html.index("<polyline")


def test_a_band_s_label_has_the_room_until_the_next_band_and_no_more():
    bands = (PhaseBand(0, 4, "the head learns", "still"), PhaseBand(4, 10, "then the last stage", "learning"))
    html = render_line_chart(LineChart("Loss", bands, (series("validation", (1.0, 0.9)),), 40))
    assert re.findall(r"flex-basis:([\d.]+)%", html) == ["10.00", "90.00"]
    assert re.search(r"\.hs-phases {[^}]*overflow: hidden", theme.read_css())


def test_the_kept_epoch_is_ringed_where_it_lies():
    html = render_line_chart(accuracy([0.2, 0.9], [0.2, 0.8], epochs=4, marker=(1, 0.8)))
    assert '<span class="hs-kept" style="left:25.00%;top:36px"></span>' in html
    assert said(html, "hs-word") == ["kept"]
    assert not said(render_line_chart(accuracy([0.2], [0.2])), "hs-word")


def test_the_word_kept_leaves_the_last_epoch_s_labels_alone():
    assert "hs-late" in render_line_chart(loss(1.0, 0.5, epochs=1, marker=(1, 0.5)))
    assert "hs-late" not in render_line_chart(loss(1.0, 0.5, epochs=2, marker=(1, 0.5)))


SOLVED = ReferenceLine("solved at once", 0.84)


def test_a_level_is_a_line_across_the_whole_chart_at_its_figure():
    html = render_line_chart(accuracy([0.2, 0.9], [0.2, 0.8], reference_line=SOLVED))
    assert '<path class="hs-level" d="M0 28.8h1000"/>' in html
    assert said(html, "hs-end hs-level") == ["solved at once 84 %"]
    assert "hs-level" not in render_line_chart(accuracy([0.2, 0.9], [0.2, 0.8]))


def test_a_level_is_dashed_and_looks_like_no_curve():
    dashes = {
        name: re.search(rf"\.hs-{name} {{[^}}]*stroke-dasharray: ([^;}}]*)", theme.read_css())
        for name in ("level", "training")
    }
    assert dashes["level"][1].strip() != dashes["training"][1].strip()


def test_a_level_is_there_before_the_first_epoch():
    chart = LineChart(
        "Accuracy", (), (), 36, is_percent=True, empty_text="The curve begins soon", reference_line=SOLVED
    )
    html = render_line_chart(chart)
    assert said(html, "hs-end hs-level") == ["solved at once 84 %"] and said(html, "hs-y")
    assert not said(html, "hs-empty")
    assert describe_chart(chart) == "Accuracy: The curve begins soon. Solved at once: 84 %."


def test_the_sentence_names_the_level_after_the_curves():
    chart = accuracy([0.3, 0.95], [0.2, 0.87], marker=(1, 0.87), reference_line=SOLVED)
    expected = (
        "Accuracy: validation 87 % after epoch 1 of 36, training 95 %. Solved at once: 84 %. Kept: epoch 1, 87 %."
    )
    assert describe_chart(chart) == expected


@pytest.mark.parametrize("value", [0.0, 0.02, 0.5, 0.86, 0.87, 0.97, 1.0])
@pytest.mark.parametrize("ends", [(0.97, 0.87), (1.0, 1.0), (0.0, 0.0)])
def test_a_level_s_label_keeps_clear_of_the_curves_labels(value, ends):
    chart = accuracy([0.1, ends[0]], [0.1, ends[1]], epochs=1, reference_line=ReferenceLine("solved at once", value))
    tops = sorted(placed(render_line_chart(chart), "hs-end"))
    assert len(tops) == 3 and all(low - high >= 24 for high, low in pairwise(tops))
    assert all(6 <= top <= line_chart.PLOT_HEIGHT - 12 for top in tops)


def test_a_level_s_label_stays_at_its_line_while_the_curves_are_far_from_it():
    far = render_line_chart(accuracy([0.1, 0.84], [0.1, 0.84], epochs=10, reference_line=SOLVED))
    assert placed(far, "hs-end hs-level") == [28.8]


def test_a_level_below_the_curves_is_still_inside_the_chart():
    low = render_line_chart(accuracy([0.9, 0.95], [0.9, 0.95], reference_line=ReferenceLine("solved at once", 0.3)))
    assert said(low, "hs-y")[0] == "0 %"


def test_curves_without_validation_are_drawn_alone():
    html = render_line_chart(accuracy([0.5, 0.9], [math.nan, math.nan]))
    assert html.count("<polyline") == 1 and len(said(html, "hs-end")) == 1
    assert describe_chart(accuracy([0.5, 0.9], [math.nan] * 2)) == "Accuracy: training 90 % after epoch 1 of 36."


def test_a_stranger_s_words_are_text_and_never_markup():
    word = "<b>&\"'${x}"
    band, line = PhaseBand(0, 9, word, "still"), Series(word, ((0, 1.0),), "validation")
    for chart in (
        LineChart(word, (band,), (line,), 9, reference_line=ReferenceLine(word, 0.5)),
        LineChart(word, (), (), 9, empty_text=word),
    ):
        figure = ElementTree.fromstring(render_line_chart(chart))
        assert figure.find(".//b") is None
        assert word in "".join(figure.itertext())
        assert word in figure.find("*[@role='img']").get("aria-label")


def test_who_cannot_see_the_chart_hears_its_sentence():
    chart = loss(1.0, 0.5)
    picture = ElementTree.fromstring(render_line_chart(chart)).find("*[@role='img']")
    assert picture.get("aria-label") == describe_chart(chart)


def test_an_update_is_small():
    wobble = [0.5 + 0.4 * math.sin(epoch / 7) for epoch in range(51)]
    chart = accuracy(wobble, [value * 0.9 for value in wobble], epochs=50, marker=(31, 0.87))
    assert len(render_line_chart(chart).encode()) < 3 * 1024


def test_two_hundred_epochs_are_drawn_from_left_to_right():
    html = render_line_chart(loss(*[1 / (1 + epoch) for epoch in range(201)], epochs=200))
    places = [float(place.split(",")[0]) for place in re.search(r'points="([^"]*)"', html)[1].split()]
    assert len(places) == 201 and all(left < right for left, right in pairwise(places))


def test_text_is_never_smaller_than_eleven_pixels():
    sizes = [int(size) for size in re.findall(r"font-size: (\d+)px", theme.read_css())]
    assert len(sizes) > 4 and min(sizes) >= 11


def test_every_class_that_is_drawn_has_its_style():
    drawn = " ".join(gallery.sample_line_charts().values())
    known = set(re.findall(r"\.(hs-[a-z0-9-]+)", theme.read_css()))
    assert {name for names in re.findall(r'class="([^"]*)"', drawn) for name in names.split()} <= known


def test_names_that_are_aligned_stand_at_the_right_with_a_bit_of_their_curve():
    early = Series("early", ((0, 0.5), (1, 0.6)), "other1")
    late = Series("late", ((0, 0.5), (8, 0.7)), "validation")
    html = render_line_chart(LineChart("Accuracy", (), (early, late), 8, is_percent=True, labels_at_right=True))
    assert html.count('style="left:100.00%;top:') == 2
    assert re.findall(r'class="hs-key".*?class="hs-(\w+)"', html) == ["other1", "validation"]
    assert "hs-key" not in render_line_chart(LineChart("Accuracy", (), (early, late), 8, is_percent=True))


def test_a_reference_line_has_no_key_since_its_name_stands_at_its_line():
    chart = LineChart("Accuracy", (), (Series("one", ((0, 0.5), (8, 0.7)), "other1"),), 8, is_percent=True)
    html = render_line_chart(replace(chart, labels_at_right=True, reference_line=ReferenceLine("solved at once", 0.6)))
    assert re.findall(r'class="hs-key".*?class="hs-(\w+)"', html) == ["other1"]


def test_an_epoch_that_is_looked_at_has_a_line_and_is_said():
    late = Series("validation", ((0, 0.5), (8, 0.7)), "validation")
    html = render_line_chart(LineChart("Accuracy", (), (late,), 8, is_percent=True, highlighted_epoch=2))
    assert '<path class="hs-look" d="M250 0v180"/>' in html and "Looked at: epoch 2." in html
