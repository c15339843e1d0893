"""Classes are names in an order, or how many there are; whatever else is given is refused with what to give."""

import enum
import types

import numpy as np
import pytest
import torch

from headswap.data.class_names import validate_class_names


class Kind(str, enum.Enum):
    CAT, DOG = "cat", "dog"


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog"],
        ("cat", "dog"),
        np.array(["cat", "dog"]),
        np.array(["cat", "dog"], dtype=object),
        {"cat": 0, "dog": 1}.keys(),
        (name for name in ("cat", "dog")),
        Kind,
    ],
)
def test_names_in_an_order_are_understood_and_are_plain_text(classes):
    names = validate_class_names(classes)
    assert names == ("cat", "dog") and [type(name) for name in names] == [str, str]


@pytest.mark.parametrize("number", [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2)])
def test_a_whole_number_of_any_library_says_how_many(number):
    assert validate_class_names(number) == ("class 1", "class 2")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ("cat,dog", r"\['cat', 'dog'\], or how many there are, not the text 'cat,dog'"),
        (b"cat", "not the text b'cat'"),
        ({"cat", "dog"}, r"no order.*sorted\(classes\)"),
        (frozenset(["cat"]), "no order"),
        ({"cat": 0, "dog": 1}, "a list of the names in the order of the logits"),
        (types.SimpleNamespace(classes=("cat", "dog")), r"classes=images\.classes"),
        ([1, 2], "is a text, such as '1', not 1"),
        (["cat", 2], "not 2"),
        (["cat", None], "not None"),
        ([["cat"], ["dog"]], r"not \['cat'\]"),
        (np.array([0, 1]), "is a text"),
        (["cat", ""], "not an empty one"),
        (["cat", " \t"], "not an empty one"),
        (["cat", "dog", "cat"], "not 'cat' twice"),
        (["cat"], r"not \['cat'\]"),
        ([], r"not \[\]"),
        (True, "or how many there are, not True"),
        (np.bool_(True), "or how many there are, not"),
        (2.0, "or how many there are, not 2.0"),
        (np.float64(2), "or how many there are, not"),
        (None, "or how many there are, not None"),
        (-3, "at least two classes, each with a name of its own, not -3"),
        (1, "not 1"),
        (10**12, "at most 65,536 classes, not 1,000,000,000,000"),
        ([str(n) for n in range(70_000)], "at most 65,536 classes, not 70,000"),
    ],
)
def test_anything_else_is_refused_with_what_to_give(classes, words):
    with pytest.raises(ValueError, match=words) as refused:
        validate_class_names(classes)
    assert len(str(refused.value)) < 300
