"""The exceptions that are written for a person, and text made fit for one. Knows nothing of what went wrong."""

import re

from headswap.common.text import sanitize

MAX_MESSAGE_LENGTH = 990  # characters of a message
_MAX_WORD_LENGTH = 200  # of a word in it, such as a path
_MAX_NAME_LENGTH = 150  # of a picture's name


class InputError(ValueError):
    """Something that a person gave cannot be used.

    Its message is one sentence or two that name the file, what is wrong with it and what to do; the page and
    the command line show it as it stands. However long a name in it is, it stays shorter than a thousand characters.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(
            _truncate_middle(
                re.sub(
                    rf"\S{{{_MAX_WORD_LENGTH + 1},}}",
                    lambda word: _truncate_middle(word[0], _MAX_WORD_LENGTH),
                    str(message),
                ),
                MAX_MESSAGE_LENGTH,
            )
        )


class ImageReadError(InputError):
    """One picture that cannot be used: ``name`` says which, ``reason`` why and what to do about it."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = _truncate_middle(sanitize(name), _MAX_NAME_LENGTH)
        self.reason = reason
        super().__init__(f"{self.name}: {reason}.")


def _truncate_middle(text: str, max_length: int) -> str:
    """The text without its middle where it is too long: names begin and advice ends a message."""
    half = (max_length - 3) // 2
    return text if len(text) <= max_length else f"{text[:half]}...{text[-half:]}"
