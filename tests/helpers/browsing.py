"""A real browser, and a program that serves a page to it. Knows no page and no fixtures."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from headswap.common.privacy import TELEMETRY_OPT_OUTS

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Google/Chrome/Application/chrome.exe",
)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a clock
    "--use-fake-ui-for-media-stream",  # and nobody who has to allow it
)
START = 120  # seconds for the program to answer
PATIENCE = 60_000  # milliseconds for what is expected to be seen


def unavailable(reason):
    """Without a browser there is nothing to test, unless somebody counts on it."""
    if os.environ.get("HEADSWAP_REQUIRE_BROWSER"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def chromium():
    """Chromium or Chrome, whichever is installed."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        unavailable("playwright is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    program = program or next((place for place in PLACES if os.path.exists(place)), None)
    if program is None:
        unavailable("neither Chromium nor Chrome is installed")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Server:
    """A running page."""

    def __init__(self, address, process, log, uploads):
        self.address, self.process, self.log, self.uploads = address, process, log, uploads

    def wait(self):
        """Until it answers."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.address, timeout=10):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        pytest.fail(f"The page did not answer.\n{self.log.read_text(errors='replace')}", pytrace=False)


@contextmanager
def serving(home, *program):
    """``python`` with this program as anybody would start it, on a free port; its traces stay in ``home``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "BROWSER": "true",  # a program that opens nothing
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(home / "uploads"),
        "PYTHONUNBUFFERED": "1",
    }
    for name in TELEMETRY_OPT_OUTS:  # the program has to see to that itself
        environment.pop(name, None)
    with open(home / "log", "wb") as log:
        process = subprocess.Popen([sys.executable, *program], cwd=ROOT, env=environment, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}/", process, home / "log", home / "uploads")
    try:
        server.wait()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
