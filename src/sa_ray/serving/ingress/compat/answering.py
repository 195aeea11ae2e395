"""Answer a request of another API by the route that makes a clip here."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ValidationError

from sa_ray.contracts import GenerationRequest
from sa_ray.errors import InvalidRequestError, SaRayError
from sa_ray.serving.ingress.compat.raw_audio import Raw, raw_audio
from sa_ray.serving.ingress.errors import describe_unfit
from sa_ray.serving.ingress.routes.generation import generate
from sa_ray.serving.ingress.services import Services

IGNORED: Final = "X-Ignored"
"""Header that names fields without effect, which clients cannot leave out."""

OF_THE_FILE: Final = ("content-length", "content-type", "content-disposition", "x-sample-rate")
"""Headers that are not true of what is made of a file."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a clip is delivered as: ``fields`` of our request, and what is made of that file."""

    fields: Mapping[str, Any]
    raw: Raw | None = None
    media_type: str | None = None
    """In place of our own."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of another API, said in ours."""

    fields: Mapping[str, Any]
    """Of our request; None stands for one that was left out."""
    output: Output
    names: Mapping[str, str] = field(default_factory=dict)
    """What the client calls fields of ours."""
    ignored: Sequence[str] = ()


def request_of(asked: Asked, body: type[GenerationRequest] = GenerationRequest) -> Any:
    """Return ``asked`` as a ``body``; raise ``InvalidRequestError`` by the client's names."""
    fields = {**asked.fields, **asked.output.fields}
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return body.model_validate(given)
    except ValidationError as error:
        raise describe_unfit(error, body, asked.names) from None


async def answer(asked: Asked, services: Services, http: Request) -> Response:
    """Make the clip and return it in the format asked for. Raises as ``generate`` does, by the
    client's names."""
    request = request_of(asked)
    try:
        made = await generate(request, services, http)
    except SaRayError as error:
        raise renamed(error, asked.names) from error
    response: Response = made
    if asked.output.raw:
        response = await _raw(made, asked.output.raw)
    if asked.output.media_type:
        response.headers["Content-Type"] = asked.output.media_type
    if asked.ignored:
        response.headers[IGNORED] = ", ".join(asked.ignored)
    return response


def renamed(error: SaRayError, names: Mapping[str, str]) -> SaRayError:
    """Return ``error`` with the field at fault as the client calls it."""
    ours = error.param
    theirs = names.get(ours) if ours else None
    if theirs is None or theirs == ours or not isinstance(error, InvalidRequestError):
        return error
    return InvalidRequestError(f"{theirs} ({ours} here): {error.message}", param=theirs)


def given(body: BaseModel, *names: str) -> list[str]:
    """Return those of ``names`` that the client sent, to be named as ``ignored``."""
    return [name for name in names if getattr(body, name) is not None]


async def body_of(made: Response) -> bytes:
    """Return what ``made`` would send."""
    if not isinstance(made, StreamingResponse):
        return bytes(made.body)
    pieces = [piece async for piece in made.body_iterator]
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


async def _raw(made: Response, raw: Raw) -> Response:
    data = await asyncio.to_thread(raw_audio, await body_of(made), raw)
    headers = {name: value for name, value in made.headers.items() if name not in OF_THE_FILE}
    headers |= {"X-Sample-Rate": str(raw.sample_rate), "X-Channels": str(raw.channels)}
    return Response(data, headers=headers)
