"""Limits that are counted seldom."""

import asyncio

from sa_ray.errors import RateLimitedError, SaRayError
from sa_ray.jobs.allowance import Allowance


def refused(left: float) -> SaRayError:
    return RateLimitedError(f"{left:g} left")


async def test_what_is_stored_while_it_is_counted_takes_its_place_once() -> None:
    """It is in the count and under way, and may not refuse the other as two."""
    allowance = Allowance(fresh_s=0)
    held, ending, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def none() -> float:
        return 0

    async def one() -> float:
        ending.set()
        await ended.wait()
        return 1

    async def store() -> None:
        async with allowance.hold(1, 2, none, refused):
            held.set()
            await ending.wait()
        ended.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store())
        await held.wait()
        async with allowance.hold(1, 2, one, refused):
            pass
