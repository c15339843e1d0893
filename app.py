"""Starts the page, on this machine and on a Hugging Face Space."""

from headswap.ui import launch

if __name__ == "__main__":
    launch()
