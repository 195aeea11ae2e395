"""View of a stored job for its client."""

import logging
from datetime import UTC, datetime

from sa_ray.contracts import ClipFields, Job, JobTimings, JobView
from sa_ray.errors import ObjectStoreError
from sa_ray.jobs import JobSnapshot
from sa_ray.storage import ObjectStore

logger = logging.getLogger(__name__)


def status_url(base_url: str, job_id: str) -> str:
    """Return the job's URL. ``base_url``: the address the client used, without a trailing slash."""
    return f"{base_url}/jobs/{job_id}"


def job_view(snapshot: JobSnapshot, *, base_url: str, store: ObjectStore) -> JobView:
    """Build the client's view. The download URL is minted now, so it is never stale."""
    job = snapshot.job
    request, result = job.request, job.result
    return JobView(
        id=job.id,
        status=job.status,
        status_url=status_url(base_url, job.id),
        **request.model_dump(include=set(ClipFields.model_fields)),
        created_at=_time(job.created_at),
        started_at=_time_or_none(job.started_at),
        completed_at=_time_or_none(job.completed_at),
        priority=job.priority,
        expires_at=_time_or_none(job.deadline),
        queue_position=snapshot.queue_position,
        progress=100.0 if job.status == "succeeded" else round(100 * job.progress, 1),
        attempts=job.attempts,
        cancel_requested=job.cancel_requested,
        engine=result.audio.engine if result else None,
        sample_rate=result.audio.sample_rate if result else None,
        audio_duration=result.audio.duration if result else None,
        size_bytes=result.object.size if result else None,
        sha256=result.object.sha256 if result else None,
        download_url=_download_url(job, base_url, store),
        storage_backend=result.object.backend if result else store.backend,
        storage_key=result.object.key if result else None,
        error=job.error.message if job.error else None,
        error_code=job.error.code if job.error else None,
        timings=_timings(job),
    )


def _download_url(job: Job, base_url: str, store: ObjectStore) -> str | None:
    if job.result is None or job.result.object.backend != store.backend:
        return None
    try:
        return store.url(job.result.object.key) or f"{base_url}/jobs/{job.id}/audio"
    except ObjectStoreError as error:
        # The job can be read all the same; the audio route says what is wrong.
        logger.warning("no URL for job %s: %s", job.id, error.message)
        return None


def _timings(job: Job) -> JobTimings:
    return JobTimings(
        queued_seconds=_between(job.created_at, job.started_at),
        generation_seconds=job.result.audio.generation_seconds if job.result else None,
        upload_seconds=job.result.upload_seconds if job.result else None,
        total_seconds=_between(job.created_at, job.completed_at),
    )


def _between(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 3)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _time_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
