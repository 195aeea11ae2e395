"""Reap the leases of dead workers, and jobs that wait past their time."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from sa_ray.contracts import Job
from sa_ray.errors import ConflictError, JobNotFoundError, JobStoreError, StaleLeaseError
from sa_ray.jobs import lifecycle, time_limits
from sa_ray.jobs.api import Cursor
from sa_ray.jobs.ledger import Transition
from sa_ray.jobs.service_time import ServiceTime
from sa_ray.jobs.store_threads import StoreThreads
from sa_ray.jobs.stores.port import HeldLease, JobStore
from sa_ray.jobs.workers import Workers

logger = logging.getLogger(__name__)

REAP_BATCH = 256


class Apply(Protocol):
    def __call__(self, job_id: str, transition: Transition, /) -> Awaitable[Job]: ...


class Reaper:
    """Takes back the leases of dead workers, and ends queued jobs past their time.

    ``apply`` stores a transition; ``clock`` returns Unix seconds.
    """

    def __init__(
        self,
        store: JobStore,
        threads: StoreThreads,
        workers: Workers,
        *,
        apply: Apply,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._read, self._write = threads.read, threads.write
        self._workers = workers
        self._apply = apply
        self._clock = clock
        self._service = ServiceTime()
        self._break_end = self._service.since
        """Of the last break that is stored, or being stored."""
        self._next_page: Cursor | None = None
        self._storing = False

    async def round(self) -> None:
        try:
            heartbeats = await self._read(self._store.heartbeats)
            served_since = self._service.look(heartbeats, self._clock())
            await self._store_break()
            late = await self._read(self._store.overdue, now=self._clock(), limit=REAP_BATCH)
            await asyncio.gather(*(self._end(job, served_since) for job in late))
            for worker in self._workers.look(heartbeats):
                await self._bury(worker, heartbeats[worker])
        except JobStoreError as error:
            logger.warning("Cannot take back leases of dead workers now: %s", error.message)
        except Exception:  # a bug must not cost all jobs their reaper
            logger.exception("Taking back leases of dead workers failed")

    async def _store_break(self) -> None:
        """After a break, store for jobs that waited through it that they wait anew: who reaps next
        does not know of it. A page in each round, so that nothing else waits for all of them."""
        since = self._service.since
        if since != self._break_end:
            self._break_end, self._next_page, self._storing = since, None, True
        if not self._storing:
            return
        page = await self._read(
            self._store.page, limit=REAP_BATCH, after=self._next_page, status="queued"
        )
        waited = [job for job in page if time_limits.wait_anew(job, since) is not job]
        await asyncio.gather(*(self._lengthen_wait(job, since) for job in waited))
        self._storing = len(page) == REAP_BATCH
        if self._storing:
            self._next_page = Cursor(page[-1].created_at, page[-1].id)

    async def _lengthen_wait(self, job: Job, since: float) -> None:
        with contextlib.suppress(JobNotFoundError):
            await self._apply(job.id, lambda job, _now: time_limits.wait_anew(job, since))

    async def _end(self, late: Job, served_since: float) -> None:
        with contextlib.suppress(ConflictError, JobNotFoundError):  # it was just leased or ended
            await self._apply(late.id, lambda job, now: time_limits.overdue(job, now, served_since))

    async def _bury(self, worker: str, heartbeat: float) -> None:
        leases = await self._read(self._store.leases, worker)
        taken = await asyncio.gather(*(self._take_back(worker, lease) for lease in leases))
        if any(taken):
            logger.warning("worker %s is silent: took back %d jobs", worker, sum(taken))
        await self._write(self._store.forget_worker, worker, heartbeat)

    async def _take_back(self, worker: str, lease: HeldLease) -> bool:
        if not self._workers.is_dead(worker):
            return False  # it has called meanwhile
        try:
            await self._apply(
                lease.job_id, lambda job, now: lifecycle.take_back(job, lease.token, now)
            )
        except (StaleLeaseError, JobNotFoundError):
            return False  # it ended meanwhile
        except JobStoreError as error:
            if error.transient:
                raise
            return False  # it cannot be read, which must not cost the others their reaper
        return True
