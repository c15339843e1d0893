"""``python -m headswap``."""

from headswap.cli import main

main()
