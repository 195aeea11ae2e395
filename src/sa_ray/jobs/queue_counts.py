"""Count the queues seldom, and bound each exactly."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from sa_ray.contracts import VariantName
from sa_ray.errors import QueueFullError
from sa_ray.jobs.allowance import Allowance
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

    One bound for all would let the backlog of one variant refuse jobs for the others. For one event
    loop.
    """

    def __init__(self, count: Callable[[], Awaitable[QueueCounts]], max_queued: int) -> None:
        self._count = count
        self._max_queued = max_queued
        self._counting = asyncio.Lock()
        self._counts: QueueCounts = {}
        self._counted_at = float("-inf")
        """When the last count began."""
        self._places = defaultdict[VariantName, Allowance](partial(Allowance, MAX_AGE_S))

    async def counts(self) -> QueueCounts:
        """Return a count of now, or of long queues one of the last ``FRESH_S`` seconds."""
        queued = sum(counts["queued"] for counts in self._counts.values())
        return await self._counted_since(FRESH_S if queued > LONG_QUEUE else 0.0)

    def place(self, variant: VariantName) -> AbstractAsyncContextManager[None]:
        """Hold a place in the variant's queue for a job that the block inserts.

        Raises ``QueueFullError`` if there is none.
        """

        async def queued() -> float:
            counts = await self._counted_since(0.0)
            return counts[variant]["queued"] if variant in counts else 0

        return self._places[variant].hold(
            1, self._max_queued, queued, lambda _: self._full(variant)
        )

    async def _counted_since(self, seconds: float) -> QueueCounts:
        """Return a count that began within the last ``seconds``, or later than this call."""
        oldest = time.monotonic() - seconds
        async with self._counting:
            if self._counted_at <= oldest:
                began = time.monotonic()
                self._counts = await self._count()
                self._counted_at = began
        return self._counts

    def _full(self, variant: VariantName) -> QueueFullError:
        return QueueFullError(
            f"The queue of {variant} is full: {self._max_queued} jobs wait for it already, the "
            f"limit of each model that STABLE_AUDIO_MAX_QUEUED_JOBS sets. Try again in "
            f"{RETRY_AFTER_S} seconds.",
            param="model",
            retry_after_s=RETRY_AFTER_S,
        )
