"""The blocking half of the coordinator: life-cycle rules applied to a store."""

from collections.abc import Callable, Sequence

from sa_ray.contracts import FINAL_STATUSES, Job, VariantName
from sa_ray.errors import (
    ConflictError,
    IdempotencyConflictError,
    JobStoreError,
    SaRayError,
)
from sa_ray.jobs import lifecycle, webhook_schedule
from sa_ray.jobs.api import JobSnapshot, no_such_job
from sa_ray.jobs.stores.port import JobStore

MAX_ROUNDS = 20
"""Most attempts to apply a change while other changes come first."""

Transition = Callable[[Job, float], Job]
"""``transition(job, now)``: a rule of ``lifecycle`` with its other arguments filled in."""

Announce = Callable[[Sequence[Job]], object]
"""Called in the same thread as soon as changes are durable, with the jobs as they are now."""


class JobLedger:
    """Applies rules of ``lifecycle`` to a store. Thread-safe, like the store.

    ``clock`` returns Unix seconds.
    """

    def __init__(self, store: JobStore, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def insert_all(self, jobs: Sequence[Job], announce: Announce) -> list[JobSnapshot | Exception]:
        """Store new jobs; one that is repeated is returned instead, as by ``repeated``.

        Returns a job or its error for each, in order.
        """
        done = self._store.insert_all(jobs)
        announce([job for job, stored in zip(jobs, done, strict=True) if stored])
        return [
            JobSnapshot(job, None) if stored else self._repeated_or_inserted(job, announce)
            for job, stored in zip(jobs, done, strict=True)
        ]

    def _repeated_or_inserted(self, job: Job, announce: Announce) -> JobSnapshot | Exception:
        try:
            for _ in range(MAX_ROUNDS):
                if snapshot := self.repeated(job, announce):
                    return snapshot
                # The job that held the key was deleted in between.
                if self._store.insert_all([job]) == [True]:
                    announce([job])
                    return JobSnapshot(job, None)
        except SaRayError as error:
            return error
        return _busy(job.id)

    def repeated(self, job: Job, announce: Announce) -> JobSnapshot | None:
        """Return the stored job with the id or the idempotency key of ``job``, if there is one.

        Raises ``IdempotencyConflictError`` if the key came with another fingerprint.
        """
        existing = self._existing(job)
        if existing is None:
            return None
        announce([existing])
        return JobSnapshot(existing, None, replayed=existing.id != job.id)

    def snapshots(self, job_ids: Sequence[str]) -> list[JobSnapshot | SaRayError]:
        """Read jobs; return a job or its error for each, in order."""
        found = self._store.snapshots(job_ids)
        return [found.get(job_id) or no_such_job(job_id) for job_id in job_ids]

    def apply(
        self, job_id: str, transition: Transition, announce: Announce, known: Job | None = None
    ) -> Job:
        """Store what ``transition(job, now)`` makes of the newest version of the job.

        ``known``: what that was a moment ago; spares reading it again if nothing has changed.
        """
        for _ in range(MAX_ROUNDS):
            job, known = known or self._read(job_id), None
            changed = transition(job, self._clock())
            # An unchanged job is announced too: an earlier call may have changed it without
            # hearing of it.
            if changed is job or self._store.replace(changed):
                announce([changed])
                return changed
        raise _busy(job_id)

    def claim(self, variant: VariantName, worker: str, limit: int, announce: Announce) -> list[Job]:
        now = self._clock()
        claimed = self._store.claim(
            variant,
            worker,
            now=now,
            limit=limit,
            take=lambda job: lifecycle.lease(job, worker, now),
        )
        announce(claimed)
        return claimed

    def delete(self, job_id: str, known: Job | None = None) -> None:
        """Remove an ended job. Raises ``ConflictError`` if it has not ended.

        ``known``: as for ``apply``.
        """
        for _ in range(MAX_ROUNDS):
            job, known = known or self._read(job_id), None
            if job.status not in FINAL_STATUSES:
                raise ConflictError(f"Job {job_id} is {job.status}; cancel it first.")
            if self._store.delete(job):
                return
        raise _busy(job_id)

    def start_webhooks(self, limit: int) -> list[Job]:
        """Start an attempt of every webhook that is due, ``limit`` at most."""
        started = []
        now = self._clock()  # of all: a clock that is set back must not make one undue
        for job in self._store.due_webhooks(now=now, limit=limit):
            changed = webhook_schedule.start_attempt(job, now)
            # Not replaced if another caller was first.
            if self._store.replace(changed) and changed.webhook and changed.webhook.next_attempt_at:
                started.append(changed)
        return started

    def _existing(self, job: Job) -> Job | None:
        """Return the stored job that ``job`` repeats, if it repeats one."""
        existing = self._store.get(job.id)
        if existing is None and job.idempotency_key is not None:
            existing = self._store.get_by_key(job.owner, job.idempotency_key)
            if existing is not None and existing.fingerprint != job.fingerprint:
                raise IdempotencyConflictError(
                    "This idempotency key came with another request before; use a new key, or "
                    "repeat that request unchanged.",
                    param="Idempotency-Key",
                )
        return existing

    def _read(self, job_id: str) -> Job:
        job = self._store.get(job_id)
        if job is None:
            raise no_such_job(job_id)
        return job


def _busy(job_id: str) -> JobStoreError:
    return JobStoreError(f"Job {job_id} changes too fast to be updated; try again.")
