"""Reads the version of this package, which pyproject.toml alone states."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def read_version() -> str:
    """The version that is installed, or else that of the repository.

    A Hugging Face Space copies the repository and installs its requirements, but never the package.
    """
    try:
        return version("headswap")
    except PackageNotFoundError:
        found = re.search(r'^version = "(.+)"$', _PYPROJECT.read_text("utf-8"), re.MULTILINE)
        assert found is not None, f"{_PYPROJECT} has no version."
        return found[1]
