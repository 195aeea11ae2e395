"""Limits of a job's time: part of the pure state machine, as ``lifecycle`` is.

Past its ``deadline`` a job can only end, as ``failed`` with the code ``deadline_exceeded``: by
``overdue`` while queued, with its lease while running (``lifecycle.fail`` keeps its own error). If
its cancellation was asked for, it ends as ``cancelled`` instead. ``must_stop`` covers both.

A queued job that no worker takes by its ``start_by`` fails by ``overdue`` too, with the code
``wait_exceeded``. The wait starts anew after each attempt that has begun.
"""

import math

from sa_ray.contracts import Job, JobError
from sa_ray.errors import ConflictError
from sa_ray.jobs.endings import changed, finished

DEADLINE_EXCEEDED = "deadline_exceeded"
WAIT_EXCEEDED = "wait_exceeded"


def is_overdue(job: Job, now: float) -> bool:
    return job.deadline is not None and now >= job.deadline


def must_stop(job: Job, now: float) -> bool:
    """Return whether work on the running ``job`` is useless: cancelled, or past its deadline."""
    return job.cancel_requested or is_overdue(job, now)


def stop_at(job: Job) -> float | None:
    """Return the time from which the job must not go on (Unix seconds); None: it may for ever."""
    if job.status == "running":
        return 0.0 if job.cancel_requested else job.deadline
    if job.status != "queued":
        return None
    limits = [limit for limit in (job.deadline, job.start_by) if limit is not None]
    return min(limits, default=None)


def overdue(job: Job, now: float, served_since: float = -math.inf) -> Job:
    """End a queued job whose deadline has passed, or that has waited too long.

    ``served_since``: as for ``wait_anew``, which comes first.
    """
    if job.status == "queued" and is_overdue(job, now):
        return stopped(job, now)
    if job.status != "queued" or job.max_wait is None or job.start_by is None or now < job.start_by:
        raise ConflictError(f"Job {job.id} is not waiting past its time.")
    if (waiting := wait_anew(job, served_since)) is not job:
        return waiting
    error = JobError(
        code=WAIT_EXCEEDED,
        message=f"No replica of {job.request.model} took the job in {job.max_wait:g} seconds, the "
        "limit that STABLE_AUDIO_JOB_MAX_WAIT sets: the model cannot start, or has too few "
        "replicas. GET /v1/models tells its state.",
    )
    return finished(job, "failed", now, error=error)


def wait_anew(job: Job, served_since: float) -> Job:
    """Let a queued job that has waited through a break in the service wait its time once more.

    ``served_since``: when workers came back after the last time without any. That nobody was there
    is no reason to give a job up. Changes nothing if it came after the break.
    """
    if job.status != "queued" or job.max_wait is None or job.start_by is None:
        return job
    full_wait = served_since + job.max_wait
    return changed(job, start_by=full_wait) if job.start_by < full_wait else job


def stopped(job: Job, now: float) -> Job:
    """End a job that ``must_stop``."""
    if job.cancel_requested:
        return finished(job, "cancelled", now)
    seconds = (job.deadline or now) - job.created_at
    error = JobError(
        code=DEADLINE_EXCEEDED,
        message=f"The job had not finished {seconds:g} seconds after it was submitted, the limit "
        "that its expires_in set.",
    )
    return finished(job, "failed", now, error=error)
