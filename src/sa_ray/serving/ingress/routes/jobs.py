"""Jobs: accepted at once, durable, polled or listed, downloaded when they have succeeded."""

import base64
import binascii
import contextlib
import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from sa_ray.contracts import (
    FINAL_STATUSES,
    Job,
    JobPage,
    JobStatus,
    JobView,
    ListedJob,
)
from sa_ray.errors import (
    ConflictError,
    InvalidRequestError,
    JobNotFoundError,
    ObjectElsewhereError,
    UnavailableError,
)
from sa_ray.jobs import Cursor
from sa_ray.serving.ingress.audit import audit
from sa_ray.serving.ingress.auth import caller_of
from sa_ray.serving.ingress.errors import responses
from sa_ray.serving.ingress.job_lookup import base_url, find_job, is_job_id, view_of
from sa_ray.serving.ingress.services import ServicesDep

router = APIRouter(prefix="/jobs", tags=["jobs"])

MAX_PAGE = 200

MAX_PAGE_WITH_PROMPTS = 20
"""A job has up to 80 kB of prompts."""


@router.get("", responses=responses(InvalidRequestError, UnavailableError))
async def list_jobs(
    services: ServicesDep,
    http: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Jobs on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next_cursor` of the page before.")
    ] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs of this status.")] = None,
    include: Annotated[
        Literal["prompts"] | None,
        Query(
            description="`prompts`: with `prompt` and `negative_prompt`, which are null otherwise; "
            f"at most {MAX_PAGE_WITH_PROMPTS} jobs on a page."
        ),
    ] = None,
) -> JobPage:
    """List jobs, newest first: with a key, those made with it; all of them with `jobs:all`."""
    after = _decode_cursor(cursor) if cursor else None
    limit = min(limit, MAX_PAGE_WITH_PROMPTS) if include else limit
    caller = caller_of(http)
    found = await services.jobs.page(
        limit + 1,
        after,
        status,
        owner=None if caller.may("jobs:all") else caller.name,
        prompts=include is not None,
    )
    page = found[:limit]
    views = await services.views.of(page, base_url(http))
    return JobPage(
        jobs=[ListedJob.of(view, prompts=include is not None) for view in views],
        next_cursor=_encode_cursor(page[-1].job) if len(found) > limit else None,
    )


@router.delete(
    "/{job_id}",
    responses={
        204: {"description": "The job had ended: it and its audio are deleted."},
        **responses(JobNotFoundError, ObjectElsewhereError, UnavailableError),
    },
    response_model=JobView,
)
async def cancel_or_delete(job_id: str, services: ServicesDep, http: Request) -> Any:
    """Cancel a job that has not ended (200 with the job), or delete one that has (204).

    A running job stops at its next step; until then it reads `cancel_requested: true`.
    """
    snapshot = await find_job(services, http, job_id)
    if snapshot.job.status not in FINAL_STATUSES:
        # A conflict means that it ended in this moment: the view below says how.
        with contextlib.suppress(ConflictError):
            await services.jobs.cancel(job_id)
            audit(http, "cancelled", caller_of(http).name, thing=job_id)
        return await view_of(services, http, await find_job(services, http, job_id))
    # Whatever became of the job, an upload of it may still be under way.
    [refusal] = await services.uploader.discard([snapshot.job])
    if refusal:
        raise refusal
    await services.jobs.forget(job_id)
    audit(http, "deleted", caller_of(http).name, thing=job_id)
    return Response(status_code=204)


def _encode_cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at!r} {job.id}".encode()).decode()


def _decode_cursor(text: str) -> Cursor:
    try:
        created_at, job_id = base64.urlsafe_b64decode(text.encode()).decode().split(" ")
        if is_job_id(job_id) and math.isfinite(float(created_at)):
            return Cursor(float(created_at), job_id)
    except (ValueError, binascii.Error):
        pass
    raise InvalidRequestError(
        "cursor is not one that this API gave out. Leave it out to start from the newest job.",
        param="cursor",
    )
