"""A training on the page against the script that it becomes: ``headswap.eject``, run where there is no headswap.

    python benchmarks/ejected.py FOLDER [--python PYTHON] [--each 20] [--heads linear ...] [--plans "head only" ...]

Each head learns by the default plan and the linear head by each classic plan; then the script learns from the same
folder with the same images held back. One line for each pair, and one for all of them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import BACKBONE, chosen, machine

import headswap
from headswap.networks.head_registry import HEADS
from headswap.training.plan import NAMED_PLANS

WITHOUT_HEADSWAP = "import runpy, sys; sys.modules['headswap'] = None; sys.argv = sys.argv[1:]; "
RUN = WITHOUT_HEADSWAP + "runpy.run_path(sys.argv[0], run_name='__main__')"
DEFAULT = "the default plan"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="one sub-folder for each class")
    parser.add_argument("--python", default=sys.executable, help="an interpreter, mostly of an environment without it")
    parser.add_argument("--each", type=int, help="so many of each class, all by default")
    parser.add_argument("--heads", nargs="*", default=list(HEADS))
    parser.add_argument("--plans", nargs="*", default=list(NAMED_PLANS))
    given = parser.parse_args()
    images = headswap.load_images(given.folder)
    if given.each:
        images = chosen(images, given.each)
    pairs = [(head, DEFAULT) for head in given.heads] + [("linear", plan) for plan in given.plans]
    rows = [compared(images, head, plan, given) for head, plan in pairs]
    page, script = (sum(row[i] for row in rows) / len(rows) for i in (0, 1))
    print(f"{len(rows)} pairs on {Path(given.folder).name}: page {page:.3f}, script {script:.3f}; {machine()}")


def compared(images: headswap.LabelledImages, head: str, plan: str, given: argparse.Namespace) -> tuple[float, float]:
    """The share that is named rightly on the page and by the script."""
    torch.manual_seed(0)
    model = headswap.adapt(BACKBONE, images.classes, head)
    began = time.perf_counter()
    kept = headswap.fit(model, images, None if plan == DEFAULT else plan)
    ours = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(headswap.eject(model, images, given.folder), "utf-8")
        lines = len(script.read_text("utf-8").splitlines())
        began = time.perf_counter()
        done = subprocess.run([given.python, "-c", RUN, script], capture_output=True, text=True, encoding="utf-8")
        theirs = time.perf_counter() - began
    found = re.search(r"^(\d+) of (\d+) validation images right \(", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise SystemExit(f"{head}, {plan}: the script failed.\n{done.stdout[-500:]}\n{done.stderr[-2000:]}")
    right, of = map(int, found.groups())
    page = kept.correct / kept.total
    print(
        f"{head}, {plan}: page {kept.correct} of {kept.total} ({page:.3f}, {ours:.0f} s), "
        f"script {right} of {of} ({right / of:.3f}, {theirs:.0f} s, {lines} lines)",
        flush=True,
    )
    return page, right / of


if __name__ == "__main__":
    main()
