"""Let jobs into the queues, and tell how much waits in them."""

import asyncio
from collections.abc import Callable

from sa_ray.contracts import Job, VariantName
from sa_ray.errors import InvalidRequestError, QueueFullError, RateLimitedError
from sa_ray.jobs import lifecycle
from sa_ray.jobs.api import JobSnapshot, QueueCounts, Submission
from sa_ray.jobs.inserts import Inserts
from sa_ray.jobs.ledger import Announce, JobLedger
from sa_ray.jobs.owner_limits import OwnerLimits
from sa_ray.jobs.queue_counts import QueueCounter
from sa_ray.jobs.store_threads import StoreThreads
from sa_ray.jobs.stores.port import JobStore
from sa_ray.scheduling.estimator import Estimator

BACKLOG_SAMPLE = 256
"""Most queued jobs that are read to estimate the work of all of them."""

AGE_SAMPLE = 16
"""Jobs at the head of a queue whose ages are looked at: the first may have overtaken others."""


class Queues:
    """The queues of a store, one for each variant, of at most ``max_queued`` jobs each.

    ``max_wait``: seconds that a job may wait for a worker; None: for ever. ``clock`` returns Unix
    seconds. ``announcer`` returns what is told of jobs that are found or stored. For one event
    loop.
    """

    def __init__(
        self,
        store: JobStore,
        threads: StoreThreads,
        limits: OwnerLimits,
        *,
        announcer: Callable[[], Announce],
        clock: Callable[[], float],
        max_queued: int,
        max_wait: float | None,
    ) -> None:
        self._store = store
        self._read = threads.read
        self._announcer = announcer
        self._clock = clock
        self._max_wait = max_wait
        self._limits = limits
        self._ledger = JobLedger(store, clock=clock)
        self._inserts = Inserts(self._ledger, threads, announcer)
        self._counter = QueueCounter(lambda: self._read(store.counts), max_queued)

    async def submit(self, submission: Submission) -> JobSnapshot:
        """Queue a job, or return the one that it repeats.

        Raises ``QueueFullError``, and as ``OwnerLimits.place`` does.
        """
        job = self._new_job(submission)
        try:
            async with self._limits.place(submission), self._counter.place(job.request.model):
                return await self._inserts(job)
        except (QueueFullError, RateLimitedError, InvalidRequestError):
            # A repeat may itself have filled the queue the first time.
            repeated = await self._read(self._ledger.repeated, job, self._announcer())
            if repeated is None:
                raise
            return repeated

    async def find_repeated(self, submission: Submission) -> JobSnapshot | None:
        job = self._new_job(submission)
        return await self._read(self._ledger.repeated, job, self._announcer())

    async def counts(self) -> QueueCounts:
        return await self._counter.counts()

    async def age(self, variant: VariantName) -> float:
        jobs = await self._read(self._store.next_jobs, variant, limit=AGE_SAMPLE)
        return max((self._clock() - job.created_at for job in jobs), default=0.0)

    async def backlog(self, variant: VariantName, estimator: Estimator, at_most: float) -> float:
        jobs, counts = await asyncio.gather(
            self._read(self._store.next_jobs, variant, limit=BACKLOG_SAMPLE), self.counts()
        )
        seconds = estimator.work((job.request for job in jobs), at_most)
        return seconds * max(1.0, counts[variant]["queued"] / BACKLOG_SAMPLE)

    def _new_job(self, one: Submission) -> Job:
        return lifecycle.new_job(
            one.job_id, one.request, self._clock(), one.options, max_wait=self._max_wait
        )
