"""The job store port: durable state and compare-and-set. A store decides nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sa_ray.contracts import Job, JobStatus, UsageRow, VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs.api import Cursor, JobSnapshot, QueueCounts

COUNTED: tuple[JobStatus, ...] = ("queued", "running")
"""Statuses that are counted. Ended jobs are not counted: there may be millions of them."""

QUEUE_HORIZON = 1_000
"""Places of a queue that are told apart. A job further back is at this place too, so that telling a
place costs as much in a queue of a hundred thousand jobs."""

Password = Callable[[], str | None]
"""Gives the password of a store's server, or raises ``JobStoreError``."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease of a worker. ``stop_at`` as by ``lifecycle.stop_at``."""

    job_id: str
    token: int
    stop_at: float | None


class JobStore(Protocol):
    """Queues are in the order of ``(queue_order, id)``, which shares their variant's replicas
    fairly: start-time fair queueing (Goyal, Vin, Cheng 1996) on ``Job.work``, by owner, within
    each priority. A new job gets a start tag, the greatest of where the queue has come and where
    the owner's jobs of this priority before it finish: their tags plus their work. It keeps it,
    whatever becomes of the job. Once an owner has no job in the queue, those that left it without
    being claimed do not count. ``queue_order`` is the tag less ``lifecycle.HEAD_START_S``. Where
    the queue has come: the greatest tag of the jobs of this priority that were claimed, or of
    others', as by ``lifecycle.reached``. So who was idle starts with all others, with no claim to
    what it did not use, nor any debt for what it used alone.

    Every write is durable when the method returns. Methods block and are thread-safe.

    ``jobs.lifecycle`` decides what a transition does to a job; the store writes the result only if
    nobody wrote in between (``version``).

    A stored job that cannot be read is left out of all lists and claims. Asked for by its id or
    key, it raises ``JobStoreError`` (``transient=False``).
    """

    def check(self) -> None:
        """Raise ``JobStoreError`` if the store cannot be written now."""
        ...

    def insert_all(self, jobs: Sequence[Job]) -> list[bool]:
        """Store new queued jobs, in the order in which they came; return whether each is stored.

        A job is not if its id is taken, or its idempotency key among the jobs of its owner. The
        very same job again, from a call that a driver repeats, may count as stored.
        """
        ...

    def get(self, job_id: str) -> Job | None: ...

    def snapshots(self, job_ids: Sequence[str]) -> dict[str, JobSnapshot | JobStoreError]:
        """Return those of the jobs that there are, with their places in the queue.

        A place is the number of queued jobs of the variant at or before the job, and at most
        ``QUEUE_HORIZON``; 1 is next. An error stands for a job that cannot be read.
        """
        ...

    def get_by_key(self, owner: str, idempotency_key: str) -> Job | None: ...

    def replace(self, job: Job) -> bool:
        """Store ``job`` if the stored version is ``job.version - 1``; return whether it was."""
        ...

    def delete(self, job: Job) -> bool:
        """Remove the job if its stored version is ``job.version``; return whether it was."""
        ...

    def claim(
        self,
        variant: VariantName,
        worker: str,
        *,
        now: float,
        limit: int,
        take: Callable[[Job], Job],
    ) -> list[Job]:
        """Atomically apply ``take`` to due jobs of ``variant``; store and return the results.

        A job is due if it is queued, its ``not_before`` has passed and its ``stop_at`` has not. At
        most ``limit`` are taken, in the order of ``(queue_order, id)``. Two claimers never get the
        same job. Taking any is a heartbeat of ``worker`` too, so a worker with a lease is never
        unknown.
        """
        ...

    def renew(self, worker: str, *, now: float) -> list[HeldLease]:
        """Store a heartbeat of ``worker`` and return its leases; no job is read or written."""
        ...

    def heartbeats(self) -> dict[str, float]:
        """Return the time of the last heartbeat of each known worker, as its ``now`` said it."""
        ...

    def leases(self, worker: str) -> list[HeldLease]:
        """List the leases of ``worker``."""
        ...

    def forget_worker(self, worker: str, heartbeat: float) -> None:
        """Remove the worker if it holds no lease and ``heartbeat`` is its last."""
        ...

    def overdue(self, *, now: float, limit: int) -> list[Job]:
        """List queued jobs whose ``stop_at`` is at or before ``now``, the longest ago first."""
        ...

    def ended(self, *, before: float, limit: int) -> list[Job]:
        """List jobs that ended at or before ``before``, the longest ago first."""
        ...

    def unclean(self, *, now: float, limit: int) -> list[Job]:
        """List jobs whose ``cleanup_at`` is at or before ``now``, the longest ago first."""
        ...

    def due_webhooks(self, *, now: float, limit: int) -> list[Job]:
        """List jobs whose webhook call is due at or before ``now``, the longest ago first."""
        ...

    def queue(self, variant: VariantName, *, limit: int) -> list[str]:
        """List the ids of the first ``limit`` queued jobs of the variant, in order."""
        ...

    def next_jobs(self, variant: VariantName, *, limit: int) -> list[Job]:
        """List the first ``limit`` queued jobs of the variant, in order, due or not."""
        ...

    def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        owner: str | None = None,
    ) -> list[Job]:
        """List jobs newest first, strictly older than ``after``.

        ``owner``: a name, for what it owns; None: all.
        """
        ...

    def counts(self) -> QueueCounts:
        """Count the jobs in each of ``COUNTED``, by variant; zeros included.

        It takes time in proportion to them.
        """
        ...

    def queued_of(self, owner: str) -> int:
        """Count the queued jobs of a named owner."""
        ...

    def next_due(self, variant: VariantName) -> float | None:
        """Return the earliest ``not_before`` of the variant's queued jobs; None if none waits."""
        ...

    def secret(self, name: str, fresh: str) -> str:
        """Return the secret of this name; if there is none, it is ``fresh`` from now on."""
        ...

    def add_usage(self, rows: Sequence[UsageRow]) -> None:
        """Add ``rows`` to what is counted for their days, owners and variants."""
        ...

    def usage(self, first: str, last: str, owner: str | None) -> list[UsageRow]:
        """Return what is counted for the days from ``first`` to ``last``, of ``owner`` or of all,
        in the order of day, owner and variant."""
        ...

    def close(self) -> None: ...
