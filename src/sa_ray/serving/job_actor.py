"""The detached job actor: a Ray shell, one line a method, over ``JobCoordinator``."""

import asyncio
import time

from sa_ray.contracts import Job, JobError, JobResult, JobStatus, ResolvedRequest, VariantName
from sa_ray.jobs import (
    Cursor,
    JobChange,
    JobCoordinator,
    JobOptions,
    JobSnapshot,
    LeaseReport,
    LeaseVerdict,
    QueueCounts,
    open_job_store,
)
from sa_ray.telemetry import configure_logging


class JobActor:
    """May be killed at any time: what it has answered for is in the store.

    ``fingerprint`` names the code and the settings that it was made with.
    """

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, jobs_url: str, max_queued: int, fingerprint: str
    ) -> None:
        configure_logging()
        self._fingerprint = fingerprint
        self._jobs = JobCoordinator(
            open_job_store(jobs_url), clock=time.time, max_queued=max_queued
        )
        self._reaper = asyncio.create_task(self._jobs.run_reaper())

    async def fingerprint(self) -> str:
        return self._fingerprint

    async def check(self) -> None:
        await self._jobs.check()

    async def submit(
        self, job_id: str, request: ResolvedRequest, options: JobOptions | None = None
    ) -> JobSnapshot:
        return await self._jobs.submit(job_id, request, options)

    async def get(self, job_id: str) -> JobSnapshot:
        return await self._jobs.get(job_id)

    async def wait(self, job_id: str, timeout_s: float) -> JobSnapshot:
        return await self._jobs.wait(job_id, timeout_s)

    async def changes(self, job_id: str, after: str | None, timeout_s: float) -> JobChange:
        return await self._jobs.changes(job_id, after, timeout_s)

    async def page(
        self,
        limit: int,
        after: Cursor | None,
        status: JobStatus | None,
        variant: VariantName | None,
    ) -> list[JobSnapshot]:
        return await self._jobs.page(limit, after, status, variant)

    async def counts(self) -> QueueCounts:
        return await self._jobs.counts()

    async def cancel(self, job_id: str) -> Job:
        return await self._jobs.cancel(job_id)

    async def forget(self, job_id: str) -> None:
        await self._jobs.forget(job_id)

    async def lease(self, variant: VariantName, worker: str, limit: int) -> list[Job]:
        return await self._jobs.lease(variant, worker, limit, wait_s=0)

    async def wait_for_work(self, variant: VariantName, wait_s: float) -> None:
        await self._jobs.wait_for_work(variant, wait_s)

    async def renew(self, worker: str, reports: list[LeaseReport]) -> list[LeaseVerdict]:
        return await self._jobs.renew(worker, reports)

    async def succeed(self, job_id: str, token: int, result: JobResult) -> Job:
        return await self._jobs.succeed(job_id, token, result)

    async def fail(self, job_id: str, token: int, error: JobError) -> Job:
        return await self._jobs.fail(job_id, token, error)

    async def retry(self, job_id: str, token: int, reason: JobError) -> Job:
        return await self._jobs.retry(job_id, token, reason)

    async def release(self, job_id: str, token: int) -> Job:
        return await self._jobs.release(job_id, token)

    async def acknowledge_cancel(self, job_id: str, token: int) -> Job:
        return await self._jobs.acknowledge_cancel(job_id, token)

    async def unclean_jobs(self, limit: int) -> list[Job]:
        return await self._jobs.unclean_jobs(limit)

    async def cleaned(self, job_id: str) -> Job:
        return await self._jobs.cleaned(job_id)

    async def expired_jobs(self, limit: int) -> list[Job]:
        return await self._jobs.expired_jobs(limit)

    async def start_webhooks(self, limit: int) -> list[Job]:
        return await self._jobs.start_webhooks(limit)

    async def webhook_delivered(self, job_id: str, attempt: int) -> Job:
        return await self._jobs.webhook_delivered(job_id, attempt)

    async def webhook_failed(self, job_id: str, attempt: int, error: str) -> Job:
        return await self._jobs.webhook_failed(job_id, attempt, error)
