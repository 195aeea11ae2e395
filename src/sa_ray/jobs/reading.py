"""Reading stored jobs, of which one that cannot be read must not hinder the others."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from sa_ray.contracts import Job
from sa_ray.errors import StorageError
from sa_ray.jobs.columns import stored_job

logger = logging.getLogger(__name__)

StoredRow = Sequence[Any]
"""The id, the body and the expiry of the lease (a number, its text, or nothing)."""


class JobReader:
    """Turns rows into jobs. Thread-safe.

    What cannot be read (damaged, or written by another release) is logged once and left out from
    then on; the store keeps it as it is, for a release that can.
    """

    def __init__(self) -> None:
        self.unreadable: frozenset[str] = frozenset()
        """The ids found so far."""

    def one(self, row: StoredRow) -> Job:
        """Raises ``StorageError`` if it cannot be read."""
        job = self._decoded(row)
        if job is None:
            raise StorageError(
                f"Job {_id(row)} is stored in a form that this release cannot read; the log of "
                "the job actor says more.",
                transient=False,
            )
        return job

    def all(self, rows: Iterable[StoredRow]) -> list[Job]:
        """Those that can be read."""
        return [job for row in rows if (job := self._decoded(row)) is not None]

    def first(self, limit: int, fetch: Callable[[int], Sequence[StoredRow]]) -> list[Job]:
        """The first ``limit`` that can be read. ``fetch`` gives so many rows, in their order."""
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
