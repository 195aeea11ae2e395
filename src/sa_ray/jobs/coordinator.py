"""Coordinate jobs: every operation is durable before it is answered.

A plain asyncio class; one instance runs per store, inside the detached actor. The store is the
truth. Only the progress of running attempts and the callers that wait are in memory. So it may be
killed at any time, and its successor on the same store carries on.
"""

import asyncio
import math
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

from sa_ray.contracts import (
    Job,
    JobError,
    JobResult,
    JobStatus,
    ResolvedRequest,
    UsageRow,
    VariantName,
)
from sa_ray.jobs import endings, lifecycle, webhook_schedule
from sa_ray.jobs.accounts import Accounts
from sa_ray.jobs.api import (
    ChangedJobs,
    Cursor,
    Deferral,
    JobApi,
    JobOptions,
    JobSnapshot,
    LeaseReport,
    LeaseVerdict,
    QueueCounts,
    Submission,
)
from sa_ray.jobs.ledger import Announce, JobLedger, Transition
from sa_ray.jobs.observing import JobObserver, Observers
from sa_ray.jobs.owner_limits import OwnerLimits
from sa_ray.jobs.progress import LiveProgress
from sa_ray.jobs.queue_ticks import TICK_S
from sa_ray.jobs.queueing import Queues
from sa_ray.jobs.reaper import Reaper
from sa_ray.jobs.renewals import Renewals
from sa_ray.jobs.store_threads import StoreThreads
from sa_ray.jobs.stores.port import QUEUE_HORIZON, JobStore
from sa_ray.jobs.watching import JobWatch
from sa_ray.jobs.workers import Workers
from sa_ray.scheduling.estimator import Estimator

LEASE_TTL_S = 10.0
"""Seconds; ten renewals. A worker that misses them all is as good as dead."""

REAP_PERIOD_S = 1.0
MAX_HOUSEKEEPING_WRITES = 8
"""Most writes at once for jobs that have ended: half of the threads, so that clients' come soon."""

T = TypeVar("T")


class JobCoordinator(JobApi):
    """Implements ``JobApi`` over a store. Call it from one event loop.

    ``clock`` returns Unix seconds and is called from several threads. ``max_queued`` bounds the
    queued jobs of each variant. In seconds: ``lease_ttl``, ``reap_period``, ``job_ttl`` after a
    job's end, ``max_wait`` for a worker (None: for ever), and ``queue_refresh_s``, the least time
    between two updates of queue positions for watchers. ``jitter`` returns fractions in [0, 1).
    ``observer`` is told what becomes of jobs, besides the accounts of usage.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        clock: Callable[[], float],
        max_queued: int,
        lease_ttl: float = LEASE_TTL_S,
        reap_period: float = REAP_PERIOD_S,
        job_ttl: float = 7 * 86_400.0,
        max_wait: float | None = None,
        jitter: Callable[[], float] = random.random,
        queue_refresh_s: float = TICK_S,
        observer: JobObserver | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._reap_period = reap_period
        self._job_ttl = job_ttl
        self._jitter = jitter
        self._ledger = JobLedger(store, clock=clock)
        threads = self._threads = StoreThreads()
        self._read, self._write = threads.read, threads.write
        self._progress = LiveProgress()
        self._workers = Workers(math.ceil(lease_ttl / reap_period))
        self._housekeepers = asyncio.Semaphore(MAX_HOUSEKEEPING_WRITES)
        self._watch = JobWatch(self._read_queue, queue_refresh_s)
        self._accounts = Accounts(store, threads, clock)
        self._queues = Queues(
            store,
            threads,
            OwnerLimits(
                lambda owner: self._read(store.queued_of, owner), self.audio_seconds, clock
            ),
            announcer=self._announcer,
            clock=clock,
            max_queued=max_queued,
            max_wait=max_wait,
        )
        self._told = Observers([self._accounts.jobs, *([observer] if observer else [])])
        self._renewals = Renewals(
            store,
            threads,
            self._workers,
            self._progress,
            touch=self._watch.touch,
            release=self.release,
            clock=clock,
        )

    # For clients

    async def submit_all(self, submissions: Sequence[Submission]) -> list[JobSnapshot | Exception]:
        return await _outcomes(
            self.submit(one.job_id, one.request, one.options) for one in submissions
        )

    async def get_all(self, job_ids: Sequence[str]) -> list[JobSnapshot | Exception]:
        return [
            found
            if isinstance(found, Exception)
            else replace(found, job=self._progress.overlaid(found.job))
            for found in await self._read(self._ledger.snapshots, job_ids)
        ]

    async def submit(
        self, job_id: str, request: ResolvedRequest, options: JobOptions | None = None
    ) -> JobSnapshot:
        submission = Submission(job_id, request, options or JobOptions())
        snapshot = await self._queues.submit(submission)
        # Nothing is awaited in between: what the limits let in is in the accounts by the next one.
        if not snapshot.replayed:
            self._told.submitted(snapshot.job)
        return snapshot

    async def find_repeated(self, submission: Submission) -> JobSnapshot | None:
        return await self._queues.find_repeated(submission)

    async def get(self, job_id: str) -> JobSnapshot:
        [found] = await self.get_all([job_id])
        if isinstance(found, Exception):
            raise found
        return found

    async def changed(self, after: str | None, timeout_s: float) -> ChangedJobs:
        return await self._watch.changed(after, timeout_s)

    async def page(
        self,
        limit: int,
        after: Cursor | None = None,
        status: JobStatus | None = None,
        *,
        owner: str | None = None,
        prompts: bool = True,
    ) -> list[JobSnapshot]:
        def page() -> list[Job]:
            jobs = self._store.page(limit=limit, after=after, status=status, owner=owner)
            return jobs if prompts else [job.without_prompts() for job in jobs]

        jobs = await self._threads.list(page)
        return [JobSnapshot(self._progress.overlaid(job), None) for job in jobs]

    async def cancel(self, job_id: str) -> Job:
        return await self._apply(job_id, lifecycle.cancel)

    async def forget(self, job_id: str) -> None:
        await self._forget(job_id)

    # For workers

    async def lease(self, variant: VariantName, worker: str, limit: int) -> list[Job]:
        with self._workers.calling(worker):
            announce = self._announcer(self._told.leased)
            return await self._write(self._ledger.claim, variant, worker, limit, announce)

    async def wait_for_work(self, variant: VariantName, wait_s: float) -> None:
        async def due_in() -> float | None:
            due = await self._read(self._store.next_due, variant)
            return None if due is None else due - self._clock()

        await self._watch.work(variant, due_in, wait_s)

    async def renew(
        self, worker: str, reports: Sequence[LeaseReport], *, leasing: bool = False
    ) -> list[LeaseVerdict]:
        return await self._renewals.renew(worker, reports, leasing=leasing)

    async def succeed(self, job_id: str, token: int, result: JobResult) -> Job:
        return await self._apply(
            job_id, lambda job, now: lifecycle.succeed(job, token, result, now)
        )

    async def fail(self, job_id: str, token: int, error: JobError) -> Job:
        return await self._apply(job_id, lambda job, now: lifecycle.fail(job, token, error, now))

    async def retry(self, job_id: str, token: int, reason: JobError) -> Job:
        return await self._apply(job_id, lambda job, now: lifecycle.retry(job, token, reason, now))

    async def release(self, job_id: str, token: int) -> Job:
        began = self._progress.has_begun(job_id, token)
        return await self._apply(
            job_id, lambda job, now: lifecycle.release(job, token, now, began=began)
        )

    async def acknowledge_cancel(self, job_id: str, token: int) -> Job:
        return await self._apply(
            job_id, lambda job, now: lifecycle.acknowledge_cancel(job, token, now)
        )

    # For work after the end of a job. Each list gives the longest due first.

    async def unclean_jobs(self, limit: int) -> list[Job]:
        return await self._read(self._store.unclean, now=self._clock(), limit=limit)

    async def cleaned_all(self, jobs: Sequence[Job]) -> list[Job | Exception]:
        return await self._aside(partial(self._apply, job.id, endings.cleaned, job) for job in jobs)

    async def expired_jobs(self, limit: int) -> list[Job]:
        return await self._read(
            self._store.ended, before=self._clock() - self._job_ttl, limit=limit
        )

    async def forget_all(self, jobs: Sequence[Job]) -> list[Exception | None]:
        return await self._aside(partial(self._forget, job.id, job) for job in jobs)

    async def start_webhooks(self, limit: int) -> list[Job]:
        return await self._write(self._ledger.start_webhooks, limit)

    async def defer_webhooks(self, deferrals: Sequence[Deferral]) -> list[Job | Exception]:
        return await self._aside(
            partial(self._apply, one.job_id, partial(webhook_schedule.deferred, deferral=one))
            for one in deferrals
        )

    async def webhook_delivered(self, job_id: str, attempt: int) -> Job:
        return await self._apply(
            job_id, lambda job, now: webhook_schedule.delivered(job, attempt, now)
        )

    async def webhook_failed(self, job_id: str, attempt: int, error: str) -> Job:
        jitter = self._jitter()
        return await self._apply(
            job_id, lambda job, now: webhook_schedule.failed(job, attempt, error, now, jitter)
        )

    # For operators

    async def counts(self) -> QueueCounts:
        return await self._queues.counts()

    async def backlog(self, variant: VariantName, estimator: Estimator, at_most: float) -> float:
        return await self._queues.backlog(variant, estimator, at_most)

    async def secret(self, name: str) -> str:
        return await self._write(self._store.secret, name, secrets.token_hex(32))

    async def queue_age(self, variant: VariantName) -> float:
        """Return the age in seconds of the oldest of the jobs that are next; 0: none waits."""
        return await self._queues.age(variant)

    async def add_usage(self, report_id: str, rows: Sequence[UsageRow]) -> None:
        await self._accounts.add(report_id, rows)

    async def usage(self, first: str, last: str, owner: str | None) -> list[UsageRow]:
        return await self._accounts.read(first, last, owner)

    async def audio_seconds(self, owner: str, day: str) -> float:
        return await self._accounts.accepted_seconds(owner, day)

    async def check(self) -> None:
        await self._write(self._store.check)

    async def run_reaper(self) -> None:
        """Take back leases of dead workers and end jobs that wait past their time, without end."""
        reaper = Reaper(
            self._store, self._threads, self._workers, apply=self._apply, clock=self._clock
        )
        while True:
            await reaper.round()
            await asyncio.sleep(self._reap_period)

    async def close(self) -> None:
        """Finish the store calls under way and close the store."""
        await self._watch.close()
        await self._accounts.close()
        await self._threads.close()
        self._store.close()

    async def _read_queue(self, variant: VariantName) -> list[str]:
        return await self._read(self._store.queue, variant, limit=QUEUE_HORIZON)

    def _announcer(self, tell: Callable[[Job], object] = lambda _: None) -> Announce:
        # The thread that made a change durable announces it, so that waiters hear of it even if
        # the coroutine that asked for the change was cancelled.
        loop = asyncio.get_running_loop()
        return lambda jobs: loop.call_soon_threadsafe(self._announce, jobs, tell)

    def _announce(self, jobs: Sequence[Job], tell: Callable[[Job], object]) -> None:
        for job in jobs:
            if job.status != "running":
                self._progress.drop(job.id, job.token)
            self._watch.announce(job)
            tell(job)

    async def _aside(self, calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T | Exception]:
        """Make ``calls`` in an order of their own, a few at a time: clients' writes go between."""

        async def one(call: Callable[[], Awaitable[T]]) -> T:
            async with self._housekeepers:
                return await call()

        return await _outcomes(map(one, calls))

    async def _apply(self, job_id: str, transition: Transition, known: Job | None = None) -> Job:
        change = self._told.change_by(transition)
        announce = self._announcer(change.stored)
        return await self._write(self._ledger.apply, job_id, change, announce, known)

    async def _forget(self, job_id: str, known: Job | None = None) -> None:
        await self._write(self._ledger.delete, job_id, known)
        self._watch.touch(job_id)


async def _outcomes(calls: Iterable[Awaitable[T]]) -> list[T | Exception]:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return cast(list[T | Exception], outcomes)
