"""The catalogue says of a network what building it would show, and weights come whole or not at all."""

import hashlib
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torchvision import models as tv
from torchvision.models import regnet

from headswap.backbones import BUNDLED, backbones, build, find, too_large
from headswap.errors import InputError
from headswap.model import features_in
from headswap.stages import take_apart
from headswap.weights import DownloadError, fetch, torch_file

TORCHVISIONS = [row for row in backbones() if row.source == "torchvision"]


# What a row says


@pytest.fixture
def on_paper(monkeypatch):
    """Builds networks without numbers; RegNet's widths are worked out with some."""
    with_numbers = regnet.BlockParams.from_init_params.__func__

    def from_init_params(cls, *args, **kwargs):
        with torch.device("cpu"):
            return with_numbers(cls, *args, **kwargs)

    monkeypatch.setattr(regnet.BlockParams, "from_init_params", classmethod(from_init_params))

    def build_one(name):
        quick = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        with torch.device("meta"):
            return take_apart(tv.get_model(name, weights=None, **quick))

    return build_one


def test_features_and_stages_are_those_of_the_networks(on_paper):
    for row in TORCHVISIONS:
        parts = on_paper(row.name)
        assert (row.name, row.features, row.stages) == (row.name, features_in(parts), len(parts.stages))


@pytest.mark.parametrize("name", BUNDLED)
def test_features_and_stages_are_those_of_the_bundled_networks(name):
    parts, _ = build(name, pretrained=False)
    assert (find(name).features, find(name).stages) == (features_in(parts), len(parts.stages))


def test_a_network_of_timm_is_a_row_as_well():
    row = find("timm/test_resnet")
    parts, preprocess = build("timm/test_resnet", pretrained=False)
    weights = sum(p.numel() for part in (parts.stages, parts.pool, parts.last) for p in part.parameters())
    assert row.million_weights == weights / 1e6
    assert (row.source, row.family, row.licence) == ("timm", "ResNet", "apache-2.0")
    assert (row.features, row.side, row.accuracy) == (features_in(parts), preprocess.size, None)
    assert row.megabytes == pytest.approx(4 * row.million_weights)


def test_weights_that_nobody_published_need_no_download():
    row = find("timm/test_vit4")
    assert not row.has_weights and not row.needs_download


def test_every_row_has_a_family_and_a_licence():
    assert all(row.family and row.licence for row in backbones())
    assert {find(name).family for name in BUNDLED} == {"EfficientNet-Lite"}
    assert find("resnext50_32x4d").family == "ResNeXt"
    assert find("wide_resnet50_2").family == "Wide ResNet"
    assert find("efficientnet_v2_s").family == "EfficientNetV2"


def test_non_commercial_weights_are_marked():
    assert {row.name for row in backbones() if row.non_commercial} == {"regnet_y_128gf", "vit_h_14"}
    for row in TORCHVISIONS:
        swag = "SWAG" in tv.get_model_weights(row.name).DEFAULT.name
        assert row.licence == ("CC-BY-NC-4.0" if swag else "BSD-3-Clause")


@pytest.mark.parametrize(
    "licence, marked",
    [
        ("cc-by-nc-4.0", True),
        ("cc-by-nc-sa-4.0", True),
        ("fair-noncommercial-research-license", True),
        ("apple-amlr", True),
        ("cc-by-4.0", False),
        ("apache-2.0", False),
        ("fastvit-license", False),
        ("", False),
    ],
)
def test_a_licence_says_whether_it_is_commercial(licence, marked):
    assert replace(find("resnet18"), licence=licence).non_commercial == marked


# What is too large


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("HEADSWAP_MAX_DOWNLOAD", raising=False)


def test_at_home_nothing_is_too_large(empty_cache):
    assert too_large(find("vit_h_14")) == ""


def test_on_a_space_200_megabytes_are_the_most(empty_cache, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/headswap")
    assert too_large(find("resnet152")) != ""  # 230 MB
    assert too_large(find("resnet101")) == ""  # 171 MB
    for words in ("resnet152", "230 MB", "200 MB", *BUNDLED):
        assert words in too_large(find("resnet152"))


def test_the_most_can_be_set(empty_cache, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/headswap")
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "40")
    assert too_large(find("resnet18")) != ""
    assert too_large(find("squeezenet1_1")) == ""
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "0")
    assert too_large(find("squeezenet1_1")) != ""
    assert too_large(find("efficientnet_lite0")) == ""


def test_what_lies_on_this_machine_is_not_too_large(empty_cache, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "1")
    file = find("squeezenet1_1").weights_file
    file.parent.mkdir(parents=True)
    file.touch()
    assert too_large(find("squeezenet1_1")) == ""


def test_a_limit_that_is_no_number_is_named(empty_cache, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "much")
    with pytest.raises(InputError, match=r"HEADSWAP_MAX_DOWNLOAD is a number of megabytes.*'much'"):
        too_large(find("resnet18"))


# Downloads

CONTENT = bytes(range(256)) * 4000
HASH = hashlib.sha256(CONTENT).hexdigest()[:8]


@contextmanager
def serving(content, promised=None):
    """An address that serves these bytes and promises that many."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(promised or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def cached(url):
    """What lies in the cache."""
    folder = torch_file(url).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_download_comes_whole_and_says_how_far_it_is(empty_cache):
    heard = []
    with serving(CONTENT) as address:
        path = fetch(f"{address}/net-{HASH}.pth", lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert len(heard) > 2 and heard == sorted(heard)
    assert cached("net.pth") == [f"net-{HASH}.pth"]


def test_bytes_with_another_hash_never_reach_the_cache(empty_cache):
    with serving(CONTENT) as address, pytest.raises(DownloadError, match="another hash"):
        fetch(f"{address}/net-00000000.pth")
    assert cached("net.pth") == []


def test_half_a_file_never_reaches_the_cache(empty_cache):
    with serving(CONTENT, promised=2 * len(CONTENT)) as address, pytest.raises(DownloadError):
        fetch(f"{address}/net.pth")
    assert cached("net.pth") == []


def test_whoever_listens_to_a_download_may_end_it(empty_cache):
    class Enough(Exception):
        pass

    def listen(done, total):
        raise Enough

    with serving(CONTENT) as address, pytest.raises(Enough):
        fetch(f"{address}/net-{HASH}.pth", listen)
    assert cached("net.pth") == []


def test_weights_of_torchvision_come_with_progress_and_are_not_asked_for_twice(empty_cache, tmp_path, monkeypatch):
    theirs = tv.squeezenet1_1().state_dict()
    torch.save(theirs, tmp_path / "weights")
    content, heard = (tmp_path / "weights").read_bytes(), []
    name = f"squeezenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with serving(content) as address:
        published = replace(tv.SqueezeNet1_1_Weights.DEFAULT.value, url=f"{address}/{name}")
        monkeypatch.setattr(tv.SqueezeNet1_1_Weights.DEFAULT, "_value_", published)
        build("squeezenet1_1", progress=lambda *done: heard.append(done))
    monkeypatch.setattr(socket.socket, "connect", None)
    parts, _ = build("squeezenet1_1", progress=lambda *_: pytest.fail("It is asked for again."))
    assert heard[-1] == (len(content), len(content))
    assert all(torch.equal(a, b) for a, b in zip(parts.stages.state_dict().values(), theirs.values(), strict=False))
