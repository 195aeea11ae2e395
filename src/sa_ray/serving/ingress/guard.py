"""Guard the application: bound the body, require JSON, answer bugs with a 500."""

import logging

from fastapi import Request
from ray.exceptions import TaskCancelledError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.errors import PayloadTooLargeError, SaRayError, UnsupportedMediaTypeError
from sa_ray.serving.ingress.errors import error_response, request_id
from sa_ray.telemetry import log_context

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
"""Largest request body. The longest prompts, escaped, take about a tenth of it."""

MAX_LENGTH_DIGITS = 20
"""Most digits of a Content-Length that is read as a number: enough for any 64-bit size."""


class Guard:
    """Outermost middleware: bounds the body, requires JSON, and answers bugs with a 500.

    A plain ASGI class: Starlette's ``BaseHTTPMiddleware`` hides client disconnects.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        body = _BoundedBody(receive)
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            if body.overflowed and not started:
                return  # FastAPI takes any failure to read the body for a malformed one.
            started = started or message["type"] == "http.response.start"
            await send(message)

        with log_context(request_id=request_id(request)):
            try:
                _check_headers(request)
                await self._app(scope, body.receive, watch)
                if body.overflowed:
                    raise _too_large()
            except SaRayError as error:
                if started:
                    raise
                await error_response(error, request)(scope, receive, send)
            except Exception:
                logger.exception("%s %s failed", request.method, request.url.path)
                if started:
                    raise
                bug = SaRayError("An error in the service; its log has the request id.")
                await error_response(bug, request)(scope, receive, send)


def _check_headers(request: Request) -> None:
    length = request.headers.get("content-length", "0")
    # Python refuses to convert a text of thousands of digits to a number.
    if length.isdecimal() and (len(length) > MAX_LENGTH_DIGITS or int(length) > MAX_BODY_BYTES):
        raise _too_large()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    has_body = length not in ("", "0") or "transfer-encoding" in request.headers
    if has_body and encoding not in ("", "identity"):
        raise UnsupportedMediaTypeError(
            f"The body is encoded ({encoding[:20]!r}), which is not taken here: send it as it is, "
            "without the header `Content-Encoding`."
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and has_body and kind != "application/json":
        raise UnsupportedMediaTypeError(
            "The body must be JSON: send the header `Content-Type: application/json`."
        )


class _BoundedBody:
    """Counts a body as it comes: one that is sent in chunks announces no length."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self.overflowed = False

    async def receive(self) -> Message:
        try:
            message = await self._receive()
        except TaskCancelledError:  # Serve's way to say that the client has left
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > MAX_BODY_BYTES:
                self.overflowed = True
                raise _too_large()
        return message


def _too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body is larger than {MAX_BODY_BYTES} bytes. Send less.")
