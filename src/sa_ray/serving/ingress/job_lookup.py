"""Find the job that a path names, and show it to who asks."""

import re

from fastapi import Request

from sa_ray.contracts import JOB_ID_PATTERN, JobView
from sa_ray.contracts.access import Caller
from sa_ray.errors import JobNotFoundError
from sa_ray.jobs import JobSnapshot
from sa_ray.jobs.api import no_such_job
from sa_ray.serving.ingress.auth import caller_now
from sa_ray.serving.ingress.services import Services

_JOB_ID = re.compile(JOB_ID_PATTERN)


def is_job_id(text: str) -> bool:
    return _JOB_ID.fullmatch(text) is not None


def require_job_id(text: str) -> None:
    """Raise ``JobNotFoundError`` for text that cannot be the id of any job."""
    if not is_job_id(text):
        raise JobNotFoundError("No such job: a job id is 32 lower-case hex digits.")


async def find_job(services: Services, http: Request, job_id: str) -> JobSnapshot:
    """Return the job. Raises ``JobNotFoundError`` if the caller may not know of it, or there is
    none: the same either way."""
    require_job_id(job_id)
    snapshot = await services.read_job(job_id)
    require_seen(http, snapshot)
    return snapshot


def require_seen(http: Request, snapshot: JobSnapshot) -> None:
    """Raise as ``find_job`` does."""
    if not still_calls(http).sees(snapshot.job.owner):
        raise no_such_job(snapshot.job.id)


def still_calls(http: Request) -> Caller:
    """Return the caller as of now, for answers that take long."""
    return caller_now(http)


async def view_of(services: Services, http: Request, snapshot: JobSnapshot) -> JobView:
    return await services.views.one(snapshot, base_url(http))


def base_url(http: Request) -> str:
    return str(http.base_url).rstrip("/")
