"""Routes of the Stable Audio API server's line that take audio in a form.

Fields: those of its ``/v1/audio/variations`` and ``/v1/audio/inpaint``. A field of ours that theirs
do not have may be given too, as text.
"""

import contextlib
import json
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from sa_ray.contracts import GenerationRequest, JobAccepted, JobRequest
from sa_ray.contracts.access import Caller
from sa_ray.errors import (
    IdempotencyConflictError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
)
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import describe_unfit, responses
from sa_ray.serving.ingress.forms import opened_form, take_file
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS, FILES, generate
from sa_ray.serving.ingress.routes.job_submits import IdempotencyKey, submit
from sa_ray.serving.ingress.services import ServicesDep
from sa_ray.serving.ingress.uploads import ClientUploads
from sa_ray.serving.streamed_bodies import is_form

router = APIRouter(tags=["forms"])

R = TypeVar("R", bound=GenerationRequest)

AUDIO_FIELD: Final = "audio"

STARTS: Final = "inpaint_start_seconds"
ENDS: Final = "inpaint_end_seconds"

THEIR_NAMES: Final = {"batch_size": "n"}
"""Fields of theirs, and what they are called here."""

NUMBERS: Final = ("sample_rate", "channels", "bit_depth")
"""Fields of which only some numbers are allowed, which texts do not stand for."""

LISTS: Final = ("loras",)
"""Fields that are JSON in a text."""

WITHOUT_EFFECT: Final = ("duration_padding_sec",)
"""Fields that are taken and change nothing: the engine pads each clip as the model asks for."""

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_SHARED: Final[dict[str, Any]] = {
    AUDIO_FIELD: {"type": "string", "format": "binary"},
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "model": _TEXT,
    "duration": _NUMBER,
    "steps": _NUMBER,
    "cfg_scale": _NUMBER,
    "apg_scale": _NUMBER,
    "seed": _NUMBER,
    "loras": {"type": "string", "description": "A JSON list."},
    "format": _TEXT,
    "batch_size": _NUMBER,
    "duration_padding_sec": _NUMBER,
}
_PLACES: Final = {"type": "string", "description": "Seconds: a number, or a JSON list of them."}


def _form(**own: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": _SHARED | own,
        "required": [AUDIO_FIELD, "prompt"],
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


VARIATIONS: Final = _form(init_noise_level=_NUMBER)
INPAINT: Final = _form(**{STARTS: _PLACES, ENDS: _PLACES})

SYNC_ERRORS = responses(*BODY_ERRORS, OverloadedError, UnavailableError)
JOB_ERRORS = responses(*BODY_ERRORS, IdempotencyConflictError, OverloadedError, UnavailableError)


@router.post(
    "/v1/audio/variations",
    response_class=StreamingResponse,
    responses=FILES | SYNC_ERRORS,
    openapi_extra=VARIATIONS,
)
async def variations(http: Request, services: ServicesDep) -> Response:
    """Make a clip from the audio of a form: `init_audio` in `/v1/audio/generations`."""
    return await generate(
        await _variation(http, GenerationRequest, services.uploads), services, http
    )


@router.post(
    "/v1/audio/inpaint",
    response_class=StreamingResponse,
    responses=FILES | SYNC_ERRORS,
    openapi_extra=INPAINT,
)
async def inpaint(http: Request, services: ServicesDep) -> Response:
    """Make parts of a form's audio anew: `inpaint_audio` in `/v1/audio/generations`."""
    return await generate(
        await _inpainting(http, GenerationRequest, services.uploads), services, http
    )


@router.post("/jobs/variations", status_code=202, responses=JOB_ERRORS, openapi_extra=VARIATIONS)
async def submit_variations(
    http: Request,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobAccepted:
    """Do as `/v1/audio/variations` does, in a job."""
    request = await _variation(http, JobRequest, services.uploads)
    return await submit(request, services, http, response, idempotency_key)


@router.post("/jobs/inpaint", status_code=202, responses=JOB_ERRORS, openapi_extra=INPAINT)
async def submit_inpaint(
    http: Request,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobAccepted:
    """Do as `/v1/audio/inpaint` does, in a job."""
    request = await _inpainting(http, JobRequest, services.uploads)
    return await submit(request, services, http, response, idempotency_key)


async def _variation(http: Request, body: type[R], uploads: ClientUploads) -> R:
    async with opened_form(_required_form(http)) as form:
        fields = _fields(form)
        return _checked(
            body, fields | {"init_audio": await _upload(form, uploads, caller_of(http))}
        )


async def _inpainting(http: Request, body: type[R], uploads: ClientUploads) -> R:
    async with opened_form(_required_form(http)) as form:
        fields = _fields(form)
        starts, ends = (_places(fields, name) for name in (STARTS, ENDS))
        if len(starts) != len(ends):
            raise InvalidRequestError(
                f"{ENDS}: it has {len(ends)} times, but {STARTS} has {len(starts)}. Give each "
                "stretch a start and an end.",
                param=ENDS,
            )
        pairs = zip(starts, ends, strict=True)
        fields["regions"] = [{"start": start, "end": end} for start, end in pairs]
        return _checked(
            body, fields | {"inpaint_audio": await _upload(form, uploads, caller_of(http))}
        )


def _required_form(http: Request) -> Request:
    if not is_form(http.scope):
        raise InvalidRequestError(
            "The body must be a form with the audio in it: `Content-Type: multipart/form-data`. "
            "JSON, with the id of an upload, goes to /v1/audio/generations or /jobs.",
            param=AUDIO_FIELD,
        )
    return http


def _fields(form: FormData) -> dict[str, Any]:
    """Return the text fields by our names. Browsers send a field that was left blank, too."""
    given = {name: value for name, value in form.items() if isinstance(value, str) and value}
    for name in WITHOUT_EFFECT:
        given.pop(name, None)
    fields: dict[str, Any] = dict(given)
    for theirs, ours in THEIR_NAMES.items():
        if theirs in fields:
            fields[ours] = fields.pop(theirs)
    for name in NUMBERS:
        if fields.get(name, "").isdecimal():
            fields[name] = int(fields[name])
    for name in LISTS:
        if name in fields:
            fields[name] = _listed(name, fields[name])
    return fields


def _listed(name: str, text: str) -> list[Any]:
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(text)
        if isinstance(told, list):
            return told
    raise InvalidRequestError(f"{name} must be a JSON list, as in a JSON request.", param=name)


def _places(fields: dict[str, Any], name: str) -> list[float]:
    try:
        told = json.loads(fields.pop(name))
        return [float(place) for place in (told if isinstance(told, list) else [told])]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise InvalidRequestError(
            f"{name} must be a number of seconds, or a JSON list of them, such as [1.5, 4].",
            param=name,
        ) from None


async def _upload(form: FormData, uploads: ClientUploads, caller: Caller) -> str:
    file = form.get(AUDIO_FIELD)
    if not isinstance(file, UploadFile):
        raise InvalidRequestError(
            f"{AUDIO_FIELD} is missing: send the audio file in the part of that name.",
            param=AUDIO_FIELD,
        )
    return (await take_file(file, uploads, caller)).id


def _checked(body: type[R], fields: dict[str, Any]) -> R:
    """Return the request that the texts of a form stand for."""
    try:
        return body.model_validate(fields, strict=False)
    except ValidationError as error:
        names = {ours: theirs for theirs, ours in THEIR_NAMES.items()} | {"regions": STARTS}
        raise describe_unfit(error, body, names) from None
