"""A CSV says what images show: one label, several or none, in whatever dialect a spreadsheet writes."""

import csv
import io

import pytest
from pictures import drawn, reasons

from headswap import InputError, load_images, tables

PICTURES = {"a.png": "red", "b.png": "blue", "c.png": "green", "in/d.png": "red"}


@pytest.fixture
def folder(tmp_path):
    """Pictures beside which a table can be written."""
    for name, colour in PICTURES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(drawn(colour))

    def write(text, name="labels.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


def shown(images):
    """File name to the names of what it shows."""
    return {name: [images.classes[i] for i in labels] for name, labels in zip(images.names, images.shown, strict=True)}


ONE_EACH = {"a.png": ["rose"], "b.png": ["tulip"], "c.png": ["rose"], "in/d.png": ["tulip"]}


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,rose\nb.png,tulip\nc.png,rose\nin/d.png,tulip\n",
        "label;filename\nrose;a.png\ntulip;b.png\nrose;c.png\ntulip;in/d.png\n",
        "path\tclass\n./a.png\trose\nb.png\ttulip\nc.png\trose\nin\\d.png\ttulip\n",
        "a.png,rose\nb.png,tulip\n\nc.png,rose\nd.png,tulip\n",
        "file,rose,tulip\na.png,1,0\nb.png,0,1\nc.png,1,0\nin/d.png,,1\n",
    ],
    ids=["commas", "semicolons", "tabs", "no header", "zeros and ones"],
)
def test_one_label_an_image_is_an_ordinary_set(folder, text):
    images = load_images(folder(text).parent)
    assert not images.multi_label and images.classes == ("rose", "tulip")
    assert shown(images) == ONE_EACH


def test_several_labels_or_none_are_kept_for_each_image(folder):
    images = load_images(folder("file,labels\na.png,red;round\nb.png,\nc.png,round|red\nin/d.png,red\n"))
    assert images.multi_label and images.classes == ("red", "round")
    assert shown(images) == {"a.png": ["red", "round"], "b.png": [], "c.png": ["red", "round"], "in/d.png": ["red"]}
    assert images.counts == {"red": 3, "round": 2}
    rows = dict(zip(images.names, images.targets.tolist(), strict=True))
    assert rows == {"a.png": [1, 1], "b.png": [0, 0], "c.png": [1, 1], "in/d.png": [1, 0]}


def test_a_table_of_any_name_can_be_given_itself(folder):
    table = folder("file,label\na.png,rose\nb.png,tulip\nc.png,rose\nd.png,tulip\n", name="july.csv")
    assert shown(load_images(table)) == ONE_EACH


def test_labels_that_other_readers_take_for_missing_are_labels(folder):
    images = load_images(folder("file,label\na.png,NA\nb.png,None\nc.png,NA\nd.png,null\n"))
    assert images.classes == ("NA", "None", "null")


def test_western_letters_of_an_old_spreadsheet_are_read(folder):
    images = load_images(folder("file;label\na.png;Früh\nb.png;Spät\n", encoding="cp1252"))
    assert images.classes == ("Früh", "Spät")


def test_what_the_table_and_the_folder_do_not_share_is_reported(folder):
    images = load_images(folder("file,label\na.png,rose\nb.png,tulip\ngone.png,rose\n"))
    assert reasons(images) == dict.fromkeys(["c.png", "in/d.png"], "is not named in labels.csv")
    assert images.report.notes == ("labels.csv names 1 image that is not there; the first is gone.png.",)


@pytest.mark.parametrize("text", ["", "only one column\n", "file\na.png\n"])
def test_a_table_without_two_columns_is_refused(folder, text):
    with pytest.raises(InputError, match=r"labels\.csv needs two columns"):
        load_images(folder(text).parent)


def test_a_table_that_is_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr(tables, "MAX_BYTES", 3)
    with pytest.raises(InputError, match=r"labels\.csv is larger"):
        load_images(folder("file,label\na.png,rose\n").parent)


def test_a_table_of_one_label_is_refused(folder):
    with pytest.raises(InputError, match="only one class, 'rose'"):
        load_images(folder("file,label\na.png,rose\nb.png,rose\n"))


@pytest.mark.parametrize(
    "name", ["../up.png", "/etc/passwd", "C:\\secret.png", "https://example.org/a.png", "..\\up.png"]
)
def test_a_table_names_only_files_inside_its_own_folder(folder, name):
    root = folder(f"file,label\n{name},rose\na.png,rose\nb.png,tulip\n").parent
    (root.parent / "up.png").write_bytes((root / "a.png").read_bytes())
    images = load_images(root)
    assert set(images.names) == {"a.png", "b.png"}
    assert reasons(images)[name.replace("\\", "/")].startswith("lies outside the folder of labels.csv")


def test_a_cell_may_hold_several_lines_and_a_name_be_written_in_two_ways(folder):
    images = load_images(folder('file,label\n"a.png","red\nrose"\nb.png,e\u0301te\u0301\nc.png,\u00e9t\u00e9\n'))
    assert images.classes == (r"red\nrose", "\u00e9t\u00e9")


def test_a_table_that_is_wider_or_longer_than_images_can_be_is_refused(folder, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_CLASSES", "3")
    with pytest.raises(InputError, match="3 columns of labels"):
        load_images(folder(f"a.png{',x' * 9}\n").parent)
    monkeypatch.setenv("HEADSWAP_MAX_IMAGES", "5")
    with pytest.raises(InputError, match="more than 5 rows"):
        load_images(folder("a.png,x\n" * 9).parent)


def test_more_classes_than_can_be_learned_are_refused(folder, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_CLASSES", "3")
    with pytest.raises(InputError, match="holds more than 3 classes"):
        load_images(folder("file,labels\na.png,a|b|c|d\nb.png,a\n").parent)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "|cmd", "\uff1d1", "%1"])
def test_no_cell_of_a_table_to_take_along_begins_a_formula(cell):
    [header, row] = csv.reader(io.StringIO(tables.written(["file"], [[cell]]), newline=""))
    assert (header, row) == (["file"], [f"'{cell}"])


def test_what_is_written_is_read_again():
    rows = [['a "b"', "x,y"], ["two\nlines", ""], ["2", "NA"]]
    assert list(csv.reader(io.StringIO(tables.written(["n", "m"], rows), newline=""))) == [["n", "m"], *rows]


def test_the_only_table_beside_the_pictures_counts_whatever_it_is_called_if_its_header_says_so(folder):
    root = folder(
        "image,class\na.png,rose\nb.png,tulip\nc.png,rose\nin/d.png,tulip\n", name="from a colleague.csv"
    ).parent
    assert shown(load_images(root)) == ONE_EACH
    assert load_images(root).report.skipped == ()


@pytest.mark.parametrize(
    "text", ["image,width\na.png,30\n", "file,label\nelsewhere.png,rose\n", "notes\n", "a.png,rose\n"]
)
def test_any_other_table_is_only_no_picture(folder, text):
    root = folder(text, name="notes.csv").parent
    (root / "out").mkdir()
    (root / "out" / "e.png").write_bytes((root / "a.png").read_bytes())
    images = load_images(root)
    assert images.classes == ("in", "out")
    assert reasons(images)["notes.csv"] == "is not a picture, by its name"
