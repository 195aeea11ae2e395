"""What each key may still do in this replica of the ingress."""

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from sa_ray.access.request_counts import CountsApi, Taken
from sa_ray.contracts.access import Caller
from sa_ray.errors import RateLimitedError

logger = logging.getLogger(__name__)

AT_ONCE: Final = 20
"""Part of a key's minute, 1 in this many, that a replica takes at once, so that few requests wait
for the count. What a replica does not use of it is lost to the others until the minute is over."""

PATIENCE_S: Final = 1.0
WITHOUT_COUNT_S: Final = 5.0
"""Seconds for which a replica lets pass its part without asking, if the count does not answer: a
limit is no reason to be down."""


class Allowance(NamedTuple):
    """Of a key's minute."""

    limit: int
    left: int
    seconds: int
    """Until it is over."""


@dataclass(slots=True)
class _Part:
    granted: int = 0
    left: int = 0
    """In other replicas."""
    ends: float = 0.0


class RequestAllowances:
    """Lets requests pass while their key has any left. For one event loop.

    ``replicas`` returns how many replicas of the ingress there are now, this one among them.
    """

    def __init__(
        self,
        counts: CountsApi,
        replicas: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._replicas = replicas
        self._clock = clock
        self._parts: defaultdict[str, _Part] = defaultdict(_Part)
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._open: Counter[str] = Counter()

    async def take(self, caller: Caller) -> Allowance | None:
        """Count a request of ``caller``; None: its requests are not counted.

        Raises ``RateLimitedError`` if its minute is used up.
        """
        limit = caller.limits.requests_per_minute
        if limit is None:
            return None
        part = self._parts[caller.name]
        if self._needs_more(part):
            async with self._asking[caller.name]:
                if self._needs_more(part):
                    await self._ask(caller.name, limit, part)
        seconds = max(1, math.ceil(part.ends - self._clock()))
        if part.granted < 1:
            raise RateLimitedError(
                f"The key {caller.name} may make {limit} requests a minute (requests_per_minute), "
                f"and has. Try again in {seconds} s.",
                retry_after_s=seconds,
            )
        part.granted -= 1
        return Allowance(limit, part.granted + part.left, seconds)

    @contextmanager
    def one_more(self, caller: Caller) -> Iterator[None]:
        """Count a request of ``caller`` as under way within the block.

        Each replica has its share of the limit, rounded up. Where their number has grown, those
        under way go on. Raises ``RateLimitedError`` over the share.
        """
        limit = caller.limits.concurrent_requests
        if limit is None:
            yield
            return
        if self._open[caller.name] >= -(-limit // self._replicas()):
            raise RateLimitedError(
                f"{limit} requests of the key {caller.name} are under way, the most that it may "
                "have at once (concurrent_requests). Wait for one to end, or try again in 1 s.",
                retry_after_s=1,
            )
        self._open[caller.name] += 1
        try:
            yield
        finally:
            self._open[caller.name] -= 1
            if not self._open[caller.name]:
                del self._open[caller.name]

    def _needs_more(self, part: _Part) -> bool:
        """Return whether to ask: not while the minute is known to be used up."""
        return self._clock() >= part.ends or (part.granted < 1 and part.left > 0)

    async def _ask(self, name: str, limit: int, part: _Part) -> None:
        wanted = max(1, limit // AT_ONCE)
        try:
            async with asyncio.timeout(PATIENCE_S):
                taken = await self._counts.take_requests(name, limit, wanted)
        except Exception as error:  # noqa: BLE001 - as an actor of another release raises
            kind = type(error).__name__
            logger.warning("requests of %s are not counted for now: %s: %s", name, kind, error)
            taken = Taken(wanted, 0, WITHOUT_COUNT_S)
        part.granted, part.left = taken.granted, taken.left
        part.ends = self._clock() + taken.seconds
