"""``python -m headswap``."""

from headswap.cli.commands import main

main()
