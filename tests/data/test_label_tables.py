"""A CSV says what images show: one label, several or none, in whatever dialect a spreadsheet writes."""

import csv
import io

import pytest
from pictures import drawn, own, reasons
from pictures import folder as drawn_folder

from headswap import InputError, load_images
from headswap.data import csv_tables

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
    return {
        name: [images.classes[i] for i in labels] for name, labels in zip(images.names, images.label_sets, strict=True)
    }


ONE_EACH = {"a.png": ["rose"], "b.png": ["tulip"], "c.png": ["rose"], "in/d.png": ["tulip"]}


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,rose\nb.png,tulip\nc.png,rose\nin/d.png,tulip\n",
        "label;filename\nrose;a.png\ntulip;b.png\nrose;c.png\ntulip;in/d.png\n",
        "path\tclass\n./a.png\trose\nb.png\ttulip\nc.png\trose\nin\\d.png\ttulip\n",
        "a.png,rose\nb.png,tulip\n\nc.png,rose\nd.png,tulip\n",
        "sep=;\r\nfile;label\r\na.png;rose\r\nb.png;tulip\r\nc.png;rose\r\nin/d.png;tulip\r\n",
        "file,rose,tulip\na.png,1,0\nb.png,0,1\nc.png,1,0\nin/d.png,,1\n",
    ],
    ids=["commas", "semicolons", "tabs", "no header", "as Excel separates", "zeros and ones"],
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
    monkeypatch.setattr(csv_tables, "MAX_TABLE_BYTES", 3)
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
    [header, row] = csv.reader(io.StringIO(csv_tables.format_csv(["file"], [[cell]]), newline=""))
    assert (header, row) == (["file"], [f"'{cell}"])


def test_what_is_written_is_read_again():
    rows = [['a "b"', "x,y"], ["two\nlines", ""], ["2", "NA"]]
    assert list(csv.reader(io.StringIO(csv_tables.format_csv(["n", "m"], rows), newline=""))) == [["n", "m"], *rows]


def test_the_only_table_beside_the_pictures_counts_whatever_it_is_called_if_its_header_says_so(folder):
    root = folder(
        "image,class\na.png,rose\nb.png,tulip\nc.png,rose\nin/d.png,tulip\n", name="from a colleague.csv"
    ).parent
    assert shown(load_images(root)) == ONE_EACH
    assert load_images(root).report.skipped == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("image,width\na.png,30\n", "whose header does not say"),
        ("file,label\nelsewhere.png,rose\n", "names no picture here"),
        ("notes\n", "is not a picture, nor a table"),
        ("a.png,rose\n", "whose header does not say"),
        ("image,taken_by\na.png,0.5\nb.png,0.25\nc.png,0.75\n", "whose header does not say"),
    ],
)
def test_any_other_table_beside_class_folders_is_passed_over_and_the_reason_told(folder, text, what):
    root = folder(text, name="notes.csv").parent
    (root / "out").mkdir()
    (root / "out" / "e.png").write_bytes((root / "a.png").read_bytes())
    images = load_images(root)
    assert images.classes == ("in", "out")
    assert what in reasons(images)["notes.csv"]


# Which column is what


def twelve(folder, header, row, name="labels.csv", **options):
    """What a table says of twelve pictures that lie beside it."""
    text = "".join(f"{row(i)}\n" for i in range(12))
    root = folder(f"{header}\n{text}" if header else text, name=name).parent
    for old in PICTURES:
        (root / old).unlink(missing_ok=True)
    for i in range(12):
        (root / f"im{i}.jpg").write_bytes(own(f"{i}.jpg"))
    return load_images(root, **options)


def kind(i):
    return ("cat", "dog")[i % 2]


@pytest.mark.parametrize(
    ("header", "row", "idle"),
    [
        ("filename,label,is_valid", lambda i: f"im{i}.jpg,{i % 2},{int(i > 8)}", "column is_valid is"),
        ("filename,label,age,is_valid", lambda i: f"im{i}.jpg,{i % 2},{i},{i > 8}", "columns age and is_valid are"),
        (",file,label", lambda i: f"{i},im{i}.jpg,{i % 2}", "column 1 is"),
        ("label,rose,tulip,file", lambda i: f"{i % 2},1,0,im{i}.jpg", "columns rose and tulip are"),
        ("image,sex,class,width", lambda i: f"im{i}.jpg,{'mf'[i % 3 > 1]},{i % 2},30", "columns sex and width are"),
    ],
)
def test_a_named_label_column_is_the_label_whatever_other_columns_hold(folder, header, row, idle):
    images = twelve(folder, header, row)
    assert images.classes == ("0", "1") and not images.multi_label
    name = "class" if "class" in header else "label"
    assert images.report.interpretation == (f"labels.csv: column {name}, 2 classes; {idle} not used.",)


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("True", "False"), ("1", "-1"), ("1.0", "0.0"), ("yes", "no"), ("x", ""), ("TRUE", "FALSE")],
)
def test_a_column_for_each_label_may_say_yes_and_no_in_many_ways(folder, yes, no):
    images = twelve(folder, "file,cat,dog", lambda i: f"im{i}.jpg,{(no, yes)[i % 2]},{(yes, no)[i % 2]}")
    assert not images.multi_label and images.counts == {"cat": 6, "dog": 6}
    images = twelve(folder, "file,cat,dog", lambda i: f"im{i}.jpg,{(no, yes)[i % 2]},{(yes, no)[i % 3 > 0]}")
    assert images.multi_label and images.counts == {"cat": 6, "dog": 4}


@pytest.mark.parametrize(
    ("header", "row", "idle"),
    [
        ("file,cat,dog,age", lambda i: f"im{i}.jpg,{i % 2},{1 - i % 2},{20 + i}", "column age is"),
        ("n,file,cat,dog", lambda i: f"{i},im{i}.jpg,{i % 2},{1 - i % 2}", "column n is"),
        ("file,cat,dog,animal", lambda i: f"im{i}.jpg,{i % 2},{1 - i % 2},1", "column animal is"),
        ("file,cat,dog,unlabelled", lambda i: f"im{i}.jpg,{i % 2},{1 - i % 2},0", "column unlabelled is"),
        ("file,cat,dog,is_valid", lambda i: f"im{i}.jpg,{i % 2},{1 - i % 2},{i > 8}", "column is_valid is"),
        ("file,cat,dog,camera", lambda i: f"im{i}.jpg,{i % 2},{1 - i % 2},{'ab'[i > 5]}", "column camera is"),
    ],
)
def test_an_index_an_age_or_a_constant_is_no_label(folder, header, row, idle):
    images = twelve(folder, header, row)
    assert images.classes == ("cat", "dog") and not images.multi_label
    said = f"labels.csv: columns cat and dog, one for each label; {idle} not used."
    assert images.report.interpretation == (said,)


@pytest.mark.parametrize(
    "header", ["id,breed", "photo,what it is", "Image Index,Finding Labels", "IMG-NAME,Class_ID", ""]
)
def test_columns_are_found_under_many_names_or_none(folder, header):
    images = twelve(folder, header, lambda i: f"im{i},{kind(i)}")
    assert images.counts == {"cat": 6, "dog": 6}


def test_a_word_that_recurs_is_the_label_where_no_column_is_named_so(folder):
    images = twelve(folder, "image,weight,dog_or_not,url", lambda i: f"im{i}.jpg,{i / 7},{kind(i)},http://x/{i}")
    assert images.counts == {"cat": 6, "dog": 6}
    assert "columns weight and url are not used" in images.report.interpretation[0]


def test_whose_an_image_is_is_no_label(folder):
    images = twelve(folder, "lesion_id,image_id,what,age", lambda i: f"L{i // 3},im{i},{kind(i)},{i}")
    assert images.counts == {"cat": 6, "dog": 6}
    images = twelve(folder, "lesion_id,image_id,dx,dx_type", lambda i: f"L{i // 3},im{i},{kind(i)},{'ab'[i > 4]}")
    assert images.report.interpretation == (
        "labels.csv: column dx, 2 classes; columns lesion_id and dx_type are not used.",
    )


def test_probabilities_are_no_labels(folder):
    with pytest.raises(InputError, match=r"labels\.csv has no column of labels"):
        twelve(folder, "file,cat,dog", lambda i: f"im{i}.jpg,0.{i},0.{99 - i}")


# Rows and cells


def test_several_rows_for_one_image_are_several_labels(folder):
    images = twelve(folder, "file,label", lambda i: f"im{i // 2}.jpg,{kind(i)}")
    assert images.multi_label and len(images) == 6
    assert set(images.label_names) == {("cat", "dog")}
    assert "6 images stand in rows that differ" in str(images.report)


def test_rows_that_differ_are_a_conflict_where_one_label_is_wanted(folder):
    images = twelve(
        folder, "file,label", lambda i: f"im{i}.jpg,{kind(i)}" + "\nim0.jpg,dog" * (i == 5), multi_label=False
    )
    assert not images.multi_label and len(images) == 11
    assert reasons(images) == {"im0.jpg": "carries the labels cat, dog in labels.csv, and one is wanted"}
    assert "the first is im0.jpg (cat, dog)" in str(images.report)


def test_a_row_that_is_written_twice_says_the_same(folder):
    images = twelve(folder, "file,label", lambda i: f"im{i}.jpg,{kind(i)}\n./im{i}.jpg,{kind(i)}")
    assert not images.multi_label and len(images) == 12 and images.report.notes == ()


@pytest.mark.parametrize(("header", "empty"), [("file,label", ""), ("file,cat,dog", ",")])
def test_an_empty_cell_leaves_that_one_image_out_and_is_told(folder, header, empty):
    full = kind if "label" in header else lambda i: f"{i % 2},{1 - i % 2}"
    images = twelve(folder, header, lambda i: f"im{i}.jpg,{empty if i == 7 else full(i)}")
    assert not images.multi_label and len(images) == 11
    assert reasons(images) == {"im7.jpg": "has no label in labels.csv"}
    assert "1 image has an empty cell in place of a label and is left out; the first is im7.jpg" in str(images.report)


def test_an_image_may_be_wanted_with_several_labels_although_each_has_one(folder):
    images = twelve(folder, "file,label", lambda i: f"im{i}.jpg,{kind(i)}", multi_label=True)
    assert images.multi_label and images.counts == {"cat": 6, "dog": 6}


@pytest.mark.parametrize(("between", "word"), [(" ", "spaces"), (", ", "commas"), (",", "commas")])
def test_tags_between_spaces_or_commas_are_recognised_where_every_part_recurs(folder, between, word):
    tags = ("clear primary", "clear primary water", "cloudy", "cloudy primary", "clear water", "primary water clear")
    images = twelve(folder, "image,tags", lambda i: f'im{i}.jpg,"{tags[i % 6].replace(" ", between)}"')
    assert images.multi_label and images.classes == ("clear", "cloudy", "primary", "water")
    assert images.report.interpretation == (f"labels.csv: column tags with {word} between tags, 4 labels.",)


@pytest.mark.parametrize(
    ("header", "cells", "hint"),
    [
        ("image,tags", ("clear sky", "high water", "cloudy haze"), True),  # nothing recurs
        ("image,label", ("red rose", "white rose", "red tulip", "white tulip", "red", "rose"), True),  # one label each
        ("image,label", ("New York", "Los Angeles", "Rome"), False),
        ("image,label", ("golden retriever", "labrador retriever", "golden eagle"), False),
    ],
)
def test_names_of_several_words_stay_whole_and_a_hint_says_what_separates(folder, header, cells, hint):
    images = twelve(folder, header, lambda i: f"im{i}.jpg,{cells[i % len(cells)]}")
    assert not images.multi_label and set(images.classes) == set(cells)
    assert ("separate them with ; or |" in str(images.report)) == hint


@pytest.mark.parametrize("formula", ["P(A|B)", "|x|", "a|b", "<0|1>"])
def test_a_bar_inside_one_label_does_not_split_it(folder, formula):
    images = twelve(folder, "file,label", lambda i: f"im{i}.jpg,{(formula, 'other')[i % 2]}")
    assert not images.multi_label and set(images.classes) == {formula, "other"}


def test_bars_that_other_rows_use_separate_labels(folder):
    cells = ("Mass|Effusion", "Mass", "No Finding", "Effusion|Mass|Nodule")
    images = twelve(folder, "Image Index,Finding Labels", lambda i: f"im{i}.jpg,{cells[i % 4]}")
    assert images.multi_label and images.classes == ("Effusion", "Mass", "No Finding", "Nodule")


# Which file a name means


@pytest.mark.parametrize(
    "written",
    [
        "im{}",
        "im{}.png",
        "IM{}.JPG",
        "C:\\Users\\me\\data\\im{}.jpg",
        "/content/drive/MyDrive/data/im{}.jpg",
        "data/train/im{}.jpg",
        "../../data/im{}",
        "file:///home/me/im{}.jpg",
    ],
)
def test_names_match_without_their_ending_or_folder_and_from_another_machine(folder, written):
    images = twelve(folder, "path,label", lambda i: f"{written.format(i)},{kind(i)}")
    assert len(images) == 12 and images.counts == {"cat": 6, "dog": 6} and images.report.skipped == ()


def placed(tmp_path, names, rows):
    """What rows of (file, label) say of pictures of these names."""
    root = drawn_folder(tmp_path / "set", *names)
    (root / "labels.csv").write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    return load_images(root)


def test_a_name_that_could_mean_several_pictures_means_none_and_that_is_told(tmp_path):
    names = ("a/1.jpg", "b/1.jpg", "a/2.jpg", "a/3.jpg", "4.jpg", "4.png")
    images = placed(tmp_path, names, [("1.jpg", "x"), ("2", "y"), ("3.jpg", "x"), ("4", "y")])
    assert shown(images) == {"a/2.jpg": ["y"], "a/3.jpg": ["x"]}
    assert "calls 2 images by a name that several have; the first is 1.jpg. Write their folders, too." in str(
        images.report
    )


def test_the_folder_that_is_written_tells_pictures_of_one_name_apart(tmp_path):
    rows = [("C:\\data\\a\\1", "x"), ("/data/b/1.jpg", "y")]
    assert shown(placed(tmp_path, ("in/a/1.jpg", "in/b/1.jpg"), rows)) == {"in/a/1.jpg": ["x"], "in/b/1.jpg": ["y"]}


def test_of_rows_for_several_files_only_the_nearest_means_the_one_that_is_here(tmp_path):
    rows = [("train/1.jpg", "x"), ("test/1.jpg", "y"), ("train/2.jpg", "y"), ("test/2.jpg", "x"), ("train/3.jpg", "x")]
    images = placed(tmp_path, ("train/1.jpg", "train/2.jpg", "train/3.jpg"), rows)
    assert shown(images) == {"train/1.jpg": ["x"], "train/2.jpg": ["y"], "train/3.jpg": ["x"]}


# Several tables, and tables that are none


def halves(tmp_path, text, names=("train", "valid", "test"), table="_classes.csv"):
    for half in names:
        drawn_folder(tmp_path, *(f"{half}/{half}{i}.jpg" for i in range(6)))
        (tmp_path / half / table).write_text(text(half))
    return tmp_path


def test_a_table_in_each_half_is_read_as_one_set_with_its_halves(tmp_path):
    rows = "".join
    root = halves(
        tmp_path,
        lambda half: "filename, cat, dog\n" + rows(f"{half}{i}.jpg, {i % 2}, {int(i % 3 == 0)}\n" for i in range(6)),
    )
    images = load_images(root)
    assert images.multi_label and images.classes == ("cat", "dog")
    assert sum(images.held_out) == 6 and len(images) == 12
    tables_said, halves_said = images.report.interpretation
    assert tables_said.startswith("test/_classes.csv, train/_classes.csv and valid/_classes.csv: columns cat and dog")
    assert halves_said == "train/ to learn from, valid/ to check on."
    assert "test/: 6 images set aside" in str(images.report)
    judging = load_images(root, for_evaluation=True)
    assert {name.split("/")[0] for name in judging.names} == {"test"}
    assert judging.report.interpretation[-1] == "Judged by test/: 6 images. train/ and valid/ are left out."


def test_tables_named_for_the_halves_say_which_is_which(tmp_path):
    root = drawn_folder(tmp_path, *(f"images/{i}.jpg" for i in range(12)))
    for name, places in (("train.csv", range(8)), ("val.csv", range(8, 12))):
        (root / name).write_text("image,label\n" + "".join(f"{i},{kind(i)}\n" for i in places))
    images = load_images(root)
    assert {name for name, held in zip(images.names, images.held_out, strict=True) if held} == {
        f"images/{i}.jpg" for i in range(8, 12)
    }


def test_a_contest_s_folder_is_read_by_the_table_that_has_labels(tmp_path):
    root = drawn_folder(tmp_path, *(f"train/a{i}.jpg" for i in range(6)), *(f"test/b{i}.jpg" for i in range(4)))
    (root / "train.csv").write_text("id,breed\n" + "".join(f"a{i},{kind(i)}\n" for i in range(6)))
    (root / "test.csv").write_text("id,kept\n" + "".join(f"b{i},1\n" for i in range(4)))
    (root / "sample_submission.csv").write_text("id,breed\n" + "".join(f"b{i},cat\n" for i in range(4)))
    images = load_images(root)
    assert images.counts == {"cat": 3, "dog": 3}
    assert images.report.interpretation == (
        "train.csv: column breed, 2 classes.",
        "train/ to learn from, and a part drawn by lot to check on.",
    )
    assert set(reasons(images)) == {"test.csv", "sample_submission.csv"}
    assert images.report.notes == ("test/: 4 images set aside; a test folder never chooses anything.",)


@pytest.mark.parametrize("names", [lambda c, i: f"{i}.png", lambda c, i: f"{5 * c + i}.png"], ids=["alike", "unique"])
@pytest.mark.parametrize("text", ["ClassId,Name\n0,Speed limit\n1,Stop\n2,Yield\n", "0\n1\n2\n", ""])
def test_a_table_that_only_lists_the_classes_is_said_and_passed_over(tmp_path, names, text):
    root = drawn_folder(tmp_path, *(f"DATA/{c}/{names(c, i)}" for c in range(3) for i in range(5)))
    (root / "labels.csv").write_text(text)
    images = load_images(root)
    assert images.counts == {"0": 5, "1": 5, "2": 5}
    [note] = images.report.notes
    assert note.startswith("labels.csv ") and note.endswith("is passed over: the folders say what the pictures show.")


def test_tables_inside_class_folders_do_not_take_their_place(tmp_path):
    for c in range(3):
        drawn_folder(tmp_path, *(f"{c:05d}/{c}_{i}.png" for i in range(3)))
        rows = "".join(f"{c}_{i}.png;30;{c}\n" for i in range(3))
        (tmp_path / f"{c:05d}" / f"GT-{c}.csv").write_text(f"Filename;Width;ClassId\n{rows}")
    images = load_images(tmp_path)
    assert images.counts == {"00000": 3, "00001": 3, "00002": 3}
    assert "inside a class folder" in reasons(images)["00000/GT-0.csv"]


def test_of_two_tables_that_name_the_same_pictures_one_counts(tmp_path):
    root = drawn_folder(tmp_path, *(f"{i}.jpg" for i in range(6)))
    (root / "new.csv").write_text("file,label\n" + "".join(f"{i},{kind(i)}\n" for i in range(6)))
    (root / "old.csv").write_text("file,label\n" + "".join(f"{i},{kind(i + 1)}\n" for i in range(4)))
    images = load_images(root)
    assert shown(images)["0.jpg"] == ["cat"] and not images.multi_label
    assert reasons(images) == {"old.csv": "is a table that names pictures which new.csv names"}


def test_a_table_of_tabs_or_from_an_office_in_utf_16_is_read(tmp_path):
    root = drawn_folder(tmp_path, *(f"{i}.jpg" for i in range(6)))
    text = "file\tlabel\n" + "".join(f"{i}.jpg\t{('Früh', 'Spät')[i % 2]}\n" for i in range(6))
    (root / "labels.tsv").write_bytes(text.encode("utf-16"))
    assert load_images(root).classes == load_images(root / "labels.tsv").classes == ("Früh", "Spät")
