"""The audio of a job: a redirect to the object store, or the bytes, whole or in part."""

import logging
import re
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from ray.exceptions import TaskCancelledError
from starlette.types import Send

from sa_ray.contracts import MAX_VARIATIONS, MEDIA_TYPES, Job, StoredClip, StoredObject
from sa_ray.contracts.access import NOBODY
from sa_ray.errors import (
    InvalidRequestError,
    JobGoneError,
    JobNotFoundError,
    JobNotReadyError,
    LinkExpiredError,
    ObjectElsewhereError,
    ObjectStoreError,
    OverloadedError,
    SaRayError,
)
from sa_ray.serving.actors import UploaderClient
from sa_ray.serving.ingress.auth import caller_of, no_caller
from sa_ray.serving.ingress.byte_range import ByteRange, RangeNotSatisfiableError, parse_range
from sa_ray.serving.ingress.clients import too_many
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.job_lookup import find_job, is_job_id
from sa_ray.serving.ingress.routes.generation import AUDIO, clip_headers
from sa_ray.serving.ingress.services import Services, ServicesDep
from sa_ray.serving.proxy_downloads import HEADER, NEXT, PIECE_BYTES, goes_on
from sa_ray.settings import LimitSettings
from sa_ray.storage import file_name

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/jobs", tags=["jobs"])

CHUNK_BYTES = PIECE_BYTES

RETRY_AFTER_S = 5

MAX_OVERDUE_S = 3600
"""Seconds after its expiry for which a signed link serves a download that has begun. The signature
is checked for each piece: whoever could forge the mark of a piece would gain this hour only."""

OTHERS = re.compile(rf"(\d{{1,9}}) (\d{{1,9}})(?:{NEXT})?", re.ASCII)
"""Matches what the proxy says of other downloads: in all, and to this client."""


class Download(StreamingResponse):
    """A body that breaks off where its source fails.

    It falls short of its ``Content-Length``, so the client notices; a retry can ask for the rest.
    """

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except SaRayError as error:
            # The answer has begun: neither a status nor a traceback would help anybody.
            if not isinstance(error.__cause__, TaskCancelledError):  # its client has left
                logger.warning("a download broke off: %s", error.message)


@router.get(
    "/{job_id}/audio",
    response_class=StreamingResponse,
    responses=AUDIO
    | {
        206: {"description": "The part asked for with `Range`."},
        302: {"description": "The audio is in the object store, at `Location`."},
        416: {"description": "The range lies outside the audio."},
    }
    | responses(
        LinkExpiredError,
        JobNotFoundError,
        JobNotReadyError,
        JobGoneError,
        InvalidRequestError,
        OverloadedError,
        ObjectStoreError,
    ),
)
async def download(
    job_id: str,
    services: ServicesDep,
    http: Request,
    index: Annotated[
        int, Query(ge=0, lt=MAX_VARIATIONS, description="Which of its files, from 0.")
    ] = 0,
    expires: Annotated[
        int | None, Query(ge=0, le=1 << 53, description="Of a signed link: Unix seconds.")
    ] = None,
    signature: Annotated[
        str | None,
        Query(max_length=64, description="Of a signed link, which needs no key: `download_url`."),
    ] = None,
    redirect: Annotated[
        bool,
        Query(
            description="False: the bytes come through the service also where the store has an "
            "address of its own, as web pages need them that its CORS does not let in."
        ),
    ] = True,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
    piece: Annotated[str, Header(alias=HEADER.decode(), include_in_schema=False)] = "",
) -> Response:
    """A file of a job that has succeeded; a redirect if the store has an address of its own."""
    link = (expires, signature)
    overdue_s = MAX_OVERDUE_S if goes_on(http.scope) else 0
    job = await _linked(services, job_id, index, link, overdue_s)
    if job is None:
        if caller_of(http) is NOBODY:
            raise no_caller()  # before the store is asked: nobody counts such requests
        job = (await find_job(services, http, job_id)).job
    clip = _clip(job, index)
    stored = clip.object
    try:
        if redirect and (url := await services.views.url(stored)):
            return RedirectResponse(url, status_code=302)
        others = OTHERS.fullmatch(piece)
        if others:
            _check_room(int(others[1]), int(others[2]), services.limits)
        size = await services.uploader.size(stored)
    except ObjectElsewhereError as error:
        logger.warning("the audio of job %s is elsewhere: %s", job_id, error.message)
        raise JobGoneError(error.public_message) from error
    if size is None:
        raise JobGoneError(f"The audio of job {job_id} is no longer in the store.")
    headers = _headers(job, clip, index)
    try:
        part = parse_range(range_header, size)
    except RangeNotSatisfiableError:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    if part:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    whole = part or ByteRange(0, size)
    headers["Content-Length"] = str(whole.length)
    # What stands in front of Serve's proxy asks for the rest once the client has taken this.
    sent = ByteRange(whole.start, min(whole.end, whole.start + PIECE_BYTES)) if others else whole
    return Download(
        _read(services.uploader, stored, sent),
        status_code=206 if part else 200,
        media_type=MEDIA_TYPES[job.request.format],
        headers=headers,
    )


async def _linked(
    services: Services,
    job_id: str,
    index: int,
    link: tuple[int | None, str | None],
    overdue_s: int,
) -> Job | None:
    """Return the job that a signed link is for; None if it is none.

    Raises ``LinkExpiredError``, and ``JobNotFoundError`` if the job has been deleted since.
    """
    expires, signature = link
    if expires is None or signature is None or not is_job_id(job_id):
        return None
    if not await services.links.allows(job_id, index, expires, signature, overdue_s):
        return None
    return (await services.read_job(job_id)).job


async def _read(
    uploader: UploaderClient, stored: StoredObject, part: ByteRange
) -> AsyncGenerator[bytes, None]:
    for start in range(part.start, part.end, CHUNK_BYTES):
        yield await uploader.read(stored, start, min(CHUNK_BYTES, part.end - start))


def _clip(job: Job, index: int) -> StoredClip:
    """Return the clip; raise ``JobNotReadyError`` or ``InvalidRequestError`` if there is none."""
    if job.result is None:
        raise _no_audio(job)
    clips = job.result.clips
    if index >= len(clips):
        raise InvalidRequestError(
            f"index is {index}, but the job has {len(clips)} of them: ask for "
            f"{f'0 to {len(clips) - 1}' if len(clips) > 1 else '0, or leave it out'}.",
            param="index",
        )
    return clips[index]


def _headers(job: Job, clip: StoredClip, index: int) -> dict[str, str]:
    name = file_name(job.id, job.request.format, index)
    return clip_headers(job.request, clip.audio) | {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}"',
        "ETag": f'"{clip.object.sha256}"',
    }


def _check_room(others: int, of_client: int, limits: LimitSettings) -> None:
    if of_client >= limits.max_open_per_client:
        raise too_many("downloads are under way", limits.max_open_per_client, RETRY_AFTER_S)
    if others >= limits.max_downloads:
        raise OverloadedError(
            f"{limits.max_downloads} downloads are under way here already, the limit that "
            f"STABLE_AUDIO_MAX_DOWNLOADS sets. Try again in {RETRY_AFTER_S} seconds.",
            retry_after_s=RETRY_AFTER_S,
        )


def _no_audio(job: Job) -> JobNotReadyError:
    match job.status:
        case "failed":
            reason = job.error.message if job.error else "no reason was recorded"
            return JobNotReadyError(f"Job {job.id} failed: {reason}")
        case "cancelled":
            return JobNotReadyError(f"Job {job.id} was cancelled.")
        case status:
            return JobNotReadyError(
                f"Job {job.id} is {status}. Poll /jobs/{job.id} until it has succeeded.",
                retry_after_s=1,
            )
