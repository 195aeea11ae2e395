"""Threads for calls that block, one pool for each kind of work, so that none waits for another."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """Run ``call`` in a thread; if cancelled, still wait for the thread, which cannot be stopped.

    Whoever deletes the object next must know that nothing writes it any more; so it waits as long
    if it is cancelled again, by another who stops the same upload.
    """
    running = threads.submit(call)
    work = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not running.cancel():  # it has begun
            while not work.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({work})
        raise
