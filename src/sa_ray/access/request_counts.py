"""Requests of each key in its minute: counted in one place, for all replicas of the ingress."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

WINDOW_S: Final = 60.0
"""Seconds from a key's first request to when its count begins anew."""


class Taken(NamedTuple):
    """What a key was granted of its minute."""

    granted: int
    """Requests that whoever asked may let pass until the minute is over."""
    left: int
    """Requests that are left to others."""
    seconds: float
    """Until the minute is over."""


class CountsApi(Protocol):
    async def take_requests(self, key: str, limit: int, wanted: int) -> Taken:
        """Grant up to ``wanted`` requests of the ``limit`` that ``key`` has in a minute."""
        ...


@dataclass(slots=True)
class _Window:
    ends: float
    used: int = 0


class RequestCounts:
    """Counts in memory: a restart forgets the running minutes, and no more than those."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    async def take_requests(self, key: str, limit: int, wanted: int) -> Taken:
        """Do as ``CountsApi`` says."""
        now = self._clock()
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            window = self._windows[key] = _Window(now + WINDOW_S)
        granted = max(0, min(wanted, limit - window.used))
        window.used += granted
        return Taken(granted, max(0, limit - window.used), window.ends - now)
