"""Many programs use one page at once: whether each gets its own answers, how long a prediction takes meanwhile, memory.

    python benchmarks/clients.py [--clients 30] [--images 8] [--pause 5]

The page runs in a process of its own. Each client loads a zip of drawings whose classes nobody else has, trains the
head and then predicts, again and again, until the last of them has trained. The first has trained before the others
begin all at once. The clients' own memory does not count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import answers, drawn, watched
from gradio_client import Client, handle_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--images", type=int, default=8, help="of each of three classes")
    parser.add_argument("--pause", type=float, default=5, help="seconds between two predictions of a client")
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "headswap", "app", "--port", str(port), "--no-browser"]
    page = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as home:
            lesson(given, f"http://127.0.0.1:{port}/", page, Path(home))
    finally:
        page.terminate()
        page.wait()


def lesson(given: argparse.Namespace, address: str, page: subprocess.Popen, home: Path) -> None:
    """All clients at once, and the line that says how it went."""
    answers(address)
    training = Training(given.clients)
    numbers = range(given.clients)
    zips = [zipped(home, number, given.images) for number in numbers]

    def everybody() -> list[tuple[bool, list[float]]]:
        with ThreadPoolExecutor(given.clients) as pool:
            return list(pool.map(lambda number: pupil(address, zips[number], number, training, given.pause), numbers))

    told: list[tuple[bool, list[float]]] = []
    taken, peak = watched(lambda: told.extend(everybody()), page.pid)
    times = [each for _, mine in told for each in mine]
    own = sum(right for right, _ in told)
    middle, worst = statistics.median(times), max(times)
    clients = f"{given.clients} clients, {3 * given.images} drawings each, {taken:.0f} s"
    print(
        f"{clients}: {own} of {len(told)} got only answers of their own; {len(times)} predictions, while others "
        f"trained and {given.pause:g} s after one another, took {middle:.2f} s in the middle and {worst:.2f} s"
        f" at worst; peak memory {peak / 1e9:.2f} GB; {os.cpu_count()} cores"
    )


class Training:
    """How many still train, and whether the others may begin."""

    def __init__(self, clients: int) -> None:
        self._left, self._lock = clients, threading.Lock()
        self.begun = threading.Event()

    def over(self) -> None:
        """One more is through."""
        with self._lock:
            self._left -= 1
        self.begun.set()

    @property
    def runs(self) -> bool:
        """Whether anybody still trains."""
        return self._left > 0


def pupil(address: str, archive: Path, number: int, training: Training, pause: float) -> tuple[bool, list[float]]:
    """One client from the first verb to the last: whether all answers were its own, and the seconds of each."""
    client = Client(address, verbose=False)
    try:
        if number:
            training.begun.wait()
        ticket, understood = client.predict(handle_file(archive), api_name="/load_images")
        own, times = set(names(number)), []
        right = set(understood["classes"]) == own
        for _ in client.submit(ticket, plan="head only", api_name="/train"):
            pass
    finally:
        training.over()
    picture = handle_file(archive.with_suffix("") / names(number)[0] / "0.png")
    while True:
        began = time.perf_counter()
        ranked = client.predict(ticket, picture, api_name="/predict")
        times.append(time.perf_counter() - began)
        right = right and {row["class"] for row in ranked} == own
        if not training.runs:
            break
        time.sleep(pause)
    client.predict(ticket, api_name="/forget")
    client.close()
    return right, times


def names(number: int) -> list[str]:
    return [f"{form} of {number}" for form in ("disc", "square", "triangle")]


def zipped(home: Path, number: int, each: int) -> Path:
    folder = drawn(home / str(number), names(number), each)
    return Path(shutil.make_archive(str(folder), "zip", folder))


if __name__ == "__main__":
    main()
