"""How much memory the page holds after one visitor's trainings, and after *Forget everything*.

    python benchmarks/page_memory.py [--trainings 10] [--folder FOLDER] [--each]

The page runs in a process of its own and is used as a browser uses it, by its own events: the sample, or a FOLDER with
one sub-folder for each class, is loaded, heads are chosen in turn and learn by *Train*, every third time by *Race the
heads*; the last model is judged and taken along as ONNX. What is counted is all that is resident of that process,
libraries included; the start is the page that answers before anybody came.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import answers

SAMPLE = Path(__file__).parents[1] / "assets" / "leaves"
HEADS = ("linear", "bottleneck", "mlp", "lda", "attention")
SETTLED = 3.0  # seconds after which whatever a handler left behind has been let go of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="images to learn from; by default the sample")
    parser.add_argument("--each", action="store_true", help="a line after each training as well")
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "headswap", "app", "--port", str(port), "--no-browser"]
    with tempfile.TemporaryDirectory() as uploads:
        page = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"GRADIO_TEMP_DIR": uploads})
        try:
            lesson(given, f"http://127.0.0.1:{port}", page.pid, Path(uploads))
        finally:
            page.terminate()
            page.wait()


def lesson(given: argparse.Namespace, address: str, process: int, uploads: Path) -> None:
    """One visitor's hour, and the line that says how much memory it cost."""
    answers(address)
    time.sleep(SETTLED)
    start, peak, over = resident(process), [0.0], threading.Event()
    watching = threading.Thread(target=watch, args=(process, peak, over))
    watching.start()
    began = time.perf_counter()
    try:
        tab = Tab(address)
        tab.arrive()
        tab.load(given.folder, uploads)
        for number, head in zip(range(1, given.trainings + 1), itertools.cycle(HEADS), strict=False):
            tab.set("head", head)
            tab.press("race" if number % 3 == 0 else "train")
            if given.each:
                print(f"{number}: {resident(process) / 1e6:.0f} MB", flush=True)
        tab.press("judge")
        tab.press("take-onnx")
        before = resident(process)
        tab.send("forget", {"do": "forget everything"})
        time.sleep(SETTLED)
    finally:
        over.set()
        watching.join()
    left = resident(process)
    print(
        f"{given.trainings} trainings by one visitor, {time.perf_counter() - began:.0f} s: {start / 1e6:.0f} MB at the "
        f"start, {peak[0] / 1e6:.0f} MB at the peak, {before / 1e6:.0f} MB before and {left / 1e6:.0f} MB after "
        f"Forget everything, {(left - start) / 1e6:+.0f} MB; {os.cpu_count()} cores"
    )


class Tab:
    """A browser's tab without the browser: it sends the page's own events, and what follows each of them."""

    def __init__(self, address: str) -> None:
        self._address, self._hash = f"{address}/gradio_api", secrets.token_hex(6)
        with urllib.request.urlopen(f"{address}/config", timeout=60) as answer:
            config = json.load(answer)
        self._events = config["dependencies"]
        self._ids = {each["props"].get("elem_id"): each["id"] for each in config["components"]}
        self._values = {each["id"]: each["props"].get("value") for each in config["components"]}

    def arrive(self) -> None:
        """The page is loaded."""
        self._run(lambda target, event: event == "load")

    def load(self, folder: Path | None, uploads: Path) -> None:
        """The sample's images, or those of a folder, which are laid where a browser's uploads land."""
        if folder is None:
            return self.press("sample")
        files = []
        for path in sorted(folder.glob("*/*")):
            place = uploads / secrets.token_hex(8) / path.name
            place.parent.mkdir()
            place.write_bytes(path.read_bytes())
            files.append({"name": f"{folder.name}/{path.parent.name}/{path.name}", "path": str(place)})
        return self.send("picker", {"files": files})

    def set(self, elem_id: str, value: Any) -> None:
        """A control is given another value."""
        self._values[self._ids[elem_id]] = value
        self._run(lambda target, event: target == self._ids[elem_id] and event in ("input", "change"))

    def press(self, elem_id: str) -> None:
        """A button is pressed."""
        self._run(lambda target, event: target == self._ids[elem_id] and event == "click")

    def send(self, elem_id: str, sent: dict[str, Any]) -> None:
        """A component of the page's own submits something."""
        self._run(lambda target, event: target == self._ids[elem_id] and event == "submit", sent)

    def _run(self, wanted: Any, sent: dict[str, Any] | None = None) -> None:
        begun = [each for each in self._events if any(wanted(*target) for target in each["targets"])]
        if not begun:
            raise SystemExit("The page has no such event any more.")
        for event in begun:
            self._follow(event, sent)

    def _follow(self, event: dict[str, Any], sent: dict[str, Any] | None) -> None:
        if event["backend_fn"]:
            for place, value in zip(event["outputs"], self._told(event, sent), strict=False):
                self._take(place, value)
        for after in self._events:
            if after.get("trigger_after") == event["id"]:
                self._follow(after, None)

    def _take(self, place: int, value: Any) -> None:
        if isinstance(value, dict) and value.get("__type__") == "update":
            if "value" not in value:
                return
            value = value["value"]
        self._values[place] = value

    def _told(self, event: dict[str, Any], sent: dict[str, Any] | None) -> list[Any]:
        """Send one event, and wait for what it gives in the end."""
        ask = {
            "data": [self._values[place] for place in event["inputs"]],
            "event_data": sent,
            "fn_index": event["id"],
            "trigger_id": None,
            "session_hash": self._hash,
        }
        for message in self._messages(ask):
            if message["msg"] == "process_completed":
                if not message["success"]:
                    raise SystemExit(f"The page answers: {message['output'].get('error')}")
                return message["output"]["data"]
        raise SystemExit("The page did not answer to the end.")

    def _messages(self, ask: dict[str, Any]) -> Iterator[dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._address}/queue/join", json.dumps(ask).encode(), headers)
        urllib.request.urlopen(request, timeout=60).close()
        stream = f"{self._address}/queue/data?session_hash={self._hash}"
        with urllib.request.urlopen(stream, timeout=900) as lines:
            for line in lines:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])


def watch(process: int, peak: list[float], over: threading.Event) -> None:
    while not over.wait(0.2):
        peak[0] = max(peak[0], resident(process))


def resident(process: int) -> float:
    """Bytes of a process that are resident."""
    with open(f"/proc/{process}/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])


if __name__ == "__main__":
    main()
