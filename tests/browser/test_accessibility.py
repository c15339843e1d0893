"""axe finds nothing serious on any step, light and dark; it needs no internet."""

import re

import pytest
from browsing import PATIENCE

pytestmark = pytest.mark.browser
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

TRAIN = 150_000  # milliseconds for a training


@pytest.fixture(scope="module")
def fruits(tmp_path_factory, draw_fruits):
    return draw_fruits(tmp_path_factory.mktemp("drawn") / "fruits", each=12)


def serious(page):
    """What axe calls serious or critical, and where."""
    page.wait_for_timeout(400)  # colours that are still changing have another contrast
    found = axe.Axe().run(page).response["violations"]
    return [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def looked_at(page):
    """The same of both looks, one after the other: the page is dark by a class of its body."""
    found = []
    for dark in (True, False):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        found += [("dark" if dark else "light", *each) for each in serious(page)]
    return found


def test_no_step_has_a_serious_finding_light_or_dark(browser, program, fruits):
    from playwright.sync_api import expect

    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark", reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{program.address}?__theme=dark")
    page.wait_for_function("sessionStorage.getItem('headswap')")
    assert page.evaluate("document.body.classList.contains('dark')"), "it is dark by another sign than the looks below"
    found = {"nothing yet": looked_at(page)}

    page.locator("#picker .hs-folder-input").set_input_files(fruits)
    expect(page.locator(".hs-classes li")).to_have_count(3)
    found["images"] = looked_at(page)
    page.get_by_role("tab", name=re.compile("Model")).click()
    expect(page.locator("#model-sentence")).to_contain_text("classes")
    found["model"] = looked_at(page)
    page.get_by_role("tab", name=re.compile("Train")).click()
    expect(page.locator("#train")).to_be_enabled()
    found["train"] = looked_at(page)
    page.locator("#train").click()
    expect(page.locator("#train-sentence")).to_contain_text("validation images right", timeout=TRAIN)
    found["trained"] = looked_at(page)
    page.get_by_role("tab", name=re.compile("Test")).click()
    page.locator("#new-images input[type=file]").first.set_input_files(fruits / "red/1.png")
    page.locator(".hs-answer").first.wait_for()
    found["test"] = looked_at(page)
    page.get_by_role("tab", name=re.compile("Keep")).click()
    expect(page.locator("#keep-card")).to_contain_text("named rightly")
    found["keep"] = looked_at(page)
    context.close()
    assert {step: what for step, what in found.items() if what} == {}
