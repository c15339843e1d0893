"""Starts the page, on this machine, where it opens in a browser, and on a Hugging Face Space."""

import os
from contextlib import suppress

with suppress(ImportError):
    import spaces  # noqa: F401, on a Space with ZeroGPU it has to come before torch

from headswap.ui import launch

if __name__ == "__main__":
    launch(inbrowser="SPACE_ID" not in os.environ)
