"""What jobs ask for and come to, and those who watch them, for the tests of the job system."""

from contextlib import aclosing

from sa_ray.contracts import (
    AudioInfo,
    Job,
    JobError,
    JobResult,
    ResolvedRequest,
    StoredObject,
    VariantName,
)
from sa_ray.errors import ConflictError
from sa_ray.jobs import JobChange, JobCoordinator, JobSnapshot, JobStore
from sa_ray.serving.ingress.job_feed import JobFeed

FAULT = JobError(code="worker_died", message="The node was lost.")
RESULT = JobResult(
    audio=AudioInfo(
        engine="procedural",
        sample_rate=44_100,
        channels=2,
        duration=1.0,
        format="wav",
        generation_seconds=0.123456789,
    ),
    object=StoredObject(backend="local", key="a.wav", size=4, sha256="0" * 64),
    upload_seconds=0.1,
)


def resolved(variant: VariantName = "small-sfx", prompt: str = "rain") -> ResolvedRequest:
    return ResolvedRequest(
        model=variant, prompt=prompt, duration=1.0, steps=8, cfg_scale=1.0, seed=7
    )


def insert(store: JobStore, *jobs: Job) -> None:
    """Store new jobs, one after the other. Raises ``ConflictError`` at one that is refused."""
    for job in jobs:
        if store.insert_all([job]) != [True]:
            raise ConflictError(f"{job.id} is taken")


def place_of(store: JobStore, job: Job) -> int | None:
    """Return the place of a stored job in its queue; None: it is in none."""
    found = store.snapshots([job.id])[job.id]
    assert isinstance(found, JobSnapshot)
    return found.queue_position


def feed_of(jobs: JobCoordinator, limit: int = 10_000) -> JobFeed:
    """Return what an ingress replica watches jobs with, without an actor in between."""
    return JobFeed(jobs.changed, jobs.get, limit)


async def end_of(jobs: JobCoordinator, job_id: str) -> JobSnapshot:
    """Return the job once it has ended, as its watchers hear of it."""
    return await feed_of(jobs).end(job_id, 60)


async def next_change(jobs: JobCoordinator, job_id: str, after: str | None = None) -> JobChange:
    """Return the job as soon as its watchers see another change than ``after``."""
    async with aclosing(feed_of(jobs).follow(job_id, 60)) as changes:
        async for change in changes:
            if change and change.event_id != after:
                return change
    raise AssertionError(f"job {job_id} has ended as {after}")
