"""The one exception that is written for a person. Knows nothing of what went wrong or where."""


class InputError(ValueError):
    """Something that a person gave cannot be used.

    Its message is one sentence or two that name the file, what is wrong with it and what to do; the page and
    the command line show it as it stands.
    """
