"""Threads for a coordinator's calls to its store, which block."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

READ_THREADS = 4
WRITE_THREADS = 16
"""Apart from the readers, so that no read waits behind writes that wait for the disk. Writes that
wait together are made durable together, by the store or its server."""
RENEWAL_THREADS = 2
"""Apart from both: work that a worker does would be done again if it were taken for dead."""
LIST_THREADS = 1
"""Apart from all: lists are long, and nobody's work waits for them."""

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """Runs blocking calls of a store for one event loop; a cancelled caller does not stop them."""

    def __init__(self) -> None:
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="job-store-read")
        self._writers = ThreadPoolExecutor(WRITE_THREADS, thread_name_prefix="job-store-write")
        self._renewers = ThreadPoolExecutor(RENEWAL_THREADS, thread_name_prefix="job-store-renew")
        self._listers = ThreadPoolExecutor(LIST_THREADS, thread_name_prefix="job-store-list")

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, partial(function, *args, **kwargs))

    async def write(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writers, partial(function, *args, **kwargs))

    async def renew(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._renewers, partial(function, *args, **kwargs))

    async def list(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._listers, partial(function, *args, **kwargs))

    async def close(self) -> None:
        """Finish the calls under way."""
        for threads in (self._renewers, self._writers, self._readers, self._listers):
            await asyncio.to_thread(threads.shutdown)
