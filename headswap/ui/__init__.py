"""Launches the Gradio page; importing this package does not import Gradio."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def launch(on_ready: Callable[[int], None] | None = None, **settings: Any) -> None:
    """Start the page and block until it ends.

    Args:
        on_ready: called with the port once the page answers.
        settings: passed to Gradio's ``launch``.

    Raises:
        MissingExtraError: if Gradio is not installed.
    """
    # Gradio reads these when it is imported; by its defaults it recomputes statistics of all events after each event.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "200")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000")
    from headswap.common import devices
    from headswap.common.extras import needs_extra

    with needs_extra("page", "The page"):
        from headswap.ui.app import page

    devices.use_all_cpus()
    page.launch(on_ready, **settings)
