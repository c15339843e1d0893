"""What the images step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import base64
import gc
import re
import zipfile
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pictures import folder
from visiting import is_error, text_of

from headswap.data.loading import load_images
from headswap.ui.panels.browser_events import parse_dataset_edit, parse_images_upload
from headswap.ui.sessions.session import Session
from headswap.ui.steps import images
from headswap.ui.steps.images import ImagesUpdate
from headswap.ui.views.dataset import render_dataset, render_empty_dataset
from headswap.ui.views.html import make_thumbnail_url


def read(visitor, files, label="", add=False):
    """What the step says in the end of files that the drop area sent: the problem, what is shown, and the way on."""
    sent = parse_images_upload(SimpleNamespace(files=files, label=label, add=add))
    *_, last = images.load_uploads(visitor, sent)
    at_once, onward = last.train_now_button, last.next_button
    assert at_once == onward or at_once.interactive == onward.interactive
    assert last.picker.props["finished"]  # the drop area stops saying that it is busy
    return last.problem, last.dataset_summary, onward


def edit(visitor, **asked):
    """The same of a press on a class or an image."""
    shown = images.edit_dataset(visitor, parse_dataset_edit(SimpleNamespace(**asked)))
    return shown.problem, shown.dataset_summary, shown.train_now_button


def asked_for(shown):
    """The buttons in it, as what they ask for."""
    tags = re.findall(r"<button ([^>]*)>", shown)
    return [{key: unescape(value) for key, value in re.findall(r'data-(\w+)="([^"]*)"', tag)} for tag in tags]


def test_the_sample_is_read():
    visitor = Session()
    *_, last = images.load_sample(visitor)
    shown, onward = last.dataset_summary, last.next_button
    assert last.problem == ""
    assert visitor.images.counts == {"healthy": 30, "mildew": 30, "rust": 30}
    assert "90 images in 3 classes" in text_of(shown)
    assert onward.interactive


def test_classes_with_the_same_file_names_are_kept_apart(upload, fruits):
    visitor = Session()
    sent = upload({f"fruits/{file.relative_to(fruits).as_posix()}": file for file in sorted(fruits.rglob("*.png"))})
    problem, shown, onward = read(visitor, sent)
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
    read(Session(), sent)
    assert not [path for path in upload.home.rglob("*") if path.is_file()]


def test_a_zip_is_read_under_the_name_that_the_person_gave_it(upload, fruits, tmp_path):
    with zipfile.ZipFile(tmp_path / "fruits.zip", "w") as archive:
        for file in fruits.rglob("*.png"):
            archive.write(file, file.relative_to(fruits.parent))
    visitor = Session()
    problem, _, _ = read(visitor, upload({"My Fruits.ZIP": tmp_path / "fruits.zip"}))
    assert problem == ""
    assert visitor.images.counts == {"blue": 4, "green": 4, "red": 4}


def test_what_was_left_out_is_named_with_its_reason(upload, fruits, tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    files = {f"fruits/{file.parent.name}/{file.name}": file for file in fruits.rglob("*.png")}
    files |= {"fruits/red/notes.txt": tmp_path / "notes.txt", "fruits/red/torn.png": tmp_path / "torn.png"}
    _, shown, _ = read(Session(), upload(files))
    words = text_of(shown)
    assert "2 files left out" in words
    assert "fruits/red/notes.txtis not a picture" in words
    assert "fruits/red/torn.pngis damaged" in words


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
        ("one class", "only one class, 'red'. Add another"),
        ("a class with one image", "class 'red' has one image"),
        ("corrupt zip", "My leaves.zip is not a zip or tar.gz, or is damaged"),
        ("a name that leads outside", "leads outside"),
    ],
)
def test_a_bad_upload_says_why_and_leaves_what_was_there(upload, fruits, tmp_path, temporary, kind, words):
    visitor = Session(images=(before := load_images(fruits)))
    sent = upload(bad(kind, fruits, tmp_path))
    problem, shown, onward = read(visitor, sent)
    assert is_error(problem)
    assert words in text_of(problem)
    assert (shown, onward) == (None, None)
    assert visitor.images is before
    assert before.pixels(0).shape[0] == 3
    assert not any(Path(each["path"]).exists() for each in sent)
    assert not any(Path(each["path"]).name in problem for each in sent)
    gc.collect()
    assert list(temporary.iterdir()) == [before.paths[0].parent]


def test_a_list_that_is_no_list_says_so_and_leaves_what_was_there(visitor, upload):
    before = visitor.images
    for garbage in (None, [{"name": "a.png"}], [{"name": "a.png", "path": "/etc/hostname"}]):
        problem, shown, onward = read(visitor, garbage)
        assert is_error(problem)
        assert (shown, onward) == (None, None)
    assert visitor.images is before


def test_the_error_goes_when_good_images_come(upload, fruits):
    visitor = Session()
    assert is_error(read(visitor, [])[0])
    sent = upload({f"{file.parent.name}/{file.name}": file for file in fruits.rglob("*.png")})
    assert read(visitor, sent)[0] == ""


def test_whoever_comes_back_finds_their_images(visitor):
    now = images.refresh(visitor)
    assert (now.problem, now.dataset_summary) == ("", render_dataset(visitor.images))
    assert now.next_button.interactive and now.picker.props["loaded"]
    now = images.refresh(Session())
    assert (now.problem, now.dataset_summary) == ("", render_empty_dataset())
    assert not now.next_button.interactive and not now.picker.props["loaded"]


def test_a_thumbnail_is_a_small_square():
    tall = torch.zeros(3, 400, 100, dtype=torch.uint8)
    assert make_thumbnail_url(tall, 20).startswith("data:image/jpeg;base64,")
    assert len(make_thumbnail_url(tall, 20)) < 1500


# Adding, and putting right


def pictures(upload, tmp_path, *names, burst=""):
    """Uploads of pictures of their own, by these names."""
    folder(tmp_path, *names)
    return [{**each, "burst": burst} for each in upload({name: tmp_path / name for name in names})]


def test_a_class_is_begun_by_its_name_and_cannot_be_learned_alone(upload, tmp_path):
    visitor = Session()
    problem, shown, onward = read(visitor, pictures(upload, tmp_path, "a.png", "b.png"), label=" train ")
    assert problem == ""
    assert visitor.images.counts == {"train": 2}  # no name means something else where it is typed as a class
    assert "only one class, 'train'" in text_of(shown)
    assert not onward.interactive
    _, shown, onward = read(visitor, pictures(upload, tmp_path, "c.png", "d.png"), label="../<b>", add=True)
    assert visitor.images.counts == {"../<b>": 2, "train": 2}
    assert onward.interactive
    assert "2 to learn from, 2 to check on" in text_of(shown)


def test_images_are_added_to_what_is_loaded_and_share_its_files(visitor, upload, tmp_path):
    before = visitor.images
    read(visitor, pictures(upload, tmp_path, "x/red/new.png", "x/white/1.png", "x/white/2.png"), add=True)
    assert visitor.images.counts == before.counts | {"red": before.counts["red"] + 1, "white": 2}
    assert visitor.images.shares_files_with(before)
    read(visitor, pictures(upload, tmp_path, "x/red/a.png", "x/red/b.png", "x/oak/a.png", "x/oak/b.png"))
    assert visitor.images.counts == {"oak": 2, "red": 2}


def test_what_is_added_in_vain_leaves_what_was_there(visitor, upload, tmp_path):
    before, kept = visitor.images, set(visitor.images.paths[0].parent.iterdir())
    (tmp_path / "torn.png").write_bytes(b"torn")
    problem, *_ = read(visitor, upload({"torn.png": tmp_path / "torn.png"}), label="red", add=True)
    assert is_error(problem) and "torn.png" in text_of(problem)
    assert visitor.images is before
    assert set(before.paths[0].parent.iterdir()) == kept


def test_reading_can_be_stopped_and_leaves_nothing(visitor, upload, tmp_path, temporary):
    before, kept = visitor.images, sorted(temporary.rglob("*"))
    sent = pictures(upload, tmp_path, *(f"{label}/{i}.png" for label in "ab" for i in range(60)))
    steps = images.load_uploads(visitor, parse_images_upload(SimpleNamespace(files=sent, label="", add=False)))
    first = next(steps)
    assert first == ImagesUpdate(picker=first.picker) and first.picker.props["progress"].startswith("Reading")
    steps.close()
    gc.collect()
    assert visitor.images is before
    assert sorted(temporary.rglob("*")) == kept
    assert not [path for path in upload.home.rglob("*") if path.is_file()]


def test_a_burst_stays_on_one_side_and_a_class_wants_two(visitor, upload, tmp_path):
    first = pictures(upload, tmp_path, *(f"{i}.png" for i in range(6)), burst="one")
    _, shown, onward = read(visitor, first, label="me", add=True)
    assert "All images of 'me' come from one burst of the camera. Take another" in text_of(shown)
    assert not onward.interactive
    second = pictures(upload, tmp_path, *(f"x{i}.png" for i in range(4)), burst="two")
    _, shown, onward = read(visitor, second, label="me", add=True)
    assert onward.interactive
    assert "The frames of 2 bursts of the camera stay together" in text_of(shown)
    learned, checked = visitor.images.split()
    assert {*learned.bursts} - {""} == {"one"} and {*checked.bursts} - {""} == {"two"}


def test_a_class_is_renamed_joined_with_another_and_removed(visitor):
    before = visitor.images
    _, shown, _ = edit(visitor, do="rename", label="red", name=" <i>cherry</i> ")
    assert visitor.images.counts == {"<i>cherry</i>": 4, "blue": 4, "green": 4}
    assert "<i>" not in shown and "<i>cherry</i>" in text_of(shown)
    edit(visitor, do="rename", label="<i>cherry</i>", name="green")
    assert visitor.images.counts == {"blue": 4, "green": 8}
    edit(visitor, do="remove class", label="blue")
    assert visitor.images.counts == {"green": 8}
    edit(visitor, do="undo")
    assert visitor.images.counts == {"blue": 4, "green": 8}
    assert before.counts == {"blue": 4, "green": 4, "red": 4}


def test_one_change_can_be_undone_and_a_button_says_so(visitor):
    before = visitor.images
    assert {"do": "undo"} not in asked_for(render_dataset(before))
    _, shown, _ = edit(visitor, do="remove class", label="red")
    assert {"do": "undo"} in asked_for(shown)
    _, shown, _ = edit(visitor, do="undo")
    assert visitor.images is before
    assert {"do": "undo"} not in asked_for(shown)
    edit(visitor, do="undo")
    assert visitor.images is before


def test_an_image_is_removed_by_a_press_where_a_class_is_opened(visitor):
    _, shown, _ = edit(visitor, do="open", label="red")
    offered = [ask for ask in asked_for(shown) if ask["do"] == "remove"]
    assert len(offered) == 4
    edit(visitor, do="remove", images=[offered[0]["images"]])
    assert visitor.images.counts["red"] == 3
    assert visitor.expanded_class == "red"
    edit(visitor, do="open", label="red")
    assert visitor.expanded_class is None


def test_what_is_found_is_shown_and_mended_by_a_press(upload, tmp_path):
    folder(tmp_path, *(f"{label}/{i}.png" for label in ("oak", "elm") for i in range(10)))
    (tmp_path / "elm/twin.png").write_bytes((tmp_path / "oak/3.png").read_bytes())
    visitor = Session()
    files = {file.relative_to(tmp_path).as_posix(): file for file in tmp_path.glob("[oe]*/*.png")}
    _, shown, _ = read(visitor, upload(files))
    assert "The same picture stands in several classes: elm, oak." in text_of(shown)
    twin = visitor.images.paths[visitor.images.names.index("elm/twin.png")].stem
    assert {"do": "remove", "images": twin} in asked_for(shown)
    _, shown, _ = edit(visitor, do="remove", images=[twin])
    assert "several classes" not in text_of(shown)


def test_everything_can_be_let_go_of(visitor, temporary):
    _, shown, onward = edit(visitor, do="forget")
    assert visitor.images is None
    assert shown == render_empty_dataset() and not onward.interactive
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"do": "open", "label": "nobody"},
        {"do": "rename", "label": "red", "name": "  "},
        {"do": "rename"},
        {"do": "remove", "images": ["nothing"]},
        {"do": "remove", "images": "red"},
        {"do": 3, "label": ["red"]},
    ],
)
def test_a_press_on_what_is_gone_changes_nothing(visitor, asked):
    before = visitor.images.counts
    problem, *_ = edit(visitor, **asked)
    assert problem == "" and visitor.images.counts == before


def test_the_table_of_what_was_left_out_starts_no_formula(upload, fruits, tmp_path):
    files = {f"fruits/{file.parent.name}/{file.name}": file for file in fruits.rglob("*.png")}
    (tmp_path / "torn").write_bytes(b"torn")
    visitor = Session()
    _, shown, _ = read(visitor, upload(files | {'=HYPERLINK("x")/a.png': tmp_path / "torn"}))
    [table] = re.findall(r'download="left-out.csv" href="data:text/csv;base64,([^"]+)"', shown)
    lines = base64.b64decode(table).decode("utf-8-sig").splitlines()
    assert lines == [
        "file,why it was left out",
        '"\'=HYPERLINK(""x"")/a.png",lies outside the class folders',
    ] or lines[1].startswith("\"'=HYPERLINK")


# Several labels an image


def test_labels_are_understood_like_classes(tagged):
    words = text_of(render_dataset(tagged))
    assert "12 images in 4 classes" in words
    assert "dark6 images" in words
