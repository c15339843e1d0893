"""Numbers and lists read as a person writes them."""

import pytest

from headswap.common import text


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1234, "1,234 images")]
)
def test_a_count_knows_its_plural(number, words):
    assert text.format_count(number, "image") == words


def test_an_unusual_plural_can_be_given():
    assert text.format_count(1, "class", "classes") == "1 class"
    assert text.format_count(3, "class", "classes") == "3 classes"


@pytest.mark.parametrize(
    ("number", "word"), [(0, "no"), (1, "one"), (3, "three"), (12, "twelve"), (13, "13"), (-1, "-1")]
)
def test_small_numbers_are_words(number, word):
    assert text.spell_out_number(number) == word


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (3843, "3,843"), (99_999, "99,999"), (100_000, "0.1 million"), (3_371_000, "3.4 million")],
)
def test_millions_begin_at_a_hundred_thousand(number, words):
    assert text.format_millions(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "1 weight"), (3843, "3,843 weights"), (999_999, "999,999 weights"), (1_180_000, "1.2 million weights")],
)
def test_weights_are_counted_below_a_million(number, words):
    assert text.format_weight_count(number) == words


@pytest.mark.parametrize(("share", "words"), [(0, "0 %"), (0.944, "94 %"), (1, "100 %")])
def test_shares_are_whole_per_cents(share, words):
    assert text.format_percent(share) == words


@pytest.mark.parametrize(
    ("number", "words"), [(0, "1 s"), (0.4, "1 s"), (6.4, "6 s"), (89, "89 s"), (95, "2 min"), (600, "10 min")]
)
def test_durations_are_never_nothing_and_turn_to_minutes(number, words):
    assert text.format_duration(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (64, "64 bytes"),
        (1, "1 byte"),
        (5_120, "5.1 kB"),
        (351_232, "0.35 MB"),
        (18_000_000, "18 MB"),
        (2e9, "2 GB"),
    ],
)
def test_sizes_have_two_digits(number, words):
    assert text.format_bytes(number) == words


@pytest.mark.parametrize(
    ("names", "most", "words"),
    [
        ([], 0, ""),
        (["a"], 0, "a"),
        (["a", "b"], 0, "a and b"),
        (["a", "b", "c"], 0, "a, b and c"),
        (["a", "b", "c"], 3, "a, b and c"),
        (["a", "b", "c", "d"], 2, "a, b and 2 more"),
        (("a", "b", "c"), 1, "a and 2 more"),
    ],
)
def test_lists_end_in_and(names, most, words):
    assert text.join_names(names, most) == words


@pytest.mark.parametrize(("number", "verb"), [(0, "are"), (1, "is"), (2, "are")])
def test_a_verb_agrees_with_its_number(number, verb):
    assert text.pluralize(number, "is", "are") == verb


def test_the_report_of_loading_counts_images_without_a_separator():
    assert [text.format_image_count(number) for number in (1, 2, 1234)] == ["1 image", "2 images", "1234 images"]


def test_per_cents_can_have_digits_and_no_space():
    assert text.format_percent(0.9444, 1, space="") == f"{0.9444:.1%}" == "94.4%"


@pytest.mark.parametrize(("names", "words"), [([], ""), (["a", "b"], "a, b"), (["a", "b", "c"], "a, b and others")])
def test_long_lists_end_in_and_others(names, words):
    assert text.list_names(names, 2) == words
