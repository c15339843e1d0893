"""The page needs no internet: loading, training, predicting and keeping ask no other host for anything.

On every system, but only as far as Python's own sockets go; what native code does is seen in test_privacy.py.
"""

import ipaddress
import socket

import pytest

from headswap.ui.panels import run_view
from headswap.ui.panels.browser_events import parse_images_upload
from headswap.ui.sessions import chosen_network
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.steps import images, keep, model, test, train


@pytest.fixture
def tried(monkeypatch):
    """Other hosts cannot be reached; gives whom somebody tried to reach or to look up nevertheless."""
    tried = []

    def near(host):
        try:
            return host in (None, "", "localhost") or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def guarded(real):
        def connect(self, address):
            if self.family not in (socket.AF_INET, socket.AF_INET6) or near(address[0]):
                return real(self, address)
            tried.append(address)
            raise OSError("There is no internet.")

        return connect

    def look_up(host, *rest, real=socket.getaddrinfo, **more):
        if near(host):
            return real(host, *rest, **more)
        tried.append(host)
        raise socket.gaierror("There is no internet.")

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return tried


def test_a_whole_lesson_asks_nobody(tried, upload, fruits, new_visitor):
    files = upload({f"fruits/{file.parent.name}/{file.name}": file for file in sorted(fruits.rglob("*.png"))})
    sent = type("Sent", (), {"files": files, "label": "", "add": False})
    *_, shown = images.load_uploads(new_visitor, parse_images_upload(sent))
    assert "12 images in 3 classes" in shown.dataset_summary
    model.render_input_preview(new_visitor, chosen_network.build_meta_network(new_visitor.choice, new_visitor.classes))
    train.refresh(new_visitor)
    train.start_training(new_visitor, Scheduler(), 2, 1, 1)
    *_, last = run_view.watch_training(new_visitor)
    assert "validation images right" in last.status
    [one] = upload({"red.png": fruits / "red/1.png"})
    assert "hs-answer" in str(test.predict_files(new_visitor, Scheduler(), [one["path"]]))
    assert "import torch" in keep.render_script(new_visitor)
    assert tried == []


def test_whoever_asks_another_host_would_be_noticed(tried):
    with pytest.raises(OSError):
        socket.create_connection(("example.org", 80), timeout=1)
    with socket.socket() as asking, pytest.raises(OSError):
        asking.connect(("192.0.2.1", 80))
    assert tried == ["example.org", ("192.0.2.1", 80)]


@pytest.fixture
def new_visitor():
    visitor = Session()
    yield visitor
    visitor.release()
