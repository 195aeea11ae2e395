"""Rows of stores: the columns beside the JSON of a job, and reading rows back."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from sa_ray.contracts import Job
from sa_ray.errors import JobStoreError
from sa_ray.jobs.lifecycle import queue_order

logger = logging.getLogger(__name__)

StoredRow = Sequence[Any]
"""The id, the body and the expiry of the lease (a number, its text, or nothing)."""


def columns(job: Job) -> dict[str, Any]:
    """Return values by column; None where that index must not find the job."""
    return {
        "id": job.id,
        "variant": job.request.model,
        "status": job.status,
        "created_at": job.created_at,
        "queue_order": queue_order(job),
        "not_before": job.not_before,
        "deadline": job.deadline if job.status == "queued" else None,
        "lease_expires_at": None if job.lease is None else job.lease.expires_at,
        "completed_at": job.completed_at,
        "cleanup_at": job.cleanup_at,
        "webhook_at": None if job.webhook is None else job.webhook.next_attempt_at,
        "idempotency_key": job.idempotency_key,
        "token": job.token,
        "version": job.version,
        "body": job.model_dump_json(),
    }


def stored_job(body: str | bytes, lease_expires_at: float | None) -> Job:
    """Return the job of a row; the expiry is that of the column, which renewals move alone."""
    job = Job.model_validate_json(body)
    if job.lease is None or job.lease.expires_at == lease_expires_at:
        return job
    lease = job.lease.model_copy(update={"expires_at": lease_expires_at})
    return job.model_copy(update={"lease": lease})


class JobReader:
    """Turns rows into jobs. Thread-safe.

    A row that cannot be read (damaged, or written by another release) is logged once and left out
    from then on. The store keeps it as it is, for a release that can read it.
    """

    def __init__(self) -> None:
        self.unreadable: frozenset[str] = frozenset()
        """Ids found so far."""

    def one(self, row: StoredRow) -> Job:
        """Return the job of ``row``. Raises ``JobStoreError`` if it cannot be read."""
        job = self._decoded(row)
        if job is None:
            raise JobStoreError(
                f"Job {_id(row)} is stored in a form that this release cannot read; the log of "
                "the job actor says more.",
                transient=False,
            )
        return job

    def all(self, rows: Iterable[StoredRow]) -> list[Job]:
        """Return the jobs of those rows that can be read."""
        return [job for row in rows if (job := self._decoded(row)) is not None]

    def first(self, limit: int, fetch: Callable[[int], Sequence[StoredRow]]) -> list[Job]:
        """Return the first ``limit`` jobs that can be read.

        ``fetch(n)`` returns the first ``n`` rows, in their order.
        """
        while True:
            known = self.unreadable
            rows = fetch(limit + len(known))
            jobs = self.all(rows)
            if len(jobs) >= limit or len(self.unreadable) == len(known):
                return jobs[:limit]

    def _decoded(self, row: StoredRow) -> Job | None:
        _, body, lease_expires_at = row
        try:
            return stored_job(body, float(lease_expires_at) if lease_expires_at else None)
        except ValueError as error:
            job_id = _id(row)
            if job_id not in self.unreadable:
                self.unreadable |= {job_id}
                logger.error("job %s cannot be read and is left out: %s", job_id, _reason(error))
            return None


def _id(row: StoredRow) -> str:
    return row[0].decode() if isinstance(row[0], bytes) else str(row[0])


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
