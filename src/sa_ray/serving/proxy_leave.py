"""Connections of a proxy that Serve takes away."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASK_EVERY_S = 1.0
CLOSE = (b"connection", b"close")


class LastAnswers:
    """Middleware that ends a connection with its answer once the proxy is being drained.

    A client that keeps its connection would otherwise send its next request to a node that goes,
    and may find it cut. Serve's proxy tells of it at ``/-/healthz`` alone, which is asked at most
    once a second.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._ask_at = clock()
        self._serves = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and not await self._is_serving(receive):
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            await send(message)

        await self._app(scope, receive, send_last)

    async def _is_serving(self, receive: Receive) -> bool:
        if self._clock() >= self._ask_at:
            self._ask_at = self._clock() + ASK_EVERY_S

            async def note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._serves = message["status"] != 503

            scope = {"type": "http", "method": "GET", "path": "/-/healthz", "headers": []}
            await self._app(scope, receive, note)
        return self._serves
