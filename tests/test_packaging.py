"""A wheel, and with it `pip install git+...`, brings all that the page needs: the sample and the logo, too."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("headswap", "assets", "pyproject.toml", "setup.py", "MANIFEST.in", "requirements.txt", "README.md", "LICENSE")
PASSING = shutil.ignore_patterns("__pycache__", "*.pyc")

# The button's own function, and the page as it is built, from a folder that knows nothing of the repository.
TRY_THE_SAMPLE = """
import asyncio, sys
from pathlib import Path
import headswap
assert Path(headswap.__file__).is_relative_to(sys.argv[1]), headswap.__file__
from headswap.ui.app import page
from headswap.ui.sessions.registry import SessionRegistry
from headswap.ui.sessions.session import Session
from headswap.ui.static import assets
from headswap.ui.steps import images

visitor = Session()
*_, last = images.load_sample(visitor)
assert last.problem == "", last.problem
assert visitor.images.counts == {"healthy": 30, "mildew": 30, "rust": 30}
visitor.release()

async def build():
    return page.build_page(SessionRegistry())

blocks = asyncio.run(build())
by_id = {each.elem_id: each for each in blocks.blocks.values()}
assert by_id["sample"].visible and "<svg" in by_id["title"].value
assert assets.LOGO_PATH.is_file() and assets.LOGO_PATH.is_relative_to(sys.argv[1])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by the project's own backend, from a copy, for building leaves traces."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part, **({"ignore": PASSING} if (ROOT / part).is_dir() else {}))
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, target], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    [built] = target.glob("*.whl")
    return built


def test_a_wheel_brings_every_file_of_the_package_and_one_copy_of_the_sample(wheel):
    files = [path for path in (ROOT / "headswap").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sample = list((ROOT / "assets/leaves").rglob("*.jpg"))
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    expected |= {f"headswap/{path.relative_to(ROOT).as_posix()}" for path in [*sample, ROOT / "assets/logo.svg"]}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if "/licenses/" in name]
    assert names == expected and len(sample) == 90
    assert {Path(name).name for name in licences} == {"LICENSE", "LICENSE_DEJAVU.txt"}


def test_what_is_installed_elsewhere_tries_the_sample_and_shows_the_logo(wheel, tmp_path):
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    # Its own folder first: this environment has the repository's headswap installed.
    start = f"import sys; sys.path.insert(0, {str(installed)!r})\n{TRY_THE_SAMPLE}"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", start, installed], cwd=elsewhere, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(elsewhere.iterdir()) == []
