"""What to offer to somebody who mistyped a name."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 100  # characters that are compared: what comes from a file may be megabytes of them


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest of the known names, or a few of them where none is near."""
    known = list(known)
    close = get_close_matches(str(name)[:LONGEST], known, n=3, cutoff=0.5)
    offered = close or known[:6]
    return f"{'Did you mean' if close else 'There are, for example,'} {', '.join(offered)}{'?' if close else '.'}"
