"""Every bound has a default and an environment variable that takes effect at once."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from headswap.common.errors import InputError
from headswap.common.limits import Limits, get_limits


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_bound_is_an_environment_variable(name, monkeypatch):
    assert get_limits() == Limits()
    monkeypatch.setenv(f"HEADSWAP_MAX_{name.upper()}", "7")
    assert getattr(get_limits(), name) == 7
    monkeypatch.setenv(f"HEADSWAP_MAX_{name.upper()}", "")
    assert get_limits() == Limits()


@pytest.mark.parametrize("text", ["many", "-1", "0", "1.5", "٣", "9" * 5000])
def test_a_bound_that_is_no_number_names_its_variable(text, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_IMAGES", text)
    with pytest.raises(InputError, match="HEADSWAP_MAX_IMAGES is a whole number above zero, such as 20000"):
        get_limits()


def test_bytes_and_pixels_are_counted():
    bounds = Limits(megabytes=2, unpacked_megabytes=3, file_megabytes=4, megapixels=5)
    assert (bounds.total_bytes, bounds.unpacked_bytes, bounds.file_bytes) == (2**21, 3 * 2**20, 2**22)
    assert bounds.pixels == 5_000_000


def test_the_documents_list_every_bound_with_its_default():
    page = (Path(__file__).parents[2] / "docs/limits.md").read_text("utf-8")
    table = dict(re.findall(r"^\| `([A-Z_]+)` \|[^|]*\| (\d+) \|$", page, re.MULTILINE))
    assert table == {field.name.upper(): str(field.default) for field in fields(Limits)}
