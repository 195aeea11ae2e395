"""What stores keep beside the JSON of a job, for their queries."""

from typing import Any

from sa_ray.contracts import Job
from sa_ray.jobs.lifecycle import queue_order


def columns(job: Job) -> dict[str, Any]:
    """Values by name; None where the job must not be found by that index."""
    return {
        "id": job.id,
        "variant": job.request.model,
        "status": job.status,
        "created_at": job.created_at,
        "queue_order": queue_order(job),
        "not_before": job.not_before,
        "deadline": job.deadline if job.status == "queued" else None,
        "lease_expires_at": None if job.lease is None else job.lease.expires_at,
        "completed_at": job.completed_at,
        "cleanup_at": job.cleanup_at,
        "webhook_at": None if job.webhook is None else job.webhook.next_attempt_at,
        "idempotency_key": job.idempotency_key,
        "token": job.token,
        "version": job.version,
        "body": job.model_dump_json(),
    }


def stored_job(body: str | bytes, lease_expires_at: float | None) -> Job:
    """The job of a row: the column holds the expiry, which renewals move without the body."""
    job = Job.model_validate_json(body)
    if job.lease is None or job.lease.expires_at == lease_expires_at:
        return job
    lease = job.lease.model_copy(update={"expires_at": lease_expires_at})
    return job.model_copy(update={"lease": lease})
