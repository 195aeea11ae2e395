"""The job store port: durable state, compare-and-set, and nothing that decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sa_ray.contracts import Job, JobStatus, VariantName

QueueCounts = Mapping[VariantName, Mapping[JobStatus, int]]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of jobs (newest first) ended."""

    created_at: float
    id: str


class JobStore(Protocol):
    """Every write is durable when the method returns. Methods block and are thread-safe.

    What a transition does to a job is decided by ``jobs.lifecycle``; the store writes the
    result only if nobody wrote in between (``version``).
    """

    def check(self) -> None:
        """Raise ``StorageError`` if the store cannot be written now."""
        ...

    def insert(self, job: Job, *, max_queued: int) -> None:
        """Store a new queued job. Raise ``QueueFullError`` if ``max_queued`` already wait,
        ``ConflictError`` if the id is taken."""
        ...

    def get(self, job_id: str) -> Job | None: ...

    def replace(self, job: Job) -> bool:
        """Store ``job`` if the stored version is ``job.version - 1``; say whether it was."""
        ...

    def delete(self, job: Job) -> bool:
        """Remove the job if its stored version is ``job.version``; say whether it was."""
        ...

    def claim(
        self, variant: VariantName, *, now: float, limit: int, take: Callable[[Job], Job]
    ) -> list[Job]:
        """Atomically apply ``take`` to up to ``limit`` queued jobs of ``variant`` whose
        ``not_before`` has passed, oldest ``(created_at, id)`` first, and store the results.
        Two claimers never get the same job."""
        ...

    def renew(self, leases: Sequence[tuple[str, int]], *, expires_at: float) -> list[Job]:
        """Move the expiry of each running job in ``leases`` (id, token) that still has that
        token; return the jobs renewed, in any order. Does not change ``version``."""
        ...

    def expired(self, *, now: float, limit: int) -> list[Job]:
        """Running jobs whose lease ended at or before ``now``."""
        ...

    def position(self, job: Job) -> int:
        """How many queued jobs of the variant stand at or before this one; 1 is next."""
        ...

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        variant: VariantName | None = None,
    ) -> list[Job]:
        """Jobs newest first, strictly older than ``after``."""
        ...

    def counts(self) -> QueueCounts:
        """How many jobs stand in each status, by variant."""
        ...

    def next_due(self, variant: VariantName) -> float | None:
        """The earliest ``not_before`` of the variant's queued jobs; None if none waits."""
        ...

    def close(self) -> None: ...
