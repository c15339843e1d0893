"""The exceptions that are written for a person, and text made fit for one. Knows nothing of what went wrong."""

import re

from headswap.common.text import harmless

MOST = 990  # characters of a message
_WORD = 200  # of a word in it, such as a path
_NAME = 150  # of a picture's name


class InputError(ValueError):
    """Something that a person gave cannot be used.

    Its message is one sentence or two that name the file, what is wrong with it and what to do; the page and
    the command line show it as it stands. However long a name in it is, it stays shorter than a thousand characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_cut(re.sub(rf"\S{{{_WORD + 1},}}", lambda word: _cut(word[0], _WORD), str(message)), MOST))


class PictureError(InputError):
    """One picture that cannot be used: ``name`` says which, ``reason`` why and what to do about it."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = _cut(harmless(name), _NAME)
        self.reason = reason
        super().__init__(f"{self.name}: {reason}.")


def _cut(text: str, most: int) -> str:
    """The text without its middle where it is too long: names begin and advice ends a message."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"
