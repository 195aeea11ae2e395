"""What plain HTTP clients and proxies in front expect of any server: HEAD, and a path prefix."""

import re
from typing import Any

import anyio
import anyio.lowlevel
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = re.compile(r"(/[\w~-][\w.~-]*)+", re.ASCII)
"""Matches an ``X-Forwarded-Prefix`` that is taken: plain segments, so that it is no other host."""

MAX_PREFIX = 200
"""Characters."""


class Edge:
    """Middleware that answers HEAD as GET without the body, and puts URLs under the prefix that
    ``X-Forwarded-Prefix`` names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, **_prefixed(scope)}
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
