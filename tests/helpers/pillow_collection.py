"""Pillow's own collection of odd and broken pictures: each becomes pixels and a prediction, or one sentence.

    python tests/helpers/pillow_collection.py [FOLDER]

Without a folder pip fetches the source of the Pillow that is installed, about 47 MB. Prints one line, and ends with 1
if anything but a sentence came out or a picture took more than 20 seconds. A reader that crashes or hangs ends it, too.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import PIL

import headswap
from headswap.common.errors import ImageReadError
from headswap.data.decoding import read_image_size, read_pixels
from headswap.data.formats import REFUSED_FORMAT_REASONS

PATIENCE = 20.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="pictures that are there already")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        paths = sorted(path for path in (given.folder or fetched(Path(temporary))).rglob("*") if path.is_file())
        wrong = judge(paths)
    sys.exit("\n".join(wrong) if wrong else 0)


def fetched(folder: Path) -> Path:
    """The pictures of Pillow's tests, without the folders that an archive might lead elsewhere with."""
    wanted = ["--no-deps", "--no-binary", "pillow", f"pillow=={PIL.__version__}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted, "--dest", str(folder)], check=True)
    pictures = folder / "pictures"
    pictures.mkdir()
    [source] = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = [member for member in archive if member.isreg() and "/Tests/images/" in member.name]
        for number, member in enumerate(members):
            path = pictures / f"{number:04d}-{Path(member.name).name}"
            path.write_bytes(archive.extractfile(member).read())
    return pictures


def judge(paths: list[Path]) -> list[str]:
    """Read them all and say how it went; returns what must not have happened."""
    model = headswap.adapt("efficientnet_lite0", classes=2)
    counts, wrong, slowest = Counter(), [], (0.0, "")
    for path in paths:
        faulthandler.dump_traceback_later(10 * PATIENCE, exit=True)
        began = time.perf_counter()
        try:
            counts[outcome(model, path)] += 1
        except Exception as error:
            wrong.append(f"{path.name}: {error!r}")
        slowest = max(slowest, (time.perf_counter() - began, path.name))
        if time.perf_counter() - began > PATIENCE:
            wrong.append(f"{path.name}: took more than {PATIENCE:.0f} seconds")
    faulthandler.cancel_dump_traceback_later()
    print(
        f"{len(paths)} files: {counts['read']} read, {counts['skipped']} skipped, {counts['refused']} refused, "
        f"{len(wrong)} wrong; the slowest took {slowest[0]:.1f} s ({slowest[1]}); Pillow {PIL.__version__}"
    )
    return wrong


def outcome(model: headswap.Classifier, path: Path) -> str:
    """Read; skipped, because it is in none of our formats; or refused, because it is damaged or too large."""
    try:
        pixels = read_pixels(path)
    except ImageReadError as error:
        return "skipped" if error.reason in REFUSED_FORMAT_REASONS else "refused"
    width, height = read_image_size(path)
    assert min(pixels.shape[1:]) == 256
    assert (width - height) * (pixels.shape[2] - pixels.shape[1]) >= 0, "The size does not lie as the pixels do."
    assert sum(share for _, share in model.predict(path)) > 0.99
    return "read"


if __name__ == "__main__":
    main()
