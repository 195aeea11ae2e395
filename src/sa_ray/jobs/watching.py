"""Watch jobs: wait for their end, follow their changes, wait for work."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from sa_ray.contracts import FINAL_STATUSES, Job, VariantName
from sa_ray.jobs.api import JobChange, JobSnapshot
from sa_ray.jobs.changes import QueueWatch, change_of
from sa_ray.jobs.wakeups import Wakeups, wait_for

MIN_WAIT_S = 0.001
"""Least pause before a job that is almost due: event loop and clock need not agree exactly."""


class JobWatch:
    """Wakes those who wait for something to happen to a job, or for a job. For one event loop.

    ``read`` reads a job, ``read_queue`` the ids of a variant's queue in order; places in the queue
    are read at most every ``queue_refresh_s`` seconds.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[JobSnapshot]],
        read_queue: Callable[[VariantName], Awaitable[Sequence[str]]],
        queue_refresh_s: float,
    ) -> None:
        self._read = read
        self._work = Wakeups[VariantName]()
        self._ends = Wakeups[str]()
        self._changes = Wakeups[str]()
        self._queues = QueueWatch(read_queue, self.touch, queue_refresh_s)

    def announce(self, job: Job) -> None:
        """A change of ``job`` is stored."""
        self.touch(job.id)
        self._queues.touch(job.request.model)
        if job.status == "queued":
            self._work.notify(job.request.model)
        elif job.status in FINAL_STATUSES:
            self._ends.notify(job.id)

    def touch(self, job_id: str) -> None:
        """Something that is shown of the job has changed."""
        self._changes.notify(job_id)

    async def end(self, job_id: str, timeout_s: float) -> JobSnapshot:
        """Return the job once it has ended, or as it is after ``timeout_s`` seconds."""
        with self._ends.listen(job_id) as ended:
            snapshot = await self._read(job_id)
            if snapshot.job.status in FINAL_STATUSES:
                return snapshot
            await wait_for(ended, timeout_s)
        return await self._read(job_id)

    async def change(self, job_id: str, after: str | None, timeout_s: float) -> JobChange:
        """Implement ``JobApi.changes``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with self._changes.listen(job_id) as changed:
            while True:
                changed.clear()
                change = change_of(await self._read(job_id))
                job = change.snapshot.job
                remaining = deadline - loop.time()
                if change.event_id != after or remaining <= 0 or job.status in FINAL_STATUSES:
                    return change
                with self._watching_queue(change.snapshot):
                    await wait_for(changed, remaining)

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

    def _watching_queue(self, snapshot: JobSnapshot) -> contextlib.AbstractContextManager[None]:
        if snapshot.queue_position is None:
            return contextlib.nullcontext()
        job = snapshot.job
        return self._queues.watch(job.request.model, job.id, snapshot.queue_position)
