"""Find the uploaded audio that jobs are yet to be made from."""

from typing import Final

from sa_ray.contracts import JobStatus
from sa_ray.jobs.api import Cursor, JobApi

PAGE: Final = 500

_UNFINISHED: Final[tuple[JobStatus, ...]] = ("queued", "running", "queued", "running")
"""Both twice: a job that is tried again goes from running back to queued meanwhile, and on."""


async def sources_in_use(jobs: JobApi) -> dict[str, str]:
    """Return the object keys of the sources of all jobs that have not ended, each with the id of
    such a job. Raises ``JobStoreError``."""
    found: dict[str, str] = {}
    for status in _UNFINISHED:
        after: Cursor | None = None
        while True:
            page = [one.job for one in await jobs.page(PAGE, after, status, prompts=False)]
            found |= {job.request.source.object.key: job.id for job in page if job.request.source}
            if len(page) < PAGE:
                break
            after = Cursor(page[-1].created_at, page[-1].id)
    return found
