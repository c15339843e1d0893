"""The weights of timm's networks come from the hub's cache, into it, or with a sentence that says what to do."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from headswap.common.errors import InputError
from headswap.networks.build import build_staged_network
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import find_backbone

SMALL = "timm/test_resnet"
REPOSITORY = "timm/test_resnet.r160_in1k"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--timm--test_resnet.r160_in1k"


@pytest.fixture
def offline(monkeypatch):
    """There is no network; gives what it was asked for."""
    asked = []

    def refuse(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def published():
    torch.manual_seed(7)
    return timm.create_model("test_resnet").state_dict()


def equal(parts, weights):
    ours = [t for part in (parts.stages, parts.pool, parts.original_head) for t in part.state_dict().values()]
    return all(torch.equal(a, b) for a, b in zip(ours, weights.values(), strict=True))


def test_without_a_network_it_is_said_what_to_do_and_at_once(hub, offline):
    start = time.monotonic()
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        build_staged_network(SMALL)
    assert time.monotonic() - start < 5
    for words in (SMALL, REPOSITORY, str(hub / "snapshots" / "main" / "model.safetensors"), *BUNDLED):
        assert words in str(caught.value)
    assert find_backbone(SMALL).needs_download


def test_weights_put_where_the_error_says_are_used_without_a_question(hub, offline):
    file = find_backbone(SMALL).weights_file
    file.parent.mkdir(parents=True)
    save_file(published(), file)
    assert not find_backbone(SMALL).needs_download
    assert equal(build_staged_network(SMALL)[0], published())
    assert offline == []


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_that_the_hub_cached_are_used_without_a_question(hub, offline, name):
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc123")
    assert find_backbone(SMALL).weights_file == hub / "snapshots" / "abc123" / "model.safetensors"
    (hub / "snapshots" / "abc123").mkdir(parents=True)
    file = hub / "snapshots" / "abc123" / name
    save_file(published(), file) if name.endswith("safetensors") else torch.save(published(), file)
    assert find_backbone(SMALL).weights_file == file
    assert equal(build_staged_network(SMALL)[0], published())
    assert offline == []


@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>", {"conv1.weight": torch.zeros(3)}])
def test_a_broken_file_is_named(hub, offline, content):
    file = find_backbone(SMALL).weights_file
    file.parent.mkdir(parents=True)
    file.write_bytes(content) if isinstance(content, bytes) else save_file(content, file)
    with pytest.raises(InputError, match="Delete it") as caught:
        build_staged_network(SMALL)
    assert str(file) in str(caught.value)


def test_weights_that_nobody_published_are_not_looked_for(offline):
    with pytest.raises(InputError, match="Nobody has published weights of timm/test_vit4"):
        build_staged_network("timm/test_vit4")
    assert offline == []


def test_random_weights_need_no_network(hub, offline):
    build_staged_network(SMALL, pretrained=False)
    assert offline == [] and not hub.exists()


class Hub(BaseHTTPRequestHandler):
    """A hub with one file in any repository."""

    content = b""

    def do_HEAD(self):
        there = self.path.endswith("/resolve/main/model.safetensors")
        self.send_response(200 if there else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_):
        pass


def test_weights_come_from_the_hub_into_its_cache(hub, tmp_path, monkeypatch):
    save_file(published(), tmp_path / "weights")
    monkeypatch.setattr(Hub, "content", (tmp_path / "weights").read_bytes())
    heard = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
        )
        try:
            parts, _ = build_staged_network(SMALL, progress=lambda *done: heard.append(done))
        finally:
            server.shutdown()
            thread.join()
    assert equal(parts, published())
    assert heard == [(0, len(Hub.content)), (len(Hub.content), len(Hub.content))]
    assert not find_backbone(SMALL).needs_download
    assert equal(build_staged_network(SMALL)[0], published())
