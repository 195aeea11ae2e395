"""Changes of a job for its watchers: its state, its place in the queue, its progress.

A change is identified by what it shows, not by a counter. A watcher that comes back with the last
``event_id`` it saw, to any coordinator, hears at once if anything is different now.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from sa_ray.contracts import VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs.api import JobChange, JobSnapshot

REFRESH_PERIOD_S = 1.0
"""Least seconds between two reads of the order of a queue for its watchers."""

EXACT_PLACES = 20


def change_of(snapshot: JobSnapshot) -> JobChange:
    job = snapshot.job
    shown = (
        job.status,
        job.token,
        int(job.cancel_requested),
        coarse(snapshot.queue_position or 0),
        round(1000 * job.progress),
    )
    return JobChange(".".join(map(str, shown)), snapshot)


def coarse(position: int) -> int:
    """Round a queue position: exact to 20, then about 10% steps.

    Otherwise each step of a queue of a thousand jobs would wake every watcher.
    """
    if position <= EXACT_PLACES:
        return position
    step: int = 5 * 10 ** (len(str(position)) - 2)
    return position // step * step


class QueueWatch:
    """Wakes the watchers of a waiting job when its place changes. For one event loop.

    ``read`` returns the ids of a variant's queue in order; ``wake`` is called with a job's id. One
    read serves all watchers of a variant, at most one every ``period_s`` seconds.
    """

    def __init__(
        self,
        read: Callable[[VariantName], Awaitable[Sequence[str]]],
        wake: Callable[[str], None],
        period_s: float = REFRESH_PERIOD_S,
    ) -> None:
        self._read = read
        self._wake = wake
        self._period_s = period_s
        self._watchers: dict[VariantName, Counter[str]] = {}
        self._known: dict[str, int] = {}
        self._stale: set[VariantName] = set()
        self._refreshing: dict[VariantName, asyncio.Task[None]] = {}

    @contextmanager
    def watch(self, variant: VariantName, job_id: str, position: int) -> Iterator[None]:
        """Call ``wake`` within the block once the job's place is no longer ``position``."""
        watchers = self._watchers.setdefault(variant, Counter())
        watchers[job_id] += 1
        if self._known.get(job_id, coarse(position)) != coarse(position):
            self._wake(job_id)  # earlier watchers know another place
        self._known[job_id] = coarse(position)
        # The queue may have changed since the position was read.
        self.touch(variant)
        try:
            yield
        finally:
            watchers[job_id] -= 1
            if not watchers[job_id]:
                del watchers[job_id]
                self._known.pop(job_id, None)

    def touch(self, variant: VariantName) -> None:
        """Note that the variant's queue has changed."""
        self._stale.add(variant)
        if self._watchers.get(variant) and variant not in self._refreshing:
            self._refreshing[variant] = asyncio.create_task(self._refresh(variant))

    async def close(self) -> None:
        tasks = list(self._refreshing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self, variant: VariantName) -> None:
        try:
            while variant in self._stale and self._watchers[variant]:
                self._stale.discard(variant)
                try:
                    queue = await self._read(variant)
                except JobStoreError:
                    self._stale.add(variant)  # an outage: tried again below
                else:
                    self._compare(variant, queue)
                await asyncio.sleep(self._period_s)
        finally:
            del self._refreshing[variant]

    def _compare(self, variant: VariantName, queue: Sequence[str]) -> None:
        watchers = self._watchers[variant]
        for place, job_id in enumerate(queue, start=1):
            if job_id in watchers and self._known.get(job_id) != coarse(place):
                self._known[job_id] = coarse(place)
                self._wake(job_id)
