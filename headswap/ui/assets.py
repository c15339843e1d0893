"""The sample and the logo: in the repository they lie in ``assets``, in an installation beside the code.

``setup.py`` takes them along, so that there is one copy of each.
"""

from pathlib import Path

_CODE = Path(__file__).parents[1]
ASSETS = next(filter(Path.is_dir, (_CODE / "assets", _CODE.parent / "assets")), _CODE / "assets")
SAMPLE, LOGO = ASSETS / "leaves", ASSETS / "logo.svg"
