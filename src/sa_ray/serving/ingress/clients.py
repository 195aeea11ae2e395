"""What each client address has open."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sa_ray.errors import OverloadedError

RETRY_AFTER_S = 5

MIN_SHARE_S = 2.0
"""Least seconds that a stream counts for its client, also if it is closed sooner: opening one costs
more than keeping it."""


class ClientShares:
    """Counts what each client address has open, and refuses one over ``most``.

    For one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def share(self, client: str, least_s: float = 0.0) -> Iterator[None]:
        """Count one of ``client`` within the block, and for ``least_s`` seconds at least.

        Raises ``OverloadedError`` over the limit.
        """
        if self._open[client] >= self._most:
            raise too_many("requests wait for jobs", self._most, RETRY_AFTER_S)
        self._open[client] += 1
        loop = asyncio.get_running_loop()
        until = loop.time() + least_s
        try:
            yield
        finally:
            if loop.time() < until:
                loop.call_at(until, self._close, client)
            else:
                self._close(client)

    def _close(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


def too_many(what: str, most: int, retry_after_s: int) -> OverloadedError:
    """Return the error of a client that has too many open; ``what``: with their verb."""
    return OverloadedError(
        f"{most} {what} for your address here already, the limit that "
        f"STABLE_AUDIO_MAX_OPEN_PER_CLIENT sets. Close one, or try again in {retry_after_s} "
        "seconds.",
        retry_after_s=retry_after_s,
    )
