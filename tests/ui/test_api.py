"""Another program does what the page does, with a ticket of its own, and sees nothing else."""

import contextlib
import io
import re
import shutil
import zipfile
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from serving import served
from telling import FINISHED, HEAD, KEPT, THAW, epoch

from headswap.features.frozen_pass import FrozenPass
from headswap.training.events import Step
from headswap.ui.app.api import API_FUNCTION_NAMES, ApiFunctions, list_new_events
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.run import Fetching, Run
from headswap.ui.sessions.scheduler import Scheduler

ROOT = Path(__file__).parents[2]


@pytest.fixture
def verbs():
    return ApiFunctions(SessionRegistry(), Scheduler())


@pytest.fixture
def zip_of_fruits(fruits, tmp_path):
    return Path(shutil.make_archive(str(tmp_path / "fruits"), "zip", fruits))


def sent(upload, file):
    """What arrives of a file that a client sends."""
    [entry] = upload({file.name: file})
    return {"path": entry["path"], "orig_name": file.name, "meta": {"_type": "gradio.FileData"}}


# The whole way, over the wire


@pytest.fixture(scope="module")
def server(built):
    with served(built) as (blocks, address, visitors):
        yield blocks, address, visitors


def test_the_example_of_the_documents_runs(server, tmp_path, monkeypatch):
    _, address, visitors = server
    [example] = re.findall(r"```py\n(.*?)```", (ROOT / "docs/command-line.md").read_text("utf-8"), re.DOTALL)
    assert "http://127.0.0.1:7860" in example
    for name in ("healthy", "mildew", "rust"):  # eight of each are enough
        (tmp_path / "assets/leaves" / name).mkdir(parents=True)
        for file in sorted((ROOT / "assets/leaves" / name).iterdir())[:8]:
            shutil.copy(file, tmp_path / "assets/leaves" / name)
    monkeypatch.chdir(tmp_path)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(
            compile(
                example.replace("http://127.0.0.1:7860/", address).replace("http://127.0.0.1:7860", address),
                "docs/command-line.md",
                "exec",
            ),
            names,
        )
    names["page"].close()
    told = printed.getvalue().splitlines()
    assert "{'healthy': 8, 'mildew': 8, 'rust': 8}" in told
    events = [line for line in told if re.fullmatch(r"[A-Z]\w+", line)]
    assert events[0] == "FrozenPass" and events[-1] == "Kept" and events.count("Epoch") == 40
    assert events.index("Reference") < events.index("PhaseBegins") < events.index("Epoch")
    assert "'class': 'rust'" in told[-1]
    assert visitors.get_session(names["ticket"]) is None


def test_programs_are_shown_these_verbs_and_nothing_else(server):
    _, address, _ = server
    client = Client(address, verbose=False)
    shown = client.view_api(return_format="dict", print_info=False)
    client.close()
    assert shown["named_endpoints"].keys() == {f"/{name}" for name in API_FUNCTION_NAMES}
    assert not shown["unnamed_endpoints"]
    for endpoint in shown["named_endpoints"].values():
        assert endpoint["description"]


def test_what_is_wrong_is_said_to_the_program(server, tmp_path):
    _, address, visitors = server
    before = len(visitors)
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 and then nothing")
    client = Client(address, verbose=False)
    with pytest.raises(AppError, match=r"torn\.zip is not a zip or tar\.gz, or is damaged"):
        client.predict(handle_file(tmp_path / "torn.zip"), api_name="/load_images")
    with pytest.raises(AppError, match="This ticket is not known"):
        client.predict("made up", handle_file(tmp_path / "torn.zip"), api_name="/predict")
    client.close()
    assert len(visitors) == before


# Each verb


def test_a_ticket_cannot_be_guessed_and_brings_only_its_own_back(verbs, upload, zip_of_fruits):
    mine, told = verbs.load_images(sent(upload, zip_of_fruits))
    other, _ = verbs.load_images(sent(upload, zip_of_fruits))
    assert len({mine, other}) == 2 and min(len(mine), len(other)) >= 22
    assert told["images"] == 12 and told["classes"] == {"blue": 4, "green": 4, "red": 4}
    assert verbs.sessions.get_session(mine).images is not verbs.sessions.get_session(other).images
    again, _ = verbs.load_images(sent(upload, zip_of_fruits), mine)
    assert again == mine and len(verbs.sessions) == 2


def test_training_answers_with_a_model_and_forgetting_lets_go_of_all(verbs, upload, zip_of_fruits, fruits):
    ticket, _ = verbs.load_images(sent(upload, zip_of_fruits))
    with pytest.raises(gr.Error, match="No model has learned anything yet"):
        verbs.predict(ticket, sent(upload, fruits / "red/1.png"))
    *_, last = verbs.train(ticket, plan="head only")
    assert last["event"] == "Kept" and last["of"] == 3
    answers = verbs.predict(ticket, sent(upload, fruits / "red/1.png"))
    assert {each["class"] for each in answers} == {"red", "green", "blue"}
    assert sum(each["probability"] for each in answers) == pytest.approx(1)
    assert [path for path in upload.home.rglob("*") if path.is_file()]
    assert verbs.forget(ticket) is True
    assert not [path for path in upload.home.rglob("*") if path.is_file()]
    assert verbs.forget(ticket) is False and len(verbs.sessions) == 0
    with pytest.raises(gr.Error, match="This ticket is not known"):
        next(verbs.train(ticket))


def test_whoever_stops_listening_stops_the_training(verbs, upload, zip_of_fruits, until):
    ticket, _ = verbs.load_images(sent(upload, zip_of_fruits))
    events = verbs.train(ticket)
    next(events)
    visitor = verbs.sessions.get_session(ticket)
    with pytest.raises(gr.Error, match="A training runs already"):
        next(verbs.train(ticket))
    assert visitor.tabs
    events.close()
    until(lambda: visitor.job.run.has_ended)
    assert visitor.job.run.state == "stopped"
    assert not visitor.tabs


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"backbone": "resnet81"}, "resnet"),
        ({"head": "liner"}, "linear"),
        ({"plan": "head onyl"}, "head only"),
    ],
)
def test_a_wrong_name_is_met_with_the_right_one(verbs, upload, zip_of_fruits, wanted, words):
    ticket, _ = verbs.load_images(sent(upload, zip_of_fruits))
    with pytest.raises(gr.Error, match=words):
        next(verbs.train(ticket, **wanted))
    assert verbs.sessions.get_session(ticket).job is None


def test_a_network_that_is_too_large_to_fetch_is_refused(verbs, upload, zip_of_fruits, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "10")
    ticket, _ = verbs.load_images(sent(upload, zip_of_fruits))
    with pytest.raises(gr.Error, match="more than the 10 MB"):
        next(verbs.train(ticket, backbone="resnet18"))


@pytest.mark.parametrize(
    "file",
    [
        None,
        "leaves.zip",
        {},
        {"path": None},
        {"path": 7},
        {"path": "/etc/passwd"},
        {"path": "../../etc/passwd"},
        {"url": "http://example.org/leaves.zip"},
    ],
)
def test_only_what_was_uploaded_is_read(verbs, upload, file):
    with pytest.raises(gr.Error):
        verbs.load_images(file)
    assert len(verbs.sessions) == 0


def test_only_archives_are_loaded(verbs, upload, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("file,label\na.jpg,b\n")
    with pytest.raises(gr.Error, match=r"labels\.csv is no archive"):
        verbs.load_images(sent(upload, table))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(gr.Error, match=r"empty\.zip"):
        verbs.load_images(sent(upload, tmp_path / "empty.zip"))
    assert len(verbs.sessions) == 0


@pytest.mark.parametrize("ticket", ["", "made up", None, 7, ["x"]])
def test_a_made_up_ticket_opens_nothing(verbs, upload, ticket):
    with pytest.raises(gr.Error, match="not known"):
        next(verbs.train(ticket))
    with pytest.raises(gr.Error, match="not known"):
        verbs.predict(ticket, {})
    assert len(verbs.sessions) == 0


def test_a_program_that_asks_no_more_is_swept_like_any_visitor(upload, zip_of_fruits):
    now = [0.0]
    verbs = ApiFunctions(SessionRegistry(idle_timeout=600, clock=lambda: now[0]), Scheduler())
    ticket, _ = verbs.load_images(sent(upload, zip_of_fruits))
    now[0] = 500
    with pytest.raises(gr.Error):
        verbs.predict(ticket, {})  # a question is a sign of life, even a wrong one
    now[0] = 1000
    assert verbs.sessions.expire_idle() == 0
    now[0] = 1101
    assert verbs.sessions.expire_idle() == 1
    assert not [path for path in upload.home.rglob("*") if path.is_file()]


# The stream


def test_news_are_told_in_the_order_in_which_they_came():
    assert [*list_new_events(Run(), Run())] == []
    everything = [*list_new_events(Run(), FINISHED)]
    assert [type(each).__name__ for each in everything] == [
        "PhaseBegins", "Epoch", "PhaseBegins", "Epoch", "Epoch", "Epoch", "Kept"
    ]  # fmt: skip


def test_nothing_is_told_twice_however_often_somebody_looks():
    story = [Fetching(1, 2), FrozenPass(1, 2, 0.5), HEAD, Step(1, 1, 1, 0.5), epoch(1), FrozenPass(2, 2, 1.0), THAW]
    run, told = Run(), []
    for event in (*story, epoch(2), KEPT):
        after = run.with_event(event)
        told += list_new_events(run, after)
        run = after
    assert told == [*story, epoch(2), KEPT]
