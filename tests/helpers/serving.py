"""The page served in this process, as it is launched. Knows no fixtures."""

from contextlib import contextmanager

import gradio as gr
import pytest

from headswap.ui.app import page
from headswap.ui.sessions.registry import SessionRegistry


@contextmanager
def served(built, **settings):
    """The blocks of the page, its address and its visitors."""
    visitors, handed = SessionRegistry(), []
    launch = gr.Blocks.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visitors, "start_expiry_thread", lambda: None)
        patch.setattr(page, "SessionRegistry", lambda: visitors)
        patch.setattr(gr.Blocks, "launch", lambda self, **s: handed.append((self, launch(self, **s))))
        quiet = {"prevent_thread_lock": True, "quiet": True, "server_name": "127.0.0.1", "inbrowser": False}
        built(lambda: page.launch(**quiet | settings))
    [(blocks, (_, address, _))] = handed
    try:
        yield blocks, address, visitors
    finally:
        blocks.close(verbose=False)
