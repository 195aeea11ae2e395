"""Tell the places in the queue that have changed, on a tick, while somebody watches jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from sa_ray.contracts import VariantName
from sa_ray.errors import JobStoreError
from sa_ray.jobs.changes import coarse

TICK_S = 1.0
"""Seconds between two reads of the order of a queue for its watchers."""


class QueueTicks:
    """Reads each queue that has changed, once a tick. For one event loop.

    ``read`` returns the ids of the first jobs of a variant's queue in order; ``moved`` is called
    with the id of each whose place, as it is shown, is no longer that of the tick before.
    """

    def __init__(
        self,
        read: Callable[[VariantName], Awaitable[Sequence[str]]],
        moved: Callable[[str], None],
        period_s: float = TICK_S,
    ) -> None:
        self._read = read
        self._moved = moved
        self._period_s = period_s
        self._watchers = 0
        self._stale: set[VariantName] = set()
        self._places: dict[VariantName, dict[str, int]] = {}
        self._ticking: asyncio.Task[None] | None = None

    def touch(self, variant: VariantName) -> None:
        """Note that the variant's queue has changed."""
        self._stale.add(variant)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tick within the block; what changed before it is told at its first tick."""
        self._ticking = self._ticking or asyncio.create_task(self._tick_for_ever())
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def close(self) -> None:
        if self._ticking:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            for variant in [*self._stale] if self._watchers else ():
                await self._tell(variant)

    async def _tell(self, variant: VariantName) -> None:
        self._stale.discard(variant)
        try:
            queue = await self._read(variant)
        except JobStoreError:
            self._stale.add(variant)  # an outage: tried again at the next tick
            return
        known = self._places.get(variant, {})
        places = {job_id: coarse(place) for place, job_id in enumerate(queue, start=1)}
        self._places[variant] = places
        for job_id, place in places.items():
            if known.get(job_id) != place:
                self._moved(job_id)
