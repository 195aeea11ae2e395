"""A lane of its own for ``/health``, within Serve's HTTP proxy.

Whatever fills the slots of the ingress, those who ask how the service fares hear it: the proxy
asks at most once a second for all of them, and keeps the last answer for a while.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.serving.client_address import is_local
from sa_ray.serving.request_bounds import new_id, replay

logger = logging.getLogger(__name__)

PATH = "/health"

FRESH_S = 1.0
"""Seconds for which an answer is given to others too; ``/health`` is gathered once a second."""

PATIENCE_S = 0.3
STALE_S = 15.0
"""Seconds for which the last answer stands in for one that takes longer than ``PATIENCE_S``; not
for ever, as a service that is gone would seem to be there."""

ASK_S = 10.0

FOR_THE_SERVICE = frozenset({b"origin", b"authorization", b"xi-api-key"})
"""Headers by which the answer to one client may be another than that to all."""

MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    headers: list[tuple[bytes, bytes]]
    body: bytes


class HealthLane:
    """Middleware that answers strangers' GET and HEAD of ``/health`` from memory while it is fresh.

    Requests from this machine or with a key, which may be told more, go on to the service; so do
    those of web pages, of which it knows which may read the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._app = app
        self._clock = clock
        self._patience_s = patience_s
        self._last: _Answer | None = None
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_strangers_health(scope):
            await self._app(scope, receive, send)
        elif answer := await self._answer(scope):
            told = next((one for one in scope["headers"] if one[0] == b"x-request-id"), None)
            request_id = told or (b"x-request-id", new_id().encode())
            headers = [*answer.headers, request_id]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope) -> _Answer | None:
        if self._age() > FRESH_S:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(scope))
            await asyncio.wait({self._asking}, timeout=self._patience_s)
        return self._last if self._age() <= STALE_S else None

    def _age(self) -> float:
        return float("inf") if self._last is None else self._clock() - self._last.at

    async def _ask(self, scope: Scope) -> None:
        """Ask as a stranger, for all of them. Any answer but 200 with JSON is forgotten."""
        try:
            async with asyncio.timeout(ASK_S):
                messages = await self._messages(scope)
        except TimeoutError:
            return
        except Exception:
            logger.exception("asking for the health failed")
            messages = []
        self._last = self._answer_in(messages)

    async def _messages(self, scope: Scope) -> list[Message]:
        messages: list[Message] = []

        async def nothing_more() -> Message:
            never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            return await never

        async def take(message: Message) -> None:
            messages.append(message)

        # Without ``Host``: one that the service refuses would be refused for all others too.
        asked_for_all = {**scope, "method": "GET", "client": None, "headers": []}
        await self._app(asked_for_all, replay(b"", nothing_more), take)
        return messages

    def _answer_in(self, messages: list[Message]) -> _Answer | None:
        if not messages or messages[0]["status"] != 200:
            return None
        body = b"".join(message.get("body", b"") for message in messages[1:])
        named = [(name.lower(), value) for name, value in messages[0]["headers"]]
        if (b"content-type", b"application/json") not in named or len(body) > MAX_BYTES:
            return None
        headers = [one for one in named if one[0] != b"x-request-id"]
        return _Answer(self._clock(), headers, body)


def _is_strangers_health(scope: Scope) -> bool:
    asks = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] == PATH
    told = any(name in FOR_THE_SERVICE for name, _ in scope["headers"])
    return asks and not told and not is_local(scope)
