"""A program that is told to end leaves nothing of its visitors on the disk."""

import shutil

import pytest
from browsing import serving

client = pytest.importorskip("gradio_client")


def test_what_visitors_sent_goes_with_the_program(fruits, tmp_path, monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    archive = shutil.make_archive(str(tmp_path / "fruits"), "zip", fruits)
    with serving(tmp_path, "app.py") as server:
        page = client.Client(server.address, verbose=False)
        ticket, _ = page.predict(client.handle_file(archive), api_name="/load_images")
        assert ticket and list((tmp_path / "temporary").glob("headswap-*"))
        page.close()
    assert not list((tmp_path / "temporary").glob("headswap-*"))
