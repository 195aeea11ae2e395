"""Store new jobs by one writer, which takes all that have come since it wrote last."""

import asyncio
from collections.abc import Callable, Sequence

from sa_ray.contracts import Job
from sa_ray.jobs.api import JobSnapshot
from sa_ray.jobs.ledger import Announce, JobLedger
from sa_ray.jobs.outcomes import hand_out
from sa_ray.jobs.store_threads import StoreThreads

MAX_TOGETHER = 256
"""Most jobs in one write: more would keep the first of them waiting for the last."""


class Inserts:
    """Inserts jobs into a store. For one event loop.

    A write waits for a disk or a server as long for a hundred jobs as for one.
    """

    def __init__(
        self, ledger: JobLedger, threads: StoreThreads, announcer: Callable[[], Announce]
    ) -> None:
        self._ledger = ledger
        self._threads = threads
        self._announcer = announcer
        self._waiting: list[tuple[Job, asyncio.Future[JobSnapshot]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def __call__(self, job: Job) -> JobSnapshot:
        """Store ``job``, or return the one that it repeats, as ``JobLedger.insert_all`` does.

        A job whose caller has gone is stored all the same.
        """
        stored: asyncio.Future[JobSnapshot] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, stored))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        return await stored

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                group = self._waiting[:MAX_TOGETHER]
                del self._waiting[:MAX_TOGETHER]
                await self._write(group)
        finally:
            self._writing = None

    async def _write(self, group: Sequence[tuple[Job, "asyncio.Future[JobSnapshot]"]]) -> None:
        outcomes: list[JobSnapshot | Exception]
        try:
            outcomes = await self._threads.write(
                self._ledger.insert_all, [job for job, _ in group], self._announcer()
            )
        except Exception as error:  # noqa: BLE001 - raised again in those who wait
            outcomes = [error] * len(group)
        hand_out([stored for _, stored in group], outcomes)
