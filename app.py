"""Starts the page, on this machine, where it opens in a browser, and on a Hugging Face Space."""

import os

from headswap.ui import launch

if __name__ == "__main__":
    launch(inbrowser="SPACE_ID" not in os.environ)
