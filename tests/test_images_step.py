"""What the images step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import gc
import zipfile
from pathlib import Path

import gradio as gr
import pytest
import torch
from visiting import is_error, text_of

from headswap.reading import load_images
from headswap.ui import images_step
from headswap.ui.visitors import Visitor


def test_the_sample_is_read():
    visitor = Visitor()
    problem, shown, onward = images_step.load_sample(visitor)
    assert problem == ""
    assert visitor.images.counts == {"healthy": 30, "mildew": 30, "rust": 30}
    assert "90 images in 3 classes" in text_of(shown)
    assert onward.interactive


def test_classes_with_the_same_file_names_are_kept_apart(upload, fruits):
    visitor = Visitor()
    sent = upload({f"fruits/{file.relative_to(fruits).as_posix()}": file for file in sorted(fruits.rglob("*.png"))})
    problem, shown, onward = images_step.read_files(visitor, sent)
    assert problem == ""
    assert visitor.images.counts == {"blue": 4, "green": 4, "red": 4}
    assert {Path(name).name for name in visitor.images.names} == {"1.png", "2.png", "3.png", "4.png"}
    words = text_of(shown)
    for each in ("12 images in 3 classes", "blue4 images", "green4 images", "red4 images", "9 to learn from, 3 to"):
        assert each in words
    assert shown.count("data:image/jpeg;base64,") == 12
    assert onward.interactive
    for label, name in enumerate(visitor.images.classes):
        first = visitor.images.labels.index(label)
        centre = visitor.images.pixels(first).float().mean((1, 2))
        assert centre.argmax() == ("red", "green", "blue").index(name)


def test_uploads_are_gone_once_they_have_been_read(upload, fruits):
    sent = upload({f"fruits/{file.parent.name}/{file.name}": file for file in fruits.rglob("*.png")})
    images_step.read_files(Visitor(), sent)
    assert not [path for path in upload.home.rglob("*") if path.is_file()]


def test_a_zip_is_read_under_the_name_that_the_person_gave_it(upload, fruits, tmp_path):
    with zipfile.ZipFile(tmp_path / "fruits.zip", "w") as archive:
        for file in fruits.rglob("*.png"):
            archive.write(file, file.relative_to(fruits.parent))
    visitor = Visitor()
    problem, _, _ = images_step.read_files(visitor, upload({"My Fruits.ZIP": tmp_path / "fruits.zip"}))
    assert problem == ""
    assert visitor.images.counts == {"blue": 4, "green": 4, "red": 4}


def test_what_was_left_out_is_named_with_its_reason(upload, fruits, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    files = {f"fruits/{file.parent.name}/{file.name}": file for file in fruits.rglob("*.png")}
    files |= {"fruits/red/notes.txt": tmp_path / "notes.txt", "fruits/red/torn.png": tmp_path / "torn.png"}
    _, shown, _ = images_step.read_files(Visitor(), upload(files))
    words = text_of(shown)
    assert "2 files left out" in words
    assert "fruits/red/notes.txt: is not a picture" in words
    assert "fruits/red/torn.png: is damaged" in words


def bad(kind, fruits, tmp_path):
    """Files of an upload that cannot be used, by their relative names."""
    pictures = sorted(fruits.rglob("*.png"))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "corrupt.zip").write_bytes(b"PK\x03\x04 and then nothing that makes sense")
    return {
        "nothing": {},
        "no image": {"fruits/red/notes.txt": tmp_path / "notes.txt"},
        "loose images": {"1.png": pictures[0], "2.png": pictures[5]},
        "one class": {"fruits/red/1.png": pictures[0], "fruits/red/2.png": pictures[1]},
        "a class with one image": {
            "f/red/1.png": pictures[0],
            "f/blue/1.png": pictures[4],
            "f/blue/2.png": pictures[5],
        },
        "corrupt zip": {"My leaves.zip": tmp_path / "corrupt.zip"},
        "a name that leads outside": {"../red/1.png": pictures[0], "../blue/1.png": pictures[4]},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", "holds no image"),
        ("no image", "fruits/red/notes.txt"),
        ("loose images", "lying loose"),
        ("one class", "only one class, 'red'"),
        ("a class with one image", "class 'red' has one image"),
        ("corrupt zip", "My leaves.zip is not a zip or is damaged"),
        ("a name that leads outside", "leads outside"),
    ],
)
def test_a_bad_upload_says_why_and_leaves_what_was_there(upload, fruits, tmp_path, temporary, kind, words):
    visitor = Visitor(images=(before := load_images(fruits)))
    sent = upload(bad(kind, fruits, tmp_path))
    problem, shown, onward = images_step.read_files(visitor, sent)
    assert is_error(problem)
    assert words in text_of(problem)
    assert (shown, onward) == (gr.skip(), gr.skip())
    assert visitor.images is before
    assert before.pixels(0).shape[0] == 3
    assert not any(Path(each["path"]).exists() for each in sent)
    assert not any(Path(each["path"]).name in problem for each in sent)
    gc.collect()
    assert list(temporary.iterdir()) == [before.paths[0].parent]


def test_a_list_that_is_no_list_says_so_and_leaves_what_was_there(visitor, upload):
    before = visitor.images
    for garbage in (None, [{"name": "a.png"}], [{"name": "a.png", "path": "/etc/hostname"}]):
        problem, shown, onward = images_step.read_files(visitor, garbage)
        assert is_error(problem)
        assert (shown, onward) == (gr.skip(), gr.skip())
    assert visitor.images is before


def test_the_error_goes_when_good_images_come(upload, fruits):
    visitor = Visitor()
    assert is_error(images_step.read_files(visitor, [])[0])
    sent = upload({f"{file.parent.name}/{file.name}": file for file in fruits.rglob("*.png")})
    assert images_step.read_files(visitor, sent)[0] == ""


def test_whoever_comes_back_finds_their_images(visitor):
    problem, shown, onward = images_step.welcome(visitor)
    assert (problem, shown) == ("", images_step.describe(visitor.images))
    assert onward.interactive
    assert images_step.welcome(Visitor()) == ("", gr.skip(), gr.skip())


def test_a_thumbnail_is_a_small_square():
    tall = torch.zeros(3, 400, 100, dtype=torch.uint8)
    assert images_step.thumbnail(tall, 20).startswith("data:image/jpeg;base64,")
    assert len(images_step.thumbnail(tall, 20)) < 1500


# Several labels an image


def test_labels_are_understood_like_classes(tagged):
    words = text_of(images_step.describe(tagged))
    assert "12 images in 4 classes" in words
    assert "dark6 images" in words
