"""The page is wired so that each event knows whose it is, and it loads nothing from elsewhere."""

import inspect
import json
import re
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import closing
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import urljoin, urlparse

import gradio as gr
import pytest
from pictures import FLOWERS, folder

from headswap.data.loading import load_images
from headswap.ui.app import api, page
from headswap.ui.sessions import next_training
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.steps import keep
from headswap.ui.steps import model as model_step
from headswap.ui.views import theme

UNBOUND = {"arrive", "leave", "forget_everything"}  # these are told who comes and goes


@pytest.fixture(scope="module")
def blocks(built):
    return built(lambda: page.build_page(SessionRegistry()))


def events(blocks):
    """The page's events that run Python and could need to know whose they are; others take nothing and choose only.
    What programs call has tests of its own."""
    own = [
        event for event in blocks.fns.values() if event.fn is not None and event.api_name not in api.API_FUNCTION_NAMES
    ]
    return [event for event in own if not is_choice(event)]


def is_choice(event):
    kinds = {type(each) for each in event.outputs}
    return not event.inputs and kinds and kinds <= {gr.Tabs, gr.Radio, gr.Dropdown}


def named(blocks, elem_id):
    (block,) = (block for block in blocks.blocks.values() if getattr(block, "elem_id", None) == elem_id)
    return block


def triggered_by(blocks, elem_id, name):
    (event,) = (e for e in blocks.fns.values() if (named(blocks, elem_id)._id, name) in e.targets)
    return event


# Who it is


def test_every_event_of_a_visitor_has_the_ticket_as_its_first_input(blocks):
    tickets = [block for block in blocks.blocks.values() if isinstance(block, gr.State)]
    assert len(tickets) == 1
    bound = [event for event in events(blocks) if event.name not in UNBOUND]
    assert len(bound) > 10
    for event in bound:
        assert event.inputs[:1] == tickets, f"{event.name} {event.targets}"


def test_a_ticket_that_is_not_known_is_told_to_reload_by_every_event(blocks):
    for event in events(blocks):
        if event.name in UNBOUND:
            continue
        others = [None] * (len(inspect.signature(event.fn).parameters) - 1)
        values = others if event.targets[0][1] == "submit" else [None] * (len(event.inputs) - 1)
        for ticket, said in (("made up", "Reload the page"), ("", "not ready yet"), (None, "not ready yet")):
            with pytest.raises(gr.Error, match=said):
                result = event.fn(ticket, *values)
                if inspect.isgenerator(result):
                    next(result)


def test_only_the_ticket_crosses_from_one_event_to_the_next(blocks):
    written = [block for event in events(blocks) for block in event.outputs if isinstance(block, gr.State)]
    (arrive,) = (event for event in events(blocks) if event.name == "arrive")
    assert written == [block for block in arrive.outputs if isinstance(block, gr.State)]
    assert written[0].value is None


def test_a_visitor_is_remembered_by_the_tab_and_not_by_the_browser(blocks):
    scripts = " ".join(event.js for event in blocks.fns.values() if isinstance(event.js, str))
    assert "sessionStorage.getItem('headswap')" in scripts
    assert "sessionStorage.setItem('headswap'" in scripts
    assert "localStorage" not in scripts


# What can be pressed when


def test_stop_can_be_pressed_while_the_training_is_watched(blocks):
    stop, train = named(blocks, "stop"), triggered_by(blocks, "train", "click")
    assert train.outputs
    reading = {triggered_by(blocks, "sample", "click"), triggered_by(blocks, "picker", "submit")}
    reading |= {triggered_by(blocks, "judge", "click"), triggered_by(blocks, "test-set", "submit")}
    reading |= {triggered_by(blocks, "measure", "click")}
    reading |= {triggered_by(blocks, f"take-{way}", "click") for way in keep.EXPORT_FORMATS}
    streamed = [event for event in events(blocks) if inspect.isgeneratorfunction(event.fn) and event not in reading]
    [found], watching = (
        [event for event in streamed if (event is triggered_by(blocks, "find-rate", "click")) == rate]
        for rate in (True, False)
    )
    assert {each.elem_id for each in found.outputs} == {"rates"}
    assert len(watching) == 5  # after Train in two places, Race the heads, Learn again, and when somebody comes back
    for event in watching:
        assert stop not in event.outputs
        assert not [each for each in event.outputs if isinstance(each, gr.Button)]
        assert {each.elem_id for each in event.outputs} == {"train-strip", "train-sentence", "charts"}


def test_what_is_below_the_sentence_is_hidden_until_it_can_be_used(blocks):
    for elem_id in ("keep-frozen", "keep-reference", "keep-own", "again"):
        assert named(blocks, elem_id).visible is False
        answer = triggered_by(blocks, elem_id, "click")
        assert {"train", "stop", "onward-test", elem_id} <= {each.elem_id for each in answer.outputs}


def test_stopping_changes_nothing_but_the_training(blocks):
    stop = triggered_by(blocks, "stop", "click")
    assert stop.outputs == []
    assert not stop.cancels


def test_reading_is_all_that_an_event_ends(blocks):
    stops = [event for event in blocks.fns.values() if (named(blocks, "picker")._id, "stop") in event.targets]
    [stop] = [event for event in stops if event.cancels]
    reading = {triggered_by(blocks, "sample", "click"), triggered_by(blocks, "picker", "submit")}
    assert set(stop.cancels) == {number for number, event in blocks.fns.items() if event in reading}
    assert not any(event.cancels for event in blocks.fns.values() if event is not stop)


def test_of_several_quick_choices_the_last_counts(blocks):
    inputs = [event for event in blocks.fns.values() if any(name == "input" for _, name in event.targets)]
    assert {number for event in inputs for number, _ in event.targets} >= {
        named(blocks, "backbone")._id,
        named(blocks, "head")._id,
    }
    assert {event.trigger_mode for event in inputs} == {"always_last"}


def test_whoever_arrives_is_welcomed_and_shown_their_training(blocks):
    (first,) = (event for event in blocks.fns.values() if event.name == "arrive")
    chain = [first._id]
    for event in blocks.fns.values():
        if event.trigger_after == chain[-1]:
            chain.append(event._id)
    written = {each.elem_id for number in chain for each in blocks.fns[number].outputs}
    assert {"understood", "train-strip", "train-sentence", "charts", "train", "stop"} <= written


def test_the_steps_are_in_their_order(blocks):
    steps = named(blocks, "steps")
    labels = [block.label for block in blocks.blocks.values() if isinstance(block, gr.Tab) and block.parent is steps]
    assert [label.split()[0] for label in labels] == [str(number) for number in range(1, len(labels) + 1)]
    assert [label.split()[1] for label in labels][:4] == ["Images", "Model", "Train", "Test"]


def test_a_template_never_holds_what_a_person_named(blocks):
    own = [
        block for block in blocks.blocks.values() if isinstance(block, gr.HTML) and block.html_template != "${value}"
    ]
    assert [block.elem_id for block in own] == ["picker", "test-set"]
    for block in own:
        assert "${" not in block.html_template
        assert "{{" not in block.html_template


# Forgetting


def test_forgetting_takes_along_what_was_uploaded_and_nothing_else(built, upload, flowers):
    visitors = SessionRegistry()
    blocks = built(lambda: page.build_page(visitors))
    ticket = visitors.open_tab(None, "tab")
    note = triggered_by(blocks, "forget", "submit")
    [forget] = [event for event in blocks.fns.values() if event.name == "forget_everything"]
    assert forget.trigger_after == note._id and not forget.trigger_only_on_success
    assert {type(each) for each in note.inputs[1:]} >= {gr.File, gr.DownloadButton}
    [sent] = upload({"a.png": flowers / "roses/a.png"})
    held = [sent["path"]], str(flowers / "roses/b.png"), None
    note.fn(ticket, *held)
    forget.fn(ticket)
    assert not [path for path in upload.home.rglob("*") if path.is_file()]
    assert (flowers / "roses/b.png").is_file()
    assert visitors.get_session(ticket) is None


# Several presses at once


@pytest.fixture
def pressing(built, fruits, monkeypatch):
    """A visitor with images, and a function that lets threads press these buttons at the same moment; gives how many
    jobs were begun."""
    begun = []

    class Counted(Job):
        def __init__(self, *given, **named):
            begun.append(self)
            super().__init__(*given, **named)

    monkeypatch.setattr(next_training, "Job", Counted)
    visitors = SessionRegistry()
    blocks = built(lambda: page.build_page(visitors))
    ticket = visitors.open_tab(None, "tab")
    visitor = visitors.get_session(ticket)
    visitor.set_images(load_images(fruits))

    def press(*buttons):
        together, answers = threading.Barrier(len(buttons)), []

        def one(event):
            values = [2, 0, 1, None] if len(event.inputs) > 1 else []
            together.wait(30)
            answers.append(event.fn(ticket, *values))

        threads = [threading.Thread(target=one, args=(begins(blocks, button),)) for button in buttons]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == len(buttons)
        return begun

    yield SimpleNamespace(press=press, visitor=visitor, visitors=visitors, ticket=ticket)
    for job in begun:
        job.stop()
        job.join(60)


def begins(blocks, button):
    """The event by which a button begins a training."""
    event = triggered_by(blocks, button, "click")
    if button == "train-at-once":  # first it looks what the next training is
        (event,) = (each for each in events(blocks) if each.trigger_after == event._id and len(each.inputs) > 1)
    return event


@pytest.mark.parametrize("buttons", [("train", "race"), ("train",) * 4, ("race", "train-at-once", "train") * 2])
def test_of_presses_at_the_same_moment_one_begins_a_training(pressing, buttons):
    [job] = pressing.press(*buttons)
    assert pressing.visitor.job is job


def test_learning_again_begins_once_however_often_it_is_pressed(pressing):
    [job] = pressing.press("train")
    job.join(120)
    pressing.visitor.adopt_trained_model(job)
    assert len(pressing.press("again", "again", "train", "race")) == 2


def test_for_somebody_who_was_let_go_of_nothing_begins_any_more(pressing):
    visitor = pressing.visitor
    begun, made = [], threading.Event()

    def make():
        begun.append(threading.Thread(target=pressing.visitors.remove_session, args=(pressing.ticket,)))
        begun[0].start()
        made.wait(0.1)
        return Job(lambda progress: None, lambda model: iter(()), Scheduler())

    job = visitor.start_job(make)
    begun[0].join(30)
    assert job._stop_requested.is_set() and visitor.job is None
    assert visitor.start_job(make) is None


# How it is started


@pytest.fixture
def started(built, monkeypatch):
    """Gives what the page hands to Gradio when it is launched, and itself as ``blocks``."""

    def start(**settings):
        handed = {}
        monkeypatch.setattr(SessionRegistry, "start_expiry_thread", lambda self: handed.update(swept=True))
        monkeypatch.setattr(gr.Blocks, "launch", lambda self, **settings: handed.update(settings, blocks=self))
        built(lambda: page.launch(**settings))
        return handed

    return start


def test_starting_sweeps_and_keeps_no_history(started):
    settings = started()
    assert settings["swept"]
    assert settings["run_history"] is False
    assert settings["ssr_mode"] is False
    assert settings["blocks"].analytics_enabled is False


def test_nobody_waits_for_somebody_elses_event(started):
    settings = started()
    assert settings["blocks"]._queue.default_concurrency_limit is None
    assert settings["max_threads"] >= 100


def test_settings_of_the_caller_win(started):
    settings = started(server_port=1234, max_threads=7)
    assert (settings["server_port"], settings["max_threads"]) == (1234, 7)


# What the browser gets


class References(HTMLParser):
    """Addresses that a browser fetches by itself: scripts, links, frames, images and what styles name."""

    FETCHED = (("script", "src"), ("link", "href"), ("iframe", "src"), ("img", "src"), ("source", "src"))

    def __init__(self, html):
        super().__init__()
        self.found, self.styles, self.inside = [], [], None
        self.feed(html)
        self.close()
        for style in self.styles:
            self.found += in_style(style)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        self.found += [value for name, value in attributes if (tag, name) in self.FETCHED and value]
        self.styles += [value for name, value in attributes if name == "style" and value]

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, text):
        if self.inside == "style":
            self.styles.append(text)


def in_style(css):
    quoted = r"""["']?([^"')]+)["']?"""
    return re.findall(rf"url\(\s*{quoted}\s*\)", css) + re.findall(r"""@import\s+["']([^"']+)""", css)


@pytest.fixture(scope="module")
def fetch(built):
    """Fetches from the page as it is launched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionRegistry, "start_expiry_thread", lambda self: None)
        handed = []
        launch = gr.Blocks.launch
        patch.setattr(gr.Blocks, "launch", lambda self, **s: handed.append((self, launch(self, **s))))
        built(lambda: page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", inbrowser=False))
        ((blocks, (_, address, _)),) = handed

        def get(path):
            with closing(urllib.request.urlopen(urljoin(address, path), timeout=60)) as answer:
                return answer.read().decode()

        get.address, get.blocks = address, blocks
        yield get
        blocks.close(verbose=False)


def config_of(html):
    text = html[html.index("window.gradio_config = ") + len("window.gradio_config = ") :]
    return json.JSONDecoder().raw_decode(text)[0]


def elsewhere(addresses, home):
    """Those that lead to another host."""
    here = urlparse(home).netloc
    schemes = ("http", "https", "ws", "wss", "")
    return [
        each for each in addresses if urlparse(each).scheme in schemes and urlparse(urljoin(home, each)).netloc != here
    ]


def test_the_page_answers_by_its_name(fetch):
    assert "<title>headswap" in fetch("/") or config_of(fetch("/"))["title"] == "headswap"


def test_nothing_is_loaded_from_another_host(fetch):
    html = fetch("/")
    references = References(html).found
    assert [each for each in references if each.endswith(".js")], "no script was found at all"
    assert elsewhere(references, fetch.address) == []
    config = config_of(html)
    assert elsewhere(config["stylesheets"] or [], fetch.address) == []
    assert elsewhere(in_style(fetch("/theme.css")), fetch.address) == []
    assert config["analytics_enabled"] is False
    shown = [each["props"].get("value") for each in config["components"] if each["type"] == "html"]
    for part in (config["head"], *filter(None, shown)):
        assert elsewhere(References(part).found, fetch.address) == []


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//cdn.example/a.css">',
        "<style>@import 'https://cdn.example/a.css';</style>",
        '<p style="background: url(https://cdn.example/a.png)"></p>',
        '<img src="http://cdn.example/a.png">',
    ],
)
def test_a_reference_to_another_host_would_be_found(html):
    assert len(elsewhere(References(html).found, "http://127.0.0.1:7860/")) == 1


def test_the_styles_arrive_with_their_container_rules(fetch):
    head = config_of(fetch("/"))["head"]
    assert theme.read_css() in head
    assert head.count("@container") == theme.read_css().count("@container") >= 3


def test_the_private_copies_of_images_cannot_be_fetched(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    images = load_images(folder(tmp_path / "flowers", *FLOWERS))
    assert fetch.blocks.allowed_paths == []
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(f"/gradio_api/file={images.paths[0]}")
    with caught.value as answer:
        assert answer.code in (403, 404)


def test_no_two_drawings_share_a_name_in_the_style_sheet():
    names = re.findall(r"^\.(hs-[\w-]+) {", re.sub(r"/\*.*?\*/", "", theme.read_css(), flags=re.DOTALL), re.MULTILINE)
    assert len(names) > 30
    assert [name for name in names if names.count(name) > 1] == []


def test_an_older_choice_that_is_slower_to_draw_never_wins(built, monkeypatch):
    visitors = SessionRegistry()
    blocks = built(lambda: page.build_page(visitors))
    ticket = visitors.open_tab(None, "a tab")
    choose = triggered_by(blocks, "head", "input")
    values = [block.value for block in choose.inputs[1:]]
    going, drawing, real = threading.Event(), threading.Event(), model_step.build_meta_network

    def slow(choice, *given):
        if choice.backbone == "efficientnet_lite2":
            drawing.set()
            going.wait(30)
        return real(choice, *given)

    monkeypatch.setattr(model_step, "build_meta_network", slow)
    older, newer = (
        threading.Thread(target=choose.fn, args=(ticket, name, *values[1:]))
        for name in ("efficientnet_lite2", "efficientnet_lite1")
    )
    older.start()
    assert drawing.wait(30)
    newer.start()
    newer.join(1.0)  # without a turn of its own it would be through by now
    going.set()
    for thread in (older, newer):
        thread.join(30)
    assert visitors.get_session(ticket).choice.backbone == "efficientnet_lite1"
