"""What plain HTTP clients and proxies in front expect of any server: HEAD, and URLs that work."""

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.lowlevel
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = re.compile(r"(/[\w~-][\w.~-]*)+", re.ASCII)
"""Matches an ``X-Forwarded-Prefix`` that is taken: plain segments, so that it is no other host."""

MAX_PREFIX = 200
"""Characters."""


class Edge:
    """Middleware that answers HEAD as GET without the body, and builds URLs on the public one.

    Without a public URL, they are under the prefix that ``X-Forwarded-Prefix`` names.
    """

    def __init__(self, app: ASGIApp, public_url: str | None = None) -> None:
        self._app = app
        self._public = urlsplit(public_url) if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        changes = _prefixed(scope) if self._public is None else _published(scope, self._public)
        scope = {**scope, **changes}
        if scope["method"] == "HEAD":
            await self._answer_head({**scope, "method": "GET"}, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as rest:

            async def send_head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body", "body": b""})
                    # What makes the body may go on for long, as a stream of events does.
                    rest.cancel()
                    await anyio.lowlevel.checkpoint()

            await self._app(scope, receive, send_head)


def _prefixed(scope: Scope) -> dict[str, Any]:
    prefix = Request(scope).headers.get("x-forwarded-prefix", "").rstrip("/")
    if len(prefix) > MAX_PREFIX or not PREFIX.fullmatch(prefix):
        return {}
    path: str = scope["path"]
    # A path includes the root path that it is under.
    return {
        "root_path": prefix + scope.get("root_path", ""),
        "path": prefix + path,
        "raw_path": prefix.encode() + (scope.get("raw_path") or path.encode()),
    }


def _published(scope: Scope, public: SplitResult) -> dict[str, Any]:
    """Return what makes of ``scope`` a request to ``public``, whatever its headers say."""
    under = len(scope.get("root_path", ""))
    path: str = scope["path"]
    raw_path: bytes = scope.get("raw_path") or path.encode()
    host = public.netloc.rpartition("@")[2].encode()
    others = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        "scheme": public.scheme,
        "headers": [(b"host", host), *others],
        "root_path": public.path,
        "path": public.path + path[under:],
        "raw_path": public.path.encode() + raw_path[under:],
    }
