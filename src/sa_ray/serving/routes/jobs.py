"""Jobs: accepted at once, durable, polled or listed, downloaded when they have succeeded."""

import base64
import binascii
import contextlib
import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from sa_ray.contracts import (
    FINAL_STATUSES,
    JOB_ID_PATTERN,
    MEDIA_TYPES,
    GenerationRequest,
    Job,
    JobAccepted,
    JobPage,
    JobView,
)
from sa_ray.errors import (
    ConflictError,
    InvalidRequestError,
    JobGoneError,
    JobNotFoundError,
    JobNotReadyError,
    OverloadedError,
    StorageError,
    UnavailableError,
)
from sa_ray.jobs import Cursor, JobSnapshot
from sa_ray.serving.byte_range import ByteRange, RangeNotSatisfiableError, parse_range
from sa_ray.serving.http_errors import responses
from sa_ray.serving.resolution import resolve
from sa_ray.serving.routes.generation import AUDIO, BODY_ERRORS
from sa_ray.serving.services import Services, ServicesDep
from sa_ray.serving.views import job_view, status_url

router = APIRouter(prefix="/jobs", tags=["jobs"])

_JOB_ID = re.compile(JOB_ID_PATTERN)

MAX_PAGE = 200


@router.post(
    "",
    status_code=202,
    responses=responses(*BODY_ERRORS, OverloadedError, UnavailableError),
)
async def submit(
    request: GenerationRequest, services: ServicesDep, http: Request, response: Response
) -> JobAccepted:
    """Accept a job. Once this answers 202 the job is durable and will end, whatever happens."""
    resolved = resolve(request, services.settings)
    snapshot: JobSnapshot = await services.jobs.call("submit", uuid.uuid4().hex, resolved)
    url = status_url(_base_url(http), snapshot.job.id)
    response.headers["Location"] = url
    return JobAccepted(id=snapshot.job.id, status=snapshot.job.status, status_url=url)


@router.get("", responses=responses(InvalidRequestError, UnavailableError))
async def list_jobs(
    services: ServicesDep,
    http: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Jobs on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
) -> JobPage:
    """List jobs, newest first."""
    after = _decode_cursor(cursor) if cursor else None
    found: list[JobSnapshot] = await services.jobs.call("page", limit + 1, after, None, None)
    page = found[:limit]
    return JobPage(
        jobs=[_view(services, http, snapshot) for snapshot in page],
        next_cursor=_encode_cursor(page[-1].job) if len(found) > limit else None,
    )


@router.get("/{job_id}", responses=responses(JobNotFoundError, UnavailableError))
async def get_job(job_id: str, services: ServicesDep, http: Request) -> JobView:
    """Status, progress and, once the job has succeeded, a download URL minted at this read."""
    return _view(services, http, await _find(services, job_id))


@router.delete(
    "/{job_id}",
    responses={
        204: {"description": "The job had ended: it and its audio are deleted."},
        **responses(JobNotFoundError, UnavailableError),
    },
    response_model=JobView,
)
async def cancel_or_delete(job_id: str, services: ServicesDep, http: Request) -> Any:
    """Cancel a job that has not ended (200 with the job), or delete one that has (204).

    A running job stops at its next step; until then it reads `cancel_requested: true`.
    """
    snapshot = await _find(services, job_id)
    if snapshot.job.status not in FINAL_STATUSES:
        # A conflict means that it ended in this moment: the view below says how.
        with contextlib.suppress(ConflictError):
            await services.jobs.call("cancel", job_id)
        return _view(services, http, await _find(services, job_id))
    if snapshot.job.result:
        await services.uploader.call("delete", snapshot.job.result.object.key)
    await services.jobs.call("forget", job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/audio",
    response_class=StreamingResponse,
    responses=AUDIO
    | {
        206: {"description": "The part asked for with `Range`."},
        302: {"description": "The audio is in the object store, at `Location`."},
        416: {"description": "The range lies outside the audio."},
    }
    | responses(JobNotFoundError, JobNotReadyError, JobGoneError, StorageError),
)
async def download(
    job_id: str,
    services: ServicesDep,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """The audio of a job that has succeeded; a redirect if the store has an address of its own."""
    job = (await _find(services, job_id)).job
    if job.result is None:
        raise _no_audio(job)
    key = job.result.object.key
    if url := services.store.url(key):
        return RedirectResponse(url, status_code=302)
    size: int | None = await services.uploader.call("size", key)
    if size is None:
        raise JobGoneError(f"The audio of job {job_id} is no longer in the store.")
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{job_id}.{job.request.format}"',
        "ETag": f'"{job.result.object.sha256}"',
        "X-Model": job.request.model,
        "X-Engine": job.result.audio.engine,
        "X-Seed": str(job.request.seed),
        "X-Sample-Rate": str(job.result.audio.sample_rate),
        "X-Audio-Duration": f"{job.result.audio.duration:.6f}",
    }
    try:
        part = parse_range(range_header, size)
    except RangeNotSatisfiableError:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    if part:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    whole = part or ByteRange(0, size)
    headers["Content-Length"] = str(whole.length)
    return StreamingResponse(
        services.uploader.stream("read", key, whole.start, whole.length),
        status_code=206 if part else 200,
        media_type=MEDIA_TYPES[job.request.format],
        headers=headers,
    )


async def _find(services: Services, job_id: str) -> JobSnapshot:
    if not _JOB_ID.fullmatch(job_id):
        raise JobNotFoundError("No such job: a job id is 32 lower-case hex digits.")
    return await services.jobs.call("get", job_id)  # type: ignore[no-any-return]


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


def _view(services: Services, http: Request, snapshot: JobSnapshot) -> JobView:
    return job_view(
        snapshot,
        base_url=_base_url(http),
        settings=services.settings,
        store=services.store,
    )


def _base_url(http: Request) -> str:
    return str(http.base_url).rstrip("/")


def _encode_cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at!r} {job.id}".encode()).decode()


def _decode_cursor(text: str) -> Cursor:
    try:
        created_at, job_id = base64.urlsafe_b64decode(text.encode()).decode().split(" ")
        if _JOB_ID.fullmatch(job_id):
            return Cursor(float(created_at), job_id)
    except (ValueError, binascii.Error):
        pass
    raise InvalidRequestError(
        "cursor is not one that this API gave out. Leave it out to start from the newest job.",
        param="cursor",
    )
