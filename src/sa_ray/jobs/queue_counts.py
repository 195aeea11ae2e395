"""Count the queue seldom, and bound it exactly."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sa_ray.errors import QueueFullError
from sa_ray.jobs.api import QueueCounts

RETRY_AFTER_S = 10
"""Seconds; a place in the queue frees with the next lease, typically after one batch."""

LONG_QUEUE = 10_000
"""Jobs from which on a count is used for ``FRESH_S``: counting takes time in proportion to them,
about 10 ms for 100,000 on SQLite."""

FRESH_S = 1.0

MAX_AGE_S = 10.0
"""Age of a count after which a second service on the same store may have filled the queue."""


class QueueCounter:
    """Counts by ``count``, and admits jobs while fewer than ``max_queued`` wait.

    Between two counts it adds up what was admitted, and forgets what left the queue, so it counts
    again before it refuses. For one event loop; ``clock`` gives seconds that only grow.
    """

    def __init__(
        self,
        count: Callable[[], Awaitable[QueueCounts]],
        max_queued: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = count
        self._max_queued = max_queued
        self._clock = clock
        self._counting = asyncio.Lock()
        self._counts: QueueCounts = {}
        self._counted_at = float("-inf")
        """When the last count began."""
        self._under_way = 0
        """Jobs admitted whose insert has not ended."""
        self._settled = asyncio.Event()
        self._settled.set()
        self._added = 0
        """Jobs admitted that the last count may have missed."""

    async def counts(self) -> QueueCounts:
        """Return a count of now, or in a long queue one of the last ``FRESH_S`` seconds."""
        oldest = self._clock() - (FRESH_S if self._queued() > LONG_QUEUE else 0.0)
        async with self._counting:
            if self._counted_at <= oldest:
                await self._recount()
        return self._counts

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place in the queue for a job that the block inserts.

        Raises ``QueueFullError`` if there is none.
        """
        await self._take_place()
        self._under_way += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._settled.set()

    async def _take_place(self) -> None:
        arrived = self._clock()
        if self._is_full() or self._counted_at <= arrived - MAX_AGE_S:
            async with self._counting:
                if self._counted_at <= arrived - MAX_AGE_S:
                    await self._recount()
                while self._is_full():
                    if self._counted_at > arrived and not self._added:
                        raise self._full()
                    # Those under way may fail, or repeat a job that is there.
                    await self._settled.wait()
                    await self._recount()
        self._added += 1

    def _full(self) -> QueueFullError:
        return QueueFullError(
            f"The queue is full: {self._max_queued} jobs wait already, the limit that "
            f"STABLE_AUDIO_MAX_QUEUED_JOBS sets. Try again in {RETRY_AFTER_S} seconds.",
            retry_after_s=RETRY_AFTER_S,
        )

    def _is_full(self) -> bool:
        return self._queued() + self._added >= self._max_queued

    def _queued(self) -> int:
        return sum(counts["queued"] for counts in self._counts.values())

    async def _recount(self) -> None:
        began, under_way, added = self._clock(), self._under_way, self._added
        self._counts = await self._count()
        self._counted_at = began
        # The count may have missed those whose insert was under way, or has begun since.
        self._added += under_way - added
