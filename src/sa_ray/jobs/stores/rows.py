"""Rows of stores: the columns beside the JSON of a job, and reading rows back."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from sa_ray.contracts import Job
from sa_ray.errors import JobStoreError
from sa_ray.jobs.api import JobSnapshot
from sa_ray.jobs.time_limits import stop_at

logger = logging.getLogger(__name__)

StoredRow = Sequence[Any]
"""The id and the body."""


def columns(job: Job) -> dict[str, Any]:
    """Return values by column; None where that index must not find the job.

    Without ``queue_order``, which the store gives the job when it comes.
    """
    return {
        "id": job.id,
        "owner": job.owner,
        "variant": job.request.model,
        "status": job.status,
        "created_at": job.created_at,
        "not_before": job.not_before,
        "stop_at": stop_at(job),
        "worker": None if job.lease is None else job.lease.worker,
        "completed_at": job.completed_at,
        "cleanup_at": job.cleanup_at,
        "webhook_at": None if job.webhook is None else job.webhook.next_attempt_at,
        "idempotency_key": job.idempotency_key,
        "token": job.token,
        "version": job.version,
        "body": job.model_dump_json(),
    }


class JobReader:
    """Turns rows into jobs. Thread-safe.

    A row that cannot be read (damaged, or of a release that knows more formats or models) is logged
    once and left out from then on. The store keeps it as it is, for a release that can read it.
    """

    def __init__(self) -> None:
        self._unreadable: set[str] = set()
        self._lock = threading.Lock()

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

    def snapshot(self, row: StoredRow, place: int | None) -> JobSnapshot | JobStoreError:
        """Return the job of ``row`` at its place in the queue; the error if it cannot be read."""
        try:
            return JobSnapshot(self.one(row), place)
        except JobStoreError as error:
            return error

    def all(self, rows: Iterable[StoredRow]) -> list[Job]:
        """Return the jobs of those rows that can be read."""
        return [job for row in rows if (job := self._decoded(row)) is not None]

    def first(self, limit: int, fetch: Callable[[int], Sequence[StoredRow]]) -> list[Job]:
        """Return the first ``limit`` jobs that can be read.

        ``fetch(n)`` returns the first ``n`` rows, in their order.
        """
        wanted = limit
        while True:
            rows = fetch(wanted)
            jobs = self.all(rows)
            if len(jobs) >= limit or len(rows) < wanted:
                return jobs[:limit]
            wanted *= 2

    def first_readable(self, fetch: Callable[[int], Sequence[tuple[str, float]]]) -> float | None:
        """Return the first value whose job is not known to be unreadable; None if there is none.

        ``fetch(n)`` returns the first ``n`` pairs of id and value.
        """
        wanted = 1
        while True:
            pairs = fetch(wanted)
            for job_id, value in pairs:
                if job_id not in self._unreadable:
                    return value
            if len(pairs) < wanted:
                return None
            wanted *= 2

    def _decoded(self, row: StoredRow) -> Job | None:
        try:
            return Job.model_validate_json(row[1])
        except ValueError as error:
            job_id = _id(row)
            with self._lock:
                is_new = job_id not in self._unreadable
                self._unreadable.add(job_id)
            if is_new:
                logger.error("job %s cannot be read and is left out: %s", job_id, _reason(error))
            return None


def _id(row: StoredRow) -> str:
    return row[0].decode() if isinstance(row[0], bytes) else str(row[0])


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
