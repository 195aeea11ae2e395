"""What stands in front of Serve's HTTP proxy, for clients that its server would fail.

Serve calls ``middlewares`` in each proxy where ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names
it, as the private Ray and the image do. It imports next to nothing.
"""

import re
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving.proxy_downloads import PacedDownloads
from sa_ray.serving.proxy_health import HealthLane

READ_BY_PROXY = re.compile(rb"x-request-id|x-session-id|serve[-_]multiplexed[-_]model[-_]id")
"""Matches the headers that the proxy decodes as UTF-8; one that is not ends in a bare 500."""

MAX_VALUE = 255
"""Longest value that is forwarded, bytes."""


class ReadableHeaders:
    """Middleware that drops headers which the proxy cannot read.

    Without an ``X-Request-Id``, the proxy makes one. One that is empty, longer than 255 characters
    or anything but printable ASCII is as good as none: it comes back in the answer and in the logs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" in scope:
            readable = [(name, value) for name, value in scope["headers"] if _is_fine(name, value)]
            scope = {**scope, "headers": readable}
        await self._app(scope, receive, send)


class UnframedBodies:
    """Middleware that sends a body of unknown length as it is to clients of HTTP/1.0.

    Such a body ends with the connection. uvicorn's server frames it in chunks, which only HTTP/1.1
    has, and lets no application say otherwise: hence the use of what is private there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Any = getattr(send, "__self__", None)
        framing = type(exchange).__module__ == "uvicorn.protocols.http.httptools_impl"
        unframed = False

        async def send_unframed(message: Message) -> None:
            nonlocal unframed
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if unframed := all(name.lower() != b"content-length" for name, _ in headers):
                    message = {**message, "headers": [*headers, (b"connection", b"close")]}
                    exchange.chunked_encoding = False
            elif unframed:
                exchange.expected_content_length = len(message.get("body", b""))
            await send(message)

        is_old = scope.get("http_version") == "1.0"
        await self._app(scope, receive, send_unframed if is_old and framing else send)


def middlewares() -> list[Middleware]:
    """Return what Serve puts around its HTTP proxy, the innermost first."""
    kinds = (HealthLane, ReadableHeaders, UnframedBodies, PacedDownloads)
    return [Middleware(kind) for kind in kinds]


def _is_fine(name: bytes, value: bytes) -> bool:
    if READ_BY_PROXY.fullmatch(name) is None:
        return True
    text = value.strip()
    return 0 < len(text) <= MAX_VALUE and all(0x20 <= byte < 0x7F for byte in text)
