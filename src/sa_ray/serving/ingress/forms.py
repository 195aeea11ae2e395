"""Forms with a file in them, in place of JSON that names an upload."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from sa_ray.contracts import Upload
from sa_ray.contracts.access import Caller
from sa_ray.errors import InvalidRequestError, MalformedRequestError, SaRayError
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.edits import SOURCE_FIELDS
from sa_ray.serving.ingress.services import of_this_replica
from sa_ray.serving.ingress.uploads import ClientUploads, ReceivedFile, no_room
from sa_ray.serving.request_bounds import MAX_BODY_BYTES, replay
from sa_ray.serving.streamed_bodies import RELEASE, is_streamed

REQUEST: Final = "request"
"""Part of a form that holds the request, as JSON."""

PIECE_BYTES: Final = 1 << 20
"""Written to disk at once."""

MAX_FIELDS: Final = 64

_CHARSET: Final = re.compile(r"charset\s*=\s*(?!\"?utf-?8\b)", re.IGNORECASE)
"""Matches one in which texts may come out as what no answer can hold."""

FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "description": "The request as JSON, and the file that it would name as an "
                    "upload, in a part of that field's name.",
                    "properties": {REQUEST: {"type": "string"}}
                    | {name: {"type": "string", "format": "binary"} for name in SOURCE_FIELDS},
                    "required": [REQUEST],
                }
            }
        }
    }
}
"""What to add to the OpenAPI operation of a ``FormRoute``."""


class FormRoute(APIRoute):
    """A route of a JSON body that takes a form in its place: see ``FORM``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_any(request: Request) -> Response:
            form = is_streamed(request.scope)
            return await handle(await _as_json(request) if form else request)

        return handle_any


@contextlib.asynccontextmanager
async def opened_form(request: Request, max_fields: int = MAX_FIELDS) -> AsyncIterator[FormData]:
    """Give the parts of the form that ``request`` is; its file lies on disk, without a name.

    Raises ``MalformedRequestError`` if it cannot be read, or has more than one file and
    ``max_fields`` others.
    """
    if _CHARSET.search(request.headers.get("content-type", "")):
        raise MalformedRequestError(
            "The form is announced in another charset: send it in UTF-8, and say nothing of it in "
            "`Content-Type`."
        )
    try:
        async with request.form(
            max_files=1, max_fields=max_fields, max_part_size=MAX_BODY_BYTES
        ) as form:
            yield form
    except UnicodeError as error:
        raise MalformedRequestError(
            "The form cannot be read: send it in UTF-8, without a charset in `Content-Type`."
        ) from error
    except HTTPException as error:
        others = f"at most {max_fields} fields of {MAX_BODY_BYTES} bytes each"
        raise MalformedRequestError(
            f"The form cannot be read ({error.detail}) Send one part, the audio file, and "
            f"{others if max_fields else 'nothing else'}."
        ) from error
    except OSError as error:
        raise no_room(error) from error
    finally:
        # What follows may take long, and nobody's file waits for it.
        request.scope.get(RELEASE, lambda: None)()


async def take_file(
    file: UploadFile, uploads: ClientUploads, caller: Caller, name: str = "audio"
) -> Upload:
    """Store the file of a form, from its part ``name``. Raises as ``ClientUploads.take`` does."""
    try:
        with ReceivedFile(uploads.max_mb) as received:
            while piece := await file.read(PIECE_BYTES):
                await asyncio.to_thread(received.write, piece)
            return await uploads.take(received, caller)
    except SaRayError as error:
        if error.param == "audio":
            error.param = name
        raise


async def _as_json(request: Request) -> Request:
    """Return the same request with a JSON body; the file is an upload from then on."""
    uploads = (await of_this_replica()).uploads
    async with opened_form(request) as form:
        told = form.get(REQUEST)
        try:
            body = json.loads(told) if isinstance(told, str) else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise MalformedRequestError(
                f"The form needs a part `{REQUEST}` that holds the request, one JSON object.",
                param=REQUEST,
            )
        for name, part in form.multi_items():
            if name == REQUEST:
                continue
            if name not in SOURCE_FIELDS or not isinstance(part, UploadFile):
                raise InvalidRequestError(
                    f"The form has a part {name[:80]!r}. Beside `{REQUEST}` it may have one file, "
                    f"in a part named {', '.join(SOURCE_FIELDS)}.",
                    param=name[:80],
                )
            if name in body:
                raise InvalidRequestError(
                    f"{name} is both in the request and a file of the form. Send one of them.",
                    param=name,
                )
            body[name] = (await take_file(part, uploads, caller_of(request), name)).id
    return _with_json(request, body)


def _with_json(request: Request, body: dict[str, Any]) -> Request:
    own = (b"content-type", b"content-length")
    headers = [(name, value) for name, value in request.scope["headers"] if name not in own]
    scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
    return Request(scope, replay(json.dumps(body).encode(), request.receive))
