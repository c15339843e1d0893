"""The catalogue is whole, weights come from where it says, and pixels are prepared as the weights want them."""

import io
import socket
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import timm
import torch
from drawings import shape
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.networks.build import build_staged_network
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import DEFAULT_BACKBONE, backbones, find_backbone

LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SMALL = "squeezenet1_1"  # its weights are 5 MB


class AskedError(AssertionError):
    """Somebody asked the network for something."""


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nobody may open a connection."""

    def refuse(*_, **__):
        raise AskedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty cache of downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def unplug(monkeypatch, error):
    """Let a download fail with this error."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", fail)


def published(name):
    return tv.get_model_weights(name).DEFAULT


def put(torch_home, name, content):
    """A file of weights where torchvision looks for it: a state dict, or any bytes."""
    torch_home.mkdir(parents=True)
    path = torch_home / Path(published(name).url).name
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path


def random_weights(name):
    torch.manual_seed(0)
    return tv.get_model(name, weights=None).state_dict()


def tensors(parts, *, last=True):
    """The tensors of a network taken apart, in order."""
    modules = [parts.stages, parts.pool, *([parts.original_head] if last else [])]
    return [tensor for module in modules for tensor in module.state_dict().values()]


def equal(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


# The catalogue


def test_83_networks_can_be_named_and_the_bundled_ones_come_first():
    names = [row.name for row in backbones()]
    assert len(names) == len(set(names)) == 83
    assert tuple(names[:3]) == LITE == tuple(BUNDLED)
    assert names[3:] == sorted(tv.list_models(module=tv))
    assert DEFAULT_BACKBONE in LITE


def test_only_torchvisions_networks_need_a_download(torch_home):
    assert {row.name for row in backbones() if not row.needs_download} == set(LITE)
    assert all((row.source == "bundled") == (row.name in LITE) for row in backbones())


def test_a_file_in_the_cache_needs_no_download_any_more(torch_home):
    path = put(torch_home, SMALL, b"")
    assert find_backbone(SMALL).weights_file == path
    assert not find_backbone(SMALL).needs_download


@pytest.mark.parametrize("name", [*LITE, "alexnet", "inception_v3", "mobilenet_v3_small"])
def test_a_row_says_what_building_the_network_shows(name):
    row = find_backbone(name)
    parts, preprocess = build_staged_network(name, pretrained=False)
    weights = sum(p.numel() for module in (parts.stages, parts.pool, parts.original_head) for p in module.parameters())
    auxiliary = 3_326_696 if name == "inception_v3" else 0  # a second head, used in training from the start alone
    assert row.million_weights == pytest.approx((weights + auxiliary) / 1e6, abs=1e-3)
    assert row.input_size == preprocess.size


def test_every_row_has_figures_that_can_be():
    for row in backbones():
        assert 128 <= row.input_size <= 600
        assert 55 < row.accuracy < 90
        if row.name != "googlenet":  # whose file holds two more heads, used in training from the start alone
            assert row.megabytes == pytest.approx(4 * row.million_weights, rel=0.1, abs=0.5)


@pytest.mark.parametrize("ask", [find_backbone, build_staged_network])
def test_an_unknown_name_offers_the_nearest(ask):
    with pytest.raises(ValueError, match=r"'resnet19'\. Did you mean .*resnet18") as caught:
        ask("resnet19")
    assert not isinstance(caught.value, InputError)


# Bundled weights


@pytest.mark.parametrize("name", LITE)
def test_bundled_weights_are_those_of_the_package_and_no_network_is_needed(name, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    pretrained, _ = build_staged_network(name)
    random, _ = build_staged_network(name, pretrained=False)
    of_the_package = torch.load(find_backbone(name).weights_file, map_location="cpu", weights_only=True)
    assert equal(tensors(pretrained), of_the_package.values())
    weights = zip(pretrained.stages.parameters(), random.stages.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in weights if a.ndim > 1)


def test_bundled_weights_are_as_large_as_the_catalogue_says():
    for name in LITE:
        assert find_backbone(name).weights_file.stat().st_size / 1e6 == pytest.approx(
            find_backbone(name).megabytes, abs=1.5
        )


# Weights of torchvision


def test_a_file_in_the_cache_is_used_without_asking_anybody(torch_home, monkeypatch):
    weights = random_weights(SMALL)
    put(torch_home, SMALL, weights)
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    unplug(monkeypatch, AskedError())
    parts, _ = build_staged_network(SMALL)
    assert equal(tensors(parts), weights.values())


def test_random_weights_need_no_download(torch_home, monkeypatch):
    unplug(monkeypatch, AskedError())
    parts, _ = build_staged_network(SMALL, pretrained=False)
    assert tensors(parts)[0].std() > 0
    assert not torch_home.exists()


def cut_short(name):
    stream = io.BytesIO()
    torch.save(random_weights(name), stream)
    return stream.getvalue()[: stream.tell() // 2]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(cut_short(SMALL), id="cut short"),
        pytest.param(b"<!DOCTYPE html><html><body>Please log in</body></html>", id="the page of a hotel"),
        pytest.param(bytes(range(256)) * 40, id="any bytes"),
        pytest.param({"features.0.weight": torch.zeros(3)}, id="another network's"),
        pytest.param(b"\x80\x02X\x04\x00\x00\x00\xff\xfe\xfd\xfc.", id="a damaged pickle"),
        pytest.param([torch.zeros(3)], id="a list"),
    ],
)
def test_a_broken_file_in_the_cache_is_named(torch_home, content):
    path = put(torch_home, SMALL, content)
    with pytest.raises(InputError, match="Delete it") as caught:
        build_staged_network(SMALL)
    for words in (str(path), SMALL, *LITE):
        assert words in str(caught.value)
    assert path.exists()


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route to host"),
        URLError(TimeoutError("timed out")),
        HTTPError("https://download.pytorch.org", 503, "unavailable", None, None),
        ConnectionResetError("reset"),
        TimeoutError("timed out"),
    ],
    ids=repr,
)
def test_without_a_network_it_is_said_what_to_do(torch_home, monkeypatch, error):
    unplug(monkeypatch, error)
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        build_staged_network(SMALL)
    place = torch_home / Path(published(SMALL).url).name
    for words in (published(SMALL).url, str(place), *LITE):
        assert words in str(caught.value)
    assert not torch_home.exists() or list(torch_home.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing_in_the_cache(torch_home, monkeypatch):
    class Download(io.BytesIO):
        def info(self):
            return Message()

        def read(self, *_):
            if self.tell():
                raise ConnectionResetError("reset")
            return super().read(1000)

    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: Download(bytes(5000)))
    with pytest.raises(InputError, match="could not be downloaded"):
        build_staged_network(SMALL)
    assert list(torch_home.iterdir()) == []


# Pixels


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "dots.png"
    shape("dots", size=(131, 90)).save(path)
    return path


def upright(path):
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.mark.parametrize("name", ["resnet18", "inception_v3", "efficientnet_b0"])
def test_pixels_are_what_torchvisions_own_transform_makes_of_them(name, picture):
    _, preprocess = build_staged_network(name, pretrained=False)
    theirs = published(name).transforms()(upright(picture))
    ours = preprocess(picture)
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("name", LITE)
def test_pixels_are_what_timms_own_transform_makes_of_them(name, picture):
    _, preprocess = build_staged_network(name, pretrained=False)
    wanted = resolve_model_data_config(timm.create_model(BUNDLED[name].timm_name))
    theirs = create_transform(**wanted, is_training=False)(upright(picture))
    assert preprocess(picture).shape == (3, find_backbone(name).input_size, find_backbone(name).input_size)
    assert (preprocess(picture) - theirs).abs().max() < 1e-5


def test_the_default_looks_at_224_pixels_with_mean_and_deviation_a_half():
    _, preprocess = build_staged_network(DEFAULT_BACKBONE, pretrained=False)
    assert (preprocess.size, preprocess.resize, preprocess.interpolation) == (224, 256, "bicubic")
    assert preprocess.mean == preprocess.std == (0.5, 0.5, 0.5)


def test_path_image_and_pixels_look_the_same_to_the_network(picture):
    _, preprocess = build_staged_network(SMALL, pretrained=False)
    from_path = preprocess(picture)
    assert torch.equal(preprocess(str(picture)), from_path)
    assert torch.equal(preprocess(upright(picture)), from_path)


def test_black_and_white_come_out_as_mean_and_deviation_say():
    _, preprocess = build_staged_network(SMALL, pretrained=False)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    black = preprocess(torch.zeros(3, 256, 300, dtype=torch.uint8))
    white = preprocess(torch.full((3, 300, 256), 255, dtype=torch.uint8))
    assert torch.allclose(black[:, 7, 9], -mean / deviation)
    assert torch.allclose(white[:, 7, 9], (1 - mean) / deviation)
    assert black.shape == white.shape == (3, 224, 224)


def test_a_batch_is_normalised_as_one_picture_is(picture):
    _, preprocess = build_staged_network(SMALL, pretrained=False)
    squares = torch.randint(256, (2, 3, 224, 224), dtype=torch.uint8)
    assert torch.equal(preprocess.normalize(squares)[1], preprocess.normalize(squares[1]))


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    _, preprocess = build_staged_network(SMALL, pretrained=False)
    with pytest.raises(InputError, match=r"notes\.png"):
        preprocess(tmp_path / "notes.png")
