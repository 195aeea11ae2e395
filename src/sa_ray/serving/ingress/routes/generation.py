"""Synchronous generation: the answer is the audio."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

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
from sa_ray.serving.ingress.audit import audit
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.forms import FORM, FormRoute
from sa_ray.serving.ingress.packing import MULTIPART, ZIP, in_parts, zipped
from sa_ray.serving.ingress.quotas import require_audio
from sa_ray.serving.ingress.resolution import settle
from sa_ray.serving.ingress.rights import require_rights
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
            "X-Seed": _header("Seed of the clip; of several, of the first.", "integer"),
            "Server-Timing": _header("Milliseconds of `queue`, `engine`, `encode` and `total`."),
            "X-Warning": _header("What is wrong with clips without sound, and what to do."),
        },
    }
}


FILES: dict[int | str, dict[str, Any]] = {
    200: AUDIO[200]
    | {
        "description": "The audio, in the format asked for; of several clips a zip of the files "
        "and `manifest.json`, or the same in parts if `Accept` names `multipart/mixed`.",
        "content": AUDIO[200]["content"]
        | {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (ZIP, MULTIPART)},
    }
}


@router.post(
    "/v1/audio/generations",
    response_class=StreamingResponse,
    responses=FILES | responses(*BODY_ERRORS, OverloadedError, UnavailableError),
    openapi_extra=FORM,
)
@router.post(
    "/generate",
    response_class=StreamingResponse,
    responses=FILES | responses(*BODY_ERRORS, OverloadedError, UnavailableError),
    openapi_extra=FORM,
    summary="Alias of /v1/audio/generations",
)
async def generate(request: GenerationRequest, services: ServicesDep, http: Request) -> Response:
    """Generate one clip, or `n`, and answer with its bytes. Hanging up cancels the work."""
    started = time.monotonic()
    caller = caller_of(http)
    resolved = await settle(request, services, caller)
    require_rights(caller, request, resolved.model)
    await require_audio(services, caller, resolved)
    began = time.monotonic()
    clips = await services.generation.generate(resolved, caller.name)
    called = time.monotonic() - began
    audit(http, "generated", caller.name)
    if resolved.n > 1:
        answer: Response = await _several(resolved, clips, http.headers.get("accept", ""))
    else:
        [encoded] = clips
        # In one message: the clip is here as a whole, and pieces of it would be copies.
        answer = Response(
            encoded.data,
            media_type=MEDIA_TYPES[resolved.format],
            headers=audio_headers(resolved, encoded),
        )
    answer.headers["Server-Timing"] = _timing(clips, called, time.monotonic() - started)
    return answer


def _timing(clips: Sequence[EncodedAudio], called: float, total: float) -> str:
    """Return a ``Server-Timing`` of the W3C; of several clips, the slowest says how long.

    ``called``: seconds of the call of the variant; ``total``: of the request.
    """
    engine = max(clip.info.generation_seconds for clip in clips)
    encode = max(clip.encode_seconds for clip in clips)
    seconds = {
        "queue": max(0.0, called - engine - encode),
        "engine": engine,
        "encode": encode,
        "total": total,
    }
    return ", ".join(f"{name};dur={1000 * value:.1f}" for name, value in seconds.items())


async def _several(
    request: ResolvedRequest, clips: Sequence[EncodedAudio], accepted: str
) -> StreamingResponse:
    pack = in_parts if MULTIPART in accepted.lower() else zipped
    packed = await asyncio.to_thread(pack, request, clips)  # digests take time
    headers = clip_headers(request, clips[0].info) | {"Content-Length": str(packed.length)}
    warnings = [clip.info.warning for clip in clips if clip.info.warning]
    if warnings:
        headers["X-Warning"] = " ".join(warnings)
    if pack is zipped:
        name = f"stable-audio-3-{request.model}.zip"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return StreamingResponse(_chunks(packed.pieces), media_type=packed.media_type, headers=headers)


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


async def _chunks(
    pieces: Sequence[bytes],
) -> AsyncGenerator[bytes, None]:
    for data in pieces:
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]
