"""Exceptions whose messages are shown to users as they stand, made safe and short."""

import re

from headswap.common.text import sanitize

MAX_MESSAGE_LENGTH = 990  # characters of a message
_MAX_WORD_LENGTH = 200  # characters of one word in it, such as a path
_MAX_NAME_LENGTH = 150  # characters of an image's name in it


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message is one sentence or two that name the file, what is wrong with it and what to do; the page and the
    command line show it unchanged. Long words and long messages lose their middle, so that it stays shorter than
    1,000 characters.
    """

    def __init__(self, message: object = "") -> None:
        words_shortened = re.sub(
            rf"\S{{{_MAX_WORD_LENGTH + 1},}}", lambda word: _truncate_middle(word[0], _MAX_WORD_LENGTH), str(message)
        )
        super().__init__(_truncate_middle(words_shortened, MAX_MESSAGE_LENGTH))


class ImageReadError(InputError):
    """One image cannot be read.

    Attributes:
        name: the image's name, without control characters and at most 150 characters long.
        reason: what is wrong with it and what to do, as the rest of a sentence that begins with the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name: str = _truncate_middle(sanitize(name), _MAX_NAME_LENGTH)
        self.reason = reason
        super().__init__(f"{self.name}: {reason}.")


def _truncate_middle(text: str, max_length: int) -> str:
    """The text with "..." for its middle if it is too long: a message begins with a name and ends with advice."""
    half = (max_length - 3) // 2
    return text if len(text) <= max_length else f"{text[:half]}...{text[-half:]}"
