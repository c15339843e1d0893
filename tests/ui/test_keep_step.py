"""What the keep step makes of a trained model, and what it makes of a file: handlers called as plain functions."""

import ast
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bundles import packed, unpacked
from drawings import HEAD_ONLY
from visiting import choose, is_error, text_of

import headswap
from headswap.ui.app import page
from headswap.ui.app.events import keep as keep_events
from headswap.ui.panels import run_view
from headswap.ui.panels.export_formats import EXPORT_FORMATS
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.steps import keep, test, train
from headswap.ui.views.dataset import render_dataset


@pytest.fixture(scope="module")
def learned(fruits):
    """Somebody with a small trained model; not to be changed."""
    images = headswap.load_images(fruits)
    torch.manual_seed(0)
    model = headswap.adapt("efficientnet_lite0", images.classes, "lda")
    headswap.fit(model, images, HEAD_ONLY)
    visitor = Session(images=images, trained_model=TrainedModel(model))
    yield visitor
    visitor.release()


@pytest.fixture
def turns():
    return Scheduler()


def take(visitor, way, name="fruits", along=False):
    path, said = keep.export_model(visitor, Scheduler(), way, name, along)
    return path, text_of(said)


def test_the_card_says_what_it_is_and_how_good(learned):
    now = keep.refresh(learned)
    drawing, said, buttons = now.stage_strip, text_of(now.summary), [*now.format_buttons.values(), now.push_button]
    assert 'class="hs-strip"' in drawing
    assert "EfficientNet-Lite0" in said and "Apache-2.0" in said and "blue, green and red" in said
    assert re.search(
        r"\d of 3 images that were held back are named rightly, \d+ % \(95 % interval: \d+ % to \d+ %\)", said
    )
    assert all(button.interactive for button in buttons) and len(buttons) == len(EXPORT_FORMATS) + 1


def test_before_anything_is_trained_it_says_so_and_offers_nothing(visitor, turns):
    now = keep.refresh(visitor)
    buttons = [*now.format_buttons.values(), now.push_button]
    assert "No model has learned anything yet" in text_of(now.summary)
    assert not any(button.interactive for button in buttons)
    path, said = keep.export_model(visitor, turns, "onnx", "x", False)
    assert path is None and is_error(said)
    assert keep.render_script(visitor).startswith("# No model")


def test_the_file_was_compared_and_gives_the_same_answers(learned):
    path, said = take(learned, "headswap")
    assert path.endswith("fruits.headswap") and "no difference on 5 images, to the last bit" in said
    pictures = [pixels for pixels, _ in learned.images]
    mine, theirs = learned.trained_model.model, headswap.load(path)
    assert torch.equal(mine.predict_proba(pictures), theirs.predict_proba(pictures))


@pytest.mark.parametrize(("way", "holds"), [("onnx", "index.html"), ("space", "app.py")])
def test_a_folder_comes_as_one_zip_with_its_proof(learned, way, holds):
    path, said = take(learned, way)
    assert "was loaded again" in said
    with zipfile.ZipFile(path) as archive:
        assert {holds, "model.onnx", "predict.py", "golden/1.png"} <= set(archive.namelist())
        assert json.loads(archive.read("model.json"))["classes"] == ["blue", "green", "red"]


def test_the_lesson_holds_back_what_the_page_held_back(learned):
    path, said = take(learned, "script")
    script = Path(path).read_text("utf-8")
    ast.parse(script)
    assert "nothing of headswap" in said and "import headswap" not in script
    _, checked = learned.images.split(HEAD_ONLY.validation_fraction, HEAD_ONLY.seed)
    assert all(f'"{"/".join(name.split("/")[-2:])}"' in script for name in checked.names)
    assert keep.render_script(learned) == script


def test_own_images_go_along_only_by_the_tick(learned):
    names = []
    for along in (False, True):
        with zipfile.ZipFile(take(learned, "headswap", along=along)[0]) as archive:
            names.append([name for name in archive.namelist() if name.startswith("thumbnails/")])
    assert names[0] == [] and len(names[1]) == len(learned.images)


@pytest.mark.parametrize(
    ("typed", "file"),
    [
        ("../../etc/passwd", "etc passwd"),
        ("a\0b\n<script>", "a b script"),
        ("", "my-model"),
        ("...", "my-model"),
        ("花と犬 2", "花と犬 2"),
        ("x" * 500, "x" * 60),
    ],
)
def test_a_name_is_only_a_name(learned, typed, file):
    path, _ = keep.export_model(learned, Scheduler(), "script", typed, False)
    assert path == str(learned.ensure_export_dir() / f"{file}.py")


def test_files_that_were_made_go_with_the_visitor(learned):
    visitor = Session(images=learned.images, trained_model=learned.trained_model)
    path, _ = keep.export_model(visitor, Scheduler(), "script", "x", False)
    room = visitor.ensure_export_dir()
    assert room.is_dir() and path.startswith(str(room))
    visitor.release()
    assert not room.exists()


# Opened again


@pytest.fixture
def file(learned):
    return take(learned, "headswap")[0]


def test_an_opened_model_answers_and_says_what_it_is(learned, file, fruits):
    visitor = Session()
    opened, name = keep.open_model(visitor, file)
    assert "Opened: it knows blue, green and red" in text_of(opened)
    assert f"{name}.headswap" == Path(file).name
    assert "of 3 validation images rightly" in text_of(test.refresh(visitor).status)
    assert "red" in text_of(test.predict_files(visitor, Scheduler(), [str(fruits / "red/1.png")]))
    assert keep.refresh(visitor).format_buttons["headswap"].interactive


def test_a_file_that_is_not_as_it_was_saved_is_opened_and_that_is_said(file, tmp_path):
    damaged = packed(tmp_path / "damaged.headswap", unpacked(file) | {"golden/1.png": b""})
    visitor = Session()
    said, _ = keep.open_model(visitor, damaged)
    assert is_error(said) and "golden/1.png is damaged" in text_of(said) and "Opened: it knows" in text_of(said)
    assert visitor.trained_model is not None


def test_a_file_that_is_no_model_costs_nothing_that_was_there(learned, tmp_path):
    (tmp_path / "no.headswap").write_bytes(b"PK\x03\x04 and so on")
    visitor = Session(trained_model=learned.trained_model)
    said, _ = keep.open_model(visitor, str(tmp_path / "no.headswap"))
    assert is_error(said) and "no.headswap" in text_of(said)
    assert visitor.trained_model is learned.trained_model


def test_an_opened_model_learns_on_and_takes_a_new_class(file, fruits, tmp_path, turns):
    visitor = Session()
    keep.open_model(visitor, file)
    former = visitor.trained_model.model
    visitor.set_images(headswap.load_images(more(fruits, tmp_path)))
    assert visitor.resume_training and train.update_start_choice(visitor).visible
    assert "Press Train" in text_of(train.refresh(visitor).run_view.status)
    known = former.seen
    _, held_back = known.split(visitor.images)
    assert f"{len(held_back)} to check on" in text_of(render_dataset(visitor.images, seen=visitor.seen))
    train.start_training(visitor, turns, 2, 0, 1)
    *_, last = run_view.watch_training(visitor)
    assert visitor.trained_model.model.classes == ("blue", "green", "red", "dark")
    assert "none of them was ever learned from" in text_of(last.status)
    assert visitor.held_out_images.names == held_back.names
    assert set(known.find_validation_indices(visitor.images)) <= set(
        visitor.trained_model.model.seen.find_validation_indices(visitor.images)
    )
    assert former.classes == ("blue", "green", "red")


def more(fruits, folder):
    """The same with another class."""
    from PIL import Image

    for name in ("red", "green", "blue"):
        (folder / name).mkdir()
        for path in (fruits / name).glob("*.png"):
            (folder / name / path.name).write_bytes(path.read_bytes())
    (folder / "dark").mkdir()
    for number in range(4):
        Image.new("RGB", (90, 80 + number), (20 + 9 * number, 10, 30)).save(folder / "dark" / f"{number}.png")
    return folder


def test_a_class_without_images_would_be_forgotten_so_it_is_asked_for(learned, fruits, tmp_path, turns):
    images = learned.images.without_class("green")
    visitor = Session(images=images, trained_model=learned.trained_model, resume_training=True)
    assert "no images of 'green'" in text_of(train.refresh(visitor).run_view.status)
    assert "no images of 'green'" in text_of(train.start_training(visitor, turns, 1, 0, 1).problem)
    assert "Press Train" in text_of(train.set_start_choice(visitor, False).run_view.status)


def test_another_choice_of_a_network_begins_with_a_new_head(learned):
    from dataclasses import replace

    visitor = Session(trained_model=learned.trained_model, resume_training=True)
    visitor.set_choice(replace(visitor.choice, head="mlp"))
    assert not visitor.resume_training


# Pushed


@pytest.fixture
def pushed(monkeypatch):
    asked = []
    monkeypatch.setattr(
        keep, "push_to_hub", lambda files, name, **how: asked.append((files, name, how)) or "https://hub/x?a=<b>"
    )
    return asked


@pytest.mark.parametrize(("kind", "holds"), [("model", "fruits.headswap"), ("space", "app.py")])
def test_a_push_is_made_as_whoever_is_logged_in(learned, pushed, kind, holds, turns):
    said = keep.push_model(learned, turns, " me/fruits ", kind, "fruits", False, "hf_theirs", True)
    [(files, name, how)] = pushed
    assert (name, how) == ("me/fruits", {"space": kind == "space", "token": "hf_theirs"})
    assert holds in files and not any(name.startswith("thumbnails") for name in files)
    assert "<b>" not in said and "https://hub/x?a=" in text_of(said)


def test_who_may_not_use_this_computers_token_is_told_what_to_do(learned, pushed, turns):
    said = keep.push_model(learned, turns, "me/fruits", "space", "fruits", False, None, False)
    assert is_error(said) and "Log in first" in text_of(said) and pushed == []


def request(host="127.0.0.1:7860", client="127.0.0.1", **headers):
    return SimpleNamespace(headers={"host": host, **headers}, client=SimpleNamespace(host=client))


def test_only_who_sits_at_this_computer_may_use_its_token():
    assert keep_events.is_local_request(request())
    assert keep_events.is_local_request(request("localhost:7860", "::1"))
    assert not keep_events.is_local_request(request(client="192.168.0.7"))
    assert not keep_events.is_local_request(request("headswap.example:443"))
    assert not keep_events.is_local_request(request(**{"x-forwarded-for": "10.0.0.1"}))


@pytest.mark.parametrize(
    ("settings", "variables", "alone"),
    [
        ({}, {}, True),
        ({"server_name": "0.0.0.0"}, {}, False),
        ({"share": True}, {}, False),
        ({}, {"SPACE_ID": "me/headswap"}, False),
        ({}, {"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ({}, {"GRADIO_SHARE": "True"}, False),
    ],
)
def test_a_page_that_others_can_reach_offers_no_push_as_its_host(monkeypatch, settings, variables, alone):
    built = []
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    class Built(Exception):
        pass

    def build(visitors, alone, turns):
        built.append(alone)
        raise Built

    monkeypatch.setattr(page, "build_page", build)
    monkeypatch.setattr(page.SessionRegistry, "start_expiry_thread", lambda self: None)
    monkeypatch.setattr(page.BackgroundPrecompute, "start_thread", lambda self: None)
    with pytest.raises(Built):
        page.launch(**settings)
    assert built == [alone]


def test_looking_at_the_model_step_chooses_nothing(learned):
    visitor = Session(images=learned.images, trained_model=learned.trained_model, resume_training=True)
    choose(visitor)
    assert visitor.resume_training
