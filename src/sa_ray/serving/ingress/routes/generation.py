"""Synchronous generation: the answer is the audio."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from sa_ray.contracts import MEDIA_TYPES, AudioInfo, GenerationRequest, ResolvedRequest
from sa_ray.errors import (
    InvalidRequestError,
    MalformedRequestError,
    OverloadedError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnavailableError,
    UnsupportedMediaTypeError,
)
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.forms import FORM, FormRoute
from sa_ray.serving.ingress.resolution import settle
from sa_ray.serving.ingress.services import ServicesDep
from sa_ray.serving.messages import EncodedAudio

router = APIRouter(tags=["generation"], route_class=FormRoute)

CHUNK_BYTES = 1 << 20

BODY_ERRORS = (
    MalformedRequestError,
    RequestTimeoutError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    InvalidRequestError,
)


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


AUDIO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, in the format asked for.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in MEDIA_TYPES.values()
        },
        "headers": {
            "X-Seed": _header("Seed of the clip.", "integer"),
            "X-Warning": _header("What is wrong with a clip without sound, and what to do."),
        },
    }
}


@router.post(
    "/v1/audio/generations",
    response_class=StreamingResponse,
    responses=AUDIO | responses(*BODY_ERRORS, OverloadedError, UnavailableError),
    openapi_extra=FORM,
)
@router.post(
    "/generate",
    response_class=StreamingResponse,
    responses=AUDIO | responses(*BODY_ERRORS, OverloadedError, UnavailableError),
    openapi_extra=FORM,
    summary="Alias of /v1/audio/generations",
)
async def generate(request: GenerationRequest, services: ServicesDep) -> StreamingResponse:
    """Generate one clip and answer with its bytes. Hanging up cancels the work."""
    resolved = await settle(request, services)
    encoded = await services.generation.generate(resolved)
    return StreamingResponse(
        _chunks(encoded.data),
        media_type=MEDIA_TYPES[resolved.format],
        headers=audio_headers(resolved, encoded),
    )


def audio_headers(request: ResolvedRequest, encoded: EncodedAudio) -> dict[str, str]:
    name = f"stable-audio-3-{request.model}.{request.format}"
    return clip_headers(request, encoded.info) | {
        "Content-Length": str(len(encoded.data)),
        "Content-Disposition": f'attachment; filename="{name}"',
    }


def clip_headers(request: ResolvedRequest, info: AudioInfo) -> dict[str, str]:
    """Return the headers that tell of a clip, whichever way it is asked for."""
    headers = {
        "X-Model": request.model,
        "X-Engine": info.engine,
        "X-Seed": str(info.seed_of(request)),
        "X-Sample-Rate": str(info.sample_rate),
        "X-Audio-Duration": f"{info.duration:.6f}",
    }
    return headers if info.warning is None else headers | {"X-Warning": info.warning}


async def _chunks(data: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
