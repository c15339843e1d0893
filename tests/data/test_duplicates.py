"""Copies of a picture are known whatever was done to them, and different pictures are not taken for copies."""

import io
from dataclasses import replace

import pytest
from drawings import SHAPES, shape
from pictures import own
from PIL import Image, ImageEnhance, ImageFilter

from headswap.data.decoding import read_pixels
from headswap.data.duplicates import group_duplicates, measure_image


def photograph(seed, size=(400, 300)):
    """Smooth light with edges, different for each seed."""
    with Image.open(io.BytesIO(own(f"{seed}.png", size))) as squares:
        return squares.convert("RGB").filter(ImageFilter.GaussianBlur(4))


def traits(picture, digest=b""):
    """What is measured of a picture in memory."""
    return measure_image(read_pixels(picture), picture.size, digest or picture.tobytes())


def compressed(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=30)
    return Image.open(stream)


COPIES = {
    "resized": lambda picture: picture.resize((200, 150)),
    "compressed again": compressed,
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.75),
    "cut at the edges": lambda picture: picture.crop((5, 4, 395, 296)),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(3)),
}


@pytest.mark.parametrize("change", COPIES)
def test_a_changed_copy_is_known_for_one(change):
    picture, others = photograph(0), [photograph(seed) for seed in range(1, 6)]
    numbers = group_duplicates([traits(each) for each in (picture, COPIES[change](picture), *others)])
    assert numbers == [0, 0, 1, 2, 3, 4, 5]


def test_different_pictures_are_no_copies():
    pictures = [photograph(seed) for seed in range(60)]
    assert group_duplicates([traits(picture) for picture in pictures]) == list(range(60))


def test_pictures_of_one_hue_are_told_apart_by_their_files_alone():
    red, blue = (Image.new("RGB", (300, 300), colour) for colour in ("red", "blue"))
    assert group_duplicates([traits(red), traits(blue), traits(red)]) == [0, 1, 0]


def test_equal_files_are_copies_and_hang_together_through_others():
    first, second, third = (traits(photograph(seed)) for seed in range(3))
    assert group_duplicates([first, replace(second, file_digest=first.file_digest), third]) == [0, 0, 1]
    assert group_duplicates([first, second, third], ["burst", None, "burst"]) == [0, 1, 0]
    assert group_duplicates([first, second, third, first], [None, "a", None, "a"]) == [0, 0, 1, 0]
    assert group_duplicates([]) == []


def test_hundreds_of_copies_are_one_group():
    one = traits(photograph(0))
    many = [replace(one, file_digest=bytes([i % 256, i // 256])) for i in range(700)]
    assert set(group_duplicates([*many, traits(photograph(1))])) == {0, 1}
    assert group_duplicates(many) == [0] * 700


def test_light_contrast_and_sharpness_are_measured():
    assert traits(Image.new("RGB", (300, 300), "black")).brightness == 0
    assert traits(Image.new("RGB", (300, 300), "white")).brightness >= 254
    picture = Image.effect_noise((400, 300), 60).convert("RGB")
    soft = picture.filter(ImageFilter.GaussianBlur(2))
    assert traits(soft).sharpness < traits(picture).sharpness
    assert traits(ImageEnhance.Contrast(picture).enhance(0.2)).contrast < traits(picture).contrast / 3
    assert traits(picture).size == (400, 300)


def test_the_shapes_that_other_tests_learn_from_are_no_copies():
    pictures = [shape(name, number) for name in SHAPES for number in range(10)]
    assert group_duplicates([traits(picture) for picture in pictures]) == list(range(30))
