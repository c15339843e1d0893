"""A training that a browser watches against the same one that nobody watches: CPU seconds of the page's process.

    python benchmarks/streaming.py FOLDER [--images 300] [--rounds 2]

The real page in a real Chromium (playwright drives it): Train is pressed, and the tab either stays or goes elsewhere at
once. The browser's own seconds do not count.
"""

from __future__ import annotations

import shutil
import statistics
import time

from common import arguments, load, machine
from playwright.sync_api import Page, sync_playwright

from headswap.data.dataset import LabelledImages
from headswap.ui.app import page
from headswap.ui.sessions.registry import SessionRegistry


def main() -> None:
    given = arguments(__doc__, rounds=2)
    images = load(given.folder, given.images)
    visitors = SessionRegistry()
    blocks = page.build_page(visitors).queue(default_concurrency_limit=None)
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, max_threads=200)
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))))
    runs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for number in range(1 + given.rounds):  # the first sets the engine up
            for watched, told in runs.items():
                tab = browser.new_page()
                figures = run(tab, address, visitors, images, watched)
                tab.close()
                if number:
                    told.append(figures)
        browser.close()
    blocks.close()
    cpu = {watched: statistics.median(cpu for cpu, _ in told) for watched, told in runs.items()}
    seconds = statistics.median(seconds for _, seconds in runs[True])
    print(
        f"{len(images)} photographs, {seconds:.0f} s: watched {cpu[True]:.1f} CPU seconds, unwatched {cpu[False]:.1f}, "
        f"{cpu[True] / cpu[False]:.2f} times as many; {machine()}"
    )


def run(
    tab: Page, address: str, visitors: SessionRegistry, images: LabelledImages, watched: bool
) -> tuple[float, float]:
    """CPU seconds of this process and seconds from pressing Train to the end of the run."""
    before = set(visitors._by_ticket)
    tab.goto(address)
    tab.get_by_role("tab", name="3 Train").wait_for()
    while not (arrived := set(visitors._by_ticket) - before):
        tab.wait_for_timeout(50)
    [ticket] = arrived
    visitor = visitors.get_session(ticket)
    assert visitor is not None
    visitor.set_images(images)
    tab.reload()  # the page knows nothing of them yet
    tab.locator("[role=tab]:not(:disabled)", has_text="3 Train").wait_for()
    tab.get_by_role("tab", name="3 Train").click()
    button = tab.get_by_role("button", name="Train", exact=True)
    tab.wait_for_function("() => { const b = document.querySelector('#train'); return b && !b.disabled }")
    button.click()
    cpu, began = time.process_time(), time.perf_counter()
    while not visitor.job:
        tab.wait_for_timeout(20)
    if not watched:
        tab.goto("about:blank")
    visitor.job.join()
    return time.process_time() - cpu, time.perf_counter() - began


if __name__ == "__main__":
    main()
