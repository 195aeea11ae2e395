"""What stands in front of Serve's HTTP server, so that no client holds or leads it by itself.

Serve calls ``middlewares`` in each proxy, and in each ingress replica that HAProxy hands requests
to, where ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names it. It imports next to nothing.
"""

import contextlib
import logging
import os
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.errors import (
    OverloadedError,
    RequestTimeoutError,
    SaRayError,
)
from sa_ray.serving import haproxy
from sa_ray.serving.haproxy_rules import NOT_DEPLOYED, RETRY_AFTER_S, SERVICE_LOST, unavailable
from sa_ray.serving.metrics import REFUSALS
from sa_ray.serving.proxy_downloads import PacedDownloads
from sa_ray.serving.proxy_health import HealthLane
from sa_ray.serving.proxy_leave import LastAnswers
from sa_ray.serving.request_bounds import (
    CLIENT_ID,
    ClientLeftError,
    UnfinishedBodies,
    announces_body,
    error_messages,
    is_sound_id,
    new_id,
    replay,
)
from sa_ray.serving.streamed_bodies import HEADER, StreamedBodies, Window, is_streamed

logger = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"

FOR_SERVE = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"x-session-id",
        b"serve-multiplexed-model-id",
    }
)
"""Headers by which a client could tell Serve how to treat its request: cut it off, go on without
it, choose a replica. Serve decodes them as UTF-8 besides, and a failure is a bare 500."""

TRACING = frozenset({b"traceparent", b"tracestate"})


class OwnHeaders:
    """Middleware that drops what would lead Serve, and gives each request an id of ours.

    The ``X-Request-Id`` that a client sent goes on as ``X-Client-Request-Id`` if it is sound.
    ``send`` is left as it is: those inside look for the connection behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "headers" not in scope:
            await self._app(scope, receive, send)
            return
        given = [value.strip() for name, value in scope["headers"] if name == REQUEST_ID]
        beside = [(CLIENT_ID, value) for value in given if is_sound_id(value.decode("latin-1"))][:1]
        kept = [(name, value) for name, value in scope["headers"] if _is_for_us(name, value)]
        own = [(REQUEST_ID, new_id().encode())]
        await self._app({**scope, "headers": [*kept, *own, *beside]}, receive, send)


class BoundedBodies:
    """Middleware that reads a request's body, bounded in size and time, before it goes on.

    Those that are files go on as they come.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._bodies = UnfinishedBodies()
        self._streamed = StreamedBodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_streamed(scope):
            await self._stream(scope, receive, send)
        elif scope["type"] == "http" and announces_body(
            scope["method"], scope["headers"], scope["path"]
        ):
            with contextlib.suppress(ClientLeftError):
                # Under no name here, so that it is not kept once it has gone on.
                again = replay(
                    await self._bodies.read(receive, scope["method"], scope["path"]), receive
                )
                await self._app(scope, again, send)
        else:
            await self._app(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = [(name, value) for name, value in scope["headers"] if name != HEADER]
        with self._streamed.opened(scope, receive) as body:
            window = Window(body, send)
            scope = {**scope, "headers": [*kept, (HEADER, b"1")]}
            await self._app(scope, window.receive, window.send)
        if isinstance(window.error, SaRayError):
            raise window.error


class OwnErrors:
    """Middleware that gives errors of Serve and of what is in front of it the shape of all others.

    Serve answers in plain text, and not at all for a replica that was lost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(dict(scope["headers"]), send)
        try:
            await self._app(scope, receive, answer.send)
        except SaRayError as error:
            await answer.fail(error)
        except Exception:
            logger.exception("Serve's proxy failed")
            if answer.started:
                raise
            await answer.fail(SaRayError("An error in the service; its log says more."))
        else:
            await answer.fail(SERVICE_LOST)


class _Answer:
    def __init__(self, headers: dict[bytes, bytes], send: Send) -> None:
        self._request_id = headers[REQUEST_ID].decode()
        self._beside = [(CLIENT_ID, headers[CLIENT_ID])] if CLIENT_ID in headers else []
        self._send = send
        self._replaced = False
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and (error := _own_error(message)):
            await self.fail(error)
            self._replaced = True
        elif not self._replaced:
            self.started = True
            await self._pass_on(message)

    async def fail(self, error: SaRayError) -> None:
        """Answer with ``error``, unless there is an answer."""
        if not self.started:
            self.started = True
            REFUSALS.add(code=error.code, status=str(error.status))
            for message in error_messages(error, self._request_id):
                await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *self._beside]}
        await self._send(message)


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
    """Return what Serve puts around its HTTP proxy, outermost last.

    Called before the proxy's server is made, whose connections it bounds too.
    """
    with contextlib.suppress(ImportError):  # without httptools, uvicorn's other parser has bounds
        from sa_ray.serving import http_connections

        http_connections.install()
    inside = (LastAnswers, HealthLane, BoundedBodies)
    outside = (OwnErrors, UnframedBodies, PacedDownloads, OwnHeaders)
    own = [Middleware(kind) for kind in (*inside, *outside)]
    if haproxy.is_ours(os.environ):
        from sa_ray.serving.haproxy_peer import BehindHAProxy

        own.append(Middleware(BehindHAProxy))
    return own


def _is_for_us(name: bytes, value: bytes) -> bool:
    if name in TRACING:
        return value.isascii()
    return name not in (REQUEST_ID, CLIENT_ID) and name.replace(b"_", b"-") not in FOR_SERVE


def _own_error(start: Message) -> SaRayError | None:
    """Return the error that stands for one of Serve, which it tells in plain text."""
    headers = {name.lower(): value for name, value in start["headers"]}
    if start["status"] < 400 or not headers.get(b"content-type", b"").startswith(b"text/plain"):
        return None
    told = headers.get(b"retry-after", b"")
    wait = int(told) if told.isdigit() else RETRY_AFTER_S
    match start["status"]:
        case 404:
            return NOT_DEPLOYED
        case 408:
            return RequestTimeoutError("This took longer than requests may take in this cluster.")
        case 429:
            return OverloadedError(
                f"Too many requests wait for the service. Try again in {wait} s.",
                retry_after_s=wait,
            )
        case 503:
            return unavailable(wait)
        case status if status < 500:  # the service's own, to a page that asks what it may do
            return None
    return SaRayError("An error of Ray Serve; its log says more.")
