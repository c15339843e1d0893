"""Finds the files that the page is made of: scripts and style sheets, the sample images and the logo.

The sample and the logo lie in ``assets`` in the repository and beside the code in an installation; ``setup.py`` copies
them, so that there is one source of each.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
ASSETS_DIR = next(filter(Path.is_dir, (_PACKAGE / "assets", _PACKAGE.parent / "assets")), _PACKAGE / "assets")
SAMPLE_DIR, LOGO_PATH = ASSETS_DIR / "leaves", ASSETS_DIR / "logo.svg"


def read_static(name: str) -> str:
    """The text of a script or style sheet that lies beside this file, such as "page.css"."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def read_scripts(*names: str) -> str:
    """Join scripts to one, in which each can use the names of those before it."""
    return "\n".join(read_static(name) for name in names)
