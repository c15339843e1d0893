"""Before anything is trained, what is wrong with the images is said, with what to do about it."""

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import own
from PIL import Image, ImageFilter

import headswap
from headswap.data import checks
from headswap.data.checks import CheckContext, Finding, check, count_leaking_pairs, register_check
from headswap.data.dataset import LabelledImages
from headswap.data.loading import load_files_with_progress, load_images


def picture(seed, size=(400, 300)):
    """Soft squares with grain, different for each seed; of another size the same picture, taken again."""
    with Image.open(io.BytesIO(own(f"{seed}.png", size))) as squares:
        soft = squares.convert("RGB").filter(ImageFilter.GaussianBlur(size[0] / 100))
    grain = Image.frombytes("RGB", size, random.Random(f"{seed} {size}").randbytes(3 * size[0] * size[1]))
    return Image.blend(soft, grain, 0.15)


@pytest.fixture
def folder(tmp_path):
    """Writes pictures by name into a folder; ten different ones of each of two classes stand there already."""

    def write(pictures=(), plain=10):
        for label in ("rose", "tulip"):
            (tmp_path / label).mkdir(exist_ok=True)
            for i in range(plain):
                picture(f"{label} {i}").save(tmp_path / label / f"{i}.png")
        for name, image in dict(pictures).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / name)
        return load_images(tmp_path)

    return write


def found(images: LabelledImages, **options):
    """The findings by kind; each says something and ends with advice."""
    all_of_them = check(images, **options)
    for finding in all_of_them:
        assert str(finding).endswith(".") and finding.sentence.endswith(".") and finding.advice.endswith(".")
        assert all(0 <= i < len(images) for places in finding.index_groups for i in places)
    return {finding.kind: finding for finding in all_of_them}


def names(images, finding):
    return [tuple(images.names[i] for i in places) for places in finding.index_groups]


def test_nothing_is_found_where_all_is_well(folder):
    assert check(folder()) == []


def test_the_same_picture_in_two_classes_is_shown_side_by_side(folder):
    images = folder({"rose/x.jpg": picture("x"), "tulip/y.png": picture("x", (200, 150))})
    assert found(images).keys() == {"contradictions"}
    finding = found(images)["contradictions"]
    assert "rose, tulip" in finding.sentence and "Which is right?" in finding.advice
    assert names(images, finding) == [("rose/x.jpg", "tulip/y.png")]
    assert check(images.without(finding.index_groups[0][:1])) == []


def test_copies_in_one_class_stay_together(folder):
    images = folder({f"rose/x{i}.jpg": picture("x", (400 - 50 * i, 300)) for i in range(3)})
    finding = found(images)["copies"]
    assert finding.sentence == "2 images are copies, or nearly so, of others."
    assert names(images, finding) == [("rose/x0.jpg", "rose/x1.jpg", "rose/x2.jpg")]
    together = {images.groups[i] for i in finding.index_groups[0]}
    assert len(together) == 1
    for seed in range(10):
        learned, checked = images.split(seed=seed)
        assert not together <= {*learned.groups} or not together <= {*checked.groups}


def test_pairs_that_a_split_by_lot_would_tear_apart_are_counted(folder):
    images = folder({f"{label}/x{i}.jpg": picture(f"x {i}") for label in ("rose", "tulip") for i in range(10)}, plain=5)
    assert 0 < count_leaking_pairs(images) <= 10
    assert count_leaking_pairs(folder().subset(range(5))) == 0
    assert count_leaking_pairs(images.subset([0])) == 0


def test_copies_across_the_validation_folder_are_told(folder):
    halves = {
        f"{half}/{label}/{i}.png": picture(f"{half} {label} {i}")
        for half in ("train", "val")
        for label in ("oak", "elm")
        for i in range(10)
    }
    images = folder({**halves, "val/oak/x.jpg": halves["train/oak/3.png"]}, plain=0)
    finding = found(images)["leaks"]
    assert "1 image of the validation folder is a copy" in finding.sentence
    assert names(images, finding) == [("train/oak/3.png", "val/oak/x.jpg")]


def test_the_frames_of_a_burst_are_no_copies_and_yet_one_group(tmp_path):
    files = []
    for i in range(12):
        picture(f"rose {i // 6}").save(tmp_path / f"{i}.png", compress_level=i % 6)
        files.append((f"{i}.png", tmp_path / f"{i}.png", f"burst {i // 6}"))
    *_, images = load_files_with_progress(files, class_name="rose", min_classes=1)
    assert images.groups == (0,) * 6 + (1,) * 6
    assert "copies" not in found(images)


def test_few_images_and_uneven_classes_are_said_with_their_numbers(folder):
    images = folder({f"daisy/{i}.png": picture(f"daisy {i}") for i in range(2)})
    assert "daisy 2" in found(images)["few"].sentence
    assert found(images)["uneven"].sentence == "rose has 5 times as many images as daisy."
    assert "Add images of daisy" in found(images)["uneven"].advice


def test_small_pictures_are_those_of_less_than_half_the_networks_input(folder):
    images = folder({"rose/small.png": picture("small", (100, 300))})
    assert names(images, found(images)["small"]) == [("rose/small.png",)]
    assert "224 pixels" in found(images)["small"].sentence
    assert "small" not in found(images, input_size=128)
    with pytest.warns(DeprecationWarning, match="input_size"):
        assert "small" not in found(images, side=128)


def test_dark_and_blurred_pictures_are_found(folder):
    images = folder(
        {
            "rose/dark.png": picture("dark").point(lambda value: value // 20),
            "tulip/blurred.png": picture("blurred").filter(ImageFilter.GaussianBlur(9)),
        }
    )
    assert names(images, found(images)["dark"]) == [("rose/dark.png",)]
    assert names(images, found(images)["blurred"]) == [("tulip/blurred.png",)]


def test_an_even_drawing_and_an_enlarged_picture_are_not_blurred(folder):
    images = folder(
        {
            "rose/paper.png": Image.new("RGB", (400, 300), "beige"),
            "rose/tiny.png": picture("tiny").filter(ImageFilter.GaussianBlur(9)).resize((120, 120)),
        }
    )
    assert "blurred" not in found(images)


def test_one_odd_image_out_is_found(folder):
    alike = {
        f"sky/{i}.png": Image.blend(Image.new("RGB", (300, 300), (120, 160, 220)), picture(f"sky {i}", (300, 300)), 0.1)
        for i in range(12)
    }
    images = folder({**alike, "sky/receipt.png": Image.new("RGB", (300, 300), "white")})
    assert names(images, found(images)["odd"]) == [("sky/receipt.png",)]
    assert "odd" not in found(images.without(found(images)["odd"].index_groups[0]))


def test_images_of_several_labels_contradict_by_all_their_labels(folder):
    images = folder({"rose/x.jpg": picture("x"), "tulip/y.png": picture("x", (200, 150))}).as_multi_label()
    assert "contradictions" in found(images)
    place = images.names.index("tulip/y.png")
    both = images.with_labels([("rose",) if i == place else names for i, names in enumerate(images.label_names)])
    assert "contradictions" not in found(both)


def test_what_a_person_removes_is_no_longer_found(folder):
    images = folder({"rose/x.jpg": picture("x"), "rose/y.png": picture("x", (200, 150))})
    assert found(images).keys() == {"copies"}
    assert check(replace(images).without([images.names.index("rose/y.png")])) == []


# A check of one's own


@pytest.fixture
def own_checks(monkeypatch):
    """The table of checks, to which more may be added in this test alone."""
    table = dict(checks.CHECKS)
    monkeypatch.setattr(checks, "_CHECKS", table)
    monkeypatch.setattr(checks, "CHECKS", table)
    return table


def test_the_documents_check_is_one_decorated_function_of_ten_lines_at_most(folder, own_checks):
    page = (Path(__file__).parents[2] / "docs/data.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(@headswap\.register_check.*?)```", page, re.DOTALL)
    assert len(example.splitlines()) <= 10
    exec(example, {"headswap": headswap})
    images = folder({"rose/wide.png": picture("wide", (900, 250)), "rose/dark.png": Image.new("RGB", (300, 300))})
    finding = found(images)["wide"]
    assert finding.sentence == "1 image is more than three times as wide as high."
    assert names(images, finding) == [("rose/wide.png",)]
    assert [each.kind for each in check(images)] == ["wide", "dark"]
    assert "wide" not in found(images.without([images.names.index("rose/wide.png")]))


def test_a_check_is_given_what_all_checks_share_and_comes_last_unless_it_says_so(folder, own_checks):
    seen = []

    @register_check("mine")
    def mine(context: CheckContext) -> Finding:
        seen.append(context)
        return Finding("mine", "Something is so.", "Do something.")

    images = folder({"rose/x.jpg": picture("x"), "rose/y.png": picture("x", (200, 150))})
    assert [finding.kind for finding in check(images, 100)] == ["copies", "mine"]
    ((context,), pair) = seen, [images.names.index(name) for name in ("rose/x.jpg", "rose/y.png")]
    assert (context.images, context.copies, context.input_size) == (images, (tuple(pair),), 100)


def test_built_in_checks_are_in_the_same_table_the_gravest_first():
    gravest_first = sorted(checks.CHECKS, key=lambda name: -checks.CHECKS[name].severity)
    built_in = ["contradictions", "leaks", "few", "uneven", "copies", "small", "dark", "blurred", "odd"]
    assert [name for name in gravest_first if name in built_in] == built_in


@pytest.mark.parametrize("name", ["dark", "", "my check"])
def test_a_checks_name_is_a_word_of_its_own(name, own_checks):
    before = list(own_checks)
    with pytest.raises(ValueError, match="a word of its own"):
        register_check(name)
    assert set(own_checks) == set(before)
