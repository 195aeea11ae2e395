"""Find the job that a path names."""

import re

from sa_ray.contracts import JOB_ID_PATTERN, JobResult
from sa_ray.errors import JobGoneError, JobNotFoundError
from sa_ray.jobs import JobSnapshot
from sa_ray.serving.ingress.services import Services

_JOB_ID = re.compile(JOB_ID_PATTERN)


def is_job_id(text: str) -> bool:
    return _JOB_ID.fullmatch(text) is not None


def require_job_id(text: str) -> None:
    """Raise ``JobNotFoundError`` for text that cannot be the id of any job."""
    if not is_job_id(text):
        raise JobNotFoundError("No such job: a job id is 32 lower-case hex digits.")


async def find_job(services: Services, job_id: str) -> JobSnapshot:
    require_job_id(job_id)
    return await services.read_job(job_id)


def require_same_store(result: JobResult, services: Services) -> None:
    """Raise ``JobGoneError`` if the audio lies in another store than the one in use."""
    stored, used = result.object.backend, services.store.backend
    if stored != used:
        raise JobGoneError(
            f"The audio is in the {stored} store under {result.object.key}; the service uses the "
            f"{used} store now."
        )
