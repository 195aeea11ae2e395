"""A clock that the test moves."""

import asyncio


class Clock:
    """Seconds that pass while somebody sleeps, and as the test adds them to ``now``."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
