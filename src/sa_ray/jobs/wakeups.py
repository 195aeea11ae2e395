"""Wake coroutines that wait for something to happen to a key."""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Wakeups(Generic[K]):
    """Events by key; a key costs nothing while nobody listens. For one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[K, set[asyncio.Event]] = {}

    @contextmanager
    def listen(self, key: K) -> Iterator[asyncio.Event]:
        """Yield an event that every ``notify(key)`` within the block sets.

        Listen before looking at the state, or a change in between goes unnoticed.
        """
        event = asyncio.Event()
        self._listeners.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._listeners[key].discard(event)
            if not self._listeners[key]:
                del self._listeners[key]

    def notify(self, key: K) -> None:
        for event in self._listeners.get(key, ()):
            event.set()


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until ``event`` is set; False if ``timeout_s`` seconds passed first."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
