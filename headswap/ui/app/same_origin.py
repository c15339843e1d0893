"""ASGI middleware that refuses cross-origin requests, by which another site could use the page in a user's name.

Gradio itself answers every origin, with credentials, on any host but localhost. Programs other than browsers send no
origin and are admitted. Knows nothing of the page.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

ALLOWED_ORIGINS_VARIABLE = "HEADSWAP_ORIGINS"  # admitted origins, separated by commas: https://school.example
SPACE_HOST_VARIABLE = "SPACE_HOST"  # the host of a Space, which its proxy may hide
DEFAULT_PORTS = {"http": 80, "https": 443}
REFUSAL_MESSAGE = (
    f"Pages of other sites may not use this one. Whoever runs it can admit them by {ALLOWED_ORIGINS_VARIABLE}."
)


class SameOriginMiddleware:
    """Refuses requests that a browser sends for another site's page, but for links that lead here."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with status 403, or pass the request on."""
        if scope["type"] in ("http", "websocket") and is_cross_origin(scope.get("method", "GET"), Headers(scope=scope)):
            refusal = PlainTextResponse(REFUSAL_MESSAGE, 403) if scope["type"] == "http" else WebSocketClose(1008)
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def is_cross_origin(method: str, headers: Headers) -> bool:
    """Whether a browser sends a request for another site's page.

    Browsers set ``Sec-Fetch-Site``, which no script can change, over https and on localhost; and ``Origin`` everywhere,
    for all requests but GET and HEAD.

    Args:
        method: the HTTP method.
        headers: the headers of the request.
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
    """Origins that are admitted by the environment variables."""
    listed = {each.strip().rstrip("/") for each in os.environ.get(ALLOWED_ORIGINS_VARIABLE, "").split(",")}
    space_host = os.environ.get(SPACE_HOST_VARIABLE)
    return (listed | ({f"https://{space_host}"} if space_host else set())) - {"", "null", "*"}


def _parse_scheme(address: str) -> str:
    return address.partition("://")[0].lower()


def _parse_host_and_port(address: str) -> tuple[str, int | None]:
    """Host and port; for what is no address, such as "null", something that equals no host and port."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or address, parts.port or DEFAULT_PORTS.get(parts.scheme))
    except ValueError:
        return (address, None)
