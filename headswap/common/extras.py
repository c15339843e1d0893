"""Imports libraries that belong to an extra of the package, and says which extra is missing and how to install it.

The core (``pip install headswap``) loads, trains, evaluates, predicts and saves; the extras in pyproject.toml add the
page, ONNX and HEIC. What an extra brings is imported where it is used and nowhere else, so the core never meets it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from headswap.common.errors import InputError


class MissingExtraError(InputError):
    """An extra of the package is not installed, or is broken.

    Attributes:
        command: what installs it.
    """

    def __init__(self, extra: str, feature: str, problem: str = "is not installed", upgrade: bool = False) -> None:
        self.command: str = f'pip install {"--upgrade " if upgrade else ""}"headswap[{extra}]"'
        super().__init__(
            f'{feature} needs the extra "{extra}", which {problem}; run {self.command} where headswap is installed.'
        )


@contextmanager
def needs_extra(extra: str, feature: str) -> Iterator[None]:
    """Translate the errors of imports in the block.

    Args:
        extra: as pyproject.toml calls it.
        feature: what cannot be done without it, as the subject of a sentence such as "The page".

    Raises:
        MissingExtraError: for an ``ImportError`` in the block, except one that the package itself is to blame for.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "headswap":
            raise
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtraError(extra, feature) from error
        raise MissingExtraError(extra, feature, f"cannot be imported ({error})", upgrade=True) from error
