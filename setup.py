"""What pyproject.toml cannot say: the sample and the logo, which lie in ``assets`` for all to see, go with the code."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithAssets(build_py):
    """In a wheel they lie in ``headswap/assets``; an editable installation finds them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for file in [Path("assets/logo.svg"), *sorted(Path("assets/leaves").rglob("*.jpg"))]:
            target = Path(self.build_lib, "headswap", file)
            self.mkpath(str(target.parent))
            self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithAssets})
