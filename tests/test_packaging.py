"""What a release is made of: an sdist, and a wheel that brings all that the page needs, the sample and the logo, too.

Both are built by ``python -m build``, checked by twine, and the wheel is installed in an environment of its own, which
borrows what the requirements have brought here: so nothing is downloaded, and torch is not installed again.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from project import PROJECT

ROOT = Path(__file__).parents[1]
PARTS = ("headswap", "assets", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
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
def built(tmp_path_factory):
    """The sdist and the wheel that is built from it, from a copy, for building leaves traces."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part, **({"ignore": PASSING} if (ROOT / part).is_dir() else {}))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, folder=source)
    [sdist], [wheel] = target.glob("*.tar.gz"), target.glob("*.whl")
    return sdist, wheel


def run(*command, folder=None):
    """Run a program that has to succeed; what it prints."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHONPATH"))}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=settings, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The folder of an environment with the wheel, and the one of its programs."""
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    paths = {"base": str(home), "platbase": str(home)}
    borrowed = Path(sysconfig.get_path("purelib", vars=paths), "borrowed.pth")
    borrowed.write_text("\n".join(path for path in sys.path if path.endswith("site-packages")), "utf-8")
    wanted = ("install", "--quiet", "--no-deps", "--no-index", built[1])
    run(sys.executable, "-m", "pip", "--python", programs / "python", *wanted)
    return home, programs


@pytest.mark.subprocess
def test_a_wheel_brings_every_file_of_the_package_and_one_copy_of_the_sample(built):
    files = [path for path in (ROOT / "headswap").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    sample = list((ROOT / "assets/leaves").rglob("*.jpg"))
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    expected |= {f"headswap/{path.relative_to(ROOT).as_posix()}" for path in [*sample, ROOT / "assets/logo.svg"]}
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if "/licenses/" in name]
    assert names == expected and len(sample) == 90
    assert {Path(name).name for name in licences} == {"LICENSE", "LICENSE_DEJAVU.txt"}


@pytest.mark.subprocess
def test_an_sdist_has_what_it_takes_to_build_and_no_half_of_the_tests(built):
    with tarfile.open(built[0]) as archive:
        parts = {name.split("/")[1] for name in archive.getnames() if name.count("/")}
    assert parts >= {"headswap", "assets", "pyproject.toml", "setup.py", "README.md", "LICENSE"}
    assert "tests" not in parts


@pytest.mark.subprocess
def test_both_can_be_uploaded(built):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *built).count("PASSED") == 2


@pytest.mark.subprocess
def test_pypi_shows_the_readme_without_the_settings_of_a_space_and_with_links_that_lead_somewhere(built):
    with zipfile.ZipFile(built[1]) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    shown = metadata.get_payload(decode=True).decode()
    assert shown.startswith("# ") and "sdk_version" not in shown
    links = re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)\"", shown)
    assert links and all(re.match(r"https?://|#", one or other) for one, other in links)
    assert metadata["Version"] == PROJECT["version"]


@pytest.mark.subprocess
def test_what_is_installed_says_its_version_and_has_the_command(installed):
    home, programs = installed
    assert run(programs / "headswap", "--version", folder=home) == f"headswap {PROJECT['version']}\n"


@pytest.mark.subprocess
def test_what_is_installed_elsewhere_tries_the_sample_and_shows_the_logo(installed, tmp_path):
    home, programs = installed
    run(programs / "python", "-I", "-W", "ignore", "-c", TRY_THE_SAMPLE, home, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.subprocess
def test_a_clone_beside_somebodys_script_does_not_hide_what_is_installed(tmp_path):
    (tmp_path / "headswap" / "headswap").mkdir(parents=True)
    assert run(Path(sys.executable), "-c", "import headswap; print(headswap.load_images)", folder=tmp_path)


# The version is stated once, and the changelog knows it

CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## \[([^]]+)\][^\n]*\n(.*?)(?=^## |^\[|\Z)", CHANGELOG, re.MULTILINE | re.DOTALL))


def test_the_changelog_has_an_entry_for_the_version():
    entry = SECTIONS.get(PROJECT["version"]) or SECTIONS["Unreleased"]
    assert re.search(r"^- ", entry, re.MULTILINE)


def test_every_released_version_has_its_day_and_every_entry_a_link():
    for version in SECTIONS:
        assert re.search(rf"^\[{re.escape(version)}\]: https://", CHANGELOG, re.MULTILINE)
        if version != "Unreleased":
            assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)


def test_the_version_is_written_in_no_other_file():
    pattern = re.compile(rf"(?<![\d.]){re.escape(PROJECT['version'])}(?![\d.])")
    sources = [path for path in (ROOT / "headswap").rglob("*.py") if path.name != "bundled_weights.py"]
    assert [path.name for path in sources if pattern.search(path.read_text("utf-8"))] == []
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited is None  # a DOI of a release would say it
