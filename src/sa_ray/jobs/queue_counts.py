"""Count the queues seldom, and bound each exactly."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sa_ray.contracts import VariantName
from sa_ray.errors import QueueFullError
from sa_ray.jobs.api import QueueCounts

RETRY_AFTER_S = 10
"""Seconds; a place in the queue frees with the next lease, typically after one batch."""

LONG_QUEUE = 10_000
"""Jobs from which on a count is used for ``FRESH_S``: counting takes time in proportion to them,
about 10 ms for 100,000 on SQLite."""

FRESH_S = 1.0

MAX_AGE_S = 10.0
"""Age of a count after which a second service on the same store may have filled a queue."""


class QueueCounter:
    """Counts by ``count``, and admits jobs while fewer than ``max_queued`` wait for their variant.

    One bound for all would let the backlog of one variant refuse jobs for the others. Between two
    counts it adds up what was admitted, and forgets what left the queues, so it counts again before
    it refuses. For one event loop; ``clock`` gives seconds that only grow.
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
        self._admissions: defaultdict[VariantName, _Admissions] = defaultdict(_Admissions)

    async def counts(self) -> QueueCounts:
        """Return a count of now, or of long queues one of the last ``FRESH_S`` seconds."""
        queued = sum(counts["queued"] for counts in self._counts.values())
        oldest = self._clock() - (FRESH_S if queued > LONG_QUEUE else 0.0)
        async with self._counting:
            if self._counted_at <= oldest:
                await self._recount()
        return self._counts

    @asynccontextmanager
    async def place(self, variant: VariantName) -> AsyncIterator[None]:
        """Hold a place in the variant's queue for a job that the block inserts.

        Raises ``QueueFullError`` if there is none.
        """
        await self._take_place(variant)
        admissions = self._admissions[variant]
        admissions.begin()
        try:
            yield
        finally:
            admissions.end()

    async def _take_place(self, variant: VariantName) -> None:
        arrived = self._clock()
        admissions = self._admissions[variant]
        if self._is_full(variant) or self._counted_at <= arrived - MAX_AGE_S:
            async with self._counting:
                if self._counted_at <= arrived - MAX_AGE_S:
                    await self._recount()
                while self._is_full(variant):
                    if self._counted_at > arrived and not admissions.uncounted:
                        raise self._full(variant)
                    # Those under way may fail, or repeat a job that is there.
                    await admissions.settled.wait()
                    await self._recount()
        admissions.uncounted += 1

    def _full(self, variant: VariantName) -> QueueFullError:
        return QueueFullError(
            f"The queue of {variant} is full: {self._max_queued} jobs wait for it already, the "
            f"limit of each model that STABLE_AUDIO_MAX_QUEUED_JOBS sets. Try again in "
            f"{RETRY_AFTER_S} seconds.",
            param="model",
            retry_after_s=RETRY_AFTER_S,
        )

    def _is_full(self, variant: VariantName) -> bool:
        counted = self._counts[variant]["queued"] if variant in self._counts else 0
        return counted + self._admissions[variant].uncounted >= self._max_queued

    async def _recount(self) -> None:
        began = self._clock()
        before = {
            variant: (one.under_way, one.uncounted) for variant, one in self._admissions.items()
        }
        self._counts = await self._count()
        self._counted_at = began
        for variant, (under_way, uncounted) in before.items():
            # The count may have missed those whose insert was under way, or has begun since.
            self._admissions[variant].uncounted += under_way - uncounted


class _Admissions:
    """Jobs for one variant that were let into its queue."""

    def __init__(self) -> None:
        self.under_way = 0
        """Those whose insert has not ended."""
        self.uncounted = 0
        """Those that the last count may have missed."""
        self.settled = asyncio.Event()
        self.settled.set()

    def begin(self) -> None:
        self.under_way += 1
        self.settled.clear()

    def end(self) -> None:
        self.under_way -= 1
        if not self.under_way:
            self.settled.set()
