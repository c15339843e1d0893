"""How images come in, in a real browser: whole, small, upright, under their names, and only when they are wanted."""

import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from browsing import PATIENCE, serving
from deep import png
from picker_page import MOST
from PIL import Image

pytestmark = pytest.mark.browser

NO_CAMERA = "Object.defineProperty(Navigator.prototype, 'mediaDevices', { get: () => undefined })"
NOISE = """{
  const read = CanvasRenderingContext2D.prototype.getImageData;
  CanvasRenderingContext2D.prototype.getImageData = function (...where) {
    const image = read.apply(this, where);
    crypto.getRandomValues(image.data);
    return image;
  };
}"""
REFUSED = """Object.defineProperty(MediaDevices.prototype, 'getUserMedia', {
  value: () => Promise.reject(new DOMException('no', '%s')) })"""
LIGHT_IS_ON = """() => {
  const track = window.film?.getTracks()[0];
  return Boolean(track) && track.readyState === 'live';
}"""
WATCH_LIGHT = """(() => {
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (wish) { return (window.film = await ask.call(this, wish)); };
})()"""
HURRIED = """{
  const wait = window.setTimeout;
  window.setTimeout = (then, milliseconds = 0, ...given) => wait(then, milliseconds / 10, ...given);
}"""
FIRST = "Type the name of a class first"


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "lines"
    path.touch()
    return path


@pytest.fixture(scope="module")
def server(browser, journal, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server"), "-m", "tests.helpers.picker_page", str(journal)) as server:
        yield server


class Visit:
    """One tab, and what it sent."""

    def __init__(self, context, address, journal, script):
        from playwright.sync_api import expect

        self.expect, self.journal, self.errors = expect, journal, []
        self.before, self.arrived = len(self.lines()), 0
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda told: self.errors.append(told.text) if "js_on_load" in told.text else None)
        if script:
            self.page.add_init_script(script)
        self.page.goto(address)
        self.expect(self.button("Choose a folder")).to_be_visible()
        self.page.wait_for_timeout(200)  # the script runs after its template was drawn

    def lines(self):
        return self.journal.read_text("utf-8").splitlines()

    def sent(self):
        """Everything that arrived since this tab was opened."""
        return [json.loads(line) for line in self.lines()[self.before :]]

    def arrives(self):
        """What arrives next, once it is read."""
        deadline = time.monotonic() + PATIENCE / 1000
        while len(self.sent()) == self.arrived:
            assert time.monotonic() < deadline, self.page.locator(".hs-drop-status").inner_text()
            self.page.wait_for_timeout(50)
        self.expect(self.stop).to_be_hidden()
        self.arrived += 1
        return self.sent()[self.arrived - 1]

    def button(self, name):
        return self.page.get_by_role("button", name=name)

    @property
    def stop(self):
        return self.button("Stop")

    def chooses(self, what, kind="files"):
        self.page.locator(f"input.hs-{kind}-input").set_input_files(what)

    def names(self, label):
        self.page.get_by_label("Name of a class").fill(label)

    def hears(self, words):
        self.expect(self.page.locator(".hs-drop-status")).to_contain_text(words)

    def drops(self, *paths):
        """A person drags files or folders out of the system's window."""
        box = self.page.locator(".hs-drop").bounding_box()
        devtools = self.page.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            devtools.send(
                "Input.dispatchDragEvent",
                {
                    "type": kind,
                    "x": box["x"] + 20,
                    "y": box["y"] + 20,
                    "data": {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1},
                },
            )

    def pastes(self, *names, target="document.body", text=None):
        self.page.evaluate(
            """([names, text]) => {
              const clipboardData = new DataTransfer();
              for (const name of names) clipboardData.items.add(new File([name], name, { type: "image/png" }));
              if (text) clipboardData.setData("text/plain", text);
              TARGET.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
            }""".replace("TARGET", target),
            [names, text],
        )

    def opens_camera(self):
        self.button("Camera").first.click()
        self.expect(self.shutter).to_be_enabled()

    @property
    def shutter(self):
        return self.button("Hold to take pictures")

    def light(self, on):
        self.page.wait_for_function(f"on => ({LIGHT_IS_ON})() === on", arg=on)


@pytest.fixture
def visit(browser, server, journal):
    """Opens the page; in the end nothing went wrong in it."""
    visits, contexts = [], []

    def open_page(script=None):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 1000}))
        visits.append(Visit(contexts[-1], server.address, journal, script))
        return visits[-1]

    yield open_page
    for context in contexts:
        context.close()
    assert [each.errors for each in visits] == [[] for _ in visits]
    assert "Traceback" not in server.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two loose images and a folder of five hundred tiny ones in ten classes, with what a system leaves beside them."""
    home = tmp_path_factory.mktemp("images")
    for number in range(500):
        file = home / "garden" / f"class {number % 10}" / f"{number // 10}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(file)
    for litter in (".DS_Store", "class 0/Thumbs.db"):
        (home / "garden" / litter).write_bytes(b"litter")
    for name in ("one.png", "two.png"):
        Image.new("RGB", (40, 30), "green").save(home / name)
    return home


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """Twelve megapixels as a phone writes them, on their side with a tag that tells so: upright, red is on top."""
    chance = random.Random(7)
    noise = Image.frombytes("L", (400, 300), chance.randbytes(120_000)).resize((4000, 3000))
    picture = Image.merge("RGB", (noise.point(lambda v: v // 4), noise.point(lambda v: v // 4), noise))
    picture.paste((220, 30, 30), (0, 0, 1000, 3000))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("phone") / "IMG_1.jpg"
    picture.save(path, quality=95, exif=exif)
    return path


def names(sent):
    return [name for name, _, _ in sent["files"]]


def only(sent):
    [[name, path, _]] = sent["files"]
    return name, Path(path)


# Folders


def test_a_folder_arrives_complete_and_in_order_under_its_names(visit, images):
    me = visit()
    me.chooses(images / "garden", "folder")
    sent = me.arrives()
    assert len(names(sent)) == 500
    for name, path, burst in sent["files"]:
        assert Path(path).read_bytes() == (images / name).read_bytes() and burst == ""
        assert Path(path).stem not in name  # nobody can guess where it lies
    assert (sent["label"], sent["add"]) == ("", False)


def test_a_folder_that_is_dropped_arrives_as_well(visit, images):
    me = visit()
    me.names("not this")
    me.drops(images / "garden" / "class 1", images / "garden" / "class 2")
    sent = me.arrives()
    assert sorted(names(sent)) == sorted(f"class {label}/{number}.png" for label in (1, 2) for number in range(50))
    assert sent["label"] == ""


@pytest.mark.parametrize("name", ["pictures.zip", "pictures.tar.gz", "Pictures.TGZ", "labels.csv"])
def test_an_archive_or_a_table_brings_its_own_classes(visit, images, tmp_path, name):
    (tmp_path / name).write_bytes(b"content")
    me = visit()
    me.names("not this")
    me.chooses([tmp_path / name, images / "one.png"])
    sent = me.arrives()
    assert names(sent) == [name, "one.png"]
    assert (sent["label"], sent["add"]) == ("", False)


def test_more_files_than_are_read_at_once_are_not_sent(visit, tmp_path):
    for number in range(MOST + 1):
        (tmp_path / f"{number}.png").touch()
    me = visit()
    me.drops(tmp_path)
    me.hears(f"More than {MOST} files")
    assert me.sent() == []


def test_a_name_that_is_code_is_only_a_name(visit, images, tmp_path):
    name = "<img src=x onerror=alert(1)>${1}{{2}}.zip"
    (tmp_path / name).write_bytes(b"content")
    me = visit()
    dialogs = []
    me.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    me.names("slow")
    me.chooses(tmp_path / name)
    assert names(me.arrives()) == [name]
    assert dialogs == []


# One class


def test_loose_images_go_to_the_class_that_is_typed(visit, images):
    me = visit()
    loose = [images / "one.png", images / "two.png"]
    for send in (lambda: me.chooses(loose), lambda: me.chooses(loose, "images"), lambda: me.drops(*loose)):
        me.names("  rust ")
        send()
        sent = me.arrives()
        assert names(sent) == ["one.png", "two.png"]
        assert (sent["label"], sent["add"]) == ("rust", True)


def test_loose_images_without_a_class_wait_for_its_name(visit, images):
    me = visit()
    for send in (
        lambda: me.chooses(images / "one.png"),
        lambda: me.drops(images / "one.png"),
        lambda: me.pastes("image.png"),
        lambda: me.button("Add images").click(),
    ):
        send()
        me.hears(FIRST)
        me.expect(me.page.get_by_label("Name of a class")).to_be_focused()
        me.page.locator(".hs-drop-status").evaluate("says => { says.textContent = '' }")
    assert me.sent() == []


def test_images_are_pasted_into_the_class(visit):
    me = visit()
    me.names("rust")
    me.pastes("a.png", "b.png")
    sent = me.arrives()
    assert names(sent) == ["a.png", "b.png"]
    assert (sent["label"], sent["add"]) == ("rust", True)
    me.pastes("c.png", target="document.querySelector('.hs-class-name')")  # an image alone can only be meant for us
    assert names(me.arrives()) == ["c.png"]


def test_text_that_is_pasted_stays_text_and_another_step_keeps_what_is_its_own(visit):
    me = visit()
    me.names("rust")
    me.pastes("a.png", target="document.querySelector('.hs-class-name')", text="words")
    me.page.get_by_role("tab", name="Other").click()
    me.expect(me.button("Choose a folder")).to_be_hidden()
    me.pastes("a.png")
    me.page.wait_for_timeout(500)
    assert me.sent() == []


@pytest.mark.parametrize("target", ["document", "document.querySelector('#picker')"])
def test_another_part_of_the_page_can_name_the_class(visit, target):
    me = visit()
    me.page.evaluate(f"{target}.dispatchEvent(new CustomEvent('headswap-class', {{ detail: {{ name: '<b>rust' }} }}))")
    field = me.page.get_by_label("Name of a class")
    me.expect(field).to_have_value("<b>rust")
    me.expect(field).to_be_focused()


def test_images_are_added_to_those_that_are_loaded_only_on_demand(visit, images, tmp_path):
    (tmp_path / "pictures.zip").write_bytes(b"content")
    me = visit()
    box = me.page.get_by_label("Add to the images that are loaded")
    me.expect(box).to_be_hidden()
    me.chooses(tmp_path / "pictures.zip")
    assert me.arrives()["add"] is False
    me.expect(box).not_to_be_checked()
    me.chooses(tmp_path / "pictures.zip")
    assert me.arrives()["add"] is False
    box.check()
    me.names("typed before and not lost")
    me.chooses(tmp_path / "pictures.zip")
    assert me.arrives()["add"] is True
    me.expect(box).to_be_checked()
    me.expect(me.page.get_by_label("Name of a class")).to_have_value("typed before and not lost")


# Shrinking


def test_a_photograph_arrives_upright_and_small(visit, photograph):
    me = visit()
    me.names("phone")
    me.chooses(photograph)
    name, path = only(me.arrives())
    assert name == "IMG_1.jpg"
    assert path.stat().st_size < photograph.stat().st_size / 10
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (384, 512))
        assert picture.getexif().get(0x0112, 1) == 1
        red, _, blue = picture.getpixel((192, 20))
        assert red > 180 > 80 > blue


def test_a_photograph_stays_as_it_is_on_demand(visit, photograph):
    me = visit()
    me.page.get_by_label("Shrink photographs before sending").uncheck()
    me.names("phone")
    me.chooses(photograph)
    assert only(me.arrives())[1].read_bytes() == photograph.read_bytes()


def test_a_browser_that_gives_noise_for_what_was_drawn_sends_photographs_as_they_are(visit, photograph):
    me = visit(NOISE)
    me.names("phone")
    me.chooses(photograph)
    assert only(me.arrives())[1].read_bytes() == photograph.read_bytes()
    with me.page.expect_file_chooser():
        me.button("Camera").first.click()


def noisy(path, size, mode="RGB", **how):
    bands = len(Image.new(mode, (1, 1)).getbands())
    Image.frombytes(mode, size, random.Random(7).randbytes(size[0] * size[1] * bands)).save(path, **how)
    return path


def test_only_what_gains_by_it_is_shrunk(visit, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200_000))
    files = [
        noisy(tmp_path / "narrow.png", (1000, 200)),
        noisy(tmp_path / "moves.gif", (600, 600), "L"),
        tmp_path / "broken.jpg",
    ]
    me = visit()
    me.names("rust")
    me.chooses(files)
    sent = me.arrives()
    assert [Path(path).read_bytes() for _, path, _ in sent["files"]] == [file.read_bytes() for file in files]


def test_what_has_more_than_8_bits_or_may_have_travels_as_it_is(visit, tmp_path):
    chance = np.random.default_rng(0)
    grey, noise = chance.integers(0, 4096, (400, 600, 1), np.uint16), chance.integers(0, 256, (400, 600, 3), np.uint8)
    (tmp_path / "deep.png").write_bytes(png(grey))
    (tmp_path / "deep-colours.png").write_bytes(png(np.concatenate([grey] * 3, axis=-1)))
    Image.fromarray(grey[..., 0]).save(tmp_path / "called.png", "TIFF")
    Image.fromarray(noise).save(tmp_path / "a.ppm")
    Image.fromarray(noise).save(tmp_path / "eight.avif", quality=95)
    ten = bytearray((tmp_path / "eight.avif").read_bytes())
    ten[ten.index(b"av1C") + 6] |= 0x40  # says 10 bits
    (tmp_path / "ten.avif").write_bytes(bytes(ten))
    kept = [tmp_path / name for name in ("deep.png", "deep-colours.png", "called.png", "a.ppm", "ten.avif")]
    assert all(file.stat().st_size > 100_000 for file in kept)
    me = visit()
    me.names("cells")
    me.chooses(kept)
    assert [Path(path).read_bytes() for _, path, _ in me.arrives()["files"]] == [file.read_bytes() for file in kept]


def test_what_is_shrunk_is_known_by_its_bytes_not_by_its_name(visit, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8))
    for name, kind in (("no-ending", "JPEG"), ("called.gif", "PNG"), ("a.bmp", "BMP"), ("a.avif", "AVIF")):
        noise.save(tmp_path / name, kind, quality=95)
    me = visit()
    me.names("noise")
    me.chooses([tmp_path / name for name in ("no-ending", "called.gif", "a.bmp", "a.avif")])
    for name, path, _ in me.arrives()["files"]:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("JPEG", (512, 341)), name


def test_a_panorama_keeps_its_short_side_and_glass_becomes_white(visit, tmp_path):
    clear = Image.new("RGBA", (2000, 500), (0, 0, 0, 0))
    clear.paste(Image.open(noisy(tmp_path / "noise.png", (1000, 500), "RGBA")), (0, 0))
    clear.save(tmp_path / "panorama.png")
    me = visit()
    me.names("rust")
    me.chooses(tmp_path / "panorama.png")
    name, path = only(me.arrives())
    with Image.open(path) as picture:
        assert (name, picture.format, picture.size) == ("panorama.png", "JPEG", (1024, 256))
        assert min(picture.getpixel((1000, 128))) > 250


# The camera


def test_a_burst_arrives_as_one(visit):
    me = visit(WATCH_LIGHT)
    me.names("faces")
    me.opens_camera()
    me.shutter.hover()
    me.page.mouse.down()
    me.expect(me.page.locator(".hs-counted")).to_have_text(re.compile(r"^([5-9]|1\d) pictures$"))
    me.page.mouse.up()
    sent = me.arrives()
    assert (sent["label"], sent["add"]) == ("faces", True)
    assert f"{len(sent['files'])} pictures" == me.page.locator(".hs-counted").inner_text()
    [burst] = {burst for _, _, burst in sent["files"]}
    assert len(burst) == 32
    assert len({name for name in names(sent) if "/" not in name}) == len(sent["files"]) >= 5
    for _, path, _ in sent["files"]:
        with Image.open(path) as picture:
            assert picture.format == "JPEG" and max(picture.size) == 512
    me.light(on=True)
    me.button("Close camera").click()
    me.light(on=False)
    me.expect(me.button("Camera").first).to_be_focused()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_key_takes_pictures_as_well_and_each_hold_is_another_burst(visit, key):
    me = visit()
    me.names("faces")
    me.opens_camera()
    me.expect(me.shutter).to_be_focused()
    for _ in range(2):
        me.page.keyboard.down(key)
        me.page.keyboard.up(key)
        me.arrives()
    first, second = me.sent()
    assert len(first["files"]) == len(second["files"]) == 1
    assert first["files"][0][2] != second["files"][0][2]


def test_a_burst_ends_by_itself_and_needs_a_class(visit):
    me = visit(HURRIED)
    me.opens_camera()
    me.shutter.hover()
    me.page.mouse.down()
    me.hears(FIRST)
    me.page.mouse.up()
    me.names("faces")
    me.shutter.focus()
    me.page.keyboard.down("Enter")
    assert len(me.arrives()["files"]) == 100
    assert len(me.sent()) == 1


@pytest.mark.parametrize("leave", ["another step", "another tab"])
def test_the_light_goes_out_when_nobody_sees_the_picture(visit, leave):
    me = visit(WATCH_LIGHT)
    me.opens_camera()
    me.light(on=True)
    if leave == "another step":
        me.page.get_by_role("tab", name="Other").evaluate("tab => tab.click()")
    else:
        me.page.evaluate(
            "Object.defineProperty(document, 'hidden', { get: () => true });"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
    me.light(on=False)


@pytest.mark.parametrize(
    "name, words", [("NotAllowedError", "was not allowed"), ("NotFoundError", "No camera was found")]
)
def test_a_camera_that_cannot_be_had_says_why(visit, name, words):
    me = visit(REFUSED % name)
    me.button("Camera").first.click()
    me.hears(words)
    me.expect(me.shutter).to_be_hidden()


def test_without_https_the_device_takes_the_picture(visit, images):
    me = visit(NO_CAMERA)
    me.expect(me.page.get_by_text("Filming takes https")).to_be_visible()
    me.names("rust")
    with me.page.expect_file_chooser() as chooser:
        me.button("Camera").first.click()
    taker = chooser.value.element
    assert (taker.get_attribute("capture"), taker.get_attribute("accept")) == ("environment", "image/*")
    chooser.value.set_files(images / "one.png")
    sent = me.arrives()
    assert (names(sent), sent["label"]) == (["one.png"], "rust")


# Stop


def test_stop_ends_the_sending_and_nothing_is_read(visit, images):
    me = visit()
    held = []
    me.page.route("**/upload*", lambda route: held.append(route))
    me.chooses(images / "garden", "folder")
    me.hears("Sending")
    me.expect(me.page.get_by_role("progressbar")).to_be_visible()
    me.chooses(images / "one.png")
    me.hears("Wait until this is done, or press Stop.")
    me.stop.click()
    me.hears("Stopped. What was there before is kept.")
    me.expect(me.stop).to_be_hidden()
    for route in held:
        route.continue_()
    me.page.unroute("**/upload*")
    me.page.wait_for_timeout(500)
    assert 1 <= len(held) <= 4
    assert me.sent() == []

    me.names("rust")
    me.chooses(images / "one.png")
    assert names(me.arrives()) == ["one.png"]


def test_stop_ends_the_reading(visit, images):
    me = visit()
    me.names("slow")
    me.chooses(images / "one.png")
    me.hears("Half of it is <b>read</b>")
    me.stop.click()
    me.expect(me.stop).to_be_hidden()
    me.expect(me.page.locator(".hs-drop-status")).to_have_text("")


def test_a_connection_that_breaks_says_so_and_can_be_tried_again(visit, images):
    me = visit()
    me.page.route("**/upload*", lambda route: route.abort())
    me.chooses(images / "garden", "folder")
    me.hears("Sending stopped")
    me.expect(me.stop).to_be_hidden()
    me.page.unroute("**/upload*")
    me.chooses(images / "garden" / "class 3", "folder")
    assert len(names(me.arrives())) == 50
