"""Only what the page can send passes, whatever a browser says; of files only plain ones that were uploaded here."""

import os
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from headswap.common.errors import InputError
from headswap.ui.panels.browser_events import (
    MAX_BURST_LENGTH,
    MAX_PATH_LENGTH,
    CellClick,
    CorrectionClick,
    DatasetEdit,
    FilesUpload,
    RefusedUpload,
    SampleClick,
    StageClick,
    delete_uploads,
    parse_analysis_click,
    parse_backbone_row,
    parse_dataset_edit,
    parse_files_upload,
    parse_images_upload,
    parse_sample_click,
    parse_stage_click,
    parse_uploads,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"bytes")
    return path


@pytest.fixture
def home(upload):
    return upload.home


def named(path, name="a.png"):
    return [{"name": name, "path": str(path)}]


def refused(files, words="Choose the folder again."):
    with pytest.raises(InputError, match=words):
        parse_uploads(files)


def test_uploads_pass_with_their_names_in_order(upload, file):
    assert str(upload.home) == get_upload_folder()
    sent = upload({"fruits/red/1.png": file, "fruits/green/1.png": file})
    uploads = parse_uploads(sent)
    assert [each.name for each in uploads] == ["fruits/red/1.png", "fruits/green/1.png"]
    assert [each.path.read_bytes() for each in uploads] == [b"bytes", b"bytes"]
    assert [each.burst for each in uploads] == ["", ""]
    assert len({each.path for each in uploads}) == 2


def test_pictures_of_one_burst_stay_together(upload, file):
    one, two, three = upload({"1.png": file, "2.png": file, "3.png": file})
    uploads = parse_uploads([one | {"burst": "b" * MAX_BURST_LENGTH}, two | {"burst": "b" * MAX_BURST_LENGTH}, three])
    assert [each.burst for each in uploads] == ["b" * MAX_BURST_LENGTH] * 2 + [""]


def test_a_name_may_be_as_long_as_a_path(upload, file):
    (sent,) = upload({"a" * MAX_PATH_LENGTH: file})
    assert parse_uploads([sent])[0].name == sent["name"]


def test_an_empty_list_is_nothing(home):
    assert parse_uploads([]) == []


def test_what_was_read_can_be_forgotten_twice(upload, file):
    uploads = parse_uploads(upload({"1.png": file, "2.png": file}))
    delete_uploads(uploads[:1])
    delete_uploads(uploads)
    assert not any(each.path.exists() for each in uploads)
    assert file.exists()


# Paths


def test_a_file_elsewhere_on_the_server_is_refused(home, file):
    refused(named(file), "not uploaded here")
    refused(named("/etc/hostname"), "not uploaded here")
    refused(named(__file__), "not uploaded here")


def test_a_path_that_climbs_out_is_refused(upload, file):
    (sent,) = upload({"1.png": file})
    refused(named(f"{upload.home}/../{file.name}"), "not uploaded here")
    refused(named(f"{os.path.dirname(sent['path'])}/../../{file.name}"), "not uploaded here")


def test_a_neighbour_whose_name_only_begins_like_the_upload_folder_is_refused(home, tmp_path):
    beside = tmp_path / f"{home.name}-not"
    beside.mkdir()
    (beside / "1.png").write_bytes(b"bytes")
    refused(named(beside / "1.png"), "not uploaded here")


def test_a_relative_path_is_not_taken_from_where_the_program_runs(home, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    refused(named(file.name), "not uploaded here")


def test_a_link_is_refused_wherever_it_points(upload, file):
    (sent,) = upload({"1.png": file})
    for target in (file, sent["path"]):
        link = upload.home / f"link to {os.path.basename(target)}"
        link.symlink_to(target)
        refused(named(link), "not uploaded here")


def test_a_file_in_a_folder_that_is_a_link_is_refused(home, file):
    (home / "folder").symlink_to(file.parent, target_is_directory=True)
    refused(named(home / "folder" / file.name), "not uploaded here")


def test_links_in_a_circle_are_refused(home):
    (home / "one").symlink_to(home / "two")
    (home / "two").symlink_to(home / "one")
    refused(named(home / "one"))


def test_a_folder_is_refused(upload, file):
    (sent,) = upload({"1.png": file})
    refused(named(os.path.dirname(sent["path"])), "not uploaded here")
    refused(named(upload.home), "not uploaded here")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_without_waiting_for_it(home):
    os.mkfifo(home / "pipe.png")
    refused(named(home / "pipe.png"), "not uploaded here")


def test_a_file_that_is_not_there_is_refused(home):
    refused(named(home / "missing.png"), "could not be read")
    refused(named(home / "missing" / "1.png"), "could not be read")


def test_one_bad_file_among_good_ones_refuses_all_and_removes_nothing(upload, file):
    good = upload({"1.png": file, "2.png": file})
    refused([good[0], *named("/etc/hostname"), good[1]])
    assert all(os.path.exists(each["path"]) for each in good)


# Names and bursts


@pytest.mark.parametrize(
    "name",
    [None, 5, ["a.png"], {"a": 1}, b"a.png", "a" * (MAX_PATH_LENGTH + 1)],
    ids=lambda value: type(value).__name__,
)
def test_a_name_that_is_none_is_refused(upload, file, name):
    (sent,) = upload({"1.png": file})
    refused([sent | {"name": name}], "could not be read")


@pytest.mark.parametrize(
    "burst", [None, 5, ["b"], {"b": 1}, True, "b" * (MAX_BURST_LENGTH + 1)], ids=lambda value: type(value).__name__
)
def test_a_burst_that_is_none_is_refused(upload, file, burst):
    (sent,) = upload({"1.png": file})
    refused([sent | {"burst": burst}], "could not be read")


# Lists


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        5,
        "a list",
        {"name": "a.png", "path": "a.png"},
        [None],
        [7],
        ["a.png"],
        [[]],
        [["a.png", "a.png"]],
        [{}],
        [{"name": "a.png"}],
        [{"path": "a.png"}],
        [{"name": "a.png", "path": None}],
        [{"name": "a.png", "path": ""}],
        [{"name": "a.png", "path": {"path": "a.png"}}],
        [{"name": "a.png", "path": "a\0.png"}],
        [{"name": "a.png", "path": "\ud800"}],
        [{"name": "a.png", "path": "a" * 10_000}],
    ],
    ids=lambda value: repr(value)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_garbage_is_an_error_for_a_person(home, garbage):
    refused(garbage)


def test_more_entries_than_images_are_read_are_refused(upload, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"a")
    sent = upload({f"{number}.png": tmp_path / "a.png" for number in range(4)})
    monkeypatch.setenv("HEADSWAP_MAX_IMAGES", "3")
    with pytest.raises(InputError, match="More than 3 files are not read at once"):
        parse_uploads(sent)
    assert len(parse_uploads(sent[:3])) == 3


# Events


def sent(**payload):
    return SimpleNamespace(**payload)


def test_files_come_with_their_class_and_whether_they_are_added(upload, file, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_NAME", "6")
    files = upload({"1.png": file})
    event = parse_images_upload(sent(files=files, label=" rose bush", add=True))
    assert (len(event.uploads), event.add) == (1, True)
    assert event.class_name == "rose b"
    for label in (None, "", 5, ["rose"]):
        event = parse_images_upload(sent(files=files, label=label))
        assert (event.class_name, event.add) == ("", False)


def test_a_list_that_is_refused_says_why_and_one_that_passes_keeps_its_files(upload, file):
    assert parse_files_upload(sent(files=named(file))) == RefusedUpload(
        "A file that was named was not uploaded here. Choose the folder again."
    )
    event = parse_files_upload(sent(files=upload({"1.png": file})))
    assert isinstance(event, FilesUpload) and [each.name for each in event.uploads] == ["1.png"]


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        ({"do": "undo"}, DatasetEdit("undo")),
        ({"do": "open", "label": "rose"}, DatasetEdit("open", "rose")),
        ({"do": "rename", "label": "a", "name": " b "}, DatasetEdit("rename", "a", "b")),
        ({"do": "rename", "label": "a", "name": 5}, DatasetEdit("rename", "a")),
        ({"do": "remove", "images": ["1", 2, "3"]}, DatasetEdit("remove", image_keys=frozenset("13"))),
        ({"do": "remove", "images": "1"}, None),
        ({"do": ["open"], "label": "rose"}, None),
        ({"do": "add", "label": "rose"}, None),
        ({}, None),
    ],
)
def test_an_edit_of_the_dataset_is_one_that_the_page_offers(payload, event):
    assert parse_dataset_edit(sent(**payload)) == event


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        ({"do": "cell", "given": "1", "answered": "-1"}, CellClick((1, -1))),
        ({"do": "cell", "given": None, "answered": "x"}, CellClick(None)),
        ({"do": "cell", "given": "9" * 5000, "answered": "0"}, CellClick(None)),
        ({"do": "relabel", "image": "abc"}, CorrectionClick("relabel", "abc")),
        ({"do": "remove", "image": ["abc"]}, None),
        ({"do": "try", "image": "abc"}, None),
        ({}, None),
    ],
)
def test_a_press_on_what_is_wrong_is_one_that_the_page_offers(payload, event):
    assert parse_analysis_click(sent(**payload)) == event


def test_numbers_are_taken_only_as_the_page_writes_them():
    assert parse_sample_click(sent(key="12")) == SampleClick(12)
    for key in ("-1", "01", "1.0", " 1", "\u0661", "9" * 5000, "", None, 0):
        assert parse_sample_click(sent(key=key)) is None
    assert parse_stage_click(sent(learning=4)) == StageClick(4)
    for number in ("4", -1, 1.5, None):
        assert parse_stage_click(sent(learning=number)) is None


def test_a_row_of_the_table_of_backbones_is_read_as_the_name_in_it_or_as_none():
    assert parse_backbone_row(["resnet18", "44.7", "69.8"]) == "resnet18"
    for row in (None, [], {}, "resnet18", 3, [3], [None], [["resnet18"]]):
        assert parse_backbone_row(row) == ""


@pytest.mark.parametrize("payload", [None, 5, "text", [], {}, {"do": None}])
def test_a_payload_of_any_type_is_no_event(payload):
    event = gr.EventData(None, payload)
    for parse in (parse_dataset_edit, parse_analysis_click, parse_sample_click, parse_stage_click):
        assert parse(event) is None
    assert isinstance(parse_images_upload(event), RefusedUpload)
