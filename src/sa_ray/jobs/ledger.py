"""The blocking half of the coordinator: life-cycle rules applied to a store."""

from collections.abc import Callable
from dataclasses import dataclass

from sa_ray.contracts import FINAL_STATUSES, Job, VariantName
from sa_ray.errors import ConflictError, JobNotFoundError, QueueFullError, StorageError
from sa_ray.jobs import lifecycle
from sa_ray.jobs.port import JobStore

MAX_ROUNDS = 20
"""How often a change is applied anew because another one came first."""

Transition = Callable[[Job, float], Job]
"""``transition(job, now)``: a rule of ``lifecycle`` with its other arguments filled in."""

Announce = Callable[[Job], object]
"""Called in the same thread as soon as a change is durable."""


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job with its live progress. ``queue_position``: 1 is next for its variant; None unless
    queued, and in pages."""

    job: Job
    queue_position: int | None


class JobLedger:
    """Thread-safe, like the store. ``clock`` gives Unix seconds; ``lease_ttl`` is in seconds."""

    def __init__(self, store: JobStore, *, clock: Callable[[], float], lease_ttl: float) -> None:
        self._store = store
        self._clock = clock
        self._lease_ttl = lease_ttl

    def insert(self, job: Job, max_queued: int, announce: Announce) -> JobSnapshot:
        """Store a new job; one of the same id is returned as it is. Raises ``QueueFullError``."""
        # Looked up first: once the job is stored, nothing may fail any more.
        ahead = self._store.position(job)
        try:
            self._store.insert(job, max_queued=max_queued)
        except (ConflictError, QueueFullError):
            # A repeat may itself have filled the queue the first time.
            existing = self._store.get(job.id)
            if existing is None:
                raise
            announce(existing)
            return self.snapshot(job.id)
        announce(job)
        return JobSnapshot(job, ahead + 1)

    def snapshot(self, job_id: str) -> JobSnapshot:
        job = self._read(job_id)
        return JobSnapshot(job, self._store.position(job) if job.status == "queued" else None)

    def apply(self, job_id: str, transition: Transition, announce: Announce) -> Job:
        """Store what ``transition(job, now)`` makes of the job, on its newest version."""
        for _ in range(MAX_ROUNDS):
            job = self._read(job_id)
            changed = transition(job, self._clock())
            # An unchanged job is announced too: it may have changed in a call whose outcome
            # the store failed to tell.
            if changed is job or self._store.replace(changed):
                announce(changed)
                return changed
        raise StorageError(f"Job {job_id} changes too fast to be updated; try again.")

    def claim(self, variant: VariantName, worker: str, limit: int) -> list[Job]:
        now = self._clock()
        return self._store.claim(
            variant,
            now=now,
            limit=limit,
            take=lambda job: lifecycle.lease(job, worker, now, self._lease_ttl),
        )

    def delete(self, job_id: str) -> None:
        """Remove an ended job. Raises ``ConflictError`` if it has not ended."""
        job = self._read(job_id)
        if job.status not in FINAL_STATUSES:
            raise ConflictError(f"Job {job_id} is {job.status}; cancel it first.")
        # An ended job never changes, so a False here means that another caller deleted it.
        if not self._store.delete(job):
            raise _not_found(job_id)

    def _read(self, job_id: str) -> Job:
        job = self._store.get(job_id)
        if job is None:
            raise _not_found(job_id)
        return job


def _not_found(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"There is no job {job_id}.")
