"""From starting the program to a page that answers, against `import gradio, torch, torchvision`, taking turns."""

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5


def imports():
    """Seconds for the three imports alone."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio, torch, torchvision"], check=True)
    return time.perf_counter() - began


def page():
    """Seconds until the page answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"BROWSER": "true", "GRADIO_SERVER_PORT": str(port)}
    began = time.perf_counter()
    program = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while program.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10):
                    return time.perf_counter() - began
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        raise SystemExit("The page did not start.")
    finally:
        program.kill()
        program.wait()


if __name__ == "__main__":
    pairs = [(page(), imports()) for _ in range(ROUNDS)]
    pages, alone = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(page / imported for page, imported in pairs)
    told = f"the page answers after {pages:.1f} s, the imports alone take {alone:.1f} s"
    print(f"{told}: {ratio:.2f} times (median of {ROUNDS} pairs)")
