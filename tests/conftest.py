"""What tests share: a folder for uploads, drawings, networks that learn them, and visitors."""

import asyncio
import gc
import os
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from types import SimpleNamespace

import pytest
import torch
from browsing import chromium, serving
from drawings import NARROW, load_shapes, small_model
from pictures import FLOWERS, folder, load_files, nothing_left_in
from PIL import Image, ImageDraw

from headswap.common import devices
from headswap.data.loading import load_images
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of programs that tests start


def pytest_collection_finish():
    """The libraries' half a million objects stay; collecting garbage need not visit them each time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard():
    """Also where the tests were started in the background, which ignores it and so do all programs started there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before or signal.SIG_DFL)


COLOURS = {"red": (215, 40, 40), "green": (40, 160, 60), "blue": (45, 75, 220)}


@pytest.fixture
def flowers(tmp_path):
    """A folder with two classes of two pictures each."""
    return folder(tmp_path / "flowers", *FLOWERS)


@pytest.fixture
def private_folders(tmp_path_factory):
    """Where private files are made in this test; in the end none of them is left."""
    with nothing_left_in(tmp_path_factory.mktemp("temporary")) as temporary:
        yield temporary


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where the private copies of images lie."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def upload(tmp_path, monkeypatch):
    """Puts files where a browser's uploads land; gives what the drop area sends of ``{relative name: file}``."""
    home = tmp_path / "uploads"
    home.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(home))

    def send(files):
        sent = []
        for name, file in files.items():
            path = home / secrets.token_hex(8) / f"{secrets.token_hex(8)}{file.suffix}"
            path.parent.mkdir()
            shutil.copyfile(file, path)
            sent.append({"name": name, "path": str(path)})
        return sent

    send.home = home
    return send


@pytest.fixture(scope="module")
def browser():
    """Chromium or Chrome, whichever is installed."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def draw_fruits():
    """Draws ``folder/red/1.png``, ``folder/green/1.png`` and so on: the same file names in each class."""

    def draw(folder, each, names=tuple(COLOURS), side=120):
        for name, colour in zip(names, COLOURS, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(1, each + 1):
                shape(colour, f"{name} {number}", side).save(folder / name / f"{number}.png")
        return folder

    return draw


def shape(colour, seed, side):
    """A disc, a square or a triangle, each in its colour, somewhere on paper that is nearly white."""
    chance = random.Random(seed)
    image = Image.new("RGB", (side, side), tuple(chance.randint(225, 255) for _ in range(3)))
    size = chance.randint(side // 2, side * 3 // 4)
    left, top = (chance.randint(0, side - size) for _ in range(2))
    right, bottom = left + size, top + size
    pen = ImageDraw.Draw(image)
    if colour == "red":
        pen.ellipse((left, top, right, bottom), COLOURS[colour])
    elif colour == "green":
        pen.rectangle((left, top, right, bottom), COLOURS[colour])
    else:
        pen.polygon([(left, bottom), (right, bottom), (left + size // 2, top)], COLOURS[colour])
    return image


@pytest.fixture(scope="session")
def fruits(tmp_path_factory, draw_fruits):
    """``fruits/red/1.png`` and so on, four of each colour."""
    return draw_fruits(tmp_path_factory.mktemp("drawn") / "fruits", each=4)


@pytest.fixture(scope="session")
def loaded_fruits(fruits):
    return load_images(fruits)


@pytest.fixture(scope="session")
def tagged(fruits, tmp_path_factory):
    """Images of which some carry two labels."""
    table = tmp_path_factory.mktemp("tagged") / "labels.csv"
    rows = [f"{name}/{i}.png,{name}{';dark' * (i % 2)}" for name in ("red", "green", "blue") for i in (1, 2, 3, 4)]
    table.write_text("file,labels\n" + "\n".join(rows))
    pairs = [(f"fruits/{file.parent.name}/{file.name}", file) for file in sorted(fruits.rglob("*.png"))]
    images = load_files([("fruits/labels.csv", table), *pairs])
    assert images.multi_label
    return images


@pytest.fixture
def visitor(loaded_fruits):
    """Somebody who has chosen images."""
    return Session(images=loaded_fruits)


@pytest.fixture(scope="session")
def network():
    """All that a drawing needs of a network."""
    from headswap.ui.sessions import chosen_network  # with Gradio, for which tests of the library need not wait

    return chosen_network.build_meta_network(Session().choice, 3)


@pytest.fixture(scope="session")
def trained(loaded_fruits):
    """Somebody who has trained the bundled network, with all that was drawn meanwhile."""
    from headswap.ui.panels import run_view
    from headswap.ui.steps import train

    visitor = Session(images=loaded_fruits)
    started = train.start_training(visitor, Scheduler(), 3, 1, 1)
    return SimpleNamespace(visitor=visitor, started=started, rows=list(run_view.watch_training(visitor)))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten shapes of each kind; a file with images of its own has them learned by the networks below as well."""
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=10)


@pytest.fixture
def model(images):
    """Without batch norms."""
    return small_model(images.classes, backbone=NARROW)


@pytest.fixture
def normed(images):
    """With batch norms."""
    return small_model(images.classes)


@pytest.fixture
def every_step(monkeypatch):
    """Every step is told, however fast they follow one another."""
    monkeypatch.setattr("headswap.features.frozen_pass.EVENT_INTERVAL_SECONDS", 0)


@pytest.fixture(scope="session")
def built():
    """Builds components inside a running event loop: outside one Gradio makes loops and never closes them."""

    def build(make):
        async def inside():
            return make()

        return asyncio.run(inside())

    return build


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """``python app.py`` as anybody would start it, on a free port."""
    with serving(tmp_path_factory.mktemp("server"), "app.py") as server:
        yield server


@pytest.fixture(scope="session")
def until():
    """Waits until something is true, for as long as a slow machine may need."""
    pause = threading.Event()

    def wait(true):
        for _ in range(6000):
            if true():
                return
            pause.wait(0.01)
        pytest.fail("What was waited for did not happen within a minute.")

    return wait


@pytest.fixture(autouse=True)
def on_the_processor(request, monkeypatch):
    """Tests compare to the last bit; what is learned on an accelerator has tests of its own."""
    if not request.node.get_closest_marker("accelerator"):
        monkeypatch.setattr(devices, "select_device", lambda: torch.device("cpu"))


@pytest.fixture(autouse=True)
def programs_are_announced(request, monkeypatch):
    """What starts a program waits for it to import torch; the ordinary run is quick because it has none of these."""

    def refuse(*_, **__):
        pytest.fail("This test starts a program: mark it with pytest.mark.subprocess or pytest.mark.browser.")

    if not any(map(request.node.get_closest_marker, ("subprocess", "browser", "slow"))):
        monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
        monkeypatch.setattr(subprocess.Popen, "__del__", lambda _: None)


@pytest.fixture(autouse=True)
def on_one_core(monkeypatch):
    """Networks and pictures are small here: several threads take five times as long, waiting for each other."""
    torch.set_num_threads(1)
    monkeypatch.setattr(devices, "use_all_cpus", lambda: None)
