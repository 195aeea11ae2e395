"""Schedule of a job's webhook calls: part of the pure state machine, as ``lifecycle`` is.

An attempt counts when it starts (``start_attempt``). So an attempt whose outcome is never reported
is repeated by schedule, and never runs twice at once.
"""

from typing import Any

from sa_ray.contracts import Job, Webhook
from sa_ray.errors import ConflictError
from sa_ray.jobs.api import Deferral

DELAYS_S = (5.0, 30.0, 120.0, 600.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0)
"""Seconds from a failed attempt to the next. After the last of them the webhook is given up, 22
hours after the job ended. The spread that the Standard Webhooks specification advises."""

MAX_ATTEMPTS = len(DELAYS_S) + 1

JITTER = 0.2
"""A delay is stretched by up to this fraction, so that receivers are not called in bursts."""

ATTEMPT_S = 60.0
"""Seconds after which an attempt without a reported outcome counts as failed."""


def start_attempt(job: Job, now: float) -> Job:
    """Count an attempt that is due. Raises ``ConflictError`` if none is due.

    ``next_attempt_at`` is None if the webhook was given up instead, because the outcome of the last
    attempt was never reported.
    """
    webhook = job.webhook
    if webhook is None or webhook.next_attempt_at is None or webhook.next_attempt_at > now:
        raise ConflictError(f"No webhook of job {job.id} is due.")
    attempts = webhook.attempts + 1
    if attempts > MAX_ATTEMPTS:
        return _changed(job, webhook, next_attempt_at=None)
    return _changed(job, webhook, attempts=attempts, next_attempt_at=now + ATTEMPT_S)


def deferred(job: Job, now: float, *, deferral: Deferral) -> Job:
    """Put back an attempt that was started and not made: it does not count.

    Changes nothing if its outcome is known, or another has followed.
    """
    webhook = job.webhook
    if (
        webhook is None
        or webhook.next_attempt_at is None
        or webhook.attempts != deferral.attempt
        or (webhook.error or "").startswith(error_of(deferral.attempt, ""))
    ):
        return job
    return _changed(
        job, webhook, attempts=webhook.attempts - 1, next_attempt_at=now + deferral.seconds
    )


def delivered(job: Job, attempt: int, now: float) -> Job:
    """Note that the receiver has taken the call, at whichever attempt."""
    webhook = job.webhook
    if webhook is None or webhook.delivered_at is not None:
        return job
    if not 1 <= attempt <= webhook.attempts:
        raise ConflictError(f"Attempt {attempt} to call the webhook of job {job.id} never began.")
    return _changed(job, webhook, delivered_at=now, next_attempt_at=None, error=None)


def failed(job: Job, attempt: int, error: str, now: float, jitter: float) -> Job:
    """Note that attempt number ``attempt`` met ``error``. ``jitter``: a random fraction in [0, 1).

    A report on an attempt that another has followed changes nothing.
    """
    webhook = job.webhook
    if (
        webhook is None
        or webhook.next_attempt_at is None
        or webhook.attempts != attempt
        or webhook.error == error_of(attempt, error)
    ):
        return job
    next_attempt_at = None
    if attempt < MAX_ATTEMPTS:
        next_attempt_at = now + DELAYS_S[attempt - 1] * (1 + JITTER * jitter)
    return _changed(job, webhook, error=error_of(attempt, error), next_attempt_at=next_attempt_at)


def error_of(attempt: int, error: str) -> str:
    return f"Attempt {attempt}: {error}"


def _changed(job: Job, webhook: Webhook, **changes: Any) -> Job:
    changed = webhook.model_copy(update=changes)
    return job.model_copy(update={"webhook": changed, "version": job.version + 1})
