"""Life cycle of a job: a pure state machine, ``Job`` -> ``Job``, with the time passed in.

::

    queued ── lease ──▶ running ── succeed ──▶ succeeded   (cancelled, if that was asked for)
      │ ▲                │ │ │ └── fail ─────▶ failed
      │ └── retry, take_back, release    (failed after MAX_ATTEMPTS, or MAX_LOSSES by take_back)
      └─ cancel ─▶ cancelled ◀── cancel, then acknowledge_cancel or any of these

``time_limits`` has the limits of a job's time, ``endings`` what its end leaves to clean up.

Every change returns a new job whose ``version`` is one higher. A report that was already applied
(its acknowledgement was lost) returns the very same object: there is nothing to store.
``ConflictError`` means that the job's state forbids the change, ``StaleLeaseError`` that the
reporting worker no longer holds the lease.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sa_ray.contracts import (
    FINAL_STATUSES,
    Job,
    JobError,
    JobResult,
    JobStatus,
    Lease,
    Priority,
    ResolvedRequest,
    Webhook,
)
from sa_ray.errors import ConflictError, StaleLeaseError
from sa_ray.jobs.api import JobOptions
from sa_ray.jobs.endings import changed, finished
from sa_ray.jobs.time_limits import (
    DEADLINE_EXCEEDED,
    WAIT_EXCEEDED,
    is_overdue,
    must_stop,
    stopped,
)

MAX_ATTEMPTS = 3
"""Leases a job may take; the fault that ends the last one fails the job."""

MAX_LOSSES = 10
"""Leases a job may lose with their workers. A worker's death says little against the jobs it held,
but a job that ends whatever works on it must end some day."""

MAX_BACKOFF_S = 60.0

HEAD_START_S: Mapping[Priority, float] = MappingProxyType(
    {"high": 600.0, "normal": 0.0, "low": -600.0}
)
"""Seconds of work by which a job of each priority is queued further ahead. The differences bound
how much can overtake a job, so that none starves."""

MIN_WORK_S = 1e-3
"""Least work of a job, so that those of one owner have an order."""


def new_job(
    job_id: str,
    request: ResolvedRequest,
    now: float,
    options: JobOptions | None = None,
    *,
    max_wait: float | None = None,
) -> Job:
    """Return a queued job at version 0. ``job_id``: 32 lower-case hex digits.

    ``max_wait``: seconds that it may wait for a worker; None: for ever.
    """
    options = options or JobOptions()
    return Job(
        id=job_id,
        request=request,
        priority=options.priority,
        deadline=None if options.expires_in is None else now + options.expires_in,
        max_wait=max_wait,
        start_by=None if max_wait is None else now + max_wait,
        idempotency_key=options.idempotency_key,
        fingerprint=options.fingerprint,
        owner=options.owner,
        work=_work(request, options),
        traceparent=options.traceparent,
        webhook=_webhook(options),
        created_at=now,
        not_before=now,
    )


def _webhook(options: JobOptions) -> Webhook | None:
    if options.webhook_url is None:
        return None
    return Webhook(url=options.webhook_url, sealed_secrets=options.sealed_secrets)


def _work(request: ResolvedRequest, options: JobOptions) -> float:
    # Without an estimate (of a replica of the release before): the seconds of audio.
    seconds = options.work or request.n * request.duration
    return max(seconds / options.weight, MIN_WORK_S)


def reached(priority: Priority, start: float) -> float:
    """Return how far a queue has come for other priorities, once a job with the start tag
    ``start`` is served.

    The head start of a high priority is not part of it, or else it would be the others' delay.
    """
    return start - max(0.0, HEAD_START_S[priority])


def lease(job: Job, worker: str, now: float) -> Job:
    """Give the queued ``job`` to ``worker`` under a new fencing token."""
    if job.status != "queued":
        raise ConflictError(f"Job {job.id} is {job.status}; only a queued job can be leased.")
    if now < job.not_before:
        raise ConflictError(f"Job {job.id} must not be leased before {job.not_before}.")
    if is_overdue(job, now):
        raise ConflictError(f"The deadline of job {job.id} has passed.")
    token = job.token + 1
    return changed(
        job,
        status="running",
        started_at=now,
        attempts=job.attempts + 1,
        token=token,
        lease=Lease(token=token, worker=worker),
        progress=0.0,
    )


def succeed(job: Job, token: int, result: JobResult, now: float) -> Job:
    """End the job with its result: the worker has stored the audio.

    A job that had to stop ends without a result instead, and its object must be deleted
    (``cleanup_at``).
    """
    if _is_repeat(job, token, "succeeded", "cancelled"):
        return job
    _require_lease(job, token)
    if must_stop(job, now):
        return stopped(job, now)
    return finished(job, "succeeded", now, result=result, progress=1.0)


def fail(job: Job, token: int, error: JobError, now: float) -> Job:
    """Fail the job for good, whatever attempts are left: the job itself is at fault."""
    if _is_repeat(job, token, "failed"):
        return job
    _require_lease(job, token)
    return finished(job, "failed", now, error=error)


def retry(job: Job, token: int, reason: JobError, now: float) -> Job:
    """Queue the job again after a backoff: the infrastructure is at fault.

    The backoff is ``2 ** attempts`` seconds (60 at most). The last attempt fails the job instead.
    """
    if _is_repeat(job, token, "queued", "failed", "cancelled"):
        return job
    _require_lease(job, token)
    return _after_fault(job, reason, now)


def release(job: Job, token: int, now: float, *, began: bool = False) -> Job:
    """Take the lease back unused from a worker that is stopping; the attempt does not count.

    ``began``: the worker had begun with it, so the job waits anew. Else it has waited all the time.
    """
    if _is_repeat(job, token, "queued", "cancelled"):
        return job
    _require_lease(job, token)
    if must_stop(job, now):
        return stopped(job, now)
    attempts = job.attempts - 1
    started_at = job.started_at if attempts else None
    start_by = {} if began else {"start_by": job.start_by}
    return _requeued(job, now, attempts=attempts, started_at=started_at, **start_by)


def take_back(job: Job, token: int, now: float) -> Job:
    """Take the lease back from a worker that fell silent; the attempt does not count.

    The backoff is ``2 ** losses`` seconds (60 at most). Loss ``MAX_LOSSES`` fails the job.
    """
    _require_lease(job, token)
    if must_stop(job, now):
        return stopped(job, now)
    losses = job.losses + 1
    if losses >= MAX_LOSSES:
        error = JobError(
            code="attempts_exhausted",
            message=f"Gave up: {losses} workers died or were cut off while they held the job.",
        )
        return finished(job, "failed", now, error=error, losses=losses)
    return _requeued(
        job,
        now + min(2.0**losses, MAX_BACKOFF_S),
        attempts=job.attempts - 1,
        losses=losses,
    )


def cancel(job: Job, now: float) -> Job:
    """Cancel a queued job at once, a running one as soon as its worker hears of it.

    Asking again changes nothing until the job has ended.
    """
    if job.status in FINAL_STATUSES:
        raise ConflictError(f"Job {job.id} has already {_ENDED[job.status]}.")
    if job.status == "queued":
        return finished(job, "cancelled", now)
    return job if job.cancel_requested else changed(job, cancel_requested=True)


def acknowledge_cancel(job: Job, token: int, now: float) -> Job:
    """End a job whose worker stopped because it was told to."""
    if _is_repeat(job, token, "cancelled"):
        return job
    _require_lease(job, token)
    if not must_stop(job, now):
        raise ConflictError(f"Nobody asked to cancel job {job.id}.")
    return stopped(job, now)


_ENDED: dict[JobStatus, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "been cancelled",
}


def _require_lease(job: Job, token: int) -> None:
    if job.lease is None or job.lease.token != token:
        raise StaleLeaseError(
            f"Lease {token} of job {job.id} is over; the job is {job.status} "
            f"and its last lease is {job.token}."
        )


def _is_repeat(job: Job, token: int, *applied: JobStatus) -> bool:
    """Return whether the job left the lease ``token`` for a state that the report leads to."""
    too_late = job.error is not None and job.error.code in (DEADLINE_EXCEEDED, WAIT_EXCEEDED)
    return job.token == token and job.lease is None and (job.status in applied or too_late)


def _after_fault(job: Job, reason: JobError, now: float) -> Job:
    if must_stop(job, now):
        return stopped(job, now)
    if job.attempts >= MAX_ATTEMPTS:
        error = JobError(
            code="attempts_exhausted",
            message=f"Gave up after {job.attempts} attempts. The last one: {reason.message}",
        )
        return finished(job, "failed", now, error=error)
    return _requeued(job, now + min(2.0**job.attempts, MAX_BACKOFF_S))


def _requeued(job: Job, not_before: float, **changes: Any) -> Job:
    # Stores keep the start tag, so the job takes its old place in the queue.
    start_by = None if job.max_wait is None else not_before + job.max_wait
    queued = {"status": "queued", "lease": None, "progress": 0.0, "start_by": start_by}
    return changed(job, **queued | {"not_before": not_before} | changes)
