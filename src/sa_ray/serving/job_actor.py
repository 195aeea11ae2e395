"""The detached job actor: a Ray shell, one line a method, over ``JobCoordinator``."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar, cast

from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayError

from sa_ray.contracts import Job, JobError, JobResult, JobStatus, ResolvedRequest, VariantName
from sa_ray.errors import SaRayError, StorageError
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
from sa_ray.scheduling.estimator import Estimator
from sa_ray.telemetry import configure_logging

logger = logging.getLogger(__name__)

OPEN_RETRY_S = 2.0
WATCH_PERIOD_S = 1.0
WATCH_TIMEOUT_S = 10.0
OPEN_PATIENCE_S = 10.0
"""How long the first calls wait for the store, before they are told that it is being opened."""

T = TypeVar("T")

Submit = tuple[str, ResolvedRequest, JobOptions]
"""The arguments of ``JobCoordinator.submit``."""


class JobActor:
    """May be killed at any time: what it has answered for is in the store.

    ``fingerprint`` names the code and the settings that it was made with.
    """

    async def __init__(  # type: ignore[misc] # Ray awaits it
        self, jobs_url: str, max_queued: int, job_ttl: float, fingerprint: str
    ) -> None:
        configure_logging()
        self._fingerprint = fingerprint
        self._jobs_url = jobs_url
        self._max_queued = max_queued
        self._job_ttl = job_ttl
        self._coordinator: JobCoordinator | None = None
        self._problem = "The job store is being opened."
        self._tried = asyncio.Event()
        self._work = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), OPEN_PATIENCE_S)

    async def _run(self) -> None:
        while self._coordinator is None:
            try:
                store = await asyncio.to_thread(open_job_store, self._jobs_url)
            except SaRayError as error:
                # An actor whose constructor fails is gone for good: this one waits instead.
                self._problem = error.message
                logger.error("the job store cannot be opened: %s", error.message)
                self._tried.set()
                await asyncio.sleep(OPEN_RETRY_S)
            else:
                self._coordinator = JobCoordinator(
                    store, clock=time.time, max_queued=self._max_queued, job_ttl=self._job_ttl
                )
        self._tried.set()
        await self._coordinator.run_reaper()

    @property
    def _jobs(self) -> JobCoordinator:
        if self._coordinator is None:
            raise StorageError(self._problem, retry_after_s=5)
        return self._coordinator

    async def fingerprint(self) -> str:
        return self._fingerprint

    async def check(self) -> None:
        await self._jobs.check()

    async def submit_all(self, jobs: Sequence[Submit]) -> list[JobSnapshot | Exception]:
        return await _outcomes(self._jobs.submit(*job) for job in jobs)

    async def get_all(self, job_ids: Sequence[str]) -> list[JobSnapshot | Exception]:
        return await _outcomes(map(self._jobs.get, job_ids))

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

    async def backlog(self, variant: VariantName, estimator: Estimator, at_most: float) -> float:
        return await self._jobs.backlog(variant, estimator, at_most)

    async def cancel(self, job_id: str) -> Job:
        return await self._jobs.cancel(job_id)

    async def forget(self, job_id: str) -> None:
        await self._jobs.forget(job_id)

    async def lease(self, variant: VariantName, worker: str, limit: int) -> list[Job]:
        return await self._jobs.lease(variant, worker, limit)

    async def wait_for_work(self, variant: VariantName, wait_s: float) -> None:
        await self._jobs.wait_for_work(variant, wait_s)

    async def renew(self, worker: str, reports: list[LeaseReport]) -> list[LeaseVerdict]:
        return await self._jobs.renew(worker, reports)

    async def watch(self, worker: str, process: ActorHandle[Any]) -> None:
        """Take back the jobs of ``worker`` as soon as its process is dead; return then."""
        while True:
            if not await _may_live(process):
                break
            await asyncio.sleep(WATCH_PERIOD_S)
        logger.warning("worker %s has died", worker)
        await self._jobs.retire(worker)

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


async def _outcomes(calls: Iterable[Awaitable[T]]) -> list[T | Exception]:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return cast(list[T | Exception], outcomes)


async def _may_live(process: ActorHandle[Any]) -> bool:
    """False only if Ray is sure: a process that does not answer may still be at work."""
    try:
        async with asyncio.timeout(WATCH_TIMEOUT_S):
            await process.__ray_ready__.remote()
    except ActorDiedError:
        return False
    except (RayError, TimeoutError):
        pass
    return True
