"""Tell since when workers have served the queue without a break."""

import math
from collections.abc import Mapping

AWAY_S = 60.0
"""Seconds between two heartbeats, whoever's, that make a break: an outage of the service or of the
store, a node that slept, a step of the clock. Replacing all workers takes less."""


class ServiceTime:
    """Judges by the heartbeats in the store, so a judge that starts in a break knows of it.

    One that starts later does not: what follows from a break is to be stored when it ends.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self.since = -math.inf
        """End of the last break that was seen."""

    def look(self, heartbeats: Mapping[str, float], now: float) -> float:
        """Return when the present time with workers began (Unix seconds); ``now`` if none is heard.

        Minus infinity: before the first look. ``heartbeats``: the last of each worker.
        """
        newest = min(max(heartbeats.values(), default=-math.inf), now)
        if self._last is None:
            self._last = newest
        # Times ahead are of a clock that has been set back since: they would hide breaks.
        self._last, self.since = min(self._last, now), min(self.since, now)
        if newest - self._last > AWAY_S:
            self.since = newest
        self._last = max(newest, self._last)
        return self.since if now - self._last <= AWAY_S else now
