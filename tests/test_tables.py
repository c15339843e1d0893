"""A CSV says what images show: one label, several or none, in whatever dialect a spreadsheet writes."""

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
