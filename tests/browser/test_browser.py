"""A person's way through the page, in a real browser against the running program."""

import re
import shutil
import zipfile
from urllib.parse import urlparse

import pytest
from browsing import PATIENCE

pytestmark = pytest.mark.browser

READ = PATIENCE  # milliseconds for images to be read
TRAIN = 150_000  # and for a training to get somewhere
SOON = 3_000  # and for Stop to be heard

# Counts the different drawings that stood in the charts.
COUNT_DRAWINGS = """() => {
  const charts = document.querySelector("#charts");
  window.drawings = new Set([charts.innerHTML]);
  new MutationObserver(() => window.drawings.add(charts.innerHTML)).observe(
    charts, { subtree: true, childList: true, attributes: true, characterData: true });
}"""


@pytest.fixture
def server(program):
    """The page as it is started, beside other tests of the browser."""
    return program


class Visit:
    """One tab of one visitor, and what went wrong or elsewhere in it."""

    def __init__(self, browser, address):
        from playwright.sync_api import expect

        self.expect, self.address = expect, address
        self.errors, self.elsewhere = [], []
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.context.set_default_timeout(READ)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._requested)
        self.page.goto(address)
        self.arrived()

    def _requested(self, request):
        if urlparse(request.url).netloc not in ("", urlparse(self.address).netloc):
            self.elsewhere.append(request.url)

    def arrived(self):
        """Wait until the page knows its visitor."""
        self.page.wait_for_function("sessionStorage.getItem('headswap')")
        self.expect(self.at("#sample")).to_be_enabled()

    def at(self, selector):
        """What stands there."""
        return self.page.locator(selector)

    def sees(self, selector, words, timeout=READ):
        """Wait for words, or a pattern, at a place."""
        self.expect(self.at(selector)).to_contain_text(words, timeout=timeout)

    def uploads(self, folder, classes):
        """Choose a folder and wait until it was understood."""
        self.at("#picker .hs-folder-input").set_input_files(folder)
        self.expect(self.at(".hs-classes li")).to_have_count(classes, timeout=READ)

    def opens(self, step):
        """Go to a step by its tab."""
        self.page.get_by_role("tab", name=re.compile(step)).click()

    def closed(self, *steps):
        """Expect these steps to be closed still."""
        for step in steps:
            self.expect(self.page.get_by_role("tab", name=re.compile(step))).to_be_disabled()

    def plans(self, **fields):
        """Go to the Train step and set what its *More* holds."""
        self.opens("Train")
        self.expect(self.at("#train")).to_be_enabled()
        more = self.page.get_by_role("button", name="More").locator("visible=true")
        more.click()
        labels = {"head": "Epochs in which only", "stages": "Then so many", "thawed": "Epochs in which they learn"}
        for name, value in fields.items():
            field = self.page.get_by_label(re.compile(f"number input for {labels[name]}"))
            field.fill(str(value))
            field.press("Tab")

    def drawings(self):
        """How many different drawings stood in the charts."""
        return self.page.evaluate("window.drawings.size")

    def points(self):
        """How many epochs the validation curve shows."""
        return self.page.evaluate(
            "(document.querySelector('#charts polyline.hs-validation')?.getAttribute('points') || '')"
            ".split(' ').filter(Boolean).length"
        )

    def has_points(self, least):
        """Wait until the validation curve shows so many epochs."""
        self.page.wait_for_function(
            "least => (document.querySelector('#charts polyline.hs-validation')?.getAttribute('points') || '')"
            ".split(' ').filter(Boolean).length >= least",
            arg=least,
            timeout=TRAIN,
        )


@pytest.fixture
def visit(browser, server):
    """Opens the page as another visitor each time; in the end nothing may have gone wrong or elsewhere."""
    start, visits = server.log.stat().st_size, []

    def open_page():
        visits.append(Visit(browser, server.address))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()
    with open(server.log, "rb") as log:
        log.seek(start)
        said = log.read().decode(errors="replace")
    print(f"The server said:\n{said}")  # pytest shows it where a test failed
    for each in visits:
        assert each.errors == []
        assert each.elsewhere == []
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def fruits(tmp_path_factory, draw_fruits):
    return draw_fruits(tmp_path_factory.mktemp("drawn") / "fruits", each=12)


@pytest.fixture(scope="module")
def new_red(tmp_path_factory, draw_fruits):
    """A red picture that no training has seen."""
    return draw_fruits(tmp_path_factory.mktemp("new"), each=13) / "red/13.png"


def test_a_folder_becomes_a_model_that_names_a_new_picture(visit, server, fruits, new_red):
    before = set(server.uploads.rglob("*.*"))
    me = visit()

    me.uploads(fruits, classes=3)
    me.sees(".hs-understood", "36 images in 3 classes")
    for name in ("red", "green", "blue"):
        row = me.at(".hs-classes li").filter(has_text=name)
        me.expect(row).to_have_count(1)
        me.expect(row).to_contain_text("12 images")
        me.expect(row.locator("img")).to_have_count(6)
    assert set(server.uploads.rglob("*.*")) <= before  # what was read is not left lying about

    me.at("#onward-model").click()
    head = me.at("#model-strip .hs-block.hs-head")
    me.expect(head).to_contain_text("linear")
    me.at("#head input[value=bottleneck]").check()
    me.expect(head).to_contain_text("bottleneck")
    me.at("#head input[value=linear]").check()
    me.expect(head).to_contain_text("linear")
    me.sees("#model-sentence", "for 3 classes")

    me.at("#onward-train").click()
    me.sees("#train-sentence", "Press Train")
    me.expect(me.at("#train")).to_be_enabled()
    me.page.evaluate(COUNT_DRAWINGS)
    me.at("#train").click()
    me.expect(me.at("#stop")).to_be_enabled()
    me.sees("#train-sentence", re.compile("Kept .*validation images right"), TRAIN)
    assert me.drawings() >= 5
    me.expect(me.at("#charts .hs-kept").first).to_be_visible()
    me.expect(me.at("#charts .hs-end.hs-level")).to_have_text(re.compile(r"^solved at once \d+ %$"))
    me.expect(me.at("#stop")).to_be_disabled()
    me.expect(me.at("#train")).to_be_enabled()

    me.at("#onward-test").click()
    me.sees("#test-state", "blue, green and red")
    me.at("#new-images input[type=file]").set_input_files(new_red)
    answer = me.at("#answers .hs-answer")
    me.expect(answer).to_have_count(1, timeout=READ)
    me.expect(answer.locator(".hs-verdict")).to_contain_text(re.compile(r"^red, \d+ %$"))
    me.expect(answer.locator(".hs-bar-name").first).to_have_text("red")
    first, *others = answer.locator(".hs-bar-track > span").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    )
    assert first > max(others)


def test_three_clicks_show_the_whole_idea(visit):
    me = visit()
    me.sees("#next", "First add images of two kinds or more")
    me.closed("Train", "Test")
    me.at("#sample").click()
    me.sees("#next", "Next train it", READ)
    me.at("#train-at-once").click()
    me.sees("#next", "It is learning")
    me.expect(me.at("#stop")).to_be_enabled()
    me.closed("Test")
    me.sees("#train-sentence", re.compile("Kept .*validation images right"), TRAIN)
    tried = me.at("#train-tries button").first
    shows = tried.get_attribute("aria-label").rsplit(" ", 1)[-1]
    tried.click()
    me.sees("#answers", f"Its label says {shows}")
    me.expect(me.at("#test-state")).to_be_visible()
    me.sees("#next", "Next show it new images")


def test_explain_shows_what_each_control_does_until_the_tab_is_closed(visit):
    me = visit()
    note, button = me.at("#note-picker"), me.at("#explain button")
    me.expect(note).to_be_hidden()
    button.click()
    me.expect(note).to_be_visible()
    me.expect(button).to_have_attribute("aria-checked", "true")
    me.page.reload()
    me.arrived()
    me.expect(note).to_be_visible()
    button.click()
    me.expect(note).to_be_hidden()
    other = visit()
    other.expect(other.at("#note-picker")).to_be_hidden()


def test_a_kept_model_among_the_images_is_told_where_it_is_opened(visit, tmp_path):
    kept = tmp_path / "flowers.headswap"
    kept.write_bytes(b"PK")
    me = visit()
    me.at("#picker .hs-files-input").set_input_files(kept)
    me.sees("#images-problem", "flowers.headswap is a model that was kept")


def test_what_was_taught_is_read_kept_and_opened_by_somebody_else(visit, fruits, new_red, tmp_path):
    me = visit()
    me.uploads(fruits, classes=3)
    me.plans(head=8, stages=0)
    me.at("#train").click()
    me.sees("#train-sentence", re.compile("Kept .*validation images right"), TRAIN)
    me.at("#lesson").get_by_role("button", name="The same in plain PyTorch").click()
    me.sees("#script", "import torch")
    me.opens("Keep")
    me.sees("#keep-card", re.compile(r"\d of 6 images that were held back are named rightly"))
    me.at("#model-name input, #model-name textarea").fill("../fruit & <b>veg</b>")
    took = {}
    for way in ("headswap", "script"):
        with me.page.expect_download(timeout=TRAIN) as download:
            me.at(f"#take-{way}").click()
        took[way] = tmp_path / download.value.suggested_filename
        download.value.save_as(took[way])
    assert took["headswap"].name == "fruit b veg b.headswap"
    me.sees("#made", "nothing of headswap")
    assert "HELD_OUT" in took["script"].read_text("utf-8")

    other = visit()
    other.opens("Keep")
    other.sees("#keep-card", "No model has learned anything yet")
    other.expect(other.at("#take-onnx")).to_be_disabled()
    other.at("#open-model").get_by_role("button", name="Open a model").click()
    (tmp_path / "torn.headswap").write_bytes(took["headswap"].read_bytes()[:9999])
    other.at("#opening input[type=file]").set_input_files(tmp_path / "torn.headswap")
    other.sees("#opened", "torn.headswap is no headswap model, or it is damaged or cut short")
    other.at("#opening button[aria-label*=lear], #opening button[aria-label*=emove]").first.click()
    other.at("#opening input[type=file]").set_input_files(took["headswap"])
    other.sees("#opened", "Opened: it knows blue, green and red")
    other.expect(other.at("#take-onnx")).to_be_enabled()
    other.opens("Test")
    other.at("#new-images input[type=file]").set_input_files(new_red)
    other.expect(other.at("#answers .hs-verdict")).to_contain_text("red")


def test_classes_are_filmed_renamed_and_removed_and_everything_is_let_go_of(visit, fruits):
    me = visit()
    me.uploads(fruits, classes=3)
    me.at(".hs-class-name").fill("hand")
    me.at(".hs-open-camera").click()
    shutter = me.at(".hs-shutter")
    me.expect(shutter).to_be_enabled()
    shutter.hover()
    me.page.mouse.down()
    me.sees(".hs-counted", re.compile(r"^[5-9] pictures"))
    me.page.mouse.up()
    row = me.at(".hs-classes li").filter(has_text="hand")
    me.expect(row).to_have_count(1, timeout=READ)
    me.sees(".hs-wanting", "All images of 'hand' come from one burst of the camera")
    me.expect(me.at("#onward-model")).to_be_disabled()
    me.at(".hs-close-camera").click()

    row.get_by_role("button", name="Rename").click()
    me.page.keyboard.type("<b>left</b> hand")
    me.page.keyboard.press("Enter")
    me.expect(me.at(".hs-classes li b").filter(has_text="<b>left</b> hand")).to_have_count(1)
    row.get_by_role("button", name="Remove: <b>left</b> hand").click()
    me.expect(me.at(".hs-classes li")).to_have_count(3)
    me.expect(me.at("#onward-model")).to_be_enabled()
    me.at("[data-do=undo]").click()
    me.expect(me.at(".hs-classes li")).to_have_count(4)

    me.at("[data-do=forget]").click()
    me.expect(me.at("[data-do=forget]")).to_have_text("Really remove all images?")
    me.at("[data-do=forget]").click()
    me.sees("#understood", "What was understood appears here")


def test_copies_are_shown_and_removed_by_a_press(visit, fruits, tmp_path):
    messy = tmp_path / "messy"
    shutil.copytree(fruits, messy)
    shutil.copyfile(fruits / "red/1.png", messy / "blue/twin.png")
    (messy / "blue/notes.txt").write_text("notes")
    me = visit()
    me.uploads(messy, classes=3)
    twins = me.at(".hs-finding").filter(has_text="The same picture stands in several classes: blue, red.")
    me.expect(twins.locator("figure")).to_have_count(2)
    me.sees(".hs-skipped", "1 file left out")
    with me.page.expect_download() as download:
        me.at(".hs-skipped summary").click()
        me.at(".hs-skipped a[download]").click()
    assert download.value.suggested_filename == "left-out.csv"
    assert "messy/blue/notes.txt,is not a picture" in download.value.path().read_text("utf-8-sig")

    twins.get_by_role("button", name="Remove: messy/blue/twin.png").click()
    me.expect(twins).to_have_count(0)
    me.sees(".hs-understood", "36 images in 3 classes")


@pytest.mark.slow  # a reload in mid-training ends with Stop as well
def test_stop_is_heard_in_every_phase_and_says_what_was_kept(visit, fruits):
    me = visit()
    me.uploads(fruits, classes=3)
    me.opens("Model")
    me.at("#backbone input[value=efficientnet_lite2]").check()  # not read beforehand, within the moment until Train
    me.opens("Images")
    me.at("#train-at-once").click()
    me.sees("#train-sentence", "Reading the images through the frozen stages", TRAIN)
    me.at("#stop").click()
    me.sees("#train-sentence", "Stopped before the first epoch was over", SOON)
    me.expect(me.at("#train")).to_be_enabled()
    me.expect(me.at("#onward-test")).to_be_disabled()

    me.opens("Model")
    me.at("#backbone input[value=efficientnet_lite0]").check()
    me.sees("#model-sentence", "3.4 million weights")
    me.plans(head=3, stages=3, thawed=100)
    me.at("#train").click()
    me.has_points(4)
    me.expect(me.at("#charts .hs-thaw")).to_have_count(2)
    me.at("#stop").click()
    me.sees("#train-sentence", re.compile(r"Stopped\. Kept the weights of epoch \d+: \d of 6 validation images"), SOON)
    assert me.points() < 103
    me.expect(me.at("#onward-test")).to_be_enabled()
    me.expect(me.at("#stop")).to_be_disabled()


@pytest.mark.slow
def test_another_network_is_kept_and_all_images_are_learned_from_by_a_press(visit, fruits):
    me = visit()
    me.uploads(fruits, classes=3)
    me.plans(head=2, stages=1, thawed=1)
    below = {name: me.at(f"#{name}") for name in ("keep-frozen", "keep-own", "again")}
    for button in below.values():
        me.expect(button).to_be_hidden()

    me.at("#train").click()
    me.expect(below["again"]).to_be_visible(timeout=TRAIN)
    kept = me.at("#train-sentence").inner_text()
    if below["keep-frozen"].is_visible():  # not where the best epoch came before anything was unfrozen
        below["keep-frozen"].click()
        me.sees("#train-sentence", "The frozen network is kept")
        me.expect(below["again"]).to_be_hidden()
        me.page.reload()
        me.arrived()
        me.opens("Train")
        me.sees("#train-sentence", "The frozen network is kept")
        below["keep-own"].click()
        me.expect(me.at("#train-sentence")).to_have_text(kept)

    below["again"].click()
    me.expect(me.at("#stop")).to_be_enabled()
    me.expect(below["again"]).to_be_hidden()
    me.sees("#train-sentence", "Learned again from all images", TRAIN)
    me.expect(me.at("#charts polyline")).to_have_count(2)
    me.expect(below["keep-frozen"]).to_be_hidden()
    me.opens("Test")
    me.sees("#test-state", "before it learned again from all images")


@pytest.mark.slow
def test_a_learning_rate_is_found_by_a_press(visit, fruits):
    me = visit()
    me.uploads(fruits, classes=3)
    me.plans(head=2, stages=0, thawed=1)
    me.at("#find-rate").click()
    me.sees("#rates", "The loss falls most steeply at a rate of", TRAIN)
    me.expect(me.at("#rates polyline")).to_have_count(1)


PASTE = """async () => {
  const picture = await (await fetch(document.querySelector('#mistakes img').src)).blob();
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([picture], 'from the <b>clipboard.jpg', { type: 'image/jpeg' }));
  document.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
}"""


def test_what_it_gets_wrong_is_seen_and_mended_by_a_press(visit, fruits, tmp_path):
    for file in fruits.rglob("*.png"):  # two classes that nobody could tell apart
        chosen = tmp_path / "mixed" / ("odd" if int(file.stem) % 2 else "even")
        chosen.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, chosen / f"{file.parent.name}{file.name}")
    me = visit()
    me.uploads(tmp_path / "mixed", classes=2)
    me.sees(".hs-understood", "36 images in 2 classes")
    me.plans(head=4, stages=0)
    me.at("#train").click()
    me.sees("#train-sentence", re.compile("Kept .*validation images right"), TRAIN)

    me.opens("Test")
    me.at("#judge").click()
    me.sees("#judged", "validation images that were held back")
    me.sees("#class-figures", "Precision")
    me.at("#matrix td.hs-wrong button").first.click()
    me.expect(me.at("#matrix .hs-cell figure").first).to_be_visible()
    mistakes = me.at("#mistakes figure").count()
    me.at(
        "#mistakes button",
    ).filter(has_text="Remove").first.click()
    me.sees("#mistakes .hs-done", "Removed. Train again to use it.")
    assert me.at("#mistakes figure").count() == mistakes

    me.page.evaluate(PASTE)
    me.expect(me.at("#answers .hs-answer img")).to_have_attribute("alt", "from the <b>clipboard.jpg")
    me.at("#unsure input[type=number]").fill("1")
    me.at("#unsure input[type=number]").press("Tab")
    me.sees("#answers .hs-verdict", "Not sure; perhaps")

    me.opens("Images")
    me.sees(".hs-understood", "35 images in 2 classes")
    me.at(".hs-understood button").filter(has_text="Undo").click()
    me.sees(".hs-understood", "36 images in 2 classes")


def test_a_second_visitor_sees_nothing_of_the_first(visit, fruits):
    first = visit()
    first.uploads(fruits, classes=3)
    first.plans(head=2, stages=0)
    first.at("#train").click()
    first.sees("#train-sentence", re.compile("Kept .*validation images right"), TRAIN)

    second = visit()
    second.sees("#understood", "What was understood appears here")
    second.expect(second.at(".hs-classes")).to_have_count(0)
    second.closed("Train", "Test")
    second.opens("Keep")
    second.sees("#keep-card", "No model has learned anything yet")
    second.expect(second.at("#charts polyline")).to_have_count(0)

    first.opens("Test")
    first.sees("#test-state", "blue, green and red")


def test_a_reload_finds_the_training_again_and_its_curve_goes_on(visit, fruits):
    me = visit()
    me.uploads(fruits, classes=3)
    me.plans(head=3, stages=2, thawed=100)
    me.at("#train").click()
    me.has_points(2)
    before = me.points()

    me.page.reload()
    me.arrived()
    me.sees(".hs-understood", "36 images in 3 classes")
    me.opens("Train")
    me.has_points(before + 1)
    me.expect(me.at("#train-strip .hs-strip")).to_be_visible()
    me.expect(me.at("#train")).to_be_disabled()
    me.at("#stop").click()
    me.sees("#train-sentence", "Stopped. Kept the weights of epoch", SOON)
    me.expect(me.at("#onward-test")).to_be_enabled()


def test_a_zip_is_read_and_names_that_are_code_are_only_names(visit, fruits, tmp_path):
    names = {"red": "${alert(1)}", "green": "<b>&amp;", "blue": "{{value}} \\u{1}"}
    with zipfile.ZipFile(tmp_path / "fruits.zip", "w") as archive:
        for file in sorted(fruits.rglob("*.png")):
            archive.write(file, f"fruits/{names[file.parent.name].replace(chr(92), '')}/{file.name}")
    me = visit()
    dialogs = []
    me.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    me.at("#picker .hs-files-input").set_input_files(tmp_path / "fruits.zip")
    me.sees(".hs-understood", "36 images in 3 classes")
    shown = me.at(".hs-classes .hs-class b").all_inner_texts()
    assert sorted(shown) == sorted(name.replace("\\", "") for name in names.values())
    assert dialogs == []


def test_an_upload_that_cannot_be_read_says_so_in_its_place_and_keeps_what_was_there(visit, fruits, tmp_path):
    me = visit()
    me.uploads(fruits, classes=3)
    (tmp_path / "My leaves.zip").write_bytes(b"PK\x03\x04 and then nothing that makes sense")
    me.at("#picker .hs-files-input").set_input_files(tmp_path / "My leaves.zip")
    me.sees("#images-problem", "My leaves.zip is not a zip or tar.gz, or is damaged")
    me.sees(".hs-understood", "36 images in 3 classes")
    me.expect(me.at("#onward-model")).to_be_enabled()
    me.expect(me.at(".hs-drop-status")).to_have_text("")
    me.uploads(fruits, classes=3)
    me.expect(me.at("#images-problem")).to_have_text("")


def test_everything_is_forgotten_by_two_presses_and_the_page_begins_anew(visit, server, fruits, new_red):
    me = visit()
    me.uploads(fruits, classes=3)
    me.plans(head=2, stages=0)
    me.at("#train").click()
    me.sees("#train-sentence", re.compile("Kept .*validation images right"), TRAIN)
    before = me.page.evaluate("sessionStorage.getItem('headswap')")
    button = me.at("#forget button")
    button.click()
    me.expect(button).to_have_text("Really forget everything?")
    button.click()
    me.page.wait_for_function(
        "before => ![null, before].includes(sessionStorage.getItem('headswap'))", arg=before, timeout=READ
    )
    me.arrived()
    me.sees("#understood", "What was understood appears here")
    me.closed("Train", "Test")
