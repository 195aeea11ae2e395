"""Wait for what no event tells of."""

import asyncio
from collections.abc import Callable

TIMEOUT_S = 30.0


async def until(holds: Callable[[], bool]) -> None:
    """Look again and again until ``holds``, while other tasks run."""
    async with asyncio.timeout(TIMEOUT_S):
        while not holds():
            await asyncio.sleep(0.001)
