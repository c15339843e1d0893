"""Starts the page on this machine, where it opens in a browser, or on a Hugging Face Space."""

import os
import runpy
from contextlib import suppress
from pathlib import Path

# As a file, because importing the package imports torch; and before spaces, which imports Gradio.
runpy.run_path(str(Path(__file__).with_name("headswap") / "common" / "privacy.py"))

with suppress(ImportError):
    import spaces  # noqa: F401, on a Space with ZeroGPU it has to come before torch

from headswap.common.extras import MissingExtraError  # noqa: E402
from headswap.ui import launch  # noqa: E402

if __name__ == "__main__":
    try:
        launch(inbrowser="SPACE_ID" not in os.environ)
    except MissingExtraError as error:  # a sentence that says what to do; a traceback would hide it
        raise SystemExit(str(error)) from None
