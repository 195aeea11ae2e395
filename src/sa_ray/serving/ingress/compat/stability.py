"""Stability's REST API: Stable Audio 2 answers with the audio, Stable Audio 3 by a job."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from sa_ray.contracts import ErrorBody, JobRequest, VariantName
from sa_ray.errors import JobNotFoundError, OverloadedError, SaRayError, UnavailableError
from sa_ray.serving.ingress.compat.answering import Asked, answer, renamed, request_of
from sa_ray.serving.ingress.compat.formats import Format, audio_of, documented, paths
from sa_ray.serving.ingress.compat.stability_answers import (
    RETRY_AFTER,
    StabilityAudio,
    StabilityProgress,
    made_sync,
    result_of,
)
from sa_ray.serving.ingress.compat.stability_forms import FORM, Mode, asked_by
from sa_ray.serving.ingress.errors import ErrorShape
from sa_ray.serving.ingress.job_lookup import find_job
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS
from sa_ray.serving.ingress.routes.job_submits import submit
from sa_ray.serving.ingress.services import ServicesDep

router = APIRouter(prefix="/v2beta/audio", tags=["stability"])

MODELS: Final[Mapping[str, VariantName | None]] = MappingProxyType({"stable-audio-3": "medium"})
MODELS_2: Final[Mapping[str, VariantName | None]] = MappingProxyType(
    {"stable-audio-2": "medium", "stable-audio-2.5": "medium"}
)
"""Names of theirs, and what they stand for; left out, it is ``medium`` too."""


class StabilityError(BaseModel):
    id: str
    name: str
    errors: list[str]


class StabilityAccepted(BaseModel):
    id: str


def _status(ours: int) -> int:
    """Theirs have 400 for fields that are not taken."""
    return 400 if ours == 422 else ours


def write_error(error: ErrorBody, status: int) -> StabilityError:
    """Return ``error`` in Stability's shape."""
    names = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 429: "rate_limit_exceeded"}
    name = names.get(status, "internal_error" if status >= 500 else error.code)
    return StabilityError(id=error.request_id, name=name, errors=[error.message])


ERRORS: Final = ErrorShape(
    paths("/v2beta/audio/(?:stable-audio(?:-2)?|results)(?:/.*)?"), _status, write_error
)

FORMAT: Final = Format(router, ERRORS)

REFUSALS: Final = documented(
    ERRORS, StabilityError, *BODY_ERRORS, OverloadedError, UnavailableError
)


def _audio() -> dict[int | str, dict[str, Any]]:
    described = audio_of()
    described[200]["model"] = StabilityAudio
    return described


@router.post(
    "/stable-audio-2/{mode}",
    response_class=StreamingResponse,
    responses=_audio() | REFUSALS,
    openapi_extra=FORM,
)
async def make(mode: Mode, services: ServicesDep, http: Request) -> Response:
    """Make a clip for a client of Stable Audio 2. `Accept: application/json`: in base64."""
    asked = await asked_by(http, mode, services.uploads, MODELS_2)
    return await made_sync(await answer(asked, services, http), http)


@router.post("/stable-audio/{mode}", status_code=202, responses=REFUSALS, openapi_extra=FORM)
async def begin(
    mode: Mode, services: ServicesDep, http: Request, response: Response
) -> StabilityAccepted:
    """Accept a job for a client of Stable Audio 3."""
    asked: Asked = await asked_by(http, mode, services.uploads, MODELS)
    try:
        accepted = await submit(request_of(asked, JobRequest), services, http, response)
    except SaRayError as error:
        raise renamed(error, asked.names) from error
    response.headers["Retry-After"] = RETRY_AFTER
    return StabilityAccepted(id=accepted.id * 2)  # clients expect 64 hexadecimal digits


@router.get(
    "/results/{result_id}",
    response_class=StreamingResponse,
    responses=_audio()
    | {202: {"model": StabilityProgress, "description": "It has not ended."}}
    | documented(ERRORS, StabilityError, JobNotFoundError, OverloadedError, UnavailableError),
)
async def result(result_id: str, services: ServicesDep, http: Request) -> Response:
    """Answer with the audio of a job, or 202 until it has ended."""
    half = len(result_id) // 2
    if result_id[:half] != result_id[half:]:
        raise JobNotFoundError("No such generation: an id is what its POST answered.")
    snapshot = await find_job(services, http, result_id[:half])
    return await result_of(snapshot.job, result_id, services.uploader, http)
