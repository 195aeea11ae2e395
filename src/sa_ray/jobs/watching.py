"""Watch jobs: tell which have changed, and wait for work."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from sa_ray.contracts import Job, VariantName
from sa_ray.jobs.api import ChangedJobs
from sa_ray.jobs.changes import ChangeLog
from sa_ray.jobs.queue_ticks import QueueTicks
from sa_ray.jobs.wakeups import Wakeups, wait_for

MIN_WAIT_S = 0.001
"""Least pause before a job that is almost due: event loop and clock need not agree exactly."""


class JobWatch:
    """Wakes those who wait for something to happen to jobs, or for a job. For one event loop.

    ``read_queue`` reads the ids of the first jobs of a variant's queue in order; that is done at
    most every ``queue_refresh_s`` seconds.
    """

    def __init__(
        self,
        read_queue: Callable[[VariantName], Awaitable[Sequence[str]]],
        queue_refresh_s: float,
    ) -> None:
        self._work = Wakeups[VariantName]()
        self._log = ChangeLog()
        self._queues = QueueTicks(read_queue, self._log.note, queue_refresh_s)

    def announce(self, job: Job) -> None:
        """A change of ``job`` is stored."""
        self.touch(job.id)
        self._queues.touch(job.request.model)
        if job.status == "queued":
            self._work.notify(job.request.model)

    def touch(self, job_id: str) -> None:
        """Something that is shown of the job has changed."""
        self._log.note(job_id)

    async def changed(self, after: str | None, timeout_s: float) -> ChangedJobs:
        """Implement ``JobApi.changed``."""
        with self._queues.watching():
            return await self._log.after(after, timeout_s)

    async def work(
        self,
        variant: VariantName,
        due_in: Callable[[], Awaitable[float | None]],
        wait_s: float,
    ) -> None:
        """Return when a job of ``variant`` is due, or after ``wait_s`` seconds. ``due_in`` reads in
        how many seconds the next one is; None: none waits."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        with self._work.listen(variant) as arrived:
            while (remaining := deadline - loop.time()) > 0:
                arrived.clear()
                seconds = await due_in()
                if seconds is not None:
                    if seconds <= 0:
                        return
                    remaining = min(remaining, max(seconds, MIN_WAIT_S))
                await wait_for(arrived, remaining)

    async def close(self) -> None:
        await self._queues.close()
