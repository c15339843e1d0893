"""What pyproject.toml cannot say: which files of ``assets`` go with the code, and what PyPI shows of the README."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

REPOSITORY = "https://github.com/headswap/headswap"


class BuildWithAssets(build_py):
    """The sample and the logo, which lie in ``assets`` for all to see: in a wheel they lie in ``headswap/assets``; an
    editable installation finds them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for file in [Path("assets/logo.svg"), *sorted(Path("assets/leaves").rglob("*.jpg"))]:
            target = Path(self.build_lib, "headswap", file)
            self.mkpath(str(target.parent))
            self.copy_file(str(file), str(target))


def readme_for_pypi() -> str:
    """The README without the settings of a Space at its top, and with links that lead to the repository."""
    text = re.sub(r"\A---\n.*?\n---\n", "", Path("README.md").read_text("utf-8"), flags=re.DOTALL)
    to_files = rf"\g<1>{REPOSITORY}/raw/main/\g<2>"
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?://)([^)]+)", to_files, text)
    text = re.sub(r'((?:src|href)=")(?!https?://|#)([^"]+)', to_files, text)
    return re.sub(r"(\]\()(?!https?://|#)([^)]+)", rf"\g<1>{REPOSITORY}/blob/main/\g<2>", text).strip() + "\n"


setup(
    cmdclass={"build_py": BuildWithAssets},
    long_description=readme_for_pypi(),
    long_description_content_type="text/markdown",
)
