"""Answers to Stability's clients: bytes, or base64 in JSON, as ``Accept`` says."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from typing import Final, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from sa_ray.contracts import FINAL_STATUSES, MEDIA_TYPES, Job, StoredClip
from sa_ray.errors import GenerationError, JobGoneError
from sa_ray.serving.actors import UploaderClient
from sa_ray.serving.ingress.compat.answering import OF_THE_FILE, body_of
from sa_ray.serving.ingress.routes.generation import CHUNK_BYTES, clip_headers

RETRY_AFTER: Final = "1"
"""Seconds after which to ask for a result again."""

_SUCCESS: Final = "SUCCESS"


class StabilityAudio(BaseModel):
    audio: str
    """Base64."""
    finish_reason: Literal["SUCCESS"]
    seed: int


class StabilityProgress(BaseModel):
    id: str
    status: Literal["in-progress"]


async def made_sync(made: Response, http: Request) -> Response:
    """Return the clip ``made`` as Stability's clients take it."""
    made.headers["seed"] = made.headers["X-Seed"]
    made.headers["finish-reason"] = _SUCCESS
    if not _wants_json(http):
        return made
    return await asyncio.to_thread(_as_json, await body_of(made), made)


async def result_of(job: Job, result_id: str, uploader: UploaderClient, http: Request) -> Response:
    """Return the audio of ``job``, or how it fares.

    Raises ``GenerationError`` if it has failed and ``JobGoneError`` if there is nothing to have.
    """
    if job.status not in FINAL_STATUSES:
        progress = StabilityProgress(id=result_id, status="in-progress")
        return JSONResponse(progress.model_dump(), 202, headers={"Retry-After": RETRY_AFTER})
    if job.status == "failed":
        reason = job.error.message if job.error else "no reason was recorded"
        raise GenerationError(f"The generation failed: {reason}")
    if job.result is None:
        raise JobGoneError("The generation was cancelled.")
    clip = job.result.clips[0]
    size = await uploader.size(clip.object)
    if size is None:
        raise JobGoneError("The audio is no longer in the store.")
    headers = clip_headers(job.request, clip.audio) | {"Content-Length": str(size)}
    made = StreamingResponse(
        _read(uploader, clip, size), media_type=MEDIA_TYPES[job.request.format], headers=headers
    )
    return await made_sync(made, http)


async def _read(
    uploader: UploaderClient, clip: StoredClip, size: int
) -> AsyncGenerator[bytes, None]:
    for start in range(0, size, CHUNK_BYTES):
        yield await uploader.read(clip.object, start, min(CHUNK_BYTES, size - start))


def _wants_json(http: Request) -> bool:
    accepted = http.headers.get("accept", "*/*").lower()
    return "application/json" in accepted and "audio/" not in accepted


def _as_json(data: bytes, made: Response) -> Response:
    headers = {name: value for name, value in made.headers.items() if name not in OF_THE_FILE}
    told = StabilityAudio(
        audio=base64.b64encode(data).decode(),
        finish_reason="SUCCESS",
        seed=int(made.headers["seed"]),
    )
    return JSONResponse(told.model_dump(), headers=headers)
