"""Guard the application: bound the body, require its type, answer bugs with a 500."""

import logging

from fastapi import Request
from ray.exceptions import TaskCancelledError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sa_ray.errors import SaRayError, UnsupportedMediaTypeError
from sa_ray.serving.ingress.errors import error_response, request_ids
from sa_ray.serving.request_bounds import (
    ClientLeftError,
    UnfinishedBodies,
    announces_body,
    replay,
)
from sa_ray.serving.streamed_bodies import (
    HEADER,
    RELEASE,
    StreamedBodies,
    is_streamed,
    telling,
)
from sa_ray.telemetry import log_context

logger = logging.getLogger(__name__)

FILE_TYPES = frozenset({"application/octet-stream", "application/ogg", "multipart/form-data"})
"""Types of bodies that are files, besides ``audio/*``."""


class Guard:
    """Middleware that bounds the body, requires JSON or a file, and answers bugs with a 500.

    What stands in front of Serve's proxy has bounded the body already, where it is there. A plain
    ASGI class: Starlette's ``BaseHTTPMiddleware`` hides client disconnects.
    """

    def __init__(self, app: ASGIApp, max_upload_mb: int) -> None:
        self._app = app
        self._bodies = UnfinishedBodies()
        self._files = StreamedBodies(max_upload_mb)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        receive = _with_disconnects(receive)
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        with log_context(**request_ids(request)):
            try:
                if is_streamed(scope):
                    await self._stream(request, receive, watch)
                    return
                if announces_body(request.method, scope["headers"], scope["path"]):
                    _check_type(request)
                    receive = replay(
                        await self._bodies.read(receive, request.method, scope["path"]), receive
                    )
                await self._app(scope, receive, watch)
            except ClientLeftError:
                return
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

    async def _stream(self, request: Request, receive: Receive, send: Send) -> None:
        _check_encoding(request)
        _check_file_type(request)
        with self._files.opened(request.scope, receive) as body:
            is_windowed = HEADER.decode() in request.headers
            receive = telling(body, send) if is_windowed else body.receive
            await self._app({**request.scope, RELEASE: body.release}, receive, send)


def _check_file_type(request: Request) -> None:
    kind = _type(request)
    if kind not in FILE_TYPES and not kind.startswith("audio/"):
        raise UnsupportedMediaTypeError(
            "The body must be an audio file: send it as it is, with the header `Content-Type: "
            "application/octet-stream` or its own (`audio/...`), or as the one part of "
            "`multipart/form-data`."
        )


def _check_type(request: Request) -> None:
    _check_encoding(request)
    if request.method == "POST" and _type(request) != "application/json":
        raise UnsupportedMediaTypeError(
            "The body must be JSON: send the header `Content-Type: application/json`."
        )


def _check_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaTypeError(
            f"The body is encoded ({encoding[:20]!r}), which is not taken here: send it as it is, "
            "without the header `Content-Encoding`."
        )


def _type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _with_disconnects(receive: Receive) -> Receive:
    async def receive_or_disconnect() -> Message:
        try:
            return await receive()
        except TaskCancelledError:  # Serve's way to say that the client has left
            return {"type": "http.disconnect"}

    return receive_or_disconnect
