"""Ends of a job, and what is cleaned up after it: part of the pure state machine."""

from typing import Any

from sa_ray.contracts import Job, JobStatus

CLEANUP_AGAIN_S = 120.0
"""Seconds after a job's end at which its object is looked for once more: a worker that lost its
lease may have finished an upload since. Longer than such an upload is expected to take."""


def finished(job: Job, status: JobStatus, now: float, **changes: Any) -> Job:
    """Return the job as ended at ``now``, its webhook due and its leases over."""
    # Each attempt has an object key of its own: with a result, only the others' are looked for.
    strays = job.token > (1 if status == "succeeded" else 0)
    return changed(
        job,
        status=status,
        completed_at=now,
        lease=None,
        cleanup_at=now if strays else None,
        webhook=job.webhook and job.webhook.model_copy(update={"next_attempt_at": now}),
        **changes,
    )


def changed(job: Job, **changes: Any) -> Job:
    """Return the job with ``changes``, as the next version."""
    return job.model_copy(update={**changes, "version": job.version + 1})


def cleaned(job: Job, now: float) -> Job:
    """Note that the objects which attempts at the ended job may have left are gone.

    It is looked for once more if this was too soon to be sure.
    """
    if job.cleanup_at is None or job.completed_at is None:
        return job
    again_at = job.completed_at + CLEANUP_AGAIN_S
    return changed(job, cleanup_at=again_at if now < again_at else None)
