"""A program that is told to end leaves nothing of its visitors on the disk."""

import shutil
import signal

import pytest
from browsing import serving

from headswap.ui.app import page

client = pytest.importorskip("gradio_client")


def test_being_told_to_end_is_as_ctrl_c(monkeypatch):
    told = {}
    monkeypatch.setattr(signal, "signal", told.setdefault)
    monkeypatch.setattr(page, "SessionRegistry", lambda: 1 / 0)  # no further than that
    with pytest.raises(ZeroDivisionError):
        page.launch()
    with pytest.raises(KeyboardInterrupt):
        told[signal.SIGTERM]()


@pytest.mark.slow
def test_what_visitors_sent_goes_with_the_program(fruits, tmp_path, monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    archive = shutil.make_archive(str(tmp_path / "fruits"), "zip", fruits)
    with serving(tmp_path, "app.py") as server:
        visit = client.Client(server.address, verbose=False)
        ticket, _ = visit.predict(client.handle_file(archive), api_name="/load_images")
        assert ticket and list((tmp_path / "temporary").glob("headswap-*"))
        visit.close()
    assert not list((tmp_path / "temporary").glob("headswap-*"))
