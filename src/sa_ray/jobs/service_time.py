"""Tell since when workers have served the queue without a break."""

import math
from collections.abc import Mapping

AWAY_S = 60.0
"""Seconds between two heartbeats, whoever's, that make a break: an outage of the service or of the
store, a node that slept, a step of the clock. Replacing all workers takes less."""


class ServiceTime:
    """Judges by the heartbeats in the store, so a judge that is started again knows as much."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._since = -math.inf

    def look(self, heartbeats: Mapping[str, float], now: float) -> float:
        """Return when the present time with workers began (Unix seconds); ``now`` if none is heard.

        Minus infinity: before the first look. ``heartbeats``: the last of each worker.
        """
        newest = min(max(heartbeats.values(), default=-math.inf), now)
        if self._last is None:
            self._last = newest
        # Times ahead are of a clock that has been set back since: they would hide breaks.
        self._last, self._since = min(self._last, now), min(self._since, now)
        if newest - self._last > AWAY_S:
            self._since = newest
        self._last = max(newest, self._last)
        return self._since if now - self._last <= AWAY_S else now
