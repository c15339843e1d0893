"""Other sites' pages are refused: what a browser sends on their behalf could use this page behind a visitor's back.

Gradio itself answers every origin, with credentials, on any host but localhost. Programs that are no browser name no
origin and are let in. Knows nothing of the page.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

ADMITTED = "HEADSWAP_ORIGINS"  # origins that may, with commas: https://school.example
SPACE = "SPACE_HOST"  # a Space's own host, which its proxy may hide
STANDARD = {"http": 80, "https": 443}
REFUSAL = f"Pages of other sites may not use this one. Whoever runs it can admit them by {ADMITTED}."


class OwnPagesOnly:
    """Refuses what a browser sends for another site's page; a link that leads here is no such thing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand on."""
        if scope["type"] in ("http", "websocket") and foreign(scope.get("method", "GET"), Headers(scope=scope)):
            refused = PlainTextResponse(REFUSAL, 403) if scope["type"] == "http" else WebSocketClose(1008)
            await refused(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def foreign(method: str, headers: Headers) -> bool:
    """Whether another site's page is behind a request.

    A browser says so in two ways: ``Sec-Fetch-Site``, which no script can set, over https and on this computer; and
    ``Origin``, everywhere, for all that changes something.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin in admitted():
        return False
    if site == "same-origin":
        return False
    if site in ("cross-site", "same-site"):
        return not (method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate")
    return origin is not None and _place(origin) != _place(f"{_scheme(origin)}://{headers.get('host', '')}")


def admitted() -> set[str]:
    """The origins that are admitted by name."""
    named = {each.strip().rstrip("/") for each in os.environ.get(ADMITTED, "").split(",")}
    own = os.environ.get(SPACE)
    return (named | ({f"https://{own}"} if own else set())) - {"", "null", "*"}


def _scheme(address: str) -> str:
    return address.partition("://")[0].lower()


def _place(address: str) -> tuple[str, int | None]:
    """Host and port; nothing that equals a place where it is no address, as of "null"."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or address, parts.port or STANDARD.get(parts.scheme))
    except ValueError:
        return (address, None)
