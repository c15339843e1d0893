"""Screenshots of every step with the sample, from the running page: wide and on a phone, light and dark.

`python assets/screens.py FOLDER` writes them all; `python assets/screens.py` only the one with which the README starts.
It needs what the tests need: `pip install -e ".[all,test]"`, and Chromium or Chrome.
"""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from browsing import chromium, serving  # noqa: E402, the browser as the tests drive it

SIZES = {"wide": (1280, 900), "phone": (390, 844)}
LOOKS = ("light", "dark")
TRAIN = 180_000  # milliseconds for a whole training
LEAF = ROOT / "assets" / "leaves" / "rust" / "rust-01.jpg"
README = ROOT / "docs" / "img" / "train.png"


class Photographer:
    """One visitor, photographed after each step."""

    def __init__(self, browser, address, folder):
        self.folder, self.number = folder, 0
        self.page = browser.new_context(viewport=dict(zip(("width", "height"), SIZES["wide"], strict=True))).new_page()
        self.page.set_default_timeout(60_000)
        self.page.goto(address)
        self.page.wait_for_function("sessionStorage.getItem('headswap')")
        self.page.wait_for_timeout(2_000)

    def opens(self, step):
        """Go to a step by its tab."""
        self.page.get_by_role("tab", name=re.compile(step)).click()
        self.page.wait_for_timeout(2_500)

    def shoots(self, name):
        """The whole page as it stands, in all sizes and looks."""
        self.number += 1
        if self.folder is None:
            return
        for size, (width, height) in SIZES.items():
            self.page.set_viewport_size({"width": width, "height": height})
            for look in LOOKS:
                self.page.evaluate("dark => document.body.classList.toggle('dark', dark)", look == "dark")
                self.page.wait_for_timeout(600)
                path = self.folder / f"{self.number:02}-{name}-{size}-{look}.png"
                self.page.screenshot(path=path, full_page=True)
        self.page.evaluate("document.body.classList.remove('dark')")
        self.page.set_viewport_size(dict(zip(("width", "height"), SIZES["wide"], strict=True)))

    def walks(self):
        """The main job from the first step to the last."""
        page = self.page
        self.shoots("images-empty")
        page.locator("#sample").click()
        page.locator(".hs-classes li").nth(2).wait_for()
        page.wait_for_timeout(1_000)
        self.shoots("images")
        self.opens("Model")
        self.shoots("model")
        self.opens("Train")
        self.shoots("train-before")
        page.locator("#train:not(:disabled)").click()
        page.wait_for_function(
            "document.querySelector('#charts polyline.hs-validation')?.getAttribute('points').split(' ').length > 8",
            timeout=TRAIN,
        )
        self.shoots("train-runs")
        page.locator("#onward-test:not(:disabled)").wait_for(timeout=TRAIN)
        page.wait_for_timeout(1_500)
        if self.folder is None:
            page.set_viewport_size({"width": 1280, "height": 1010})
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            page.screenshot(path=README)
            return
        self.shoots("train-over")
        self.opens("Test")
        page.locator("#new-images input[type=file]").set_input_files(LEAF)
        page.locator(".hs-answer").first.wait_for()
        page.locator("#judge:not(:disabled)").click()
        page.locator("#matrix table").first.wait_for()
        page.wait_for_timeout(1_500)
        self.shoots("test")
        self.opens("Keep")
        self.shoots("keep")
        page.locator("#explain button").click()
        self.shoots("keep-explained")
        for step in ("Images", "Model", "Train", "Test"):
            self.opens(step)
            self.shoots(f"{step.lower()}-explained")


def main(folder):
    """Start the page, walk through it, and leave the pictures in ``folder``, or only the README's in its place."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, serving(Path(home), "app.py") as server, chromium() as browser:
        Photographer(browser, server.address, folder).walks()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
