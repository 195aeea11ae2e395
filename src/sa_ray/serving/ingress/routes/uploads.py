"""Uploads: audio that clients send to be edited."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.datastructures import UploadFile

from sa_ray.contracts import Upload, UploadView
from sa_ray.errors import (
    ConflictError,
    MalformedRequestError,
    OverloadedError,
    UnavailableError,
    UploadNotFoundError,
)
from sa_ray.serving.ingress.audit import audit
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.forms import PIECE_BYTES, opened_form, take_file
from sa_ray.serving.ingress.job_lookup import base_url
from sa_ray.serving.ingress.routes.generation import BODY_ERRORS
from sa_ray.serving.ingress.services import ServicesDep
from sa_ray.serving.ingress.uploads import ClientUploads, ReceivedFile
from sa_ray.serving.streamed_bodies import is_form

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

KINDS = (
    "application/octet-stream",
    *("audio/wav", "audio/flac", "audio/mpeg", "audio/ogg", "audio/aiff"),
)
FILE = {"type": "string", "format": "binary"}

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "WAV, FLAC, MP3, Ogg (Vorbis or Opus) or AIFF, found by content: mono or "
        "stereo, 8 to 192 kHz, no longer than the longest clip of any model.",
        "content": {
            **{kind: {"schema": FILE} for kind in KINDS},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"audio": FILE}, "required": ["audio"]}
            },
        },
    }
}

UploadId = Annotated[str, Path(description="The `id` that the upload was answered with.")]


@router.post(
    "",
    status_code=201,
    responses=responses(*BODY_ERRORS, OverloadedError, UnavailableError),
    openapi_extra=BODY,
)
async def upload(http: Request, response: Response, services: ServicesDep) -> UploadView:
    """Keep audio for a day (`STABLE_AUDIO_UPLOAD_TTL`), so that requests can name it by its `id`.

    The same file sent again is stored once, has the same `id`, and lives on as if it were new.
    """
    if is_form(http.scope):
        taken = await _take_part(http, services.uploads)
    else:
        with ReceivedFile(services.uploads.max_mb) as received:
            await _take_whole(http, received)
            taken = await services.uploads.take(received, caller_of(http))
    audit(http, "uploaded", caller_of(http).name, thing=taken.id)
    response.headers["Location"] = f"{base_url(http)}/v1/uploads/{taken.id}"
    return UploadView.of(taken)


@router.get("/{upload_id}", responses=responses(UploadNotFoundError, UnavailableError))
async def find_upload(upload_id: UploadId, services: ServicesDep, http: Request) -> UploadView:
    """What is known of an upload that has not expired."""
    return UploadView.of(await services.uploads.find(upload_id, caller_of(http)))


@router.delete(
    "/{upload_id}",
    status_code=204,
    responses=responses(UploadNotFoundError, ConflictError, UnavailableError),
)
async def delete_upload(upload_id: UploadId, services: ServicesDep, http: Request) -> None:
    """Delete an upload, unless a job that has not ended is made from it."""
    await services.uploads.remove(upload_id, caller_of(http))
    audit(http, "deleted", caller_of(http).name, thing=upload_id)


async def _take_whole(http: Request, received: ReceivedFile) -> None:
    piece = bytearray()
    async for chunk in http.stream():
        piece += chunk
        if len(piece) >= PIECE_BYTES:
            await asyncio.to_thread(received.write, bytes(piece))
            piece.clear()
    await asyncio.to_thread(received.write, bytes(piece))


async def _take_part(http: Request, uploads: ClientUploads) -> Upload:
    async with opened_form(http, max_fields=0) as form:
        parts = [part for part in form.values() if isinstance(part, UploadFile)]
        if not parts:
            raise MalformedRequestError("The form has no file. Send one part, the audio file.")
        return await take_file(parts[0], uploads, caller_of(http))
