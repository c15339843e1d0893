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

ALLOWED_ORIGINS_VARIABLE = "HEADSWAP_ORIGINS"  # origins that may, with commas: https://school.example
SPACE_HOST_VARIABLE = "SPACE_HOST"  # a Space's own host, which its proxy may hide
DEFAULT_PORTS = {"http": 80, "https": 443}
REFUSAL_MESSAGE = (
    f"Pages of other sites may not use this one. Whoever runs it can admit them by {ALLOWED_ORIGINS_VARIABLE}."
)


class SameOriginMiddleware:
    """Refuses what a browser sends for another site's page; a link that leads here is no such thing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand on."""
        if scope["type"] in ("http", "websocket") and is_cross_origin(scope.get("method", "GET"), Headers(scope=scope)):
            refused = PlainTextResponse(REFUSAL_MESSAGE, 403) if scope["type"] == "http" else WebSocketClose(1008)
            await refused(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def is_cross_origin(method: str, headers: Headers) -> bool:
    """Whether another site's page is behind a request.

    A browser says so in two ways: ``Sec-Fetch-Site``, which no script can set, over https and on this computer; and
    ``Origin``, everywhere, for all that changes something.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin in get_allowed_origins():
        return False
    if site == "same-origin":
        return False
    if site in ("cross-site", "same-site"):
        return not (method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate")
    return origin is not None and _parse_host_and_port(origin) != _parse_host_and_port(
        f"{_parse_scheme(origin)}://{headers.get('host', '')}"
    )


def get_allowed_origins() -> set[str]:
    """The origins that are admitted by name."""
    named = {each.strip().rstrip("/") for each in os.environ.get(ALLOWED_ORIGINS_VARIABLE, "").split(",")}
    own = os.environ.get(SPACE_HOST_VARIABLE)
    return (named | ({f"https://{own}"} if own else set())) - {"", "null", "*"}


def _parse_scheme(address: str) -> str:
    return address.partition("://")[0].lower()


def _parse_host_and_port(address: str) -> tuple[str, int | None]:
    """Host and port; nothing that equals a place where it is no address, as of "null"."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or address, parts.port or DEFAULT_PORTS.get(parts.scheme))
    except ValueError:
        return (address, None)
