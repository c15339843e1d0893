"""A push says what stands in its way: no network, no token, a name that is none; and brings every file as it is."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
from huggingface_hub import constants

from headswap import InputError
from headswap.export.hub import push_to_hub

FILES = {"README.md": b"# Shapes", "golden/1.png": b"\x89PNG and so on"}


class Hub(BaseHTTPRequestHandler):
    """A hub that takes everything, or refuses it all with one status."""

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], sent))
        if self.server.refuses:
            return self.answer({"error": "no"}, self.server.refuses)
        if self.path == "/api/repos/create":
            told = json.loads(sent)
            kind = "spaces/" if told.get("type") == "space" else ""
            return self.answer({"url": f"https://huggingface.co/{kind}{told['organization']}/{told['name']}"})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(sent)["files"]
            ]
            return self.answer({"files": files})
        return self.answer({"success": True, "commitOid": "0" * 40, "commitUrl": "https://huggingface.co/a/b/commit/0"})

    def answer(self, told, status=200):
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch):
    """A hub on this computer, with all that it was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.refuses = [], None
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Nobody is logged in on this computer."""
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


def committed(hub):
    [lines] = [sent for path, _, sent in hub.asked if "/commit/" in path]
    rows = [json.loads(line) for line in lines.splitlines()]
    return {row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"}


@pytest.mark.parametrize("as_space", [False, True])
def test_every_file_arrives_in_a_private_repository(hub, as_space):
    address = push_to_hub(FILES, "somebody/shapes", space=as_space, token="hf_theirs")
    assert address.endswith("/spaces/somebody/shapes" if as_space else "/somebody/shapes")
    path, _, sent = hub.asked[0]
    told = json.loads(sent)
    assert path == "/api/repos/create" and "private" in (told.get("visibility"), told.get("private") and "private")
    assert told.get("sdk") == ("gradio" if as_space else None)
    assert committed(hub) == FILES
    assert {token for _, token, _ in hub.asked} == {"Bearer hf_theirs"}


def test_without_a_token_nothing_is_asked(hub):
    with pytest.raises(InputError, match=r"Nobody is logged in .* Log in with `hf auth login`"):
        push_to_hub(FILES, "somebody/shapes")
    assert hub.asked == []


@pytest.mark.parametrize(
    "name", ["shapes", "a/b/c", "../etc/passwd", "somebody/", "some body/shapes", "x" * 200 + "/y"]
)
def test_a_name_that_is_none_is_said(hub, name):
    with pytest.raises(InputError, match="A repository is called your-name/its-name"):
        push_to_hub(FILES, name, token="hf_theirs")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not know this token"),
        (403, "may not write to somebody/shapes"),
        (400, r"refused somebody/shapes \(400\)"),
    ],
)
def test_a_refusal_is_said_in_a_sentence(hub, status, said):
    hub.refuses = status
    with pytest.raises(InputError, match=said) as caught:
        push_to_hub(FILES, "somebody/shapes", token="hf_secret")
    assert "\n" not in str(caught.value) and "hf_secret" not in str(caught.value)


def test_without_a_network_it_says_so(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot be reached\. Connect to the internet"):
        push_to_hub(FILES, "somebody/shapes", token="hf_theirs")
