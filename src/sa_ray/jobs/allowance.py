"""Keep limits exactly, and count seldom."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sa_ray.errors import SaRayError


class Allowance:
    """What is left of one limit, for callers at the same moment, too.

    Between two counts it takes off what it lets in, and does not notice what goes; so it counts
    again before it refuses. ``fresh_s``: age of a count after which it is made anew, as others may
    have added to it. For one event loop.
    """

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._asking = asyncio.Lock()
        self._limit = math.nan
        self._left = 0.0
        """At least so much is left."""
        self._is_exact = False
        """Whether nothing was under way at the last count, and nothing was let in since."""
        self._counted_at = float("-inf")
        """When the last count began."""
        self._holds = 0
        self._under_way = 0.0
        """What the holds are in sum."""
        self._settled = asyncio.Event()
        self._settled.set()

    @asynccontextmanager
    async def hold(
        self,
        size: float,
        limit: float,
        count: Callable[[], Awaitable[float]],
        refused: Callable[[float], SaRayError],
    ) -> AsyncIterator[None]:
        """Hold ``size`` while the block adds it to what ``count`` counts.

        Raises ``refused(left)`` if that is less than ``size``.
        """
        await self._take(size, limit, count, refused)
        try:
            yield
        finally:
            self._end(size)

    async def _take(
        self,
        size: float,
        limit: float,
        count: Callable[[], Awaitable[float]],
        refused: Callable[[float], SaRayError],
    ) -> None:
        arrived = time.monotonic()
        async with self._asking:
            if limit != self._limit or self._counted_at < arrived - self._fresh_s:
                await self._recount(limit, count)
            while size > self._left:
                if self._is_exact and self._counted_at >= arrived:
                    raise refused(self._left)
                # Those under way may fail, or repeat a job that is there.
                await self._settled.wait()
                await self._recount(limit, count)
            self._left -= size
            self._is_exact = False
            self._holds += 1
            self._under_way += size
            self._settled.clear()

    async def _recount(self, limit: float, count: Callable[[], Awaitable[float]]) -> None:
        began, under_way, is_exact = time.monotonic(), self._under_way, self._holds == 0
        # Those whose hold has not ended may be in the count or not.
        self._left = limit - under_way - await count()
        self._limit, self._counted_at, self._is_exact = limit, began, is_exact

    def _end(self, size: float) -> None:
        self._holds -= 1
        self._under_way -= size
        if not self._holds:
            self._under_way = 0.0
            self._settled.set()
